//! What is sent in the place of what a server or an application answered.

use super::answer::Answer;
use super::cx::Cx;
use super::exchange::{Instead, Unanswered};
use super::redirected::Sent;
use crate::http::fields::{Fields, FieldsMut};
use crate::metrics::ServedBy;
use crate::util::path::{encode, encode_query, normalize};

/// What is sent in the place of an answer with these `fields` of a server or an application: an error page, or what
/// X-Accel-Redirect names (nginx's `ngx_http_upstream`). Both fields that only we understand are taken out.
pub(super) fn replaced(
    cx: &Cx<'_>,
    answer: &mut Answer<'_>,
    fields: &mut Vec<u8>,
    status: u16,
    served_by: ServedBy,
) -> Option<Instead> {
    /// Fields that describe what is sent, or concern the client, whoever sends the content.
    const KEPT: [&str; 6] =
        ["content-type", "content-disposition", "accept-ranges", "set-cookie", "cache-control", "expires"];
    /// Fields for the server in front alone.
    const FOR_US: [&str; 4] = ["x-accel-buffering", "x-accel-charset", "x-accel-expires", "x-accel-limit-rate"];
    if let Some(rate) = Fields::new(fields).find("x-accel-limit-rate").filter(|_| cx.options.x_accel) {
        answer.ask_for_rate(rate);
    }
    let obeys_sendfile = cx.options.x_accel && !cx.options.x_sendfile.is_empty();
    if let Some(file) = Fields::new(fields).find("x-sendfile").filter(|_| obeys_sendfile) {
        let Some(path) = path_of_file(file, &cx.options.x_sendfile) else {
            tracing::warn!(file = %file.escape_ascii(), "X-Sendfile names a file that `x_sendfile` has no folder for");
            return Some(Instead::Error(Unanswered { status: 502, closes: false, served_by }));
        };
        let mut fields = FieldsMut::new(fields, 0);
        fields.remove("x-sendfile");
        fields.set("X-Accel-Redirect", &path);
    }
    if Fields::new(fields).find("x-accel-redirect").is_some() {
        let target = internal_target(Fields::new(fields).find("x-accel-redirect").unwrap_or_default());
        FieldsMut::new(fields, 0).remove("x-accel-redirect");
        if let Some(target) = target.filter(|_| cx.options.x_accel) {
            let mut kept = Vec::new();
            for (name, value) in Fields::new(fields).iter() {
                let is_kept = |known: &&&str| name.eq_ignore_ascii_case(known.as_bytes());
                if let Some(known) = KEPT.iter().find(is_kept) {
                    FieldsMut::new(&mut kept, 0).add(known, value);
                }
            }
            answer.keep_fields(kept);
            return Some(Instead::Go { target, sent: Sent::AsGet });
        }
    }
    for name in FOR_US {
        FieldsMut::new(fields, 0).remove(name);
    }
    let has_page = status >= 400 && cx.options.intercept_errors && cx.options.error_pages.page(status).is_some();
    if has_page && status == 401 {
        // Without its challenge no client could log in.
        let mut kept = Vec::new();
        let is_challenge = |(name, _): &(&[u8], &[u8])| name.eq_ignore_ascii_case(b"www-authenticate");
        for (_, value) in Fields::new(fields).iter().filter(is_challenge) {
            FieldsMut::new(&mut kept, 0).add("WWW-Authenticate", value);
        }
        answer.keep_fields(kept);
    }
    has_page.then_some(Instead::Error(Unanswered { status, closes: false, served_by }))
}

/// The path of the site, percent-encoded, that stands for `file`, whose name is as the disk has it. `None`: there is none.
fn path_of_file(file: &[u8], folders: &[(Box<str>, Box<str>)]) -> Option<Vec<u8>> {
    let longest = |(folder, _): &&(Box<str>, Box<str>)| folder.len();
    let is_above = |(folder, _): &&(Box<str>, Box<str>)| file.starts_with(folder.as_bytes());
    let (folder, path) = folders.iter().filter(is_above).max_by_key(longest)?;
    let below = &file[folder.len()..];
    if below.split(|byte| *byte == b'/').any(|name| matches!(name, b"." | b"..")) {
        return None; // it would name something elsewhere
    }
    let mut target = path.as_bytes().to_vec();
    encode(below, &mut target);
    Some(target)
}

/// The target that a field of a server names, X-Accel-Redirect or the Location of a program: its path as it is, or
/// percent-encoded, and a query. `None`: no path.
pub(super) fn internal_target(value: &[u8]) -> Option<Vec<u8>> {
    let (path, query) = match memchr::memchr(b'?', value) {
        Some(at) => (&value[..at], Some(&value[at + 1..])),
        None => (value, None),
    };
    let mut decoded = Vec::new();
    // Encoded or not: as nginx, which decodes it.
    let path = normalize(path, &mut decoded).ok()?;
    let mut target = Vec::with_capacity(value.len() + 8);
    encode(path.as_bytes(), &mut target);
    if let Some(query) = query {
        target.push(b'?');
        encode_query(query, &mut target);
    }
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_the_paths_that_stand_for_them() {
        let folders: [(Box<str>, Box<str>); 2] =
            [("/srv/private/".into(), "/protected/".into()), ("/srv/private/big/".into(), "/big/".into())];
        for (file, expect) in [
            ("/srv/private/a b%c?.pdf", Some("/protected/a%20b%25c%3F.pdf")),
            ("/srv/private/big/x/y", Some("/big/x/y")),
            ("/srv/privates/a", None),
            ("/etc/passwd", None),
            ("/srv/private/../../etc/passwd", None),
            ("/srv/private/./a", None),
            ("/srv/private/..a", Some("/protected/..a")),
            ("relative", None),
            ("", None),
        ] {
            let path = path_of_file(file.as_bytes(), &folders);
            assert_eq!(path.as_deref(), expect.map(str::as_bytes), "{file}");
        }
    }
}

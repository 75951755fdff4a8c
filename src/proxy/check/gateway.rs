//! A check of a server that speaks FastCGI, uwsgi or SCGI: the request and the answer of a conversation in HTTP, in the words
//! of these protocols. What makes an answer a healthy one is decided in one place that way.

use super::{Step, Verdict};
use crate::proxy::gateway::{
    Decoder, Event, Form, Meta, Opening, Redirects, Vars, end_content, head_end, put_fields, put_meta, write_head,
};

/// Longest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Longest answer that is looked at, complaints of the program included. Bodies have a limit of their own below that.
const ANSWER_BYTES_MAX: usize = 2 << 20;

/// The request `http` of a check, as a server of `form` gets it. `None`: it is none.
///
/// For FastCGI the path is that of a script, because PHP-FPM looks for its `ping.path` and `pm.status_path` there; for the
/// others it is PATH_INFO.
pub(crate) fn asked(form: Form, http: &[u8]) -> Option<Vec<u8>> {
    let line = &http[..memchr::memmem::find(http, b"\r\n")?];
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = match memchr::memchr(b'?', target) {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &b""[..]),
    };
    let (script_name, path_info) = if form == Form::FastCgi { (path, &b""[..]) } else { (&b""[..], path) };
    let meta = Meta {
        method,
        request_uri: target,
        query,
        script_name,
        path_info,
        root: if form == Form::FastCgi { b"/" } else { b"" },
        protocol: "HTTP/1.1",
        server_name: b"localhost",
        software: "one-server/health",
        ..Meta::default()
    };
    let mut vars = Vars::new(form, Vec::new(), 0);
    put_meta(&mut vars, &meta, |_| false);
    put_fields(&mut vars, http, |_| false);
    let mut bytes = Vec::new();
    vars.finish(Opening::Alone, &mut bytes).0.ok()?;
    if form == Form::FastCgi {
        end_content(&mut bytes);
    }
    Some(bytes)
}

/// What `raw`, everything that a server of `form` has sent so far, is in HTTP, and whether the server says that this is all.
///
/// Errors: the verdict about what is no answer.
pub(crate) fn answered(form: Form, raw: &[u8]) -> Result<(Vec<u8>, bool), Verdict> {
    let invalid =
        |error: &dyn std::fmt::Display| Verdict::invalid(format!("the answer is not one of {form:?}: {error}"));
    if raw.len() > ANSWER_BYTES_MAX {
        return Err(invalid(&"it is too long"));
    }
    let (content, is_all) = match form {
        Form::Uwsgi => return Ok((raw.to_vec(), false)),
        Form::Scgi => (raw.to_vec(), false),
        Form::FastCgi => content(raw).map_err(|error| invalid(&error))?,
    };
    let mut http = Vec::new();
    match head_end(&content, 0, HEAD_BYTES_MAX).map_err(|error| invalid(&error))? {
        None => Ok((http, is_all)),
        Some(end) => {
            write_head(&content[..end], Redirects::ByClient, &mut http).map_err(|error| invalid(&error))?;
            http.extend_from_slice(&content[end..]);
            Ok((http, is_all))
        }
    }
}

/// The content in records, and whether it is complete.
fn content(raw: &[u8]) -> Result<(Vec<u8>, bool), crate::proxy::gateway::RecordError> {
    let (mut decoder, mut content, mut at) = (Decoder::default(), Vec::new(), 0);
    loop {
        let decoded = decoder.decode(&raw[at..])?;
        match decoded.event {
            None => return Ok((content, false)),
            Some(Event::End(_)) => return Ok((content, true)),
            Some(Event::Stdout(range)) => content.extend_from_slice(&raw[at + range.start..at + range.end]),
            Some(Event::Stderr(_)) => {}
        }
        at += decoded.consumed;
    }
}

/// What a conversation makes of the answer so far. `has_ended`: the connection has.
pub(crate) fn judge(
    conversation: &mut super::Conversation<'_>,
    form: Form,
    raw: &[u8],
    has_ended: bool,
) -> Option<Verdict> {
    match answered(form, raw) {
        Err(verdict) => Some(verdict),
        Ok((http, is_all)) if has_ended || is_all => Some(conversation.on_end(&http)),
        Ok((http, _)) => match conversation.on_bytes(&http) {
            Step::Done(verdict) => Some(verdict),
            Step::Read | Step::Send(_) => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{HttpProbe, Probe, StatusSet, TextMatch};
    use crate::proxy::check::{CheckStatus, Conversation};
    use crate::proxy::gateway::fuzz::decoded;

    fn probe(expect_body: Option<&str>) -> Probe {
        Probe::Http(Box::new(HttpProbe {
            method: "GET",
            path: "/ping?full".into(),
            host: None,
            fields: vec![("X-Probe".into(), "1".into())],
            statuses: StatusSet::new(vec![(200..=299, "2xx".into())]),
            expect_header: None,
            expect_body: expect_body.map(|text| TextMatch::parse(text).unwrap()),
            body_bytes_max: 1000,
        }))
    }

    #[test]
    fn a_check_asks_for_its_path() {
        for form in [Form::FastCgi, Form::Uwsgi, Form::Scgi] {
            let probe = probe(None);
            let Step::Send(http) = Conversation::new(&probe, "localhost").begin() else { panic!("it asks") };
            let (pairs, _) = decoded(form, &asked(form, &http).unwrap()).unwrap();
            let value = |name: &str| {
                let found = pairs.iter().find(|(known, _)| known == name.as_bytes());
                found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            };
            assert_eq!(value("REQUEST_METHOD").as_deref(), Some("GET"));
            assert_eq!(value("QUERY_STRING").as_deref(), Some("full"));
            assert_eq!(value("HTTP_X_PROBE").as_deref(), Some("1"));
            let expect = if form == Form::FastCgi { ("/ping", "") } else { ("", "/ping") };
            assert_eq!(
                (value("SCRIPT_NAME").as_deref(), value("PATH_INFO").as_deref()),
                (Some(expect.0), Some(expect.1))
            );
            let filename = (form == Form::FastCgi).then_some("/ping");
            assert_eq!(value("SCRIPT_FILENAME").as_deref(), filename);
        }
        assert_eq!(asked(Form::Scgi, b""), None);
    }

    fn judged(form: Form, expect: Option<&str>, raw: &[u8]) -> CheckStatus {
        let probe = probe(expect);
        let mut conversation = Conversation::new(&probe, "localhost");
        let mut status = None;
        for end in 0..=raw.len() {
            let _ = conversation.begin();
            status = status.or(judge(&mut conversation, form, &raw[..end], false).map(|verdict| verdict.status));
        }
        status.or(judge(&mut conversation, form, raw, true).map(|verdict| verdict.status)).expect("a verdict")
    }

    #[test]
    fn answers_are_judged_as_those_of_http() {
        let stdout = b"\x01\x06\0\x01\0\x0e\x02\0A: b\r\n\r\npong\n\n##";
        let end = b"\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0";
        let good = [&stdout[..], end].concat();
        assert_eq!(judged(Form::FastCgi, Some("pong"), &good), CheckStatus::Healthy);
        assert_eq!(judged(Form::FastCgi, Some("ping"), &good), CheckStatus::Invalid);
        assert_eq!(judged(Form::FastCgi, None, end), CheckStatus::Invalid);
        assert_eq!(judged(Form::FastCgi, None, b"HTTP/1.1 200 OK\r\n\r\n"), CheckStatus::Invalid);
        assert_eq!(judged(Form::Scgi, Some("pong"), b"Status: 200 OK\nA: b\n\npong"), CheckStatus::Healthy);
        assert_eq!(judged(Form::Scgi, None, b"Status: 500 No\nA: b\n\n"), CheckStatus::BadStatus);
        assert_eq!(judged(Form::Uwsgi, None, b"HTTP/1.0 204 No Content\r\n\r\n"), CheckStatus::Healthy);
        assert_eq!(judged(Form::Scgi, None, b""), CheckStatus::Invalid);
    }
}

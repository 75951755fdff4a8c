//! The meta-variables of a request, as nginx's `fastcgi_params` and RFC 3875 section 4.1 name them, and the fields of its head
//! as `HTTP_*`.

use super::vars::{Form, Vars};
use crate::http::h1::write_decimal;

/// A request in the words of the Common Gateway Interface.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meta<'a> {
    /// REQUEST_METHOD.
    pub method: &'a [u8],
    /// REQUEST_URI: what the client has asked for, encoded, with its query.
    pub request_uri: &'a [u8],
    /// QUERY_STRING; of the target behind rewrites.
    pub query: &'a [u8],
    /// SCRIPT_NAME; empty: the server is the whole application.
    pub script_name: &'a [u8],
    /// PATH_INFO.
    pub path_info: &'a [u8],
    /// DOCUMENT_ROOT, and the beginning of SCRIPT_FILENAME; empty: there are no scripts.
    pub root: &'a [u8],
    /// Bytes of the content, CONTENT_LENGTH; `None`: there is none.
    pub content_bytes: Option<u64>,
    /// SERVER_PROTOCOL.
    pub protocol: &'a str,
    /// The client speaks TLS: HTTPS, REQUEST_SCHEME.
    pub is_https: bool,
    /// REMOTE_ADDR and REMOTE_PORT; `None`: it came over a Unix socket, or nobody knows.
    pub remote_address: &'a [u8],
    /// See there.
    pub remote_port: Option<u16>,
    /// REMOTE_USER; empty: nobody has logged in.
    pub remote_user: &'a [u8],
    /// SERVER_ADDR.
    pub server_address: &'a [u8],
    /// SERVER_PORT: the one that the client has connected to, as far as it is known.
    pub server_port: u16,
    /// SERVER_NAME.
    pub server_name: &'a [u8],
    /// SERVER_SOFTWARE.
    pub software: &'a str,
}

/// Puts the variables of a request. Those that are `set` otherwise are left out.
pub fn put_meta(vars: &mut Vars, meta: &Meta<'_>, set: impl Fn(&[u8]) -> bool) {
    let mut digits = Vec::with_capacity(20);
    let mut put = |name: &str, value: &[&[u8]]| {
        if !set(name.as_bytes()) {
            vars.put_parts(&[name.as_bytes()], value);
        }
    };
    put("QUERY_STRING", &[meta.query]);
    put("REQUEST_METHOD", &[meta.method]);
    put("SCRIPT_NAME", &[meta.script_name]);
    put("PATH_INFO", &[meta.path_info]);
    put("REQUEST_URI", &[meta.request_uri]);
    put("DOCUMENT_URI", &[meta.script_name, meta.path_info]);
    if !meta.root.is_empty() {
        put("DOCUMENT_ROOT", &[meta.root]);
        put("SCRIPT_FILENAME", &[meta.root.strip_suffix(b"/").unwrap_or(meta.root), meta.script_name]);
    }
    put("SERVER_PROTOCOL", &[meta.protocol.as_bytes()]);
    put("REQUEST_SCHEME", &[if meta.is_https { b"https".as_slice() } else { b"http" }]);
    if meta.is_https {
        put("HTTPS", &[b"on"]);
    }
    put("GATEWAY_INTERFACE", &[b"CGI/1.1"]);
    put("SERVER_SOFTWARE", &[meta.software.as_bytes()]);
    put("REMOTE_ADDR", &[meta.remote_address]);
    put("REMOTE_PORT", &[text(&mut digits, meta.remote_port.map(u64::from))]);
    if !meta.remote_user.is_empty() {
        put("REMOTE_USER", &[meta.remote_user]);
    }
    put("SERVER_ADDR", &[meta.server_address]);
    put("SERVER_PORT", &[text(&mut digits, Some(meta.server_port.into()))]);
    put("SERVER_NAME", &[meta.server_name]);
    // PHP that was built to be safe from being run as a plain CGI program wants to see it.
    put("REDIRECT_STATUS", &[b"200"]);
    // SCGI has it already, in front.
    if vars.form() != Form::Scgi {
        vars.put(b"CONTENT_LENGTH", text(&mut digits, meta.content_bytes));
    }
}

/// The text of a number, in the place of what was in `digits`; empty: there is none.
fn text(digits: &mut Vec<u8>, number: Option<u64>) -> &[u8] {
    digits.clear();
    if let Some(number) = number {
        write_decimal(digits, number);
    }
    digits
}

/// Puts the fields of `head`, a request head of HTTP/1.1 as a server behind us would get it, as `HTTP_*`, and CONTENT_TYPE.
/// Those that are `set` otherwise are left out.
///
/// Left out are also `Proxy`, which programs take for an order of where to send requests of their own ("httpoxy"), names of
/// other letters than those of `[A-Za-z0-9-]`, because a program could not tell `X_User` from `X-User`, and what speaks of the
/// connection. A field that is there several times becomes one list (RFC 3875 section 4.1.18).
pub fn put_fields(vars: &mut Vars, head: &[u8], set: impl Fn(&[u8]) -> bool) {
    let content_type = lines(head).find(|(name, _)| name.eq_ignore_ascii_case(b"content-type"));
    if !set(b"CONTENT_TYPE") {
        vars.put(b"CONTENT_TYPE", content_type.map_or(b"", |(_, value)| value));
    }
    let mut fields: Vec<_> = lines(head).filter(|(name, _)| is_passed(name)).collect();
    // Those of one name side by side, in the order in which they came.
    fields.sort_by(|(one, _), (other, _)| lowercase(one).cmp(lowercase(other)));
    let (mut variable, mut parts) = (Vec::new(), Vec::new());
    for same in fields.chunk_by(|(one, _), (other, _)| one.eq_ignore_ascii_case(other)) {
        let name = same[0].0;
        variable.clear();
        variable.extend_from_slice(b"HTTP_");
        variable.extend(name.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }));
        if set(&variable) {
            continue;
        }
        let between: &[u8] = if name.eq_ignore_ascii_case(b"cookie") { b"; " } else { b", " };
        parts.clear();
        parts.extend(same.iter().flat_map(|(_, value)| [between, value]).skip(1));
        vars.put_parts(&[&variable], &parts);
    }
}

fn lowercase(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().map(u8::to_ascii_lowercase)
}

/// The fields of a head that our own writer has made: each line is one, with `: ` in it.
fn lines(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let behind_request_line = memchr::memmem::find(head, b"\r\n").map_or(head.len(), |end| end + 2);
    let lines = head[behind_request_line..].split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
    lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii_start()))
    })
}

fn is_passed(name: &[u8]) -> bool {
    const LEFT_OUT: [&[u8]; 6] =
        [b"proxy", b"content-type", b"content-length", b"connection", b"transfer-encoding", b"upgrade"];
    name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && !LEFT_OUT.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::super::fuzz::decoded;
    use super::*;

    fn pairs(form: Form, meta: &Meta<'_>, head: &str, set: &[&str]) -> Vec<(String, String)> {
        let mut vars = Vars::new(form, Vec::new(), meta.content_bytes.unwrap_or(0));
        let is_set = |name: &[u8]| set.iter().any(|set| set.as_bytes() == name);
        put_meta(&mut vars, meta, is_set);
        put_fields(&mut vars, head.replace('\n', "\r\n").as_bytes(), is_set);
        let mut out = Vec::new();
        vars.finish(super::super::Opening::Alone, &mut out).0.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (pairs, rest) = decoded(form, &out).unwrap();
        assert!(rest.is_empty());
        pairs.into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut found = pairs.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is there twice");
        value
    }

    fn meta() -> Meta<'static> {
        Meta {
            method: b"POST",
            request_uri: b"/a%20b?c=d",
            query: b"c=d",
            script_name: b"/index.php",
            path_info: b"/a b",
            root: b"/srv/www/",
            content_bytes: Some(12),
            protocol: "HTTP/2.0",
            is_https: true,
            remote_address: b"192.0.2.1",
            remote_port: Some(4711),
            remote_user: b"",
            server_address: b"192.0.2.2",
            server_port: 443,
            server_name: b"example.org",
            software: "x",
        }
    }

    #[test]
    fn variables_of_a_request() {
        for form in [Form::FastCgi, Form::Uwsgi, Form::Scgi] {
            let pairs = pairs(form, &meta(), "POST / HTTP/1.1\nHost: a\nContent-Type: text/plain\n\n", &[]);
            for (name, expect) in [
                ("SCRIPT_FILENAME", "/srv/www/index.php"),
                ("DOCUMENT_ROOT", "/srv/www/"),
                ("DOCUMENT_URI", "/index.php/a b"),
                ("REQUEST_URI", "/a%20b?c=d"),
                ("CONTENT_LENGTH", "12"),
                ("CONTENT_TYPE", "text/plain"),
                ("HTTPS", "on"),
                ("REQUEST_SCHEME", "https"),
                ("SERVER_PORT", "443"),
                ("REMOTE_PORT", "4711"),
                ("REDIRECT_STATUS", "200"),
                ("HTTP_HOST", "a"),
            ] {
                assert_eq!(value(&pairs, name), Some(expect), "{form:?} {name}");
            }
            assert_eq!(value(&pairs, "REMOTE_USER"), None);
            assert_eq!(value(&pairs, "SCGI").is_some(), form == Form::Scgi);
        }
    }

    #[test]
    fn what_a_request_does_not_have() {
        let meta = Meta { root: b"", is_https: false, content_bytes: None, remote_port: None, ..meta() };
        let found = pairs(Form::FastCgi, &meta, "GET / HTTP/1.1\n\n", &[]);
        for name in ["HTTPS", "DOCUMENT_ROOT", "SCRIPT_FILENAME"] {
            assert_eq!(value(&found, name), None, "{name}");
        }
        for name in ["CONTENT_LENGTH", "CONTENT_TYPE", "REMOTE_PORT"] {
            assert_eq!(value(&found, name), Some(""), "{name}");
        }
        assert_eq!(value(&pairs(Form::Scgi, &meta, "GET / HTTP/1.1\n\n", &[]), "CONTENT_LENGTH"), Some("0"));
    }

    #[test]
    fn fields_become_variables() {
        let head = "POST /x HTTP/1.1\nX-Forwarded-For: a\nCookie: a=1\nAccept: x\nproxy: http://evil\nPROXY: b\n\
                    X_User: root\nX.Y: 1\naccept: y\ncookie: b=2\nContent-Length: 12\nConnection: close\n\
                    Transfer-Encoding: chunked\nUpgrade: x\nEmpty:\nSoap-Action: \"a:b\"\n\n";
        let pairs = pairs(Form::FastCgi, &meta(), head, &["HTTP_EMPTY", "SERVER_NAME"]);
        let mut fields: Vec<_> = pairs.iter().filter(|(name, _)| name.starts_with("HTTP_")).collect();
        fields.sort();
        let expect = [
            ("HTTP_ACCEPT", "x, y"),
            ("HTTP_COOKIE", "a=1; b=2"),
            ("HTTP_SOAP_ACTION", "\"a:b\""),
            ("HTTP_X_FORWARDED_FOR", "a"),
        ];
        let got: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(got, expect);
        assert_eq!(value(&pairs, "SERVER_NAME"), None, "another value is set");
    }

    /// A client chooses how many fields there are, and a data worker serves others meanwhile.
    #[test]
    fn many_fields_take_no_more_time_than_few() {
        let mut head = "GET / HTTP/1.1\r\n".to_owned();
        for at in 0..30_000 {
            head.push_str(&format!("x-{at}: 1\r\n"));
        }
        let mut vars = Vars::new(Form::FastCgi, Vec::new(), 0);
        let begun = std::time::Instant::now();
        put_fields(&mut vars, head.as_bytes(), |_| false);
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

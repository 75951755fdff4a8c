//! Texts with variables, such as `https://$host$path`: compiled once, evaluated per request.
//!
//! `$name`, `${name}`, `$1` to `$9`; `$$` is a dollar, and so is a `$` that neither a name, a digit, a brace nor a
//! dollar follows. A name that does not exist is a mistake, never an empty text. What a variable is worth is the
//! business of whoever implements [`Variables`]; what a value may do to the text around it is decided here: see
//! [`Encoding`]. Evaluation appends to the caller's buffer and allocates nothing beyond it.
//!
//! The config may define variables of its own ([`Own`]), whose values are templates again: what a person wrote in them
//! stays as it is where it may, what comes from the request is encoded as everywhere.

mod encode;
mod own;
mod parse;
#[cfg(test)]
mod tests;

pub use self::encode::Encoding;
pub use self::own::{Matched, Own, OwnName};
pub use self::parse::{Mistake, MistakeKind, Scope};

/// Something of a request or its answer that a template may name.
///
/// Names of fields, arguments and cookies are those of the config file, so comparing with them costs a look at each
/// field of the request, arguments and cookies likewise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Variable {
    /// `$host`: host of the request in lower case without port; the site's name when the request has none.
    Host,
    /// `$hostname`: name of this machine.
    Hostname,
    /// `$path`, `$uri`, `$document_uri`: the path, to be put decoded; the template encodes it.
    Path,
    /// `$query`, `$args`, `$query_string`: what follows `?`, as sent.
    Query,
    /// `$is_args`: `?` when there is a query.
    IsArgs,
    /// `$request_uri`: path and query as sent.
    RequestUri,
    /// `$request_method`.
    RequestMethod,
    /// `$scheme`: `http` or `https`.
    Scheme,
    /// `$https`: `on` over TLS.
    Https,
    /// `$remote_addr`: address of the client.
    RemoteAddr,
    /// `$remote_port`.
    RemotePort,
    /// `$remote_user`: name the client has proved to be.
    RemoteUser,
    /// `$proxy_add_x_forwarded_for`: X-Forwarded-For of the request, continued by the client's address.
    ForwardedFor,
    /// `$server_name`: name of the site in the config.
    ServerName,
    /// `$server_port`: port the client connected to.
    ServerPort,
    /// `$server_addr`: address the client connected to.
    ServerAddr,
    /// `$server_protocol`: `HTTP/1.1`, `HTTP/2.0`.
    ServerProtocol,
    /// `$request_id`.
    RequestId,
    /// `$time_iso8601`: local time as `2026-07-01T12:00:00+02:00`.
    TimeIso8601,
    /// `$msec`: seconds since 1970 with milliseconds behind a dot.
    Msec,
    /// `$ssl_protocol`: `TLSv1.3`.
    SslProtocol,
    /// `$ssl_cipher`.
    SslCipher,
    /// `$ssl_server_name`: the name the client asked for in its handshake (SNI).
    SslServerName,
    /// `$ssl_client_s_dn`: subject of the client's certificate.
    SslClientSubject,
    /// `$ssl_client_i_dn`: its issuer.
    SslClientIssuer,
    /// `$ssl_client_serial`: its serial number.
    SslClientSerial,
    /// `$ssl_client_verify`: `SUCCESS`, `NONE` or `FAILED:why`.
    SslClientVerify,
    /// `$ssl_client_fingerprint`: its digest.
    SslClientFingerprint,
    /// `$http_NAME`: the request's field of that name, stored in lower case with `-` for `_`: `$http_user_agent` is
    /// `user-agent`.
    Field(Box<str>),
    /// `$arg_NAME`: the value of a query argument, as sent.
    Argument(Box<str>),
    /// `$cookie_NAME`.
    Cookie(Box<str>),
    /// `$1` to `$9`, and named captures, which are compiled to their number. Put decoded, as matched.
    Capture(u8),
    /// `$status` of the answer.
    Status,
    /// `$upstream_addr`: server that answered.
    UpstreamAddr,
    /// `$upstream_status`: status it sent.
    UpstreamStatus,
    /// `$upstream_response_time`: seconds until its answer began, with milliseconds.
    UpstreamResponseTime,
    /// `$request_time`: seconds since the request came, with milliseconds.
    RequestTime,
    /// `$sent_http_NAME`: the answer's field of that name, stored as in [`Variable::Field`].
    SentField(Box<str>),
    /// One that the config defines.
    Own(Own),
}

/// Values of variables for one request.
pub trait Variables {
    /// Appends the value of `variable` to `out`; nothing when there is none. What stands in `out` is not to be changed.
    fn put(&self, variable: &Variable, out: &mut Vec<u8>);

    /// Appends the value of one that the config defines, encoded for its place already; nothing when there is none. What
    /// it is made of is to be asked of `base`, which knows at least as much as `self`.
    fn put_own(&self, _own: Own, _encoding: Encoding, _base: &dyn Variables, _out: &mut Vec<u8>) {}
}

impl<V: Variables + ?Sized> Variables for &V {
    fn put(&self, variable: &Variable, out: &mut Vec<u8>) {
        (**self).put(variable, out);
    }

    fn put_own(&self, own: Own, encoding: Encoding, base: &dyn Variables, out: &mut Vec<u8>) {
        (**self).put_own(own, encoding, base, out);
    }
}

/// Appends a variable's value, encoded for its place.
fn put_variable<V: Variables + ?Sized>(variable: &Variable, encoding: Encoding, variables: &V, out: &mut Vec<u8>) {
    if let Variable::Own(own) = variable {
        return variables.put_own(*own, encoding, &variables, out);
    }
    let start = out.len();
    variables.put(variable, out);
    encode::value(encoding, variable, out, start);
}

/// A compiled text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable(Variable),
}

impl Template {
    /// A text without variables; a `$` in it is a dollar.
    pub fn text(text: &str) -> Template {
        Template { parts: if text.is_empty() { Vec::new() } else { vec![Part::Text(text.into())] } }
    }

    /// Compiles `text`. Errors: every mistake in it, in order of place.
    pub fn parse(text: &str, scope: Scope<'_>) -> Result<Template, Vec<Mistake>> {
        parse::parse(text, scope).map(|parts| Template { parts })
    }

    /// The text, when it has no variables.
    pub fn constant(&self) -> Option<&str> {
        match &self.parts[..] {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text in front of the first variable.
    pub fn start(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether `what` stands in one of its texts, outside of variables.
    pub fn contains(&self, what: char) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains(what)))
    }

    /// Whether it ends in `end`, outside of variables.
    pub fn ends_with(&self, end: char) -> bool {
        matches!(self.parts.last(), Some(Part::Text(text)) if text.ends_with(end))
    }

    /// Its variables, in order of writing.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Text(_) => None,
        })
    }

    /// Whether it is a variable and nothing else.
    pub fn is_one_variable(&self) -> bool {
        matches!(self.parts[..], [Part::Variable(_)])
    }

    /// Whether it needs the captures of the route.
    pub fn uses_captures(&self) -> bool {
        self.variables().any(|variable| matches!(variable, Variable::Capture(_)))
    }

    /// Appends the text with the values of its variables, which `encoding` keeps from changing what surrounds them.
    pub fn put<V: Variables + ?Sized>(&self, encoding: Encoding, variables: &V, out: &mut Vec<u8>) {
        let begin = out.len();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => put_variable(variable, encoding, variables, out),
            }
        }
        // Two slashes at the beginning would make what follows a host (RFC 3986 section 4.2): only a person may write
        // them, no value.
        if encoding == Encoding::Url && !self.start().starts_with("//") {
            encode::single_slash(out, begin);
        }
    }

    /// As [`Template::put`], for the value of a variable of the config's own, whose text must not change what surrounds it
    /// either. Captures are those of `matched`; without it they are asked of `variables`.
    pub fn put_value(
        &self,
        encoding: Encoding,
        variables: &dyn Variables,
        matched: Option<Matched<'_>>,
        out: &mut Vec<u8>,
    ) {
        for part in &self.parts {
            let start = out.len();
            match (part, matched) {
                (Part::Text(text), _) => {
                    out.extend_from_slice(text.as_bytes());
                    encode::text(encoding, out, start);
                }
                (Part::Variable(Variable::Capture(number)), Some(matched)) => {
                    let place = matched.captures.place(*number);
                    out.extend_from_within(matched.start + place.start..matched.start + place.end);
                    encode::value(encoding, matched.like, out, start);
                }
                (Part::Variable(variable), _) => put_variable(variable, encoding, variables, out),
            }
        }
    }
}

impl Variable {
    /// Every name that is not made of a prefix and another name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        parse::PLAIN.iter().map(|(name, ..)| *name)
    }

    /// Whether every request has a variable of this name, so that the config cannot define another one.
    pub fn is_built_in(name: &str) -> bool {
        parse::is_built_in(name)
    }

    /// Whether it is known only once the request is answered.
    pub fn is_of_answer(&self) -> bool {
        parse::is_of_answer(self)
    }

    /// What stands before the names of fields, arguments and cookies: `http_`.
    pub fn prefixes() -> impl Iterator<Item = &'static str> {
        parse::PREFIXED.iter().map(|(prefix, ..)| *prefix)
    }
}

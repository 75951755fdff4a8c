//! Sticky clients: a cookie that leads a client back to the server it had.
//!
//! Its value is made of the upstream's name and the server's address under a secret (HMAC-SHA-256, cut to 128 bits): it
//! tells nothing of the server, nobody can make one for a server of their choice, and it means the same in every process
//! and on every node with the same secret, whatever the order or number of servers in the config. It is the same for all
//! clients of a server, so somebody may pass theirs on; they cannot get at a server that they were never sent to.
//!
//! Pure, and without any computing for a request: the values of all servers are made when the config is read. All of them
//! are compared to their end, so that time tells nothing of them.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Length of a value: 128 bits in base64url.
const TOKEN_BYTES: usize = 22;

/// The cookie of one upstream.
#[derive(Clone, PartialEq, Eq)]
pub struct Sticky {
    /// Name of the cookie.
    pub cookie: String,
    /// What the values are made with; empty: its file could not be read.
    secret: Box<[u8]>,
    tokens: Box<[[u8; TOKEN_BYTES]]>,
    /// Everything of Set-Cookie behind the value, but `Secure`.
    attributes: String,
    secure: Secure,
}

/// When the cookie says `Secure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// When the request came by https.
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// What a cookie is made with (RFC 6265 section 4.1).
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// Host that it is for, and those below; `None`: the host alone.
    pub domain: Option<&'a str>,
    /// Beginning of the paths that it is for.
    pub path: &'a str,
    /// Seconds until it is forgotten; `None`: with the browser's session.
    pub max_age_seconds: Option<u64>,
    /// Scripts do not see it.
    pub http_only: bool,
    /// `Lax`, `Strict` or `None`; `None`: it says nothing.
    pub same_site: Option<&'a str>,
    /// Only sent over https.
    pub secure: Secure,
}

impl std::fmt::Debug for Sticky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A stable mark of the secret, which does not give it away.
        let mark = self.tokens.first().map(|token| crate::proxy::balance::rendezvous::hash(token) as u16);
        f.debug_struct("Sticky")
            .field("cookie", &self.cookie)
            .field("attributes", &self.attributes)
            .field("secure", &self.secure)
            .field("mark", &mark)
            .finish()
    }
}

impl Sticky {
    /// The cookie called `cookie` for servers with these addresses.
    pub fn new<'a>(
        cookie: &str,
        secret: &[u8],
        upstream: &str,
        servers: impl Iterator<Item = &'a str>,
        attributes: &Attributes<'_>,
    ) -> Sticky {
        Sticky {
            cookie: cookie.into(),
            tokens: tokens(secret, upstream, servers),
            secret: secret.into(),
            attributes: attributes.text(),
            secure: attributes.secure,
        }
    }

    /// Whether it has a secret.
    pub fn has_secret(&self) -> bool {
        !self.secret.is_empty()
    }

    /// The same cookie for servers with these addresses.
    pub fn for_servers<'a>(&self, upstream: &str, servers: impl Iterator<Item = &'a str>) -> Sticky {
        Sticky { tokens: tokens(&self.secret, upstream, servers), ..self.clone() }
    }

    /// The same cookie, for the servers it is for, with the secret of `other`.
    pub fn with_secret_of<'a>(&self, other: &Sticky, upstream: &str, servers: impl Iterator<Item = &'a str>) -> Sticky {
        Sticky { secret: other.secret.clone(), tokens: tokens(&other.secret, upstream, servers), ..self.clone() }
    }

    /// The server that the value of a cookie leads to.
    pub fn server(&self, value: &[u8]) -> Option<usize> {
        let value: &[u8; TOKEN_BYTES] = value.try_into().ok()?;
        let mut found = None;
        for (server, token) in self.tokens.iter().enumerate() {
            let difference = token.iter().zip(value).fold(0, |all, (a, b)| all | (a ^ b));
            if difference == 0 {
                found = found.or(Some(server));
            }
        }
        found
    }

    /// Appends the value of Set-Cookie for `server`.
    pub fn put(&self, server: usize, is_https: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(self.cookie.as_bytes());
        out.push(b'=');
        out.extend_from_slice(&self.tokens[server]);
        out.extend_from_slice(self.attributes.as_bytes());
        if self.secure == Secure::Always || (self.secure == Secure::Auto && is_https) {
            out.extend_from_slice(b"; Secure");
        }
    }
}

/// The values of all servers.
fn tokens<'a>(secret: &[u8], upstream: &str, servers: impl Iterator<Item = &'a str>) -> Box<[[u8; TOKEN_BYTES]]> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let token = |server: &str| {
        let mut context = hmac::Context::with_key(&key);
        for part in ["one-server sticky", upstream, server] {
            // Lengths, so that no two sets of parts are the same bytes.
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let tag = context.sign();
        let mut token = [0; TOKEN_BYTES];
        let written = URL_SAFE_NO_PAD.encode_slice(&tag.as_ref()[..16], &mut token);
        debug_assert_eq!(written, Ok(TOKEN_BYTES));
        token
    };
    servers.map(token).collect()
}

impl Attributes<'_> {
    fn text(&self) -> String {
        let mut text = format!("; Path={}", self.path);
        if let Some(domain) = self.domain {
            text += &format!("; Domain={domain}");
        }
        if let Some(seconds) = self.max_age_seconds {
            text += &format!("; Max-Age={seconds}");
        }
        if self.http_only {
            text += "; HttpOnly";
        }
        if let Some(same_site) = self.same_site {
            text += &format!("; SameSite={same_site}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in crate::proxy) fn sticky(secret: &str, servers: &[&str]) -> Sticky {
        let attributes = Attributes {
            domain: None,
            path: "/",
            max_age_seconds: None,
            http_only: true,
            same_site: Some("Lax"),
            secure: Secure::Auto,
        };
        Sticky::new("srv", secret.as_bytes(), "api", servers.iter().copied(), &attributes)
    }

    fn field(sticky: &Sticky, server: usize, is_https: bool) -> String {
        let mut out = Vec::new();
        sticky.put(server, is_https, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn value(sticky: &Sticky, server: usize) -> String {
        let field = field(sticky, server, false);
        field.split(['=', ';']).nth(1).unwrap().to_owned()
    }

    #[test]
    fn a_value_leads_back_and_survives_changes_of_the_config() {
        let (here, there) = (
            sticky("a secret of many words", &["a:1", "b:1"]),
            sticky("a secret of many words", &["c:1", "b:1", "a:1"]),
        );
        for server in 0..2 {
            assert_eq!(here.server(value(&here, server).as_bytes()), Some(server));
        }
        assert_eq!(there.server(value(&here, 0).as_bytes()), Some(2));
        assert_eq!(here.server(value(&there, 0).as_bytes()), None, "a server that is gone");
        let other = sticky("another secret of words", &["a:1", "b:1"]);
        assert_eq!(other.server(value(&here, 0).as_bytes()), None);
        assert!(!format!("{here:?}").contains(&value(&here, 0)));
    }

    #[test]
    fn nothing_of_the_server_shows_in_the_value() {
        let made = sticky("a secret of many words", &["a:1", "b:1"]);
        let (a, b) = (value(&made, 0), value(&made, 1));
        assert!(a.len() == TOKEN_BYTES && a != b);
        assert!(a.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        for wrong in ["", "a:1", "0", &a[1..], &format!("{a}="), &a.to_ascii_uppercase()] {
            assert_eq!(made.server(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn attributes_are_written_as_they_are_read() {
        let made = sticky("a secret of many words", &["a:1"]);
        let value = value(&made, 0);
        assert_eq!(field(&made, 0, false), format!("srv={value}; Path=/; HttpOnly; SameSite=Lax"));
        assert_eq!(field(&made, 0, true), format!("srv={value}; Path=/; HttpOnly; SameSite=Lax; Secure"));
        let attributes = Attributes {
            domain: Some("example.org"),
            path: "/app",
            max_age_seconds: Some(3600),
            http_only: false,
            same_site: None,
            secure: Secure::Never,
        };
        let made = Sticky::new("srv", b"a secret of many words", "api", ["a:1"].into_iter(), &attributes);
        assert_eq!(field(&made, 0, true), format!("srv={value}; Path=/app; Domain=example.org; Max-Age=3600"));
    }
}

//! The property of TLS sessions that holds for any bytes of a client, whatever they say. A target of `fuzz/` calls it with
//! coverage feedback; the test below runs it on every `cargo test`. It panics when the property does not hold.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::ServerConfig;

use super::hello::{self, Hello, read_hello};
use super::{Certificate, INPUT_BYTES_MAX, Material, Secrets, Session, Tickets, TlsError, build, self_signed};
use crate::config::model::{ClientCertificates, Tls, TlsProfile, UnknownNames};

static CONFIG: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let made = self_signed(&["a.test"], 30).expect("made");
    let certificate = Certificate::parse(made.chain_pem.as_bytes(), made.key_pem.as_bytes()).expect("good");
    let settings = Tls {
        certificates: Vec::new(),
        profile: TlsProfile::Intermediate,
        unknown_names: UnknownNames::Refuse,
        client_certificates: ClientCertificates::Off,
        client_ca: None,
        ticket_keys: None,
        handshake_timeout: Duration::from_secs(10),
    };
    let material = Material::new(&settings, &[certificate], None, Tickets::new(Secrets::random())).expect("good");
    build(&settings, &material, true).expect("good")
});

/// A ClientHello is complete at one byte and not before, whatever follows; what cannot become one stays so; the end comes within
/// [`hello::INPUT_BYTES_MAX`] bytes; a name is plain text.
pub fn hello(input: &[u8]) {
    let whole = read_hello(input);
    assert!(whole != Ok(None) || input.len() < hello::INPUT_BYTES_MAX);
    let first = (0..input.len()).find(|end| read_hello(&input[..*end]) != Ok(None));
    if let Some(end) = first {
        let early = read_hello(&input[..end]);
        assert_eq!(early, whole);
        assert_eq!(read_hello(&input[..(end + input.len()) / 2]), early);
    }
    if let Ok(Some(Hello { server_name: Some(name), .. })) = &whole {
        assert!(!name.is_empty() && name.len() <= 255 && !name.bytes().any(|byte| byte.is_ascii_uppercase()));
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
    }
}

/// How a session took all of its input.
#[derive(Debug, PartialEq, Eq)]
struct End {
    error: Option<&'static str>,
    plain: Vec<u8>,
    /// Something was sent.
    spoke: bool,
    is_established: bool,
}

/// Bytes that no handshake made give no plaintext, and end the same however they are cut; what we hold and send is bounded;
/// a session that failed stays so. The first byte of the input chooses the cuts.
pub fn session(input: &[u8]) {
    let Some((&step, input)) = input.split_first() else { return };
    let whole = run(input, usize::MAX);
    assert_eq!(run(input, usize::from(step) + 1), whole, "cut into pieces");
    assert!(!whole.is_established && whole.plain.is_empty(), "nobody knows the keys: {whole:?}");
}

fn run(input: &[u8], piece_bytes: usize) -> End {
    let mut session = Session::new(&CONFIG).expect("a session");
    let (mut waiting, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
    let mut error = None;
    for piece in input.chunks(piece_bytes) {
        if error.is_some() {
            break;
        }
        waiting.extend_from_slice(piece);
        error = session.receive(&mut waiting, &mut plain, &mut out).err().map(|error| error.label());
        assert!(error.is_some() || waiting.len() <= INPUT_BYTES_MAX, "more than that is refused");
        assert!(out.len() <= 16 << 10, "one flight of ours");
    }
    if error.is_some() {
        let again = session.receive(&mut waiting, &mut plain, &mut out);
        assert!(matches!(again, Err(TlsError::Ended)), "{again:?}");
        assert!(session.encrypt(b"x", &mut out).is_err());
    }
    End { error, plain, spoke: !out.is_empty(), is_established: session.is_established() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fuzz, seeds};

    #[test]
    fn sessions() {
        fuzz(
            "tls_session",
            session,
            &[
                "\u{16}\u{3}\u{1}",
                "\u{16}\u{3}\u{3}",
                "\u{15}\u{3}\u{3}\0\u{2}",
                "\u{14}\u{3}\u{3}\0\u{1}\u{1}",
                "\u{17}\u{3}\u{3}",
                "\0",
                "\u{1}",
                "GET / HTTP/1.1\r\n",
                "\0\0",
                "\u{7f}",
            ],
        );
    }

    #[test]
    fn hellos() {
        fuzz(
            "tls_hello",
            hello,
            &[
                "\u{16}\u{3}\u{1}",
                "\0\u{40}",
                "\u{1}\0",
                "\0\0\0",
                "\0\u{10}\0\u{5}\0\u{3}\u{2}h2",
                "example.org",
                "\u{7f}\0",
            ],
        );
    }

    /// A good hello is among the seeds, else the changes would only test how garbage is refused.
    #[test]
    fn a_seed_is_answered() {
        let answered = seeds("tls_session").iter().any(|seed| {
            let end = run(&seed[1..], usize::MAX);
            end.error.is_none() && end.spoke
        });
        assert!(answered);
    }
}

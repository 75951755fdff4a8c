//! Small things that several test files need: curl for HTTP/2 and TLS, decoders for content codings, a certificate.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::Response;

/// What curl got, whatever protocol it spoke.
pub(crate) struct Curled {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Its exit code: 0 when the answer was whole.
    pub(crate) code: i32,
}

impl Curled {
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value).collect()
    }

    /// The one value of a field; panics when it occurs twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() < 2, "{name} occurs twice: {:?}", self.fields);
        values.first().copied()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks with curl: `scheme` is `http` or `https`. The answer is taken as it comes, nothing is decoded; no redirect is
/// followed, certificates are not verified.
pub(crate) fn curl(scheme: &str, address: SocketAddr, target: &str, arguments: &[&str]) -> Curled {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, body) = (folder.path().join("head"), folder.path().join("body"));
    let output = Command::new("curl")
        .args(["-sk", "--max-time", "30", "--path-as-is", "-D"])
        .arg(&head)
        .arg("-o")
        .arg(&body)
        .args(arguments)
        .arg(format!("{scheme}://{address}{target}"))
        .output()
        .expect("curl runs");
    let head = std::fs::read(head).unwrap_or_default();
    let text = String::from_utf8_lossy(&head).into_owned();
    // Interim answers stand in front of the final one.
    let last = text.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
    let mut lines = last.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|text| text.parse().ok());
    let field = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    Curled {
        status: status.unwrap_or(0),
        fields: lines.filter_map(field).collect(),
        body: std::fs::read(body).unwrap_or_default(),
        code: output.status.code().unwrap_or(-1),
    }
}

/// All values of a field, in order.
pub(crate) fn values<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
    let of_name = response.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    of_name.map(|(_, value)| value.as_str()).collect()
}

/// `body` without its content coding. Errors: it is not whole, or not in that coding.
pub(crate) fn decode(coding: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    match coding {
        "br" => drop(brotli::Decompressor::new(body, 4096).read_to_end(&mut plain)?),
        "zstd" => drop(zstd::stream::read::Decoder::new(body)?.read_to_end(&mut plain)?),
        "gzip" => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut plain)?),
        other => panic!("no such coding: {other}"),
    }
    Ok(plain)
}

/// Text that compresses well but is not the same everywhere.
pub(crate) fn text_of(bytes: usize) -> Vec<u8> {
    let lines =
        (0u32..).map(|n| format!("line {n}: {:08x} the quick brown fox jumps over it\n", n.wrapping_mul(0x9E37_79B9)));
    let mut text: Vec<u8> = lines.take(bytes / 40 + 1).flat_map(String::into_bytes).collect();
    text.truncate(bytes);
    text
}

/// Makes `test.pem` and `test.key` in `folder`, as a user would.
pub(crate) fn make_certificate(folder: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_one-server"))
        .args(["cert", "self-signed", "test", "--out"])
        .arg(folder)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What can be read so far of a body in a coding that goes on.
pub(crate) fn decode_begun(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut reader: Box<dyn Read> = match coding {
        "br" => Box::new(brotli::Decompressor::new(body, 4096)),
        "zstd" => match zstd::stream::read::Decoder::new(body) {
            Ok(decoder) => Box::new(decoder),
            Err(_) => return Vec::new(),
        },
        "gzip" => Box::new(flate2::read::GzDecoder::new(body)),
        other => panic!("no such coding: {other}"),
    };
    let (mut plain, mut piece) = (Vec::new(), [0; 512]);
    while let Ok(n) = reader.read(&mut piece) {
        if n == 0 {
            break;
        }
        plain.extend_from_slice(&piece[..n]);
    }
    plain
}

//! The property of lookups that holds for any value of a request, whatever it says. A target of `fuzz/` calls it with
//! coverage feedback; the test below runs it on every `cargo test`. It panics when the property does not hold.

use super::tables::{map, worth};
use crate::util::template::Encoding;

/// A value that goes through a map, as a whole and by its captures, stays in its place; what the map finds is what a plain
/// reader finds.
pub fn value(input: &[u8]) {
    let rows = [
        ("a", "exact"),
        ("*.a", "suffix"),
        ("a.*", "prefix"),
        ("~(?s)^(.)(?<rest>.*)x$", "$rest|$1|$http_x"),
        ("~*b", "$http_x"),
    ];
    for from in ["$http_x", "$path", "$request_uri", "-$arg_x"] {
        let lookups = [map("one", from, true, &rows, "$http_x")];
        let put = |encoding| worth(&lookups, encoding, input);
        let field = put(Encoding::Field);
        assert!(!field.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "no further line");
        let url = put(Encoding::Url);
        assert!(url.iter().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(byte)), "no further field");
        assert!(!url.starts_with(b"//"), "no value makes a host");
        assert!(!put(Encoding::Html).iter().any(|byte| b"<>\"'".contains(byte)), "no further element");
        let json = [b"\"", &put(Encoding::Json)[..], b"\""].concat();
        assert!(serde_json::from_slice::<String>(&json).is_ok(), "{}", json.escape_ascii());
    }
    let lookups = [map("one", "$http_x", true, &rows[..3], "none")];
    assert_eq!(worth(&lookups, Encoding::Text, input), plain(input), "{}", input.escape_ascii());
}

fn plain(input: &[u8]) -> &'static [u8] {
    let name = input.strip_suffix(b".").unwrap_or(input).to_ascii_lowercase();
    match &name[..] {
        b"a" => b"exact",
        name if name.len() > 2 && name.ends_with(b".a") => b"suffix",
        name if name.len() > 2 && name.starts_with(b"a.") => b"prefix",
        _ => b"none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz;

    #[test]
    fn values() {
        fuzz(
            "map_value",
            value,
            &["a", "b", ".", ".a", "a.", "x", "\r\n", "/", "//", "%", "%2f", "\0", "<", "\"", "?", "#"],
        );
    }
}

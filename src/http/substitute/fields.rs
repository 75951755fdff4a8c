//! What a change of the body changes in the fields of an answer. Pure, and in place.

use super::Policy;
use crate::http::coding::weaken_etags;
use crate::http::fields::FieldsMut;

/// Fields that tell of the bytes of the body: their number, parts of them, their digests (RFC 9110 sections 8.6 and 14.3,
/// RFC 9530; Content-MD5 and Digest of old).
const OF_BYTES: [&str; 6] =
    ["Content-Length", "Accept-Ranges", "Content-MD5", "Digest", "Content-Digest", "Repr-Digest"];

/// Makes `fields`, lines `Name: value\r\n`, those of an answer whose body is changed: without what tells of its bytes, and
/// without ETag and Last-Modified, or with a weak ETag where `policy` keeps them.
pub fn apply(fields: &mut Vec<u8>, policy: &Policy) {
    for name in OF_BYTES {
        FieldsMut::new(fields, 0).remove(name);
    }
    not_modified(fields, policy);
}

/// Makes `fields` those of a 304 for an answer whose body would be changed: its validators are those of that answer
/// (RFC 9110 section 15.4.5).
pub fn not_modified(fields: &mut Vec<u8>, policy: &Policy) {
    if policy.keeps_validators {
        return weaken_etags(fields, 0);
    }
    for name in ["ETag", "Last-Modified"] {
        FieldsMut::new(fields, 0).remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::tests::policy;
    use super::*;

    /// Lines are written with `|` between them.
    #[track_caller]
    fn check(change: fn(&mut Vec<u8>, &Policy), keeps_validators: bool, fields: &str, expect: &str) {
        let mut out = fields.replace('|', "\r\n").into_bytes();
        change(&mut out, &Policy { keeps_validators, ..policy() });
        assert_eq!(String::from_utf8(out).unwrap().replace("\r\n", "|"), expect, "{fields}");
    }

    const FIELDS: &str = "Content-Type: text/html|content-length: 5|ETag: \"x\"|Last-Modified: d|Accept-Ranges: bytes|\
        Content-MD5: m|Digest: d|Content-Digest: d|Repr-Digest: d|Vary: Origin|";

    #[test]
    fn what_tells_of_bytes_goes() {
        check(apply, false, FIELDS, "Content-Type: text/html|Vary: Origin|");
        let kept = "Content-Type: text/html|ETag: W/\"x\"|Last-Modified: d|Vary: Origin|";
        check(apply, true, FIELDS, kept);
        check(apply, true, kept, kept);
        check(apply, true, "ETag: x|", "");
    }

    #[test]
    fn a_304_has_the_validators_of_its_200() {
        check(not_modified, true, "ETag: \"x\"|Last-Modified: d|Vary: a|", "ETag: W/\"x\"|Last-Modified: d|Vary: a|");
        check(not_modified, false, "ETag: \"x\"|Last-Modified: d|Vary: a|", "Vary: a|");
    }
}

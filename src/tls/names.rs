//! Distinguished names as text: RFC 2253, byte for byte as OpenSSL's `X509_NAME_print_ex` with `XN_FLAG_RFC2253` and
//! therefore nginx's `$ssl_client_s_dn` write it. Bytes that could break a log line or a header field come out escaped.

use std::fmt::Write;

use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Attributes in one name; no real one has as many.
const ATTRIBUTES_MAX: usize = 64;

/// OpenSSL's short names.
const SHORT_NAMES: [(&str, &str); 28] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

/// The name as text, its last attribute first.
pub(super) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut attributes: Vec<(&AttributeTypeAndValue<'_>, bool)> = Vec::new();
    for rdn in name.iter_rdn() {
        for (index, attribute) in rdn.iter().enumerate() {
            attributes.push((attribute, index > 0));
        }
    }
    attributes.truncate(ATTRIBUTES_MAX);
    let mut out = String::new();
    // Two attributes of one relative name are joined by `+`, also backwards.
    let mut joins_next = false;
    for (attribute, joins) in attributes.into_iter().rev() {
        if !out.is_empty() {
            out.push(if joins_next { '+' } else { ',' });
        }
        joins_next = joins;
        write_attribute(&mut out, attribute);
    }
    out
}

fn write_attribute(out: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
    out.push_str(short.unwrap_or(&oid));
    out.push('=');
    // `XN_FLAG_DUMP_UNKNOWN_FIELDS`: the value of an attribute nobody knows is shown as it is.
    match short.and_then(|_| text(attribute.attr_value())) {
        Some(text) => escape(out, &text),
        None => dump(out, attribute.attr_value()),
    }
}

/// A string type as UTF-8; `None` for other types and broken ones.
fn text(value: &Any<'_>) -> Option<String> {
    let data = value.data;
    match value.tag() {
        Tag::Utf8String => std::str::from_utf8(data).ok().map(Into::into),
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString | Tag::T61String => {
            Some(data.iter().copied().map(char::from).collect())
        }
        Tag::BmpString => {
            let (units, rest) = data.as_chunks::<2>();
            let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
            rest.is_empty().then(|| char::decode_utf16(units).collect::<Result<_, _>>().ok()).flatten()
        }
        Tag::UniversalString => {
            let (units, rest) = data.as_chunks::<4>();
            let units = units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
            rest.is_empty().then(|| units.collect()).flatten()
        }
        _ => None,
    }
}

/// RFC 2253 section 2.4, and beyond it every byte that is not visible ASCII.
fn escape(out: &mut String, text: &str) {
    let last = text.len().saturating_sub(1);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', byte.into()]),
            b' ' if index == 0 || index == last => out.push_str("\\ "),
            b'#' if index == 0 => out.push_str("\\#"),
            b' '..=b'~' => out.push(byte.into()),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "\\{byte:02X}")),
        }
    }
}

/// `#` and the DER of the value in hex.
fn dump(out: &mut String, value: &Any<'_>) {
    out.push('#');
    let length = value.data.len();
    let header = match length {
        0..0x80 => vec![length as u8],
        0x80..0x100 => vec![0x81, length as u8],
        // Nothing longer comes out of a certificate that fits a handshake.
        _ => vec![0x82, (length >> 8) as u8, length as u8],
    };
    let class = (value.class() as u8) << 6 | u8::from(value.header.constructed()) << 5;
    let tag = class | value.tag().0 as u8;
    for byte in [tag].iter().chain(&header).chain(value.data) {
        let _ = write!(out, "{byte:02X}");
    }
}

/// A serial number as OpenSSL's `i2a_ASN1_INTEGER` writes it: hex digits in upper case, two for each byte.
pub(super) fn serial(bytes: &[u8]) -> String {
    let bytes = match bytes {
        // The byte that keeps the number positive.
        [0, rest @ ..] if !rest.is_empty() => rest,
        _ => bytes,
    };
    hex(bytes).to_uppercase()
}

/// Hex digits in lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use x509_parser::prelude::FromDer;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        escape(&mut out, text);
        out
    }

    /// Certificates made by OpenSSL, and what `openssl x509 -noout -subject -nameopt RFC2253` says of each.
    #[test]
    fn names_are_written_as_openssl_writes_them() {
        use rustls_pki_types::pem::PemObject;
        let pem = include_bytes!("data/names.pem");
        let expect: Vec<&str> = include_str!("data/names.txt").lines().collect();
        let certificates: Vec<_> =
            rustls_pki_types::CertificateDer::pem_slice_iter(pem).map(|der| der.expect("good")).collect();
        assert_eq!((certificates.len(), expect.len()), (6, 6));
        for (der, expect) in certificates.iter().zip(expect) {
            let (_, certificate) = x509_parser::parse_x509_certificate(der).expect("good");
            assert_eq!(rfc2253(certificate.subject()), expect);
        }
    }

    #[test]
    fn special_characters_are_escaped() {
        for (text, expect) in [
            ("", ""),
            ("a b", "a b"),
            (" a ", "\\ a\\ "),
            (" ", "\\ "),
            ("#a#", "\\#a#"),
            ("a,b+c\"d\\e<f>g;h=i", "a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h=i"),
            ("a\r\nb\0", "a\\0D\\0Ab\\00"),
            ("Müller", "M\\C3\\BCller"),
        ] {
            assert_eq!(escaped(text), expect);
        }
    }

    #[test]
    fn serials_are_written_as_openssl_writes_them() {
        for (bytes, expect) in [(&[0][..], "00"), (&[1], "01"), (&[0, 0xab, 0xcd], "ABCD"), (&[0x0a, 0xff], "0AFF")] {
            assert_eq!(serial(bytes), expect);
        }
    }

    proptest! {
        #[test]
        fn no_name_breaks_a_line(der in proptest::collection::vec(any::<u8>(), 0..80), value in proptest::collection::vec(any::<u8>(), 0..40), tag in 0u8..32) {
            // A name of one attribute with any type of value.
            let attribute = [&[0x06, 3, 0x55, 4, 3, tag, value.len() as u8][..], &value].concat();
            let wrap = |tag: u8, inner: &[u8]| [&[tag, inner.len() as u8], inner].concat();
            let name = wrap(0x30, &wrap(0x31, &wrap(0x30, &attribute)));
            for der in [&der, &name] {
                if let Ok((_, name)) = X509Name::from_der(der) {
                    prop_assert!(rfc2253(&name).bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                }
            }
        }
    }
}

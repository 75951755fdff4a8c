//! Which field a name is, found while parsing.

use super::head::FieldName;

/// A name in lower case, as words that may overlap: two names of one length, at most 24 bytes, are the same if these
/// are, which takes a few instructions.
type Folded = [u64; 3];

impl FieldName {
    /// The field that `name` names, in any case of letters.
    #[inline]
    pub fn of(name: &[u8]) -> FieldName {
        use FieldName::*;
        let candidates: &[(Folded, FieldName)] = match name.len() {
            2 => const { &[(fold(b"te"), Te)] },
            3 => const { &[(fold(b"via"), Via)] },
            4 => const { &[(fold(b"host"), Host), (fold(b"date"), Date), (fold(b"etag"), Etag)] },
            5 => const { &[(fold(b"range"), Range)] },
            6 => {
                const {
                    &[
                        (fold(b"accept"), Accept),
                        (fold(b"cookie"), Cookie),
                        (fold(b"server"), Server),
                        (fold(b"expect"), Expect),
                    ]
                }
            }
            7 => const { &[(fold(b"referer"), Referer), (fold(b"upgrade"), Upgrade), (fold(b"trailer"), Trailer)] },
            8 => const { &[(fold(b"if-range"), IfRange), (fold(b"if-match"), IfMatch), (fold(b"location"), Location)] },
            9 => const { &[(fold(b"forwarded"), Forwarded)] },
            10 => {
                const {
                    &[
                        (fold(b"connection"), Connection),
                        (fold(b"user-agent"), UserAgent),
                        (fold(b"set-cookie"), SetCookie),
                        (fold(b"keep-alive"), KeepAlive),
                    ]
                }
            }
            12 => const { &[(fold(b"content-type"), ContentType), (fold(b"x-request-id"), XRequestId)] },
            13 => {
                const {
                    &[
                        (fold(b"authorization"), Authorization),
                        (fold(b"if-none-match"), IfNoneMatch),
                        (fold(b"last-modified"), LastModified),
                    ]
                }
            }
            14 => const { &[(fold(b"content-length"), ContentLength)] },
            15 => const { &[(fold(b"accept-encoding"), AcceptEncoding), (fold(b"x-forwarded-for"), XForwardedFor)] },
            16 => {
                const {
                    &[
                        (fold(b"x-forwarded-host"), XForwardedHost),
                        (fold(b"x-forwarded-port"), XForwardedPort),
                        (fold(b"proxy-connection"), ProxyConnection),
                    ]
                }
            }
            17 => {
                const {
                    &[
                        (fold(b"if-modified-since"), IfModifiedSince),
                        (fold(b"transfer-encoding"), TransferEncoding),
                        (fold(b"x-forwarded-proto"), XForwardedProto),
                    ]
                }
            }
            18 => const { &[(fold(b"proxy-authenticate"), ProxyAuthenticate)] },
            19 => {
                const {
                    &[
                        (fold(b"if-unmodified-since"), IfUnmodifiedSince),
                        (fold(b"proxy-authorization"), ProxyAuthorization),
                    ]
                }
            }
            _ => return Other,
        };
        let [first, middle, last] = fold(name);
        // Word by word: as one array the comparison waits for the words to reach memory.
        let found = candidates.iter().find(|(text, _)| text[0] == first && text[2] == last && text[1] == middle);
        found.map_or(Other, |&(_, known)| known)
    }
}

/// See [`Folded`].
#[inline]
const fn fold(name: &[u8]) -> Folded {
    let words = match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => {
            let middle = match name.split_at(8).1.first_chunk() {
                Some(middle) => u64::from_le_bytes(*middle),
                None => 0,
            };
            [u64::from_le_bytes(*first), middle, u64::from_le_bytes(*last)]
        }
        _ => match (name.first_chunk(), name.last_chunk()) {
            (Some(first), Some(last)) => [u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64, 0],
            _ => match *name {
                [a, b, c] => [a as u64, b as u64, c as u64],
                [a, b] => [a as u64, b as u64, 0],
                _ => [0, 0, 0],
            },
        },
    };
    [lower_case(words[0]), lower_case(words[1]), lower_case(words[2])]
}

/// Eight bytes at once, the ASCII letters among them in lower case.
#[inline]
const fn lower_case(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let low_bits = word & (0x7f * ONES);
    let from_a = low_bits + (0x80 - b'A' as u64) * ONES;
    let beyond_z = low_bits + (0x7f - b'Z' as u64) * ONES;
    // The top bit of each byte that is an upper case letter; two places down it is the bit that makes it lower case.
    let upper = (from_a & !beyond_z) & !word & (0x80 * ONES);
    word | upper >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `XForwardedFor` is the field `X-Forwarded-For`, and so on for every name.
    #[test]
    fn names_are_found_in_any_case() {
        use FieldName::*;
        let all = [
            Accept,
            AcceptEncoding,
            Authorization,
            Connection,
            ContentLength,
            ContentType,
            Cookie,
            Date,
            Etag,
            Expect,
            Forwarded,
            Host,
            IfMatch,
            IfModifiedSince,
            IfNoneMatch,
            IfRange,
            IfUnmodifiedSince,
            KeepAlive,
            LastModified,
            Location,
            ProxyAuthenticate,
            ProxyAuthorization,
            ProxyConnection,
            Range,
            Referer,
            Server,
            SetCookie,
            Te,
            Trailer,
            TransferEncoding,
            Upgrade,
            UserAgent,
            Via,
            XForwardedFor,
            XForwardedHost,
            XForwardedPort,
            XForwardedProto,
            XRequestId,
        ];
        // The list is in the order of the enum, so its last index says whether it is complete.
        assert_eq!(all.len(), Other as usize);
        for (index, name) in all.into_iter().enumerate() {
            assert_eq!(name as usize, index);
            let mut text = String::new();
            for letter in format!("{name:?}").chars() {
                if letter.is_ascii_uppercase() && !text.is_empty() {
                    text.push('-');
                }
                text.push(letter);
            }
            for text in [text.clone(), text.to_lowercase(), text.to_uppercase()] {
                assert_eq!(FieldName::of(text.as_bytes()), name, "{text}");
            }
            assert_eq!(FieldName::of(text.replace('-', "_").as_bytes()), if text.contains('-') { Other } else { name });
            assert_eq!(FieldName::of(&text.as_bytes()[1..]), Other);
        }
    }

    #[test]
    fn only_letters_change_case() {
        for byte in 0..=255u8 {
            let bytes = [b'a', byte, b'Z', byte, 0, byte, 0xff, byte];
            let lower = lower_case(u64::from_le_bytes(bytes)).to_le_bytes();
            assert_eq!(lower.as_slice(), bytes.to_ascii_lowercase(), "{byte}");
        }
    }

    #[test]
    fn other_names_are_other() {
        for name in ["", "x", "hosts", "x-host", "cooki\u{e9}", "content-lengtj", "a-name-that-is-longer-than-all"] {
            assert_eq!(FieldName::of(name.as_bytes()), FieldName::Other, "{name}");
        }
    }
}

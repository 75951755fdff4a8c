//! Which field a name is, found while parsing.

use super::head::FieldName;

impl FieldName {
    /// The field that `name` names, in any case of letters. A length admits a few names at most, so an unknown one
    /// costs one or two comparisons.
    pub fn of(name: &[u8]) -> FieldName {
        use FieldName::*;
        let candidates: &[(&str, FieldName)] = match name.len() {
            2 => &[("te", Te)],
            3 => &[("via", Via)],
            4 => &[("host", Host), ("date", Date), ("etag", Etag)],
            5 => &[("range", Range)],
            6 => &[("accept", Accept), ("cookie", Cookie), ("server", Server), ("expect", Expect)],
            7 => &[("referer", Referer), ("upgrade", Upgrade), ("trailer", Trailer)],
            8 => &[("if-range", IfRange), ("if-match", IfMatch), ("location", Location)],
            9 => &[("forwarded", Forwarded)],
            10 => &[
                ("connection", Connection),
                ("user-agent", UserAgent),
                ("set-cookie", SetCookie),
                ("keep-alive", KeepAlive),
            ],
            12 => &[("content-type", ContentType), ("x-request-id", XRequestId)],
            13 => &[("authorization", Authorization), ("if-none-match", IfNoneMatch), ("last-modified", LastModified)],
            14 => &[("content-length", ContentLength)],
            15 => &[("accept-encoding", AcceptEncoding), ("x-forwarded-for", XForwardedFor)],
            16 => &[
                ("x-forwarded-host", XForwardedHost),
                ("x-forwarded-port", XForwardedPort),
                ("proxy-connection", ProxyConnection),
            ],
            17 => &[
                ("if-modified-since", IfModifiedSince),
                ("transfer-encoding", TransferEncoding),
                ("x-forwarded-proto", XForwardedProto),
            ],
            18 => &[("proxy-authenticate", ProxyAuthenticate)],
            19 => &[("if-unmodified-since", IfUnmodifiedSince), ("proxy-authorization", ProxyAuthorization)],
            _ => &[],
        };
        let found = candidates.iter().find(|(text, _)| name.eq_ignore_ascii_case(text.as_bytes()));
        found.map_or(Other, |&(_, known)| known)
    }
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
    fn other_names_are_other() {
        for name in ["", "x", "hosts", "x-host", "cooki\u{e9}", "content-lengtj", "a-name-that-is-longer-than-all"] {
            assert_eq!(FieldName::of(name.as_bytes()), FieldName::Other, "{name}");
        }
    }
}

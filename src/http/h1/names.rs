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

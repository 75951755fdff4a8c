//! What gRPC over HTTP/2 says about calls, as far as a proxy needs it: which requests are calls, and how an error of our own
//! is told to their clients. Pure.
//!
//! A call always ends with a status of gRPC in trailers; one that fails before it begins, with nothing but those
//! ("Trailers-Only"), under HTTP status 200. Which status stands for which of HTTP is told by gRPC's own
//! `http-grpc-status-mapping.md`; what that leaves open is taken from the table that nginx publishes for its `error_page`.

/// A status of gRPC, by the numbers of its `statuscodes.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u8);

impl Status {
    const UNKNOWN: Status = Status(2);
    const DEADLINE_EXCEEDED: Status = Status(4);
    const PERMISSION_DENIED: Status = Status(7);
    const RESOURCE_EXHAUSTED: Status = Status(8);
    const UNIMPLEMENTED: Status = Status(12);
    const INTERNAL: Status = Status(13);
    const UNAVAILABLE: Status = Status(14);
    const UNAUTHENTICATED: Status = Status(16);

    /// What an error of HTTP is for a call. A time-out of ours is DEADLINE_EXCEEDED, which the gRPC table, made for clients
    /// that do not know what is between, calls UNAVAILABLE.
    pub fn of_http(status: u16) -> Status {
        match status {
            401 | 407 | 495 | 496 => Status::UNAUTHENTICATED,
            403 | 451 => Status::PERMISSION_DENIED,
            404 => Status::UNIMPLEMENTED,
            408 | 504 => Status::DEADLINE_EXCEEDED,
            413 | 414 | 431 => Status::RESOURCE_EXHAUSTED,
            429 | 502 | 503 => Status::UNAVAILABLE,
            400..=501 => Status::INTERNAL,
            _ => Status::UNKNOWN,
        }
    }
}

/// A request with this Content-Type is a call: `application/grpc`, perhaps with the format of its messages behind a plus
/// sign. gRPC-Web is another protocol, whose clients have no trailers.
pub fn is_call(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    content_type.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME))
        && matches!(content_type.get(NAME.len()), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// Appends the field lines that tell the client of a call of an error of HTTP.
pub fn put_error(status: u16, out: &mut Vec<u8>) {
    let reason =
        http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("error");
    let line = format!(
        "content-type: application/grpc\r\ngrpc-status: {}\r\ngrpc-message: {status} {reason}\r\n",
        Status::of_http(status).0
    );
    out.extend_from_slice(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_content_type() {
        for (text, expect) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_call(text.as_bytes()), expect, "{text}");
        }
    }

    #[test]
    fn errors_of_http_have_one_of_grpc() {
        for (status, expect) in [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (405, 13),
            (408, 4),
            (413, 8),
            (414, 8),
            (418, 13),
            (421, 13),
            (429, 14),
            (431, 8),
            (500, 13),
            (501, 13),
            (502, 14),
            (503, 14),
            (504, 4),
            (505, 2),
            (599, 2),
            (999, 2),
        ] {
            assert_eq!(Status::of_http(status).0, expect, "{status}");
        }
        let mut out = Vec::new();
        put_error(503, &mut out);
        let expect = "content-type: application/grpc\r\ngrpc-status: 14\r\ngrpc-message: 503 Service Unavailable\r\n";
        assert_eq!(out, expect.as_bytes());
    }
}

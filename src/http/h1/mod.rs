//! HTTP/1.1 framing over httparse (RFC 9112).

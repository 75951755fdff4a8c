//! The names that an access log format may use: nginx's variables, HAProxy's directives, and a few of ours.
//!
//! Each stands here once, with what it means where that is not what nginx or HAProxy would write; formats, advice for
//! misspelt names and the manual are made from these lists.

use crate::util::template::Own;

/// A value of an access log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// Known elsewhere, does not exist here: always missing.
    Nothing,
    /// Writes nothing at all; not even the space behind it in the format is kept.
    Vanishes,

    RemoteAddr,
    RemotePort,
    RemoteUser,
    PeerAddr,
    PeerPort,
    ProxyProtocolAddr,
    LocalAddr,
    LocalPort,
    Listener,
    /// With `~` behind it for TLS.
    ListenerTls,
    Site,
    ServerName,
    Scheme,
    Https,
    Tls(TlsValue),

    Request(RequestPart),
    Host,
    HostField,
    Referer,
    UserAgent,
    /// Name in lower case, `_` for `-`.
    RequestField(Box<str>),
    ResponseField(Box<str>),
    Cookie(Box<str>),
    Argument(Box<str>),
    RequestId,

    Status,
    /// -1 when there was none.
    StatusOrMinus,
    BodyBytes,
    BytesSent,
    BytesReceived,
    CodingName,
    BytesBeforeCoding,
    GzipRatio,
    Completion,
    Termination,
    TerminationAndCookies,

    /// When the answer ended.
    End(EndForm),
    /// When the request began.
    Start(StartForm),
    /// Seconds with three decimals.
    RequestTime,
    DurationUs,
    /// Milliseconds as HAProxy writes them: -1 for a part that was not reached.
    TimerMs(Timer),
    /// Microseconds, missing for a part that was not reached.
    TimerUs(Timer),
    /// Seconds with three decimals, missing for a part that was not reached.
    UpstreamTime(ServerTime),

    UpstreamName,
    UpstreamAddr,
    UpstreamStatus,
    /// HAProxy's backend: upstream, application, or the listener when there is neither.
    Backend,
    /// HAProxy's server: the address, or a word in `<>`.
    Server,
    ServedBy,
    Tries,
    Retries,
    Count(Counted),

    LimitRequests,
    LimitConnections,

    Connection,
    ConnectionRequests,
    /// Of TLS that is passed on.
    PrereadName,
    PrereadAlpn,
    UpstreamBytesSent,
    UpstreamBytesReceived,
    /// Of UDP mode.
    DatagramsReceived,
    DatagramsSent,
    Pipelined,
    Pid,
    Hostname,
    Worker,
    /// One that the config defines.
    Own(Own),
}

/// What was agreed on in a handshake, and who the client proved to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsValue {
    Version,
    Cipher,
    ServerName,
    Alpn,
    /// nginx's `r` or `.`.
    Reused,
    /// `true` or `false`.
    Resumed,
    Subject,
    Issuer,
    Serial,
    Fingerprint,
    Verify,
}

/// A part of a request's first line. Those of HAProxy are `<BADREQ>` when the head could not be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestPart {
    Line,
    LineOrBad,
    Method,
    MethodOrBad,
    Target,
    TargetOrBad,
    PathOrBad,
    /// As routes see it.
    PathNormalized,
    Query,
    QueryWithMark,
    QuestionMark,
    Protocol,
    ProtocolOrBad,
}

/// How a date of the answer's end is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndForm {
    Local,
    Iso,
    IsoMillis,
    /// Since 1970, with three decimals.
    Seconds,
}

/// How a date of the request's begin is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartForm {
    LocalMillis,
    Local,
    Gmt,
    /// Since 1970.
    Seconds,
    /// What is beyond the second.
    MillisOnly,
}

/// nginx's times of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerTime {
    Connect,
    Header,
    Response,
    Queue,
}

/// HAProxy's counts of connections and queues at the time of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Process,
    Listener,
    Upstream,
    Server,
    ServerQueue,
    UpstreamQueue,
}

/// One of HAProxy's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    Handshake,
    Idle,
    /// Handshake, idle time and request head.
    UntilRequest,
    Read,
    Queue,
    Connect,
    Response,
    /// Behind the response head.
    Data,
    Active,
    /// With handshake and idle time.
    Total,
}

/// A name of a format.
pub(super) struct Name {
    pub(super) text: &'static str,
    pub(super) variable: Variable,
    /// Where it differs from what nginx or HAProxy write, or what it means when it is ours. Empty: the same.
    pub(super) note: &'static str,
}

const fn same(text: &'static str, variable: Variable) -> Name {
    Name { text, variable, note: "" }
}

const fn noted(text: &'static str, variable: Variable, note: &'static str) -> Name {
    Name { text, variable, note }
}

const fn absent(text: &'static str) -> Name {
    Name { text, variable: Variable::Nothing, note: "" }
}

/// What `$name` may be.
pub(super) static VARIABLES: &[Name] = {
    use Variable::*;
    &[
        same("remote_addr", RemoteAddr),
        same("remote_port", RemotePort),
        same("remote_user", RemoteUser),
        same("realip_remote_addr", PeerAddr),
        same("realip_remote_port", PeerPort),
        same("proxy_protocol_addr", ProxyProtocolAddr),
        same("server_addr", LocalAddr),
        same("server_port", LocalPort),
        noted("server_name", ServerName, "the first host of the site that is a whole name, else the name of the site"),
        same("scheme", Scheme),
        same("https", Https),
        same("ssl_protocol", Tls(TlsValue::Version)),
        same("ssl_cipher", Tls(TlsValue::Cipher)),
        same("ssl_server_name", Tls(TlsValue::ServerName)),
        same("ssl_alpn_protocol", Tls(TlsValue::Alpn)),
        same("ssl_session_reused", Tls(TlsValue::Reused)),
        same("ssl_client_s_dn", Tls(TlsValue::Subject)),
        same("ssl_client_verify", Tls(TlsValue::Verify)),
        same("ssl_client_i_dn", Tls(TlsValue::Issuer)),
        same("ssl_client_serial", Tls(TlsValue::Serial)),
        same("ssl_client_fingerprint", Tls(TlsValue::Fingerprint)),
        same("request", Request(RequestPart::Line)),
        same("request_method", Request(RequestPart::Method)),
        same("request_uri", Request(RequestPart::Target)),
        same("uri", Request(RequestPart::PathNormalized)),
        same("document_uri", Request(RequestPart::PathNormalized)),
        same("args", Request(RequestPart::Query)),
        same("query_string", Request(RequestPart::Query)),
        same("is_args", Request(RequestPart::QuestionMark)),
        same("server_protocol", Request(RequestPart::Protocol)),
        same("host", Host),
        same("http_host", HostField),
        same("http_referer", Referer),
        same("http_user_agent", UserAgent),
        noted("request_id", RequestId, "16 hexadecimal digits, the same as in `X-Request-Id`"),
        same("status", Status),
        same("body_bytes_sent", BodyBytes),
        same("bytes_sent", BytesSent),
        same("request_length", BytesReceived),
        noted("gzip_ratio", GzipRatio, "for every content coding that was applied here"),
        same("request_completion", Completion),
        same("time_local", End(EndForm::Local)),
        same("time_iso8601", End(EndForm::Iso)),
        same("msec", End(EndForm::Seconds)),
        same("request_time", RequestTime),
        noted("upstream_addr", UpstreamAddr, "the server tried last"),
        noted("upstream_status", UpstreamStatus, "that of the server tried last"),
        noted(
            "upstream_response_time",
            UpstreamTime(ServerTime::Response),
            "active time without request head and queue",
        ),
        noted("upstream_connect_time", UpstreamTime(ServerTime::Connect), "that of the server tried last"),
        noted("upstream_header_time", UpstreamTime(ServerTime::Header), "connecting and waiting for the response head"),
        noted(
            "upstream_queue_time",
            UpstreamTime(ServerTime::Queue),
            "also of a queue in front of an application worker",
        ),
        same("limit_req_status", LimitRequests),
        same("limit_conn_status", LimitConnections),
        // Of nginx's `stream`.
        noted(
            "protocol",
            Request(RequestPart::Protocol),
            "`TCP` in TCP mode, `UDP` in UDP mode, else as `$server_protocol`",
        ),
        same("bytes_received", BytesReceived),
        same("session_time", RequestTime),
        noted("upstream_bytes_sent", UpstreamBytesSent, "in TCP and UDP mode alone"),
        noted("upstream_bytes_received", UpstreamBytesReceived, "in TCP and UDP mode alone"),
        noted("ssl_preread_server_name", PrereadName, "name asked for in TLS that is passed on"),
        noted("ssl_preread_alpn_protocols", PrereadAlpn, "protocols offered in TLS that is passed on"),
        same("connection", Connection),
        same("connection_requests", ConnectionRequests),
        same("pipe", Pipelined),
        same("pid", Pid),
        same("hostname", Hostname),
        // Ours.
        noted("time_iso8601_ms", End(EndForm::IsoMillis), "`$time_iso8601` with milliseconds"),
        noted("duration_us", DurationUs, "complete request head to last byte sent, microseconds"),
        noted("read_us", TimerUs(Timer::Read), "first to last byte of the request head, microseconds"),
        noted("queue_us", TimerUs(Timer::Queue), "waiting for a place at a server or application worker, microseconds"),
        noted("connect_us", TimerUs(Timer::Connect), "connecting to the server, microseconds"),
        noted("response_us", TimerUs(Timer::Response), "request sent to complete response head, microseconds"),
        noted("active_us", TimerUs(Timer::Active), "first byte of the request to last byte sent, microseconds"),
        noted("listener", Listener, "name of the listener"),
        noted("site", Site, "name of the site"),
        noted("upstream", UpstreamName, "name of the upstream that the route chose"),
        noted("served_by", ServedBy, "`worker`, `files`, `upstream:NAME/ADDRESS` or `app:NAME/WORKER`"),
        noted("tries", Tries, "servers tried, the first included"),
        noted("datagrams_received", DatagramsReceived, "datagrams from the client, in UDP mode"),
        noted("datagrams_sent", DatagramsSent, "datagrams to the client, in UDP mode"),
        noted("content_coding", CodingName, "content coding applied here"),
        noted("bytes_before_coding", BytesBeforeCoding, "bytes of the body before it"),
        noted("termination", Termination, "how it ended, HAProxy's two characters"),
        noted("tls_resumed", Tls(TlsValue::Resumed), "`true` or `false`"),
        noted("worker", Worker, "number of the data worker"),
        // What nginx has and we do not.
        absent("ancient_browser"),
        absent("binary_remote_addr"),
        absent("connection_time"),
        absent("connections_active"),
        absent("connections_reading"),
        absent("connections_waiting"),
        absent("connections_writing"),
        absent("document_root"),
        absent("limit_rate"),
        absent("nginx_version"),
        absent("proxy_add_x_forwarded_for"),
        absent("proxy_host"),
        absent("proxy_port"),
        absent("proxy_protocol_port"),
        absent("proxy_protocol_server_addr"),
        absent("proxy_protocol_server_port"),
        absent("realpath_root"),
        absent("request_body"),
        absent("request_body_file"),
        absent("request_filename"),
        absent("secure_link"),
        absent("ssl_ciphers"),
        absent("ssl_client_cert"),
        absent("ssl_client_escaped_cert"),
        absent("ssl_client_v_end"),
        absent("ssl_client_v_remain"),
        absent("ssl_client_v_start"),
        absent("ssl_curve"),
        absent("ssl_curves"),
        absent("ssl_early_data"),
        absent("ssl_session_id"),
        absent("tcpinfo_rcv_space"),
        absent("tcpinfo_rtt"),
        absent("tcpinfo_rttvar"),
        absent("tcpinfo_snd_cwnd"),
        absent("upstream_cache_status"),
        absent("upstream_response_length"),
        absent("uid_got"),
        absent("uid_set"),
    ]
};

/// A family of variables: `$http_NAME`.
pub(super) struct Prefix {
    pub(super) text: &'static str,
    /// The variable for what stands behind the prefix.
    pub(super) make: fn(Box<str>) -> Variable,
    /// What it is. Empty: known to nginx, does not exist here.
    pub(super) note: &'static str,
}

const fn family(text: &'static str, make: fn(Box<str>) -> Variable, note: &'static str) -> Prefix {
    Prefix { text, make, note }
}

/// What `$prefix_NAME` may be.
pub(super) static PREFIXES: &[Prefix] = &[
    family("sent_http_", Variable::ResponseField, "field NAME of the answer, `_` for `-`"),
    family("http_", Variable::RequestField, "field NAME of the request, `_` for `-`"),
    family("cookie_", Variable::Cookie, "cookie NAME of the request"),
    family("arg_", Variable::Argument, "argument NAME of the query"),
    family("sent_trailer_", |_| Variable::Nothing, ""),
    family("upstream_http_", |_| Variable::Nothing, ""),
    family("upstream_cookie_", |_| Variable::Nothing, ""),
    family("upstream_trailer_", |_| Variable::Nothing, ""),
    family("proxy_protocol_tlv_", |_| Variable::Nothing, ""),
];

/// What `%name` may be.
pub(super) static DIRECTIVES: &[Name] = {
    use Variable::*;
    const START: &str = "the begin of the request: no date of the connection's begin is kept";
    &[
        same("ci", RemoteAddr),
        same("cp", RemotePort),
        same("fi", LocalAddr),
        same("fp", LocalPort),
        noted("f", Listener, "name of the listener"),
        noted("ft", ListenerTls, "name of the listener, `~` behind it for TLS"),
        noted("b", Backend, "name of the upstream or application, else of the listener"),
        noted(
            "s",
            Server,
            "address of the server, of an application inside the process `app:NAME/WORKER`; `<FILES>`; `<NOSRV>` for the server's own answers and when no server was found",
        ),
        noted("si", UpstreamAddr, "address and port of the server"),
        noted("t", Start(StartForm::LocalMillis), START),
        same("tr", Start(StartForm::LocalMillis)),
        noted("T", Start(StartForm::Gmt), START),
        noted("Tl", Start(StartForm::Local), START),
        noted("Ts", Start(StartForm::Seconds), START),
        noted("ms", Start(StartForm::MillisOnly), START),
        same("trg", Start(StartForm::Gmt)),
        same("trl", Start(StartForm::Local)),
        same("Th", TimerMs(Timer::Handshake)),
        same("Ti", TimerMs(Timer::Idle)),
        same("Tq", TimerMs(Timer::UntilRequest)),
        same("TR", TimerMs(Timer::Read)),
        noted("Tw", TimerMs(Timer::Queue), "also of a queue in front of an application worker"),
        same("Tc", TimerMs(Timer::Connect)),
        same("Tr", TimerMs(Timer::Response)),
        same("Td", TimerMs(Timer::Data)),
        same("Ta", TimerMs(Timer::Active)),
        same("Tt", TimerMs(Timer::Total)),
        same("Tu", TimerMs(Timer::Total)),
        same("ST", StatusOrMinus),
        same("B", BytesSent),
        same("U", BytesReceived),
        same("ts", Termination),
        noted("tsc", TerminationAndCookies, "the last two characters, about cookies, are always `--`"),
        same("ac", Count(Counted::Process)),
        same("fc", Count(Counted::Listener)),
        same("bc", Count(Counted::Upstream)),
        same("sc", Count(Counted::Server)),
        same("rc", Retries),
        noted(
            "sq",
            Count(Counted::ServerQueue),
            "requests that waited before this one for a place at the server that it was for",
        ),
        noted("bq", Count(Counted::UpstreamQueue), "the same for a place at any server of the upstream"),
        noted("hr", Vanishes, "writes nothing, as HAProxy without captures: use `$http_NAME`"),
        noted("hs", Vanishes, "writes nothing, as HAProxy without captures: use `$sent_http_NAME`"),
        noted("hrl", Vanishes, "writes nothing, as HAProxy without captures: use `$http_NAME`"),
        noted("hsl", Vanishes, "writes nothing, as HAProxy without captures: use `$sent_http_NAME`"),
        same("HM", Request(RequestPart::MethodOrBad)),
        same("HP", Request(RequestPart::PathOrBad)),
        same("HPO", Request(RequestPart::PathOrBad)),
        same("HQ", Request(RequestPart::QueryWithMark)),
        same("HU", Request(RequestPart::TargetOrBad)),
        same("HV", Request(RequestPart::ProtocolOrBad)),
        same("r", Request(RequestPart::LineOrBad)),
        noted("ID", RequestId, "16 hexadecimal digits, the same as in `X-Request-Id`"),
        same("sslv", Tls(TlsValue::Version)),
        same("sslc", Tls(TlsValue::Cipher)),
        same("pid", Pid),
        same("H", Hostname),
        absent("CC"),
        absent("CS"),
        absent("bi"),
        absent("bp"),
        absent("sp"),
        absent("lc"),
        absent("rt"),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_once_and_read_as_names() {
        for names in [VARIABLES, DIRECTIVES] {
            for (at, name) in names.iter().enumerate() {
                assert!(!names[..at].iter().any(|first| first.text == name.text), "{} twice", name.text);
                assert!(name.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{}", name.text);
                assert!(!name.note.ends_with('.'), "{}", name.text);
            }
        }
        // nginx does not look at the case of names, and neither do we.
        assert!(VARIABLES.iter().all(|name| !name.text.bytes().any(|byte| byte.is_ascii_uppercase())));
    }
}

//! Fills a compiled format with the values of one request. Pure; allocates nothing as long as the buffer has room.

#[cfg(test)]
pub(super) mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::entry::{EndedBy, Entry};
use super::escape::{Pen, hex_id, put_number, put_three_digits};
use super::lookup;
use super::names::Names;
use super::stamp::Stamp;
use super::template::{Segment, Template};
use super::variable::{Counted, EndForm, RequestPart, ServerTime, StartForm, Timer, TlsValue, Variable};
use crate::config::Config;
use crate::metrics::ServedBy;
use crate::util::path::normalize;
use crate::util::template::{Encoding, Own};

/// Writes lines for one data worker.
#[derive(Debug)]
pub(super) struct Formatter {
    template: Arc<Template>,
    values: Values,
}

/// What does not change with the request.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Local times are those of this zone.
    pub(super) zone: TimeZone,
    /// Name of the machine.
    pub(super) name: String,
    /// Number of the process.
    pub(super) pid: u32,
}

#[derive(Debug)]
struct Values {
    host: Host,
    worker: usize,
    names: Names,
    /// Texts of the request's end, and of its begin.
    end: Stamp,
    start: Stamp,
    /// Decoded path, or a value that is looked up.
    scratch: Vec<u8>,
}

impl Formatter {
    /// For the data worker numbered `worker`.
    pub(super) fn new(config: &Config, worker: usize, host: Host) -> Formatter {
        let (names, end, start) = (Names::new(config), Stamp::new(), Stamp::new());
        let values = Values { host, worker, names, end, start, scratch: Vec::new() };
        Formatter { template: config.log.format.clone(), values }
    }

    /// The same for connections in TCP mode.
    pub(super) fn tcp(config: &Config, worker: usize, host: Host) -> Formatter {
        Formatter { template: config.log.tcp_format.clone(), ..Formatter::new(config, worker, host) }
    }

    /// Appends the line for `entry`, line feed included.
    pub(super) fn line(&mut self, out: &mut Vec<u8>, entry: &Entry<'_>) {
        for segment in &self.template.segments {
            match segment {
                Segment::Text(text) => out.extend_from_slice(text.as_bytes()),
                Segment::Value(variable, style) => self.values.put(&mut Pen { out, style: *style }, entry, variable),
            }
        }
        out.push(b'\n');
    }

    pub(super) fn wants_own(&self) -> bool {
        self.template.wants_own()
    }

    pub(super) fn wants_response_fields(&self) -> bool {
        self.template.wants_response_fields()
    }

    pub(super) fn wants_counts(&self) -> bool {
        self.template.wants_counts()
    }
}

/// HAProxy's text for what could not be parsed.
const BAD_REQUEST: &[u8] = b"<BADREQ>";

impl Values {
    fn put(&mut self, pen: &mut Pen<'_>, entry: &Entry<'_>, variable: &Variable) {
        use Variable::*;
        match variable {
            Nothing | Vanishes => pen.missing(),

            RemoteAddr => pen.part(entry.remote_addr),
            RemotePort => pen.port(entry.remote_port),
            RemoteUser => pen.optional(entry.remote_user),
            PeerAddr => pen.part(entry.peer().0),
            PeerPort => pen.port(entry.peer().1),
            ProxyProtocolAddr => pen.optional(entry.proxy_protocol_addr),
            LocalAddr => pen.optional(non_empty(entry.local_addr)),
            LocalPort => pen.port(entry.local_port),
            Listener => pen.optional(self.names.listener(entry.listener)),
            ListenerTls => self.put_listener(pen, entry),
            Site => pen.optional(self.names.site(entry.site)),
            ServerName => pen.optional(self.names.server_name(entry.site)),
            Scheme => pen.part(entry.scheme),
            Https => pen.optional((entry.scheme == b"https").then_some(b"on")),
            Tls(value) => put_tls(pen, entry, *value),
            PrereadName => pen.optional(entry.stream.and_then(|stream| stream.server_name)),
            PrereadAlpn => pen.optional(entry.stream.map(|stream| stream.alpn).and_then(non_empty)),

            Request(part) => self.put_request(pen, entry, *part),
            Host => put_host(pen, entry),
            HostField => pen.optional(entry.host),
            Referer => pen.optional(entry.referer),
            UserAgent => pen.optional(entry.user_agent),
            RequestField(name) => put_joined(pen, lookup::request_fields(entry.head, name)),
            ResponseField(name) => put_joined(pen, lookup::block_fields(entry.response_fields, name)),
            Cookie(name) => pen.optional(lookup::cookie(lookup::request_fields(entry.head, "cookie"), name)),
            Argument(name) => pen.optional(lookup::argument(entry.path_and_query().1, name)),
            RequestId => pen.text(&hex_id(entry.request_id)),

            Status => pen.three_digits(entry.status),
            StatusOrMinus => match entry.status {
                0 => pen.out.extend_from_slice(b"-1"),
                status => pen.number(u64::from(status)),
            },
            BodyBytes => pen.number(entry.body_bytes),
            BytesSent => pen.number(entry.bytes_sent),
            BytesReceived => pen.number(entry.bytes_received),
            UpstreamBytesSent => pen.optional_number(entry.stream.map(|_| entry.bytes_received)),
            UpstreamBytesReceived => pen.optional_number(entry.stream.map(|_| entry.bytes_sent)),
            DatagramsReceived => pen.optional_number(datagrams(entry).map(|[up, _]| up)),
            DatagramsSent => pen.optional_number(datagrams(entry).map(|[_, down]| down)),
            CodingName => pen.optional(entry.coding.map(|coding| coding.name)),
            BytesBeforeCoding => pen.optional_number(entry.coding.map(|coding| coding.bytes_before)),
            GzipRatio => put_ratio(pen, entry),
            Completion => pen.optional(is_complete(entry).then_some(b"OK")),
            Termination => pen.text(&entry.termination.code()),
            TerminationAndCookies => {
                let [cause, phase] = entry.termination.code();
                pen.text(&[cause, phase, b'-', b'-']);
            }

            End(form) => self.put_end(pen, entry, *form),
            Start(form) => self.put_start(pen, entry, *form),
            RequestTime => put_seconds(pen, entry.active()),
            DurationUs => pen.number(micros(entry.duration)),
            TimerMs(timer) => match timer_of(entry, *timer) {
                Some(time) => pen.number(millis(time)),
                None => pen.out.extend_from_slice(b"-1"),
            },
            TimerUs(timer) => pen.optional_number(timer_of(entry, *timer).map(micros)),
            UpstreamTime(which) => put_optional_seconds(pen, upstream_time(entry, *which)),

            UpstreamName => pen.optional(self.upstream(entry)),
            UpstreamAddr => pen.optional(self.names.server(entry.served_by)),
            UpstreamStatus => pen.optional_number(entry.upstream_status.map(u64::from)),
            Backend => pen.optional(self.backend(entry)),
            Server => pen.text(self.server(entry)),
            ServedBy => self.put_served_by(pen, entry.served_by),
            Tries => pen.number(u64::from(entry.tries)),
            Retries => pen.number(u64::from(entry.tries.saturating_sub(1))),
            Count(which) => pen.optional_number(count(entry, *which)),

            LimitRequests => pen.optional(entry.limit_requests.map(str::as_bytes)),
            LimitConnections => pen.optional(entry.limit_connections.map(str::as_bytes)),

            Connection => pen.number(entry.connection),
            ConnectionRequests => pen.number(u64::from(entry.connection_requests)),
            Pipelined => pen.text(if entry.pipelined { b"p" } else { b"." }),
            Pid => pen.number(u64::from(self.host.pid)),
            Hostname => pen.part(self.host.name.as_bytes()),
            Worker => pen.number(self.worker as u64),
            Own(own) => self.put_own(pen, entry, *own),
        }
    }

    /// What the client asked for.
    fn put_request(&mut self, pen: &mut Pen<'_>, entry: &Entry<'_>, part: RequestPart) {
        use RequestPart::*;
        match part {
            LineOrBad | MethodOrBad | TargetOrBad | PathOrBad | ProtocolOrBad if !entry.is_parsed() => {
                pen.text(BAD_REQUEST)
            }
            Line | LineOrBad => put_request_line(pen, entry),
            Method => pen.part(entry.method),
            MethodOrBad => pen.text(entry.method),
            Target => pen.part(entry.target),
            TargetOrBad => pen.text(entry.target),
            PathOrBad => pen.text(entry.path_and_query().0),
            PathNormalized => self.put_normalized_path(pen, entry),
            Query => pen.optional(entry.path_and_query().1),
            QueryWithMark => {
                let (path, query) = entry.path_and_query();
                pen.text(if query.is_some() { &entry.target[path.len()..] } else { b"" });
            }
            QuestionMark => pen.text(if entry.path_and_query().1.is_some() { b"?" } else { b"" }),
            Protocol => pen.part(entry.protocol),
            ProtocolOrBad => pen.text(entry.protocol),
        }
    }

    /// A date of the answer's end.
    fn put_end(&mut self, pen: &mut Pen<'_>, entry: &Entry<'_>, form: EndForm) {
        let moment = self.end.set(entry.time, &self.host.zone);
        match form {
            EndForm::Seconds => put_decimals(pen, moment.seconds, moment.millis),
            EndForm::Local => pen.text(&self.end.local),
            EndForm::Iso | EndForm::IsoMillis => {
                pen.open();
                pen.piece(&self.end.iso);
                if form == EndForm::IsoMillis {
                    pen.out.push(b'.');
                    put_three_digits(pen.out, moment.millis);
                }
                pen.piece(&self.end.iso_offset);
                pen.close();
            }
        }
    }

    /// A date of the request's begin.
    fn put_start(&mut self, pen: &mut Pen<'_>, entry: &Entry<'_>, form: StartForm) {
        let start = entry.time.checked_sub(entry.active()).unwrap_or(entry.time);
        let moment = self.start.set(start, &self.host.zone);
        match form {
            StartForm::Seconds => pen.number(moment.seconds),
            StartForm::MillisOnly => pen.three_digits(moment.millis),
            StartForm::Gmt => pen.text(&self.start.gmt),
            StartForm::Local => pen.text(&self.start.local),
            StartForm::LocalMillis => {
                pen.open();
                pen.piece(self.start.local_without_zone());
                pen.out.push(b'.');
                put_three_digits(pen.out, moment.millis);
                pen.close();
            }
        }
    }

    /// A variable that the config defines.
    fn put_own(&mut self, pen: &mut Pen<'_>, entry: &Entry<'_>, own: Own) {
        let Some(variables) = entry.own else { return pen.missing() };
        self.scratch.clear();
        variables.0.put_own(own, Encoding::Raw, variables.0, &mut self.scratch);
        pen.text(&self.scratch);
    }

    fn put_listener(&self, pen: &mut Pen<'_>, entry: &Entry<'_>) {
        let Some(name) = self.names.listener(entry.listener) else { return pen.missing() };
        pen.open();
        pen.piece(name);
        if entry.tls.is_some() {
            pen.out.push(b'~');
        }
        pen.close();
    }

    /// The path as routes see it; as sent when it is none.
    fn put_normalized_path(&mut self, pen: &mut Pen<'_>, entry: &Entry<'_>) {
        let (path, _) = entry.path_and_query();
        match normalize(path, &mut self.scratch) {
            Ok(path) => pen.text(path.as_bytes()),
            Err(_) => pen.part(path),
        }
    }

    fn upstream(&self, entry: &Entry<'_>) -> Option<&[u8]> {
        let chosen = match entry.served_by {
            ServedBy::Server { upstream, .. } => Some(upstream),
            _ => entry.upstream,
        };
        self.names.upstream(chosen?)
    }

    fn backend(&self, entry: &Entry<'_>) -> Option<&[u8]> {
        let app = match entry.served_by {
            ServedBy::App { app, .. } => self.names.app(app),
            _ => None,
        };
        self.upstream(entry).or(app).or_else(|| self.names.listener(entry.listener))
    }

    fn server(&self, entry: &Entry<'_>) -> &[u8] {
        match entry.served_by {
            ServedBy::Files => b"<FILES>",
            ServedBy::App { .. } => self.names.server(entry.served_by).unwrap_or(b"<APP>"),
            ServedBy::Worker => b"<NOSRV>",
            ServedBy::Server { .. } => self.names.server(entry.served_by).unwrap_or(b"<NOSRV>"),
        }
    }

    /// `worker`, `files`, `upstream:api/10.0.0.7:8080`, `app:shop/3` with the application worker.
    fn put_served_by(&self, pen: &mut Pen<'_>, served_by: ServedBy) {
        pen.open();
        match served_by {
            ServedBy::Worker => pen.piece(b"worker"),
            ServedBy::Files => pen.piece(b"files"),
            ServedBy::Server { upstream, .. } => {
                pen.piece(b"upstream:");
                pen.piece(self.names.upstream(upstream).unwrap_or_default());
                pen.piece(b"/");
                pen.piece(self.names.server(served_by).unwrap_or_default());
            }
            ServedBy::App { app, app_worker } => {
                pen.piece(b"app:");
                pen.piece(self.names.app(app).unwrap_or_default());
                pen.piece(b"/");
                put_number(pen.out, u64::from(app_worker));
            }
        }
        pen.close();
    }
}

fn non_empty(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty()).then_some(text)
}

fn put_tls(pen: &mut Pen<'_>, entry: &Entry<'_>, value: TlsValue) {
    let client = entry.client_certificate();
    match value {
        TlsValue::Version => pen.optional(entry.tls.map(|tls| tls.version)),
        TlsValue::Cipher => pen.optional(entry.tls.map(|tls| tls.cipher)),
        TlsValue::ServerName => pen.optional(entry.tls.and_then(|tls| tls.server_name)),
        TlsValue::Alpn => pen.optional(entry.tls.and_then(|tls| tls.alpn)),
        TlsValue::Reused => pen.optional(entry.tls.map(|tls| if tls.resumed { &b"r"[..] } else { b"." })),
        TlsValue::Resumed => match entry.tls {
            Some(tls) => pen.switch(tls.resumed),
            None => pen.missing(),
        },
        TlsValue::Subject => pen.optional(client.map(|client| client.subject)),
        TlsValue::Issuer => pen.optional(client.map(|client| client.issuer)),
        TlsValue::Serial => pen.optional(client.map(|client| client.serial)),
        TlsValue::Fingerprint => pen.optional(client.map(|client| client.fingerprint)),
        TlsValue::Verify => pen.optional(entry.tls.map(|tls| tls.verify)),
    }
}

/// The parts the request had, with one space between them: for a well-formed request exactly its first line.
fn put_request_line(pen: &mut Pen<'_>, entry: &Entry<'_>) {
    pen.open();
    let mut first = true;
    for part in [entry.method, entry.target, entry.protocol] {
        if part.is_empty() {
            continue;
        }
        if !first {
            pen.out.push(b' ');
        }
        first = false;
        pen.piece(part);
    }
    pen.close();
}

/// Lower case, without the port.
fn put_host(pen: &mut Pen<'_>, entry: &Entry<'_>) {
    let Some(host) = entry.host else { return pen.missing() };
    pen.open();
    pen.piece_in_lower_case(crate::http::h1::host_of(host));
    pen.close();
}

/// Several fields of one name read as one (RFC 9110 section 5.3); nginx writes them so since 1.23.
fn put_joined<'a>(pen: &mut Pen<'_>, mut values: impl Iterator<Item = &'a [u8]>) {
    let Some(first) = values.next() else { return pen.missing() };
    pen.open();
    pen.piece(first);
    for value in values {
        pen.out.extend_from_slice(b", ");
        pen.piece(value);
    }
    pen.close();
}

/// How many times smaller the body became, two decimals.
fn put_ratio(pen: &mut Pen<'_>, entry: &Entry<'_>) {
    match entry.coding {
        Some(coding) if entry.body_bytes > 0 => {
            let (before, after) = (u128::from(coding.bytes_before), u128::from(entry.body_bytes));
            let hundredths = (before * 100 + after / 2) / after;
            pen.number(u64::try_from(hundredths / 100).unwrap_or(u64::MAX));
            let digit = |number: u128| b'0' + (number % 10) as u8;
            pen.out.extend_from_slice(&[b'.', digit(hundredths / 10), digit(hundredths)]);
        }
        _ => pen.missing(),
    }
}

fn is_complete(entry: &Entry<'_>) -> bool {
    entry.status != 0 && matches!(entry.termination.cause, EndedBy::Nothing | EndedBy::Local)
}

fn timer_of(entry: &Entry<'_>, timer: Timer) -> Option<Duration> {
    let timers = &entry.timers;
    let known = |time: Option<Duration>| time.unwrap_or_default();
    let before = || known(timers.handshake).saturating_add(known(timers.idle));
    match timer {
        Timer::Handshake => timers.handshake,
        Timer::Idle => timers.idle,
        Timer::UntilRequest => Some(before().saturating_add(timers.read?)),
        Timer::Read => timers.read,
        Timer::Queue => timers.queue,
        Timer::Connect => timers.connect,
        Timer::Response => timers.response,
        Timer::Data => {
            let until = [timers.read, timers.queue, timers.connect, Some(timers.response?)];
            let until = until.into_iter().flatten().fold(Duration::ZERO, Duration::saturating_add);
            Some(entry.active().saturating_sub(until))
        }
        Timer::Active => Some(entry.active()),
        Timer::Total => Some(before().saturating_add(entry.active())),
    }
}

fn count(entry: &Entry<'_>, which: Counted) -> Option<u64> {
    let counts = &entry.counts;
    match which {
        Counted::Process => counts.process.map(u64::from),
        Counted::Listener => counts.listener.map(u64::from),
        Counted::Upstream => counts.upstream.map(u64::from),
        Counted::Server => counts.server.map(u64::from),
        Counted::ServerQueue => counts.server_queue.map(u64::from),
        Counted::UpstreamQueue => counts.upstream_queue.map(u64::from),
    }
}

/// From the client and to it.
fn datagrams(entry: &Entry<'_>) -> Option<[u64; 2]> {
    entry.stream.and_then(|stream| stream.datagrams)
}

fn upstream_time(entry: &Entry<'_>, which: ServerTime) -> Option<Duration> {
    match which {
        ServerTime::Connect => entry.timers.connect,
        ServerTime::Header => header_time(entry),
        ServerTime::Response => response_time(entry),
        ServerTime::Queue => entry.timers.queue,
    }
}

/// nginx measures from the begin of connecting.
fn header_time(entry: &Entry<'_>) -> Option<Duration> {
    Some(entry.timers.connect.unwrap_or_default().saturating_add(entry.timers.response?))
}

fn response_time(entry: &Entry<'_>) -> Option<Duration> {
    let before = entry.timers.read.unwrap_or_default().saturating_add(entry.timers.queue.unwrap_or_default());
    matches!(entry.served_by, ServedBy::Server { .. } | ServedBy::App { .. })
        .then(|| entry.active().saturating_sub(before))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// `0.123`
fn put_seconds(pen: &mut Pen<'_>, time: Duration) {
    put_decimals(pen, time.as_secs(), time.subsec_millis() as u16);
}

fn put_decimals(pen: &mut Pen<'_>, seconds: u64, millis: u16) {
    pen.number(seconds);
    pen.out.push(b'.');
    put_three_digits(pen.out, millis);
}

fn put_optional_seconds(pen: &mut Pen<'_>, time: Option<Duration>) {
    match time {
        Some(time) => put_seconds(pen, time),
        None => pen.missing(),
    }
}

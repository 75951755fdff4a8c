//! Our own log: one line an event on stderr, through `tracing`.
//!
//! ```text
//! warn server down upstream=api server=10.0.0.7:8080 reason="connection refused" up_s=120
//! ```
//!
//! Level in lower case, message, fields as `key=value`; values with spaces, quotes, `=` or control characters stand in
//! quotes, and nothing from outside can begin a new line. A UTC timestamp goes first unless stderr is a terminal or
//! leads to the journal (`JOURNAL_STREAM`, systemd.exec(5)), which have their own.
//!
//! The environment variable `ONE_SERVER_LOG` overrides the level, with the syntax of tracing's `EnvFilter`:
//! `debug`, or `info,one_server::proxy=debug`.
//!
//! Threads write their lines themselves, so that none is lost when the process ends; a data or application worker and
//! the control thread call [`never_block`] once, and from then on their lines take a bounded queue to a thread of ours. A
//! reader of stderr that stalls must not stop requests, nor whatever an operator could find out with.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Variable that overrides the level.
pub const FILTER_VARIABLE: &str = "ONE_SERVER_LOG";

/// Lines that may wait for stderr: some seconds of what one application may write.
const LINES_MAX: usize = 4096;

/// How long a panic of the main thread waits for its line to be written.
const PANIC_MAX: Duration = Duration::from_millis(200);

/// Libraries whose details drown ours: at most warnings of them, unless [`FILTER_VARIABLE`] asks for more.
const QUIET: [&str; 6] = ["hyper", "hyper_util", "h2", "mio", "mysql_async", "axum"];

/// Whose warnings tell of what strangers send, or of what is told in our own words.
const SILENT: [&str; 3] = ["hickory_resolver", "hickory_net", "hickory_proto"];

/// Why our log could not be set up.
#[derive(Debug)]
pub enum InitError {
    /// The process has a log already.
    AlreadySet,
    /// The thread that writes for workers cannot be started.
    Thread(io::Error),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitError::AlreadySet => f.write_str("the log was set up twice"),
            InitError::Thread(error) => write!(f, "cannot start the log's thread: {error}"),
        }
    }
}

impl std::error::Error for InitError {}

/// Sets up our log for the whole process; `level` holds unless [`FILTER_VARIABLE`] is set. A filter there that cannot
/// be read is passed over with a warning.
///
/// Errors: [`InitError`]. `AlreadySet` is no harm: a program that uses us as a library has its own subscriber.
pub fn init(level: LevelFilter) -> Result<(), InitError> {
    let variable = std::env::var(FILTER_VARIABLE).ok();
    let (filter, mistake) = match filter(level, variable.as_deref()) {
        Ok(filter) => (filter, None),
        Err(mistake) => (default_filter(level), Some(mistake)),
    };
    start_thread()?;
    let stamped = !io::stderr().is_terminal() && std::env::var_os("JOURNAL_STREAM").is_none();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .event_format(OneLine { stamped })
        .with_writer(|| Output)
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitError::AlreadySet)?;
    if let Some(mistake) = mistake {
        let advice = "write a level (error, warn, info, debug, trace) or `info,one_server::proxy=debug`";
        tracing::warn!(filter = variable, %mistake, "{FILTER_VARIABLE} cannot be read and is passed over: {advice}");
    }
    Ok(())
}

fn filter(level: LevelFilter, variable: Option<&str>) -> Result<EnvFilter, ParseError> {
    match variable.filter(|text| !text.trim().is_empty()) {
        Some(text) => EnvFilter::try_new(text),
        None => Ok(default_filter(level)),
    }
}

fn default_filter(level: LevelFilter) -> EnvFilter {
    let quiet = level.min(LevelFilter::WARN);
    let directives = QUIET.iter().filter_map(|library| format!("{library}={quiet}").parse().ok());
    let silent = SILENT.iter().filter_map(|library| format!("{library}=off").parse().ok());
    directives.chain(silent).fold(EnvFilter::default().add_directive(level.into()), EnvFilter::add_directive)
}

thread_local! {
    static NEVER_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// From now on, lines of the calling thread are queued instead of written; a full queue drops and counts them.
pub fn never_block() {
    NEVER_BLOCK.set(true);
}

/// Panics are lines of our log from now on, on threads that never block like any other line of theirs. With RUST_BACKTRACE set
/// they have the way that led there.
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("-");
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload().downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.payload().downcast_ref::<String>().map(String::as_str)).unwrap_or("-");
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(thread = name, %at, backtrace, "panic: {text}");
        // What unwinds this one mostly ends the process, with whatever is queued.
        if name == "main" {
            flush(PANIC_MAX);
        }
    }));
}

/// Waits, for at most `limit`, until queued lines are written. To be called before the process ends.
pub fn flush(limit: Duration) {
    let deadline = Instant::now() + limit;
    let Some(queued) = QUEUED.get() else { return };
    // In this order: the thread says that it writes before it takes a line, so that whoever sees no line sees that it writes.
    while (!queued.lines.is_empty() || queued.writing.load(Acquire)) && Instant::now() < deadline {
        queued.thread.unpark();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Lines on their way to stderr.
struct Queued {
    lines: ArrayQueue<Vec<u8>>,
    dropped: AtomicU64,
    /// The thread is between taking a line and having written it.
    writing: AtomicBool,
    thread: std::thread::Thread,
}

static QUEUED: OnceLock<Queued> = OnceLock::new();

fn start_thread() -> Result<(), InitError> {
    if QUEUED.get().is_some() {
        return Ok(());
    }
    let builder = std::thread::Builder::new().name("own-log".into());
    let handle = builder.spawn(write_queued_forever).map_err(InitError::Thread)?;
    let lines = ArrayQueue::new(LINES_MAX);
    let queued =
        Queued { lines, dropped: AtomicU64::new(0), writing: AtomicBool::new(false), thread: handle.thread().clone() };
    let thread = queued.thread.clone();
    drop(QUEUED.set(queued));
    thread.unpark();
    Ok(())
}

fn write_queued_forever() {
    loop {
        if let Some(queued) = QUEUED.get() {
            queued.write_all(&mut io::stderr());
        }
        std::thread::park();
    }
}

impl Queued {
    fn push(&self, line: &[u8]) {
        if self.lines.push(line.to_vec()).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
        self.thread.unpark();
    }

    fn write_all(&self, output: &mut impl Write) {
        self.writing.store(true, Release);
        while let Some(line) = self.lines.pop() {
            drop(output.write_all(&line)); // stderr is gone: there is nowhere to complain
        }
        let dropped = self.dropped.swap(0, Relaxed);
        if dropped > 0 {
            drop(writeln!(output, "warn log lines dropped because stderr was slow lines={dropped}"));
        }
        self.writing.store(false, Release);
    }
}

/// Where the formatter puts a finished line.
struct Output;

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match QUEUED.get() {
            Some(queued) if NEVER_BLOCK.get() => queued.push(line),
            _ => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The form of a line.
struct OneLine {
    stamped: bool,
}

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.stamped {
            write!(out, "{:.3} ", jiff::Timestamp::now())?;
        }
        let mut line = Line { message: String::new(), fields: String::new() };
        event.record(&mut line);
        writeln!(out, "{} {}{}", level_name(*event.metadata().level()), line.message, line.fields)
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Collects the message and the fields of an event, whatever their order.
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

impl Line {
    fn put(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            put_escaped(&mut self.message, value, "");
            return;
        }
        self.fields.push(' ');
        self.fields.push_str(field.name());
        self.fields.push('=');
        let bare = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c == '"' || c == '=');
        if bare || is_quoted(value) {
            put_escaped(&mut self.fields, value, "");
        } else {
            self.fields.push('"');
            put_escaped(&mut self.fields, value, "\"\\");
            self.fields.push('"');
        }
    }
}

/// Whether the debug form of a text stands there already: quotes around it, and none inside without a backslash.
fn is_quoted(value: &str) -> bool {
    let Some(inside) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    let mut escaped = false;
    for c in inside.chars() {
        match c {
            '"' if !escaped => return false,
            c => escaped = c == '\\' && !escaped,
        }
    }
    !escaped
}

/// Appends `value`; characters of `special` get a backslash, control characters become `\xHH` or `\u{…}`.
fn put_escaped(out: &mut String, value: &str, special: &str) {
    for c in value.chars() {
        if special.contains(c) {
            out.push('\\');
        }
        match c {
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn captured(filter: EnvFilter, stamped: bool, log: impl FnOnce()) -> String {
        let output = Captured::default();
        let writer = output.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .event_format(OneLine { stamped })
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = output.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn debug() -> EnvFilter {
        filter(LevelFilter::DEBUG, None).unwrap()
    }

    #[test]
    fn lines_have_the_house_form() {
        let text = captured(debug(), false, || {
            tracing::warn!(upstream = "api", attempt = 2, next = %"10.0.0.8:8080", up = true, "server connect refused");
            tracing::error!("plain");
            tracing::info!(reason = "connection refused", empty = "", equals = "a=b", "down");
            tracing::debug!(path = ?"/a b", "debug form");
        });
        assert_eq!(
            text,
            "warn server connect refused upstream=api attempt=2 next=10.0.0.8:8080 up=true\n\
             error plain\n\
             info down reason=\"connection refused\" empty=\"\" equals=\"a=b\"\n\
             debug debug form path=\"/a b\"\n"
        );
    }

    #[test]
    fn nothing_from_outside_begins_a_line_or_leaves_its_quotes() {
        let text = captured(debug(), false, || {
            let evil = "x\nerror forged\r\u{1b}[31m \" y=1 \\";
            tracing::info!(smuggled = "\"a\" y=\"b\"", other = %"\"\\\"");
            tracing::info!(evil, bare = "a\u{7}b", debugged = ?"q\"\n", "got {evil}");
        });
        assert_eq!(
            text,
            "info  smuggled=\"\\\"a\\\" y=\\\"b\\\"\" other=\"\\\"\\\\\\\"\"\n\
             info got x\\nerror forged\\r\\u{1b}[31m \" y=1 \\ \
             evil=\"x\\nerror forged\\r\\u{1b}[31m \\\" y=1 \\\\\" bare=a\\u{7}b debugged=\"q\\\"\\n\"\n"
        );
    }

    #[test]
    fn a_stamp_is_utc_with_milliseconds() {
        let text = captured(debug(), true, || tracing::info!("x"));
        let stamp = text.strip_suffix(" info x\n").unwrap();
        assert_eq!((stamp.len(), &stamp[10..11], &stamp[23..]), (24, "T", "Z"), "{text}");
    }

    #[test]
    fn the_level_holds_libraries_stay_quiet_and_the_variable_overrides_both() {
        let log = || {
            tracing::debug!("ours");
            tracing::debug!(target: "hyper::proto", "theirs");
            tracing::warn!(target: "hyper::proto", "their warning");
        };
        assert_eq!(captured(debug(), false, log), "debug ours\nwarn their warning\n");
        let error = filter(LevelFilter::ERROR, None).unwrap();
        assert_eq!(captured(error, false, log), "");
        let asked = filter(LevelFilter::ERROR, Some("off,hyper=debug")).unwrap();
        assert_eq!(captured(asked, false, log), "debug theirs\nwarn their warning\n");
        assert!(filter(LevelFilter::INFO, Some("a=b=c")).is_err());
    }

    #[test]
    fn queued_lines_keep_their_order_and_a_full_queue_is_told() {
        let thread = std::thread::current();
        let (lines, dropped) = (ArrayQueue::new(2), AtomicU64::new(0));
        let queued = Queued { lines, dropped, writing: AtomicBool::new(false), thread };
        for line in ["a\n", "b\n", "c\n", "d\n"] {
            queued.push(line.as_bytes());
        }
        let mut out = Vec::new();
        queued.write_all(&mut out);
        queued.write_all(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a\nb\nwarn log lines dropped because stderr was slow lines=2\n");
    }
}

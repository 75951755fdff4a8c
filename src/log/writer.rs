//! The writer thread of the access log: takes filled buffers from all data workers and writes them out, to one or
//! several targets.
//!
//! It may block on a slow disk; nobody waits for it. A FIFO whose reader is slow holds up its own lines only.
//! Deliberately absent: rotation (rename the file and send SIGUSR1, as with nginx) and compression.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use jiff::tz::TimeZone;

use super::access::{Lane, NewLanes, Outbox, Routes, buffers_of};
use super::format::Host;
use super::output::{Output, Progress};
use crate::config::Config;
use crate::config::model::{LogTarget, SiteLog};
use crate::metrics::{LogWriterStats, Worker};
use crate::runtime::sys::outputs::wait_until_writable;
use crate::runtime::sys::users::own_name;

/// Failed writes are told to our own log at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// Longest wait for a target that takes nothing (a pipe whose reader is slow), before the other targets are looked at
/// again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Why the access log could not start.
#[derive(Debug)]
pub enum LogError {
    /// The file cannot be opened for appending.
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Standard output cannot be duplicated.
    Stdout(io::Error),
    /// The thread cannot be started.
    Thread(io::Error),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Open { path, error } => {
                write!(f, "cannot open access log {}: {error}: check the folder and its owner", path.display())
            }
            LogError::Stdout(error) => write!(f, "cannot write the access log to standard output: {error}"),
            LogError::Thread(error) => write!(f, "cannot start the access log's writer thread: {error}"),
        }
    }
}

impl std::error::Error for LogError {}

impl LogError {
    fn open(target: &LogTarget, error: io::Error) -> LogError {
        match target {
            LogTarget::Stdout => LogError::Stdout(error),
            LogTarget::File(path) => LogError::Open { path: path.clone(), error },
        }
    }
}

/// Wakes the writer thread, once for any number of buffers handed over while it is awake.
#[derive(Debug, Default)]
pub(super) struct Wake {
    /// Set by whoever has news, taken by the writer thread before it looks for them.
    news: CachePadded<AtomicBool>,
    stop: AtomicBool,
    reopen: AtomicBool,
    /// Targets that a new config has brought; taken by the writer thread, which alone waits for the lock.
    new_targets: Mutex<Vec<Target>>,
    thread: OnceLock<Thread>,
}

impl Wake {
    /// A system call only when the thread sleeps and nobody has woken it yet.
    pub(super) fn wake(&self) {
        if !self.news.swap(true, AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

/// The writer thread's handle.
#[derive(Debug)]
pub struct Writer {
    wake: Arc<Wake>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// All that are open.
    targets: Mutex<Vec<LogTarget>>,
}

impl Writer {
    /// Opens every target, starts the thread, and makes the outbox of each data worker; `None` when the config asks for no
    /// access log.
    ///
    /// Local time is that of the system's zone (`TZ` or `/etc/localtime`; UTC when there is none) at this moment.
    /// Errors: [`LogError`]; nothing has been started then.
    pub fn start(
        config: &Config,
        workers: &[Arc<Worker>],
        stats: Arc<LogWriterStats>,
    ) -> Result<Option<(Writer, Vec<Outbox>)>, LogError> {
        let (wanted, _) = plan(config);
        if wanted.is_empty() {
            return Ok(None);
        }
        let (outputs, lanes) = open(&wanted, 0, workers.len())?;
        let wake = Arc::new(Wake::default());
        let job = Job { outputs, wake: wake.clone(), stats };
        let builder = std::thread::Builder::new().name("access-log".into());
        let thread = builder.spawn(|| job.run()).map_err(LogError::Thread)?;
        drop(wake.thread.set(thread.thread().clone()));
        let host = host();
        let outbox = |(index, (lanes, stats)): (usize, (NewLanes, &Arc<Worker>))| {
            Outbox::new(index, host.clone(), lanes, wake.clone(), stats.log.clone())
        };
        let outboxes = lanes.into_iter().zip(workers).enumerate().map(outbox).collect();
        Ok(Some((Writer { wake, thread: Mutex::new(Some(thread)), targets: Mutex::new(wanted) }, outboxes)))
    }

    /// Opens the targets of `config` that are not open yet; returns the lanes to them, by data worker, of which there are
    /// `workers`. Those that no config names any more stay open until the end.
    ///
    /// Errors: [`LogError`]; nothing has changed then.
    pub fn open_new(&self, config: &Config, workers: usize) -> Result<Vec<NewLanes>, LogError> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let (wanted, _) = plan(config);
        let new: Vec<LogTarget> = wanted.into_iter().filter(|target| !targets.contains(target)).collect();
        let (outputs, lanes) = open(&new, targets.len(), workers)?;
        targets.extend(new);
        self.wake.new_targets.lock().unwrap_or_else(PoisonError::into_inner).extend(outputs);
        self.wake.wake();
        Ok(lanes)
    }

    /// Opens the files again under their names, after they were renamed (SIGUSR1, as with nginx). Returns at once; when
    /// opening fails, the old file stays in use and our own log says so.
    pub fn reopen(&self) {
        self.wake.reopen.store(true, Release);
        self.wake.wake();
    }

    /// Writes everything handed over so far and ends the thread. Call it when the data workers have ended.
    ///
    /// False when that took longer than `limit` (a stalled pipe, a dead disk): the rest is lost with the process.
    pub fn stop(&self, limit: Duration) -> bool {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return true };
        let deadline = Instant::now() + limit;
        self.wake.stop.store(true, Release);
        self.wake.wake();
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.join().is_ok()
    }
}

/// Opens `targets`, the first of which gets number `first` among all; with them the lanes of each of `workers` data workers.
fn open(targets: &[LogTarget], first: usize, workers: usize) -> Result<(Vec<Target>, Vec<NewLanes>), LogError> {
    let output = |(at, target): (usize, &LogTarget)| {
        let output = Output::open(target).map_err(|error| LogError::open(target, error))?;
        let lanes = (0..workers).map(|_| Arc::new(Lane::new(buffers_of(first + at)))).collect();
        Ok(Target { target: target.clone(), output, lanes, pending: None, complained: None, failing: false })
    };
    let outputs: Vec<Target> = targets.iter().enumerate().map(output).collect::<Result<_, LogError>>()?;
    let lanes_of = |worker: usize| {
        NewLanes(outputs.iter().map(|output| (output.target.clone(), output.lanes[worker].clone())).collect())
    };
    let lanes = (0..workers).map(lanes_of).collect();
    Ok((outputs, lanes))
}

/// The distinct targets, those of slow logs included, and which requests go to which of them.
pub(super) fn plan(config: &Config) -> (Vec<LogTarget>, Routes) {
    let mut targets: Vec<LogTarget> = Vec::new();
    let mut index = |target: &LogTarget| {
        let known = targets.iter().position(|known| known == target);
        known.unwrap_or_else(|| {
            targets.push(target.clone());
            targets.len() - 1
        })
    };
    let default = config.log.access.as_ref().map(&mut index);
    let site = |site: &SiteLog| match site {
        SiteLog::Default => default,
        SiteLog::Off => None,
        SiteLog::To(target) => Some(index(target)),
    };
    let sites = config.log.sites.iter().map(site).collect();
    for slow in config.splitters.iter().filter_map(|splitter| splitter.slow_log.as_ref()) {
        index(&slow.target);
    }
    (targets, Routes { default, sites })
}

fn host() -> Host {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    Host { zone, name: name.trim().into(), pid: std::process::id() }
}

/// What the thread owns.
struct Job {
    outputs: Vec<Target>,
    wake: Arc<Wake>,
    stats: Arc<LogWriterStats>,
}

/// One target, and the lanes of all data workers to it.
#[derive(Debug)]
struct Target {
    target: LogTarget,
    output: Output<File>,
    lanes: Vec<Arc<Lane>>,
    /// A buffer that the target did not take whole.
    pending: Option<Pending>,
    complained: Option<Instant>,
    /// The last write failed.
    failing: bool,
}

/// A buffer on its way into the target.
#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    /// How many of them are written.
    at: usize,
    /// Where the empty buffer goes back to.
    lane: usize,
}

impl Job {
    fn run(mut self) {
        loop {
            // In this order: what is handed over after the swap sets the flag again and unparks; what was handed over
            // before `stop` is found by the rounds below.
            self.wake.news.swap(false, AcqRel);
            let stop = self.wake.stop.load(Acquire);
            self.outputs.append(&mut self.wake.new_targets.lock().unwrap_or_else(PoisonError::into_inner));
            while self.round() {
                self.reopen_if_asked();
            }
            self.reopen_if_asked();
            match self.outputs.iter().find(|target| target.pending.is_some()) {
                Some(stalled) => wait_until_writable(&stalled.output.target, AGAIN_AFTER),
                None if stop => return,
                None => std::thread::park(),
            }
        }
    }

    /// Writes at most one buffer of each lane; false when there was nothing that could be written.
    fn round(&mut self) -> bool {
        let stats = &self.stats;
        self.outputs.iter_mut().fold(false, |any, target| target.round(stats) | any)
    }

    fn reopen_if_asked(&mut self) {
        if self.wake.reopen.swap(false, AcqRel) {
            self.outputs.iter_mut().for_each(|target| target.reopen(&self.stats));
        }
    }
}

impl Target {
    fn round(&mut self, stats: &LogWriterStats) -> bool {
        let mut any = false;
        if let Some(pending) = self.pending.take() {
            any |= self.write(pending, stats);
        }
        for lane in 0..self.lanes.len() {
            // A target that stalls keeps its other buffers where their workers see them.
            if self.pending.is_some() {
                break;
            }
            let Some(bytes) = self.lanes[lane].filled.pop() else { continue };
            any |= self.write(Pending { bytes, at: 0, lane }, stats);
        }
        any
    }

    /// True when the buffer was written or lost, false when it waits on in `pending`.
    fn write(&mut self, mut pending: Pending, stats: &LogWriterStats) -> bool {
        let before = pending.at;
        let progress = self.output.write(&pending.bytes, &mut pending.at);
        stats.bytes.add((pending.at - before) as u64);
        match progress {
            Progress::Stalled => {
                self.pending = Some(pending);
                return false;
            }
            Progress::Done => {
                stats.buffers.inc();
                if std::mem::take(&mut self.failing) {
                    tracing::info!(target = %self.target, lines_lost = stats.lines_lost.value(), "access log can be written again");
                }
            }
            Progress::Failed { error, lines_lost } => self.on_error(&error, lines_lost, stats),
        }
        drop(self.lanes[pending.lane].empty.push(pending.bytes)); // freed here when the worker has made too many
        true
    }

    /// Lines are lost.
    fn on_error(&mut self, error: &io::Error, lines_lost: u64, stats: &LogWriterStats) {
        stats.errors.inc();
        stats.lines_lost.add(lines_lost);
        self.failing = true;
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            let lost = stats.lines_lost.value();
            tracing::error!(target = %self.target, %error, lines_lost = lost, "access log cannot be written: check its disk or reader");
        }
    }

    /// Opens the file under its name again, unless that still leads to the same file.
    fn reopen(&mut self, stats: &LogWriterStats) {
        let LogTarget::File(path) = &self.target else { return };
        if !self.output.is_at(path) {
            if let Some(Pending { bytes, at, lane }) = self.pending.take() {
                // The old reader does not take it, and the new one must not get the second half of it.
                stats.lines_lost.add(self.output.give_up(&bytes, at));
                drop(self.lanes[lane].empty.push(bytes));
            }
            stats.lines_lost.add(u64::from(self.output.settle()));
            match Output::open(&self.target) {
                Ok(output) => self.output = output,
                Err(error) => {
                    let user = own_name();
                    tracing::error!(file = %path.display(), %user, %error, "access log cannot be opened again, the old file stays in use");
                    return;
                }
            }
        }
        stats.reopens.inc();
        tracing::info!(file = %path.display(), "access log opened again");
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Read;
    use std::path::Path;
    use std::process::Command;
    use std::rc::Rc;

    use super::super::access::{BUFFER_BYTES, BUFFERS};
    use super::super::format::tests::entry;
    use super::super::{AccessLog, Entry};
    use super::*;
    use crate::control::shared::tests::config;

    const LIMIT: Duration = Duration::from_secs(10);

    struct Running {
        writer: Writer,
        logs: Vec<AccessLog>,
        workers: Vec<Arc<Worker>>,
        stats: Arc<LogWriterStats>,
    }

    fn start(target: LogTarget, workers: usize) -> Running {
        let mut config = config();
        config.log.access = Some(target);
        start_with(&config, workers)
    }

    fn start_with(config: &Config, workers: usize) -> Running {
        let workers: Vec<Arc<Worker>> = (0..workers).map(|_| Arc::new(Worker::new(config))).collect();
        let stats: Arc<LogWriterStats> = Arc::default();
        let (writer, outboxes) = Writer::start(config, &workers, stats.clone()).unwrap().unwrap();
        let logs = outboxes.into_iter().map(|outbox| AccessLog::new(config, &Rc::new(outbox)).unwrap()).collect();
        Running { writer, logs, workers, stats }
    }

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < LIMIT, "in vain: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn record(log: &AccessLog, target: &str) {
        log.record(&Entry { target: target.as_bytes(), ..entry() });
    }

    /// The targets of all lines of a file, in order; every line must be whole.
    fn targets(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        let target = |line: &str| {
            assert!(line.starts_with("127.0.0.1 - - [") && line.ends_with("\" 200 5 \"-\" \"-\""), "{line}");
            line.split(' ').nth(6).unwrap().to_string()
        };
        text.lines().map(target).collect()
    }

    #[test]
    fn every_line_of_every_worker_arrives_in_the_workers_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut config = config();
        config.log.access = Some(LogTarget::File(path.clone()));
        let workers: Vec<Arc<Worker>> = (0..3).map(|_| Arc::new(Worker::new(&config))).collect();
        let stats: Arc<LogWriterStats> = Arc::default();
        let (writer, outboxes) = Writer::start(&config, &workers, stats.clone()).unwrap().unwrap();
        const LINES: usize = 20_000; // several buffers each
        std::thread::scope(|scope| {
            for (worker, outbox) in outboxes.into_iter().enumerate() {
                let config = &config;
                scope.spawn(move || {
                    let log = AccessLog::new(config, &Rc::new(outbox)).unwrap();
                    for n in 0..LINES {
                        record(&log, &format!("/{worker}/{n}"));
                        while log.in_flight() > BUFFERS / 2 {
                            std::thread::sleep(Duration::from_millis(1)); // the disk is slow; nothing may be lost here
                        }
                    }
                    log.flush_due();
                });
            }
        });
        assert!(writer.stop(LIMIT));
        let (mut seen, mut dropped) = ([0; 3], 0);
        for target in targets(&path) {
            let (worker, n) = target[1..].split_once('/').unwrap();
            let (worker, n): (usize, usize) = (worker.parse().unwrap(), n.parse().unwrap());
            assert!(n >= seen[worker], "out of order: {target}");
            seen[worker] = n + 1;
        }
        for (worker, stats) in workers.iter().enumerate() {
            dropped += stats.log.dropped.value();
            assert_eq!((seen[worker], stats.log.lines.value()), (LINES, LINES as u64));
        }
        assert_eq!(dropped, 0);
        assert_eq!(stats.bytes.value(), std::fs::metadata(&path).unwrap().len());
    }

    #[test]
    fn a_stalled_reader_costs_lines_but_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        mkfifo(&path);
        // Opened for both directions, so that neither open waits for the other side.
        let mut reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let running = start(LogTarget::File(path), 1);
        let [log] = <[AccessLog; 1]>::try_from(running.logs).unwrap();
        let stats = &running.workers[0].log;
        let begun = Instant::now();
        let mut recorded = 0u64;
        while stats.dropped.value() < 1000 {
            record(&log, &format!("/{recorded}"));
            recorded += 1;
            assert!(recorded < 10_000_000 && begun.elapsed() < LIMIT, "a full pipe did not stop the writer");
        }
        assert_eq!(stats.lines.value() + stats.dropped.value(), recorded);
        let kept_bytes = stats.lines.value() * 70;
        assert!(kept_bytes < 2 * (BUFFERS * BUFFER_BYTES) as u64, "memory is bounded: {kept_bytes}");
        let begun = Instant::now();
        assert!(!running.writer.stop(Duration::from_millis(50)), "nobody reads, so it cannot end");
        assert!(begun.elapsed() < Duration::from_secs(5));
        // Once somebody reads, exactly what was counted as recorded arrives, whole.
        log.flush();
        drop(log);
        let expected = stats.lines.value();
        let mut text = Vec::new();
        let mut chunk = vec![0; 65536];
        while (text.iter().filter(|byte| **byte == b'\n').count() as u64) < expected {
            let n = reader.read(&mut chunk).unwrap();
            text.extend_from_slice(&chunk[..n]);
        }
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count() as u64, expected);
        assert!(text.lines().all(|line| line.starts_with("127.0.0.1 - - [") && line.ends_with("\"-\" \"-\"")));
    }

    #[test]
    fn after_a_rename_and_reopen_new_lines_go_to_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let running = start(LogTarget::File(path.clone()), 1);
        let written = |buffers| wait_until("a buffer", || running.stats.buffers.value() == buffers);
        record(&running.logs[0], "/1");
        running.logs[0].flush_due();
        written(1);
        std::fs::rename(&path, &old).unwrap();
        record(&running.logs[0], "/2");
        running.logs[0].flush_due();
        written(2);
        running.writer.reopen();
        wait_until("reopen", || running.stats.reopens.value() == 1);
        record(&running.logs[0], "/3");
        drop(running.logs); // the worker ends without a further flush
        assert!(running.writer.stop(LIMIT));
        assert_eq!((targets(&old), targets(&path)), (vec!["/1".into(), "/2".into()], vec!["/3".into()]));
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & !0o640, 0, "{mode:o}");
    }

    #[test]
    fn a_reopen_that_fails_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, moved) = (folder.path().join("in"), folder.path().join("moved"));
        std::fs::create_dir(&inside).unwrap();
        let running = start(LogTarget::File(inside.join("access.log")), 1);
        std::fs::rename(&inside, &moved).unwrap();
        running.writer.reopen();
        record(&running.logs[0], "/kept");
        drop(running.logs);
        assert!(running.writer.stop(LIMIT));
        assert_eq!((targets(&moved.join("access.log")), running.stats.reopens.value()), (vec!["/kept".into()], 0));
    }

    #[test]
    fn a_full_disk_is_counted_and_does_not_stop_the_thread() {
        let running = start(LogTarget::File("/dev/full".into()), 1);
        for n in 1..=3 {
            record(&running.logs[0], "/lost");
            running.logs[0].flush_due();
            wait_until("an error", || running.stats.errors.value() == n);
        }
        assert_eq!(running.stats.lines_lost.value(), 3);
        assert!(running.writer.stop(LIMIT));
        assert!(running.writer.stop(LIMIT), "stopping twice does no harm");
    }

    #[test]
    fn a_line_longer_than_a_buffer_is_written_whole_and_its_memory_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let running = start(LogTarget::File(path.clone()), 1);
        let long = vec![0xff; BUFFER_BYTES];
        for _ in 0..3 {
            record(&running.logs[0], "/short");
            running.logs[0].record(&Entry { target: &long, ..entry() });
        }
        running.logs[0].flush_due();
        wait_until("all buffers", || running.stats.bytes.value() > 3 * 4 * BUFFER_BYTES as u64);
        running.logs[0].flush_due();
        record(&running.logs[0], "/last");
        running.logs[0].flush_due();
        assert!(running.logs[0].largest_capacity() <= BUFFER_BYTES);
        drop(running.logs);
        assert!(running.writer.stop(LIMIT));
        assert_eq!(targets(&path).len(), 7);
    }

    #[test]
    fn without_an_access_log_nothing_starts_and_a_bad_path_is_told() {
        let mut config = config();
        assert!(Writer::start(&config, &[], Arc::default()).unwrap().is_none());
        config.log.access = Some(LogTarget::File("/nowhere/at/all.log".into()));
        let error = Writer::start(&config, &[], Arc::default()).unwrap_err();
        assert!(error.to_string().starts_with("cannot open access log /nowhere/at/all.log: "), "{error}");
    }
    #[test]
    fn a_site_may_have_a_log_of_its_own_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut config = config();
        config.log.access = Some(LogTarget::File(path("all")));
        let own = SiteLog::To(LogTarget::File(path("own")));
        config.log.sites = vec![SiteLog::Off, own.clone(), SiteLog::Default, own];
        let running = start_with(&config, 2);
        let log = &running.logs[1];
        for (site, target) in [
            (None, "/none"),
            (Some(0), "/off"),
            (Some(1), "/own"),
            (Some(2), "/default"),
            (Some(3), "/too"),
            (Some(9), "/new"),
        ] {
            log.record(&Entry { target: target.as_bytes(), site, ..entry() });
            assert_eq!(log.wants(site), site != Some(0));
        }
        assert_eq!(running.workers[1].log.lines.value(), 5);
        drop(running.logs);
        assert!(running.writer.stop(LIMIT));
        assert_eq!(
            (targets(&path("all")), targets(&path("own"))),
            (vec!["/none".into(), "/default".into(), "/new".into()], vec!["/own".into(), "/too".into()])
        );
        // Only a site's log, nothing else.
        config.log.access = None;
        config.log.sites = vec![SiteLog::To(LogTarget::File(path("only")))];
        let running = start_with(&config, 1);
        assert!(running.logs[0].wants(Some(0)) && !running.logs[0].wants(None) && !running.logs[0].wants(Some(1)));
    }

    /// The lines of a request go where the config says under which it began, whatever came since.
    #[test]
    fn a_new_config_brings_new_files_and_keeps_the_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut config = config();
        config.log.access = Some(LogTarget::File(path("all")));
        let workers = vec![Arc::new(Worker::new(&config))];
        let (writer, outboxes) = Writer::start(&config, &workers, Arc::default()).unwrap().unwrap();
        let outbox = Rc::new(outboxes.into_iter().next().unwrap());
        let old = AccessLog::new(&config, &outbox).unwrap();
        record(&old, "/1");
        config.log.sites = vec![SiteLog::To(LogTarget::File(path("own")))];
        let before = AccessLog::new(&config, &outbox).unwrap();
        assert!(!before.wants(Some(0)) && before.wants(None), "nobody has opened it");
        writer.open_new(&config, 1).unwrap().into_iter().for_each(|lanes| outbox.add(lanes));
        let new = AccessLog::new(&config, &outbox).unwrap();
        new.record(&Entry { target: b"/2", site: Some(0), ..entry() });
        old.record(&Entry { target: b"/3", site: Some(0), ..entry() });
        assert!(writer.open_new(&config, 1).unwrap()[0].0.is_empty(), "known by now");
        config.log.access = Some(LogTarget::File("/nowhere/at/all.log".into()));
        assert!(writer.open_new(&config, 1).is_err());
        config.log.access = None;
        config.log.sites.clear();
        assert!(AccessLog::new(&config, &outbox).is_none());
        drop((old, before, new, outbox));
        assert!(writer.stop(LIMIT));
        assert_eq!((targets(&path("all")), targets(&path("own"))), (vec!["/1".into(), "/3".into()], vec!["/2".into()]));
    }

    fn mkfifo(path: &Path) {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn a_fifo_that_nobody_reads_holds_up_no_other_log_and_no_start() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, file) = (folder.path().join("fifo"), folder.path().join("file"));
        mkfifo(&fifo);
        let mut config = config();
        config.log.access = Some(LogTarget::File(fifo));
        config.log.sites = vec![SiteLog::To(LogTarget::File(file.clone()))];
        let running = start_with(&config, 1);
        let (log, stats) = (&running.logs[0], &running.workers[0].log);
        while stats.dropped.value() == 0 {
            record(log, "/to/the/fifo");
        }
        log.record(&Entry { target: b"/to/the/file", site: Some(0), ..entry() });
        log.flush_due();
        wait_until("the line", || std::fs::metadata(&file).is_ok_and(|metadata| metadata.len() > 0));
        assert_eq!(targets(&file), ["/to/the/file"]);
    }

    #[test]
    fn a_stalled_fifo_is_left_when_a_file_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        mkfifo(&path);
        let running = start(LogTarget::File(path.clone()), 1);
        let (log, stats) = (&running.logs[0], &running.workers[0].log);
        while stats.dropped.value() == 0 {
            record(log, "/first");
        }
        std::fs::remove_file(&path).unwrap();
        running.writer.reopen();
        wait_until("reopen", || running.stats.reopens.value() == 1);
        let lost = running.stats.lines_lost.value();
        assert!(lost > 0);
        drop(running.logs);
        assert!(running.writer.stop(LIMIT));
        // What the pipe took is gone with it.
        let kept = targets(&path).len() as u64;
        assert!(kept > 0 && kept + lost < running.workers[0].log.lines.value());
    }

    #[test]
    fn reopening_without_a_rename_goes_on_with_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let running = start(LogTarget::File(path.clone()), 1);
        record(&running.logs[0], "/1");
        running.writer.reopen();
        wait_until("reopen", || running.stats.reopens.value() == 1);
        record(&running.logs[0], "/2");
        drop(running.logs);
        assert!(running.writer.stop(LIMIT));
        assert_eq!(targets(&path), ["/1", "/2"]);
    }
}

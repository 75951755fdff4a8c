//! An application worker: one thread, one tokio-uring runtime, one service per application. Or a thread of one application that
//! blocks: the same with the service of that one, one request at a time, and a queue that it shares with others.
//!
//! It takes jobs out of its queue, runs each as a local task, and sends the answer to the data worker that waits
//! for it. A panic in a service is a 500; a worker that fails as a whole is started again by [`AppWorker::supervise`],
//! and what it was running is answered with 502.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use slab::Slab;
use tokio::sync::Notify;

use super::check::Checks;
use super::message::{Job, JobBody, Lost, Origin, Reply, ReplyBody, ReplyHead, Ticket};
use super::upgraded::Unopened;
use super::{AnyBody, App, AppContext, Body, Draining, LocalService};
use crate::config::model::DriverChoice;
use crate::http::h1::{FieldName, Method};
use crate::metrics::AppWorkerStats;
use crate::runtime::body::{BodySender, BodyWatch, body_channel};
use crate::runtime::crew::CrewReceiver;
use crate::runtime::driver::{self, DriverFacts, Spent};
use crate::runtime::mailbox::Receiver;

/// Bytes of a streamed body that may be under way between the cores.
const BODY_WINDOW_BYTES: usize = 64 * 1024;

/// Abandoned requests that already run are looked for this often.
const SWEEP: Duration = Duration::from_millis(100);

/// So often a worker that cannot begin anew yet passes on what comes to it.
const PASS_ON: Duration = Duration::from_millis(10);

/// Everything one application worker needs.
pub(crate) struct AppWorker {
    pub(crate) index: usize,
    pub(crate) driver: DriverChoice,
    pub(crate) spin: Duration,
    pub(crate) concurrency: usize,
    /// By number of the application; `None`: it is run elsewhere.
    pub(crate) apps: Vec<Option<App>>,
    pub(crate) jobs: Jobs,
    /// They are looked for with each sweep.
    pub(crate) checks: Checks,
    pub(crate) origins: Arc<Vec<Origin>>,
    pub(crate) stats: Arc<AppWorkerStats>,
    pub(crate) draining: Draining,
    /// Others run the same applications, each with a queue of its own.
    pub(crate) has_others: bool,
}

/// Where requests come from.
pub(crate) enum Jobs {
    /// A mailbox of the worker's own.
    Own(Receiver<Job>),
    /// What any thread of the application may take.
    Shared(CrewReceiver<Job>),
}

impl Jobs {
    fn try_recv(&mut self) -> Option<Job> {
        match self {
            Jobs::Own(mailbox) => mailbox.try_recv(),
            Jobs::Shared(crew) => crew.try_recv(),
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Job> {
        match self {
            Jobs::Own(mailbox) => mailbox.poll_recv(cx),
            Jobs::Shared(crew) => crew.poll_recv(cx),
        }
    }

    /// Nothing is taken until somebody asks again.
    fn leave(&mut self) {
        if let Jobs::Shared(crew) = self {
            crew.leave();
        }
    }

    /// Brings the counters up to date; `looks`: what has come was to be seen by now.
    fn tell(&mut self, stats: &AppWorkerStats, looks: bool) {
        // The other one is looked into whenever its thread is free, and its length is told for the application.
        let Jobs::Own(jobs) = self else { return };
        if looks && jobs.check_lost() {
            stats.lost_wakeups.inc();
        }
        let mailbox = jobs.sender();
        stats.queue_depth.set(mailbox.depth() as u64);
        stats.wake_ups.add(mailbox.wakeups() - stats.wake_ups.value());
        stats.queue_full.add(mailbox.refused() - stats.queue_full.value());
    }
}

impl AppWorker {
    /// Runs the worker on the current thread for as long as the process lives; starts it again when it fails.
    ///
    /// `on_start` gets the driver's facts once. Errors: the first start failed.
    pub(crate) fn supervise(mut self, mut on_start: impl FnMut(std::io::Result<DriverFacts>)) {
        let mut pause = Duration::from_millis(1);
        let mut started = false;
        loop {
            let begin = Instant::now();
            let run = std::panic::catch_unwind(AssertUnwindSafe(|| self.run(&mut started, &mut on_start)));
            match run {
                Ok(Err(error)) if !started => return on_start(Err(error)),
                Ok(Err(error)) => tracing::error!(worker = self.index, %error, "application worker cannot start again"),
                Ok(Ok(())) | Err(_) => {}
            }
            self.stats.restarting.set(1);
            self.stats.restarts.inc();
            self.pass_on();
            tracing::error!(worker = self.index, pause_ms = pause.as_millis() as u64, "application worker restarts");
            std::thread::sleep(pause);
            // A worker that fails at once must not burn its core; one that ran for a while may start at once.
            let lasted = begin.elapsed() > Duration::from_secs(10);
            pause = if lasted { Duration::from_millis(1) } else { (pause * 2).min(Duration::from_secs(1)) };
        }
    }

    /// What waits here goes to other workers, where there are such: it has not begun.
    fn pass_on(&mut self) {
        let Jobs::Own(jobs) = &mut self.jobs else { return };
        while self.has_others
            && let Some(Job { ticket, origin, .. }) = jobs.try_recv()
        {
            let reply = Reply { ticket, app_worker: self.index, head: Err(Lost::Unbegun) };
            // There is room for one answer per slot.
            drop(self.origins[origin].replies.send(reply));
        }
    }

    fn run(
        &mut self,
        started: &mut bool,
        on_start: &mut impl FnMut(std::io::Result<DriverFacts>),
    ) -> std::io::Result<()> {
        const RING_ENTRIES: u32 = 256;
        let ((), spent) = driver::run_app(self.driver, RING_ENTRIES, |facts| {
            if !std::mem::replace(started, true) {
                on_start(Ok(facts));
            }
            self.serve()
        })?;
        self.leave(spent);
        Ok(())
    }

    /// Leaves a runtime, which may wait for what the application has blocking there. Nobody is to wait for that with it: until then
    /// what comes here goes to other workers.
    fn leave(&mut self, spent: Spent) {
        self.stats.restarting.set(1);
        self.pass_on();
        if !self.has_others || !matches!(self.jobs, Jobs::Own(_)) {
            return drop(spent);
        }
        let (leaving, has_left) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let passes_on = move || {
                while has_left.recv_timeout(PASS_ON) == Err(RecvTimeoutError::Timeout) {
                    self.pass_on();
                }
            };
            // Where there is no thread for it, what waits here waits.
            drop(std::thread::Builder::new().name("pass-on".into()).spawn_scoped(scope, passes_on));
            let _leaving = leaving;
            drop(spent);
        });
    }

    async fn serve(&mut self) {
        let context = AppContext {
            worker: self.index,
            failed: Rc::new(Cell::new(false)),
            wake: Rc::new(Notify::new()),
            draining: self.draining.clone(),
        };
        // What a life before was called for and did not take.
        self.jobs.leave();
        let build = |app: &Option<App>| app.as_ref().map(|app| (app.factory)(&context));
        let services: Vec<Option<LocalService>> = self.apps.iter().map(build).collect();
        let running = Rc::new(Running {
            tasks: RefCell::new(Slab::new()),
            wake: context.wake.clone(),
            stats: self.stats.clone(),
            origins: self.origins.clone(),
            index: self.index,
        });
        self.stats.restarting.set(0);
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !context.failed.get() {
            let full = running.tasks.borrow().len() >= self.concurrency;
            tokio::select! {
                biased;
                job = next_job(&mut self.jobs, self.spin), if !full => running.start(job, &services),
                _ = sweep.tick() => {
                    self.stats.pulse.inc();
                    running.sweep();
                    running.check(&self.checks, &services);
                    self.jobs.tell(&self.stats, !full);
                }
                () = context.wake.notified() => {}
            }
        }
        self.jobs.leave();
        // Leaving drops the runtime and with it every task; each tells its data worker that no answer will come.
    }
}

/// The next job. Looks for it for up to `spin` before it sleeps, letting other tasks run in between.
async fn next_job(jobs: &mut Jobs, spin: Duration) -> Job {
    if let Some(job) = jobs.try_recv() {
        return job;
    }
    if !spin.is_zero() {
        let begin = Instant::now();
        while begin.elapsed() < spin {
            tokio::task::yield_now().await;
            if let Some(job) = jobs.try_recv() {
                return job;
            }
        }
    }
    poll_fn(|cx| jobs.poll_recv(cx)).await
}

/// One request that runs here.
struct Task {
    origin: usize,
    ticket: Ticket,
    /// The application has it.
    begun: Cell<bool>,
    /// Its head has been answered; what still runs is its body.
    answered: Cell<bool>,
    /// That body, when it is streamed. Sending into it tells that nobody reads any more, but it may have nothing to
    /// send for hours.
    body: RefCell<Option<BodyWatch>>,
    handle: Option<tokio::task::AbortHandle>,
}

/// The requests this worker runs now.
struct Running {
    tasks: RefCell<Slab<Task>>,
    wake: Rc<Notify>,
    stats: Arc<AppWorkerStats>,
    origins: Arc<Vec<Origin>>,
    index: usize,
}

impl Running {
    fn start(self: &Rc<Self>, job: Job, services: &[Option<LocalService>]) {
        if !self.origins[job.origin].tickets.is_wanted(job.ticket) {
            self.stats.cancelled.inc();
            return;
        }
        self.stats.requests.inc();
        self.stats.running.inc();
        let task = Task {
            origin: job.origin,
            ticket: job.ticket,
            begun: Cell::new(false),
            answered: Cell::new(false),
            body: RefCell::default(),
            handle: None,
        };
        let key = self.tasks.borrow_mut().insert(task);
        let answer = Answer { running: self.clone(), key };
        // Bridges know which worker runs what.
        let service = services[job.app].clone().expect("an application of this worker");
        let handle = tokio::task::spawn_local(run_job(job, service, answer)).abort_handle();
        if let Some(task) = self.tasks.borrow_mut().get_mut(key) {
            task.handle = Some(handle);
        }
    }

    fn check(&self, checks: &Checks, services: &[Option<LocalService>]) {
        while let Some(check) = checks.next() {
            if let Some(Some(service)) = services.get(check.app) {
                tokio::task::spawn_local(check.answer(service.clone(), self.stats.clone()));
            }
        }
    }

    /// Stops what nobody waits for any more.
    fn sweep(&self) {
        let tasks = self.tasks.borrow();
        let unwanted = tasks
            .iter()
            .filter(|(_, task)| match task.answered.get() {
                false => !self.origins[task.origin].tickets.is_wanted(task.ticket),
                true => task.body.borrow().as_ref().is_some_and(BodyWatch::is_abandoned),
            })
            .filter_map(|(_, task)| task.handle.clone());
        // Aborting only marks a task; it is dropped, and takes itself off the list, when it would run next.
        unwanted.for_each(|handle| {
            handle.abort();
            self.stats.cancelled.inc();
        });
    }
}

/// The duty to answer one request: dropped without an answer, it tells the data worker that there will be none.
struct Answer {
    running: Rc<Running>,
    key: usize,
}

impl Answer {
    /// From here on the application works on the request.
    fn begin(&self) {
        if let Some(task) = self.running.tasks.borrow().get(self.key) {
            task.begun.set(true);
        }
    }

    fn send(&self, head: ReplyHead) {
        self.tell(|_| Ok(head));
    }

    fn tell(&self, head: impl FnOnce(&Task) -> Result<ReplyHead, Lost>) {
        let tasks = self.running.tasks.borrow();
        let Some(task) = tasks.get(self.key) else { return };
        if task.answered.replace(true) {
            return;
        }
        let head = head(task);
        let reply = Reply { ticket: task.ticket, app_worker: self.running.index, head };
        // The mailbox has room for one answer per slot, so this cannot fail while the data worker lives.
        if self.running.origins[task.origin].replies.send(reply).is_err() {
            tracing::error!(worker = self.running.index, "answer dropped: the data worker's mailbox is full");
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.tell(|task| Err(if task.begun.get() { Lost::Begun } else { Lost::Unbegun }));
        drop(self.running.tasks.borrow_mut().try_remove(self.key));
        self.running.stats.running.dec();
        self.running.wake.notify_one();
    }
}

/// Runs one request to its last body byte, or until it has become a tunnel.
async fn run_job(mut job: Job, service: LocalService, answer: Answer) {
    let is_head = job.head.method == Method::Head;
    let tunnel = job.tunnel.take();
    let Some(mut request) = request_of(job) else {
        return answer.send(plain(StatusCode::BAD_REQUEST));
    };
    let mut unopened = None;
    if let Some(end) = tunnel
        && let Some((tunnel, on_upgrade)) = Unopened::new(end).await
    {
        request.extensions_mut().insert(on_upgrade);
        unopened = Some(tunnel);
    }
    answer.begin();
    let outcome = contained(async { service(request).await }).await;
    let response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::error!(worker = answer.running.index, %error, "application failed");
            return answer.send(plain(StatusCode::INTERNAL_SERVER_ERROR));
        }
        Err(Panicked) => {
            answer.running.stats.panics.inc();
            return answer.send(plain(StatusCode::INTERNAL_SERVER_ERROR));
        }
    };
    if let Some(unopened) = unopened.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
        unopened.open().await;
        return answer.send(reply_head(&response.into_parts().0, None, ReplyBody::Tunnel));
    }
    // An interim answer cannot be the whole one: the client would wait for ever.
    if response.status().is_informational() {
        tracing::error!(worker = answer.running.index, status = %response.status(), "application answered with an interim status");
        return answer.send(plain(StatusCode::INTERNAL_SERVER_ERROR));
    }
    if contained(send_response(response, is_head, &answer)).await.is_err() {
        answer.running.stats.panics.inc();
        answer.send(plain(StatusCode::INTERNAL_SERVER_ERROR));
    }
}

/// The future panicked; the panic hook has said where.
pub(super) struct Panicked;

pub(super) async fn contained<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

/// Sends head and body; a body that is complete at the first look goes with the head in one message.
async fn send_response(response: Response<AnyBody>, is_head: bool, answer: &Answer) {
    let (parts, mut body) = response.into_parts();
    let length = body.size_hint().exact();
    let declared = || {
        let value = parts.headers.get(header::CONTENT_LENGTH)?;
        value.to_str().ok()?.parse().ok()
    };
    // A part of what is announced is not made the whole by another length.
    let send_whole = |body: Bytes| {
        let has_content = !matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match declared().filter(|announced| has_content && *announced != body.len() as u64) {
            None => answer.send(reply_head(&parts, Some(body.len() as u64), ReplyBody::Full(body))),
            Some(announced) => {
                let (worker, bytes) = (answer.running.index, body.len());
                tracing::error!(worker, announced, bytes, "application announces another length than its body has");
                answer.send(plain(StatusCode::INTERNAL_SERVER_ERROR));
            }
        }
    };
    if is_head {
        return answer.send(reply_head(&parts, declared().or(length), ReplyBody::Full(Bytes::new())));
    }
    if body.is_end_stream() {
        return send_whole(Bytes::new());
    }
    let first = poll_fn(|cx| Poll::Ready(body.as_mut().poll_frame(cx))).await;
    let chunk = match first {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        Poll::Ready(None) => return send_whole(Bytes::new()),
        Poll::Ready(Some(Err(error))) => {
            tracing::error!(worker = answer.running.index, %error, "application body failed");
            return answer.send(plain(StatusCode::INTERNAL_SERVER_ERROR));
        }
        Poll::Pending => Bytes::new(),
    };
    if body.is_end_stream() || length == Some(chunk.len() as u64) {
        return send_whole(chunk);
    }
    let (mut sender, receiver) = body_channel(BODY_WINDOW_BYTES);
    if let Some(task) = answer.running.tasks.borrow().get(answer.key) {
        task.body.replace(Some(sender.watch()));
    }
    answer.send(reply_head(&parts, declared().or(length), ReplyBody::Stream(receiver)));
    drop(parts);
    sender.push(chunk);
    stream_body(body, sender, answer.running.index).await;
}

/// Passes the frames on as credit allows. A failing body is broken off, never completed.
async fn stream_body(mut body: AnyBody, mut sender: BodySender, worker: usize) {
    loop {
        match http_body_util::BodyExt::frame(&mut body).await {
            None => return sender.finish(),
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data()
                    && sender.send(chunk).await.is_err()
                {
                    return; // the client left
                }
            }
            Some(Err(error)) => {
                tracing::error!(worker, %error, "application body failed");
                return;
            }
        }
    }
}

/// An answer of our own.
fn plain(status: StatusCode) -> ReplyHead {
    let text = format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    ReplyHead {
        status: status.as_u16(),
        fields: b"Content-Type: text/plain; charset=utf-8\r\n".to_vec(),
        has_date: false,
        has_server: false,
        length: Some(text.len() as u64),
        body: ReplyBody::Full(text.into()),
        is_failure: true,
    }
}

/// Writes the fields down, without those of framing and connection, which belong to the data worker.
fn reply_head(parts: &http::response::Parts, length: Option<u64>, body: ReplyBody) -> ReplyHead {
    let mut fields = Vec::with_capacity(256);
    for (name, value) in &parts.headers {
        let ours = [
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
            header::TE,
            header::TRAILER,
        ];
        if ours.contains(name) || name == "keep-alive" || name == "proxy-connection" {
            continue;
        }
        fields.extend_from_slice(name.as_str().as_bytes());
        fields.extend_from_slice(b": ");
        fields.extend_from_slice(value.as_bytes());
        fields.extend_from_slice(b"\r\n");
    }
    ReplyHead {
        status: parts.status.as_u16(),
        fields,
        has_date: parts.headers.contains_key(header::DATE),
        has_server: parts.headers.contains_key(header::SERVER),
        length,
        body,
        is_failure: false,
    }
}

/// The request as the application sees it; `None` when its target or a value does not fit the `http` crate's types.
/// Names and values share the head's memory.
fn request_of(job: Job) -> Option<Request<Body>> {
    let (bytes, head) = (&job.bytes, &job.head);
    let body = match job.body {
        JobBody::Full(body) => Body::full(body),
        JobBody::Stream { receiver, length } => Body::stream(receiver, length),
    };
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::from_bytes(head.method_text.of(bytes)).ok()?;
    *request.version_mut() = head.version.into();
    *request.uri_mut() = match head.target.is_empty() {
        true => Uri::from_static("/"),
        false => Uri::from_maybe_shared(bytes.slice_ref(head.target.of(bytes))).ok()?,
    };
    let headers = request.headers_mut();
    headers.reserve(head.fields.len());
    for field in &head.fields {
        if field.known == FieldName::TransferEncoding {
            continue; // the body is handed over without its transfer coding
        }
        let name = match field.known {
            // Which the `http` crate does not know, and would copy.
            FieldName::XRequestId => const { http::HeaderName::from_static("x-request-id") },
            _ => http::HeaderName::from_bytes(field.name.of(bytes)).ok()?,
        };
        let value = bytes.slice(field.value.start as usize..field.value.end as usize);
        headers.append(name, HeaderValue::from_maybe_shared(value).ok()?);
    }
    request.extensions_mut().insert(job.info);
    Some(request)
}

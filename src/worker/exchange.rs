//! One request, whatever protocol it came in: limits, path, site, route, action; rewrites and error pages send it round
//! again inside.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use http::HeaderMap;

use super::admit::{Admitted, Carried};
use super::answer::Answer;
use super::arrival::Waits;
use super::body::BodyFailure;
use super::connection::Connection;
use super::cx::{AnswerVariables, Cx};
use super::redirected::{Redirected, Sent};
use super::respond;
use super::upload::{Left, Upload};
use super::{Worker, admit, forward, logged, send_file, tarpit};
use crate::config::model::{Action, Options, PageSource, PageStatus};
use crate::http::answer::{AnswerHead, Content};
use crate::http::grpc::is_call;
use crate::http::h1::{BodyKind, FieldName, Method, RequestHead, write_field};
use crate::log::AddressText;
use crate::metrics::ServedBy;
use crate::route::{self, Captures, INTERNAL_REDIRECTS_MAX, Origin, RouteMatch, Routed, SiteRoutes};
use crate::util::path::{Path, normalize};
use crate::util::template::Encoding;
use crate::variables::{Condition, all_hold};

/// A body nobody wants is read up to this many bytes to keep the connection; a longer one closes it.
pub(super) const DISCARD_BYTES_MAX: u64 = 64 * 1024;

/// What happens to the connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next request may follow.
    Keep,
    /// Send what waits, then close.
    Close,
    /// The same, but read on for a moment: the client may still be sending.
    Linger,
    /// Break the connection (of HTTP/2: the stream): what was sent must not look complete.
    Abort,
}

/// What an action reports back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) after: After,
    pub(super) served_by: ServedBy,
}

/// Why an action did not answer; nothing of a final answer has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unanswered {
    /// Status to answer with.
    pub(super) status: u16,
    /// The rest of the request is not read: the connection closes behind the answer.
    pub(super) closes: bool,
    pub(super) served_by: ServedBy,
}

/// What happens instead of an answer.
#[derive(Debug)]
pub(super) enum Instead {
    /// An error page.
    Error(Unanswered),
    /// The request goes on inside, as what [`Sent`] says, to this target.
    Go { target: Vec<u8>, sent: Sent },
    /// The request goes on as it is, at the named route of this index; perhaps as an error page.
    Named { route: usize, page: Option<Page> },
}

/// What an error page stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) error: Unanswered,
    /// Status the client gets; `None`: that of the page.
    pub(super) status: Option<u16>,
}

/// An action's end.
pub(super) type Acted = Result<Outcome, Instead>;

/// What all actions need to know of the request.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) head: &'a RequestHead,
    /// What the positions in `head` point into.
    pub(super) bytes: &'a [u8],
    /// Its head was complete.
    pub(super) started: Instant,
    /// What came before that.
    pub(super) waits: Waits,
    pub(super) id: u64,
    /// Name the client has proved to be.
    pub(super) user: Option<&'a [u8]>,
    /// Address of the client, behind proxies that are trusted; `None`: it came over a Unix socket.
    pub(super) client: Option<IpAddr>,
    /// The client speaks TLS, with us or with a proxy that is trusted.
    pub(super) is_https: bool,
    /// What the client asked for, whatever became of it since.
    pub(super) asked: Asked<'a>,
}

/// The request line of a client, as far as it says what is wanted.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
}

/// The two directions of an exchange.
pub(super) struct Client<'a> {
    pub(super) upload: Upload<'a>,
    pub(super) answer: Answer<'a>,
    /// What the actions before have left of the content.
    pub(super) left: Left,
    /// What an action before has taken from behind it, for the next one.
    pub(super) trailers: Option<Box<HeaderMap>>,
}

impl<'a> Client<'a> {
    pub(super) fn new(upload: Upload<'a>, answer: Answer<'a>) -> Client<'a> {
        Client { upload, answer, left: Left::Unread, trailers: None }
    }

    /// What came behind the content, once that has been kept as a whole.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers).or_else(|| self.upload.take_trailers())
    }

    /// See [`Upload::keep_while`]; there is room. What an action before has kept is taken from there.
    pub(super) async fn keep(
        &mut self,
        worker: &Worker,
        connection: &Connection,
        kept: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<bool, BodyFailure> {
        self.keep_while(worker, connection, kept, bytes_max, |_| true).await
    }

    /// See [`Upload::keep_while`].
    pub(super) async fn keep_while(
        &mut self,
        worker: &Worker,
        connection: &Connection,
        kept: &mut Vec<u8>,
        bytes_max: usize,
        has_room: impl FnMut(usize) -> bool,
    ) -> Result<bool, BodyFailure> {
        match std::mem::replace(&mut self.left, Left::Spent) {
            Left::Unread => self.upload.keep_while(worker, connection, kept, bytes_max, has_room).await,
            Left::Kept(bytes) => {
                kept.extend_from_slice(&bytes);
                Ok(true)
            }
            Left::Spent => Err(BodyFailure::Gone),
        }
    }
}

/// Buffers of one exchange.
#[derive(Default)]
pub(super) struct Scratch {
    /// Decoded path.
    pub(super) path: Vec<u8>,
    /// Decoded path behind a rewrite for one action.
    rewritten: Vec<u8>,
    /// Fields of the answer.
    pub(super) fields: Vec<u8>,
}

impl Client<'_> {
    /// See [`Upload::keep_ready`]; what an action before has kept is taken from there.
    pub(super) async fn keep_ready(
        &mut self,
        worker: &Worker,
        kept: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<bool, BodyFailure> {
        match std::mem::replace(&mut self.left, Left::Spent) {
            Left::Unread => self.upload.keep_ready(worker, kept, bytes_max).await,
            Left::Kept(bytes) => {
                kept.extend_from_slice(&bytes);
                Ok(true)
            }
            Left::Spent => Err(BodyFailure::Gone),
        }
    }
}

impl<'a> Request<'a> {
    pub(super) fn new(worker: &Worker, connection: &Connection, head: &'a RequestHead, bytes: &'a [u8]) -> Request<'a> {
        let (client, is_https) = connection.client(worker, head, bytes);
        let id = request_id(worker, head, bytes);
        let started = worker.now();
        let waits = connection.arrival.complete(started);
        let asked = Asked { method: head.method_text.of(bytes), target: head.target(bytes) };
        Request { head, bytes, started, waits, id, user: None, client, is_https, asked }
    }

    /// The client's address as text.
    pub(super) fn client_text(self) -> AddressText {
        AddressText::new(self.client)
    }

    /// `http` or `https`.
    pub(super) fn scheme(self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// Text form of a request identifier.
    pub(super) fn id_text(id: u64) -> [u8; 16] {
        std::array::from_fn(|at| b"0123456789abcdef"[(id >> (60 - 4 * at)) as usize & 15])
    }
}

/// The identifier the client (or the proxy in front) gave, if it has our form, else a fresh one.
fn request_id(worker: &Worker, head: &RequestHead, bytes: &[u8]) -> u64 {
    let given = head.field(bytes, FieldName::XRequestId);
    let is_ours = |text: &&[u8]| text.len() == 16 && text.iter().all(u8::is_ascii_hexdigit);
    let parsed = given.filter(is_ours).and_then(|text| std::str::from_utf8(text).ok());
    parsed.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or_else(|| worker.next_request_id())
}

/// Answers `request`, sending it round inside as rewrites and error pages say.
pub(super) async fn run(
    worker: &Rc<Worker>,
    connection: &Connection,
    request: Request<'_>,
    client: &mut Client<'_>,
    scratch: &mut Scratch,
) -> Outcome {
    rounds(worker, connection, request, client, scratch, Asker::Client).await
}

/// Answers `request`, a question of ours about another one, which has been let in so far. Nobody is asked about it in
/// turn, and its answer is not made another by error pages.
pub(super) async fn run_inside(
    worker: &Rc<Worker>,
    connection: &Connection,
    request: Request<'_>,
    client: &mut Client<'_>,
) -> Outcome {
    rounds(worker, connection, request, client, &mut Scratch::default(), Asker::Ourselves).await
}

async fn rounds(
    worker: &Rc<Worker>,
    connection: &Connection,
    request: Request<'_>,
    client: &mut Client<'_>,
    scratch: &mut Scratch,
    asker: Asker,
) -> Outcome {
    let keeps = client.answer.keeps_connection();
    let content_type = request.head.field(request.bytes, FieldName::ContentType);
    client.answer.is_call = asker == Asker::Client && content_type.is_some_and(is_call);
    let origin = match asker {
        Asker::Client => Origin::Client,
        Asker::Ourselves => Origin::Internal,
    };
    let mut stage = Stage { asker, origin, page_for: None, named: None, keeps, body: request.head.body };
    let mut redirected: Option<Box<Redirected>> = None;
    let mut carried = Carried::default();
    let mut hops = 0;
    let error = loop {
        let user = carried.user().map(<[u8]>::to_vec);
        let mut current = redirected.as_ref().map_or(request, |redirected| redirected.request(request));
        current.user = user.as_deref().or(request.user);
        let instead = match step(worker, connection, current, client, scratch, stage, &mut carried).await {
            Ok(outcome) => return behind_page(outcome, stage.page_for),
            Err(instead) => instead,
        };
        hops += 1;
        stage = Stage { origin: Origin::Internal, named: None, ..stage };
        let changed = carried.take_changed();
        let current = changed.as_ref().map_or(current, |changed| changed.request(current));
        let page = match instead {
            Instead::Error(error) => break stage.page_for.unwrap_or(error),
            _ if hops > INTERNAL_REDIRECTS_MAX => {
                tracing::error!("a request is sent round inside without end: look at rewrites, names and error pages");
                break unanswered(500);
            }
            Instead::Go { target, sent } => {
                if sent == Sent::AsAsked {
                    stage.origin = origin;
                }
                redirected = Some(Box::new(Redirected::new(current, &target, &sent)));
                sent.page()
            }
            Instead::Named { route, page } => {
                stage.named = Some(route);
                if let Some(changed) = changed {
                    redirected = Some(Box::new(changed));
                }
                page
            }
        };
        if let Some(Page { error, status }) = page {
            client.answer.trail.limited.is_over = true;
            if error.closes {
                stage.keeps = false;
                client.left = Left::Spent;
            }
            stage.page_for = Some(error);
            client.answer.force_status(status);
        }
    };
    canned(None, client, &mut scratch.fields, error).await
}

/// What stands behind an error page: the connection ends if the error wanted that.
fn behind_page(outcome: Outcome, page_for: Option<Unanswered>) -> Outcome {
    match page_for {
        Some(error) if error.closes && outcome.after == After::Keep => Outcome { after: After::Linger, ..outcome },
        Some(error) => Outcome { served_by: error.served_by, ..outcome },
        None => outcome,
    }
}

/// Sends an error page of our own.
async fn canned(cx: Option<&Cx<'_>>, client: &mut Client<'_>, fields: &mut Vec<u8>, error: Unanswered) -> Outcome {
    if error.closes {
        client.answer.set_keep_alive(false);
    }
    client.answer.force_status(None);
    let sent = match client.answer.is_call {
        false => respond::error(cx, &mut client.answer, fields, error.status).await,
        true => respond::call_error(cx, &mut client.answer, fields, error.status).await,
    };
    let after = match (sent, error.closes) {
        (Err(_), _) => After::Abort,
        (Ok(()), true) => After::Linger,
        (Ok(()), false) => After::Keep,
    };
    Outcome { after, served_by: error.served_by }
}

/// Who wants an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asker {
    Client,
    /// To know whether a client may come in.
    Ourselves,
}

/// How often the request has been round.
#[derive(Clone, Copy)]
struct Stage {
    asker: Asker,
    origin: Origin,
    /// The error whose page it asks for: no further page stands for an error of that one.
    page_for: Option<Unanswered>,
    /// It goes to this named route, whatever its path.
    named: Option<usize>,
    /// The connection may be kept, as far as the request itself and what was before say.
    keeps: bool,
    /// What the client sends behind its head, whoever gets it.
    body: BodyKind,
}

impl Stage {
    /// What the site has for the request. Conditions see what the site sets, because no route is chosen yet.
    fn routed<'a>(&self, cx: &Cx<'_>, site: &'a SiteRoutes, scratch: &mut Vec<u8>) -> Routed<'a> {
        let method = cx.request.head.method_text.of(cx.request.bytes);
        let holds = |conditions: &[Condition], captures| all_hold(conditions, &Cx { captures, ..*cx }, scratch);
        match self.named {
            Some(route) => site.named(route, method, holds),
            None => site.route(method, cx.path, self.origin, holds),
        }
    }
}

/// One round: from target to action.
async fn step(
    worker: &Rc<Worker>,
    connection: &Connection,
    request: Request<'_>,
    client: &mut Client<'_>,
    scratch: &mut Scratch,
    stage: Stage,
    carried: &mut Carried,
) -> Acted {
    let Request { head, bytes, .. } = request;
    let keeps = stage.keeps;
    // A body that will not be skipped ends the connection, and the answer says so (RFC 9110 section 10.1.1).
    let ends_unread = !client.upload.is_done() && client.upload.ends_connection_unread(stage.body);
    client.answer.set_keep_alive(keeps && !ends_unread);
    if matches!(head.method, Method::Connect | Method::Trace) {
        return error(405);
    }
    if head.target(bytes) == b"*" {
        return options_star(client, scratch).await;
    }
    let Scratch { path, rewritten, fields } = scratch;
    let path = normalize(head.path(bytes), path).map_err(|problem| Instead::Error(unanswered(problem.status())))?;
    let Some(site) = worker.routers[connection.listener(worker)].site(head.host(bytes)) else { return error(404) };
    client.answer.trail.site = Some(site.index() as u16);
    let cx = Cx {
        worker,
        connection,
        request,
        site: Some(site.index()),
        options: site.options(),
        path: path.as_bytes(),
        captures: Captures::NONE,
    };
    client.answer.trail.log_access = cx.options.log_access;
    client.answer.trail.route = None;
    let refused = match stage.asker {
        Asker::Client => admit_to_site(&cx, client, fields, site).await,
        Asker::Ourselves => None,
    };
    let acted = match refused {
        Some(acted) => acted,
        None => match stage.routed(&cx, site, rewritten) {
            Routed::Found(found) => {
                let cx = Cx { options: found.options, captures: found.captures, ..cx };
                note_route(&cx, client, &found);
                let acted = at_route(cx, &found, client, Buffers { fields, rewritten }, stage, carried).await;
                return with_page(acted, &cx, client, fields, stage).await;
            }
            nowhere => match admit_to_nowhere(&cx, client, fields, stage).await {
                Err(acted) => acted,
                Ok(()) => without_route(&cx, client, fields, &nowhere).await,
            },
        },
    };
    with_page(acted, &cx, client, fields, stage).await
}

/// What the access log will want to know of the route.
fn note_route(cx: &Cx<'_>, client: &mut Client<'_>, found: &RouteMatch<'_>) {
    let trail = &mut client.answer.trail;
    trail.route = Some(found.route as u16);
    trail.log_access = cx.options.log_access;
    if cx.worker.logged.wants_own {
        trail.routed = Some(Box::new(logged::Routed::new(cx.path, cx.captures)));
    }
}

/// No action of the site takes the request.
async fn without_route(cx: &Cx<'_>, client: &mut Client<'_>, fields: &mut Vec<u8>, routed: &Routed<'_>) -> Acted {
    match routed {
        Routed::MethodNotAllowed { allow } => refuse_method(client, allow),
        Routed::Methods { allow } => methods(cx, client, fields, allow).await,
        _ => error(404),
    }
}

/// Looks for the page that stands for an error, or sends our own.
async fn with_page(acted: Acted, cx: &Cx<'_>, client: &mut Client<'_>, fields: &mut Vec<u8>, stage: Stage) -> Acted {
    let Err(Instead::Error(error)) = acted else { return acted };
    // If the page itself cannot be had, the error that it stands for counts.
    let error = stage.page_for.unwrap_or(error);
    if !matches!(error.status, 401 | 405) && !client.answer.trail.limited.is_refused() {
        // They described what would have been sent, and those of these the error.
        client.answer.keep_fields(Vec::new());
    }
    // A page says nothing to the client of a call.
    let has_page = stage.page_for.is_none() && stage.asker == Asker::Client && !client.answer.is_call;
    let page = cx.options.error_pages.page(error.status).filter(|_| has_page);
    let Some(page) = page else { return Ok(canned(Some(cx), client, fields, error).await) };
    let status = match page.status {
        PageStatus::Error => Some(error.status),
        PageStatus::Page => None,
        PageStatus::Fixed(status) => Some(status),
    };
    let stands_for = Page { error, status };
    match &page.from {
        PageSource::Route(route) => Err(Instead::Named { route: *route, page: Some(stands_for) }),
        PageSource::Path(path) => {
            let mut target = Vec::new();
            let variables = AnswerVariables { cx, status: error.status, trail: &client.answer.trail };
            path.put(Encoding::Url, &variables, &mut target);
            Err(Instead::Go { target, sent: Sent::Page(stands_for) })
        }
    }
}

/// What a site asks of every request; `Some`: it ends here.
async fn admit_to_site(cx: &Cx<'_>, client: &mut Client<'_>, fields: &mut Vec<u8>, site: &SiteRoutes) -> Option<Acted> {
    let Request { head, bytes, .. } = cx.request;
    if let Some(refused) = cx.connection.refuses_name(cx.worker, head.host(bytes)) {
        return Some(error(refused));
    }
    let port = site.https_port()?;
    if cx.request.is_https || route::https::is_exempt(cx.path) {
        return None;
    }
    fields.clear();
    let mut location = Vec::new();
    route::https::put_location(head.authority.of(bytes), port, head.target(bytes), &mut location);
    write_field(fields, "Location", &location);
    Some(simple(cx, client, 308, fields, b"").await)
}

async fn admit_to_nowhere(
    cx: &Cx<'_>,
    client: &mut Client<'_>,
    fields: &mut Vec<u8>,
    stage: Stage,
) -> Result<(), Acted> {
    match stage.asker {
        Asker::Client => admit::to_nowhere(cx, client, fields).await,
        Asker::Ourselves => Ok(()),
    }
}

struct Buffers<'a> {
    fields: &'a mut Vec<u8>,
    rewritten: &'a mut Vec<u8>,
}

/// The request has come to its route.
async fn at_route(
    cx: Cx<'_>,
    found: &RouteMatch<'_>,
    client: &mut Client<'_>,
    buffers: Buffers<'_>,
    stage: Stage,
    carried: &mut Carried,
) -> Acted {
    let admitted = match stage.asker {
        Asker::Client => match admit::to_route(&cx, client, buffers.fields).await {
            Ok(admitted) => admitted,
            Err(acted) => return acted,
        },
        Asker::Ourselves => Admitted::default(),
    };
    let changed = admitted.changed(&cx, carried);
    let mut let_in = cx;
    if let Some(changed) = &changed {
        let_in.request = changed.request(cx.request);
    }
    let_in.request.user = admitted.user().or(cx.request.user);
    let acted = let_in_at_route(let_in, found, client, buffers, stage.keeps).await;
    if matches!(acted, Err(Instead::Go { .. } | Instead::Named { .. } | Instead::Error(_))) {
        carried.note(admitted, changed);
    }
    acted
}

/// The request may come in there.
async fn let_in_at_route(
    cx: Cx<'_>,
    found: &RouteMatch<'_>,
    client: &mut Client<'_>,
    buffers: Buffers<'_>,
    keeps: bool,
) -> Acted {
    let body_bytes_max = cx.options.body_bytes_max;
    client.upload.set_limit(body_bytes_max);
    if matches!(cx.request.head.body, BodyKind::Length(bytes) if body_bytes_max != 0 && bytes > body_bytes_max) {
        return refuse(413);
    }
    let Some(rewrite) = found.rewrite else {
        let path = Path::from_normal(cx.path).ok_or(Instead::Error(unanswered(500)))?;
        return act(cx, found, client, buffers.fields, path, keeps).await;
    };
    // The action sees another target; the route stays.
    let mut target = Vec::new();
    rewrite.put(&cx, cx.request.head.query(cx.request.bytes), &mut target);
    let redirected = Redirected::new(cx.request, &target, &Sent::AsItIs);
    let request = redirected.request(cx.request);
    let path = normalize(request.head.path(request.bytes), buffers.rewritten)
        .map_err(|problem| Instead::Error(unanswered(problem.status())))?;
    act(Cx { request, ..cx }, found, client, buffers.fields, path, keeps).await
}

async fn act(
    cx: Cx<'_>,
    found: &RouteMatch<'_>,
    client: &mut Client<'_>,
    fields: &mut Vec<u8>,
    path: Path<'_>,
    keeps: bool,
) -> Acted {
    match found.action {
        // Nobody there speaks another protocol than HTTP.
        Action::Files(_) if client.answer.is_to_connect() => error(501),
        Action::Files(files) => {
            let folder = cx.worker.folders[found.site][found.route];
            match send_file::prepare(&cx, client, files, folder, path).await {
                Ok(plan) => send_file::run(&cx, client, plan, fields).await,
                Err(acted) => acted,
            }
        }
        Action::Redirect(redirect) => {
            let mut to = Vec::new();
            redirect.to.put(Encoding::Url, &cx, &mut to);
            fields.clear();
            write_field(fields, "Location", &to);
            simple(&cx, client, redirect.status, fields, b"").await
        }
        Action::Rewrite(rewrite) => {
            let mut target = Vec::new();
            rewrite.put(&cx, cx.request.head.query(cx.request.bytes), &mut target);
            Err(Instead::Go { target, sent: Sent::AsItIs })
        }
        Action::Respond(respond) => {
            if respond.status < 300
                && let Err(failure) = client.upload.take_in(cx.worker).await
            {
                return forward::body_failed(failure);
            }
            fields.clear();
            if !respond.content_type.is_empty() {
                write_field(fields, "Content-Type", respond.content_type.as_bytes());
            }
            let mut filled = Vec::new();
            let body = match respond.body.constant() {
                Some(text) => text.as_bytes(),
                None => {
                    respond.body.put(respond.encoding, &cx, &mut filled);
                    &filled
                }
            };
            simple(&cx, client, respond.status, fields, body).await
        }
        Action::Close => Ok(abandoned(ServedBy::Worker)),
        // Boxed: every request would carry its size.
        Action::Tarpit(tarpit) => Box::pin(tarpit::run(&cx, client, *tarpit)).await,
        // A request is not sent on with a part of its content.
        Action::Proxy(_) | Action::ProxyBy(_) if client.left.is_spent() && cx.request.head.body != BodyKind::None => {
            error(500)
        }
        Action::Proxy(_) | Action::ProxyBy(_) => {
            // Answers to earlier requests of a pipeline do not wait for this one.
            if client.answer.flush().await.is_err() {
                return Ok(abandoned(ServedBy::Worker));
            }
            // These two read the body, if the request still has it.
            if cx.request.head.body != BodyKind::None {
                client.answer.set_keep_alive(keeps);
            }
            let upstream = match found.action {
                Action::Proxy(upstream) => *upstream,
                Action::ProxyBy(by) => forward::named(&cx, by),
                _ => unreachable!("matched above"),
            };
            forward::run(&cx, client, fields, upstream).await
        }
    }
}

/// An answer of ours with its content at hand.
async fn simple(cx: &Cx<'_>, client: &mut Client<'_>, status: u16, fields: &[u8], body: &[u8]) -> Acted {
    let content = match status {
        204 | 304 => Content::Absent(None),
        _ => Content::Length(body.len() as u64),
    };
    let head = AnswerHead { status, reason: None, fields, content };
    let sent = client.answer.send(Some(cx), &head, body).await;
    Ok(Outcome { after: if sent.is_ok() { After::Keep } else { After::Abort }, served_by: ServedBy::Worker })
}

/// Tells which methods the path takes.
async fn methods(cx: &Cx<'_>, client: &mut Client<'_>, fields: &mut Vec<u8>, allow: &str) -> Acted {
    fields.clear();
    write_field(fields, "Allow", allow.as_bytes());
    simple(cx, client, 204, fields, b"").await
}

/// The path does not take this method, but `allow`.
pub(super) fn refuse_method(client: &mut Client<'_>, allow: &str) -> Acted {
    let mut fields = Vec::new();
    write_field(&mut fields, "Allow", allow.as_bytes());
    client.answer.keep_fields(fields);
    error(405)
}

pub(super) fn unanswered(status: u16) -> Unanswered {
    Unanswered { status, closes: false, served_by: ServedBy::Worker }
}

/// An error page; the connection stays.
pub(super) fn error(status: u16) -> Acted {
    Err(Instead::Error(unanswered(status)))
}

/// An error page, then the connection closes, because the rest of the request is not read.
pub(super) fn refuse(status: u16) -> Acted {
    Err(Instead::Error(Unanswered { closes: true, ..unanswered(status) }))
}

/// Answers a request whose head could not be understood.
pub(super) async fn refuse_malformed(client: &mut Client<'_>, scratch: &mut Scratch, status: u16) -> Outcome {
    canned(None, client, &mut scratch.fields, Unanswered { closes: true, ..unanswered(status) }).await
}

/// The client is gone: nothing to answer.
pub(super) fn abandoned(served_by: ServedBy) -> Outcome {
    Outcome { after: After::Close, served_by }
}

async fn options_star(client: &mut Client<'_>, scratch: &mut Scratch) -> Acted {
    let fields = &mut scratch.fields;
    fields.clear();
    write_field(fields, "Allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
    let head = AnswerHead { status: 204, reason: None, fields, content: Content::Absent(None) };
    let sent = client.answer.send(None, &head, b"").await;
    Ok(Outcome { after: if sent.is_ok() { After::Keep } else { After::Abort }, served_by: ServedBy::Worker })
}

/// Whether anything in `options` changes the fields of answers.
pub(super) fn changes_fields(options: &Options) -> bool {
    !options.headers.is_empty()
        || options.cache_control.is_some()
        || !options.expires.is_empty()
        || options.hsts.field().is_some()
        || options.compress.is_some()
        || options.substitute.is_some()
}

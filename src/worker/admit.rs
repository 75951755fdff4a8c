//! Who may come in at a route: what its address rules, its limits, its login and the path that `auth_request` names say.
//!
//! In nginx's order: with `satisfy = "all"` the first that refuses ends it; with `any` the first that agrees does, and a
//! login that was not shown outweighs an address that was refused: 401, not 403. Address rules none of which matches say
//! nothing either way. Limits are asked of everybody whose address does not end it, so that they protect the login.

use std::pin::pin;

use super::answer::{Answer, Noted, Wire};
use super::cx::Cx;
use super::exchange::{self, Acted, After, Client, Outcome, abandoned, error};
use super::limits;
use super::redirected::Redirected;
use super::upload::Upload;
use crate::config::model::Satisfy;
use crate::guard::{Auth, Check, Credentials, Source, Verdict};
use crate::http::fields::Fields;
use crate::http::h1::{FieldName, Method, write_field};
use crate::metrics::ServedBy;

/// What is known of a request that came in.
#[derive(Default)]
pub(super) struct Admitted {
    credentials: Option<Box<Credentials>>,
    /// Fields of the answer to `auth_request`.
    granted: Vec<u8>,
}

impl Admitted {
    /// Name that the client has proved to be.
    pub(super) fn user(&self) -> Option<&[u8]> {
        self.credentials.as_deref().map(Credentials::user)
    }

    /// The request with the fields that were granted, here or at a route before, where there may be any.
    pub(super) fn changed(&self, cx: &Cx<'_>, before: &Carried) -> Option<Redirected> {
        let names = &cx.options.auth_request_headers;
        let granted = if self.granted.is_empty() { &before.granted } else { &self.granted };
        (!names.is_empty()).then(|| Redirected::granted(cx.request, names, granted))
    }
}

/// What has been granted to a request at the routes it came through, and goes along when it is sent round inside.
#[derive(Default)]
pub(super) struct Carried {
    user: Option<Box<[u8]>>,
    granted: Vec<u8>,
    /// The request as it was changed there.
    changed: Option<Redirected>,
}

impl Carried {
    /// A route sends the request on.
    pub(super) fn note(&mut self, admitted: Admitted, changed: Option<Redirected>) {
        self.user = admitted.user().map(Box::from).or(self.user.take());
        if !admitted.granted.is_empty() {
            self.granted = admitted.granted;
        }
        self.changed = changed.or(self.changed.take());
    }

    /// Name that the client has proved to be.
    pub(super) fn user(&self) -> Option<&[u8]> {
        self.user.as_deref()
    }

    /// The request as the last route changed it, once.
    pub(super) fn take_changed(&mut self) -> Option<Redirected> {
        self.changed.take()
    }
}

/// Why one of them did not agree.
enum Refused {
    /// With this status, 401 or 403; another may still agree.
    Status(u16),
    /// The request ends here.
    End(Acted),
}

/// What has been said so far by those who do not agree.
#[derive(Default)]
struct Refusals {
    status: Option<u16>,
    /// WWW-Authenticate fields.
    challenges: Vec<u8>,
}

impl Refusals {
    fn note(&mut self, status: u16) {
        if self.status != Some(401) {
            self.status = Some(status);
        }
    }

    fn end(self, client: &mut Client<'_>) -> Acted {
        if self.status == Some(401) {
            client.answer.keep_fields(self.challenges);
        }
        error(self.status.unwrap_or(403))
    }
}

/// Whether the request may come to its route. `Err`: it ends here.
pub(super) async fn to_route(cx: &Cx<'_>, client: &mut Client<'_>, scratch: &mut Vec<u8>) -> Result<Admitted, Acted> {
    let (options, mut admitted) = (cx.options, Admitted::default());
    let mut refusals = Refusals::default();
    let by_address = by_address(cx);
    if (by_address, options.satisfy) == (Some(false), Satisfy::All) {
        return Err(error(403));
    }
    if let Some(acted) = limits::admit(cx, client, scratch).await {
        return Err(acted);
    }
    match (by_address, options.satisfy) {
        (Some(true), Satisfy::Any) => return Ok(admitted),
        (Some(false), _) => refusals.note(403),
        (Some(true), Satisfy::All) | (None, _) => {}
    }
    if let Some(auth) = &options.auth {
        match login(cx, client, auth, &mut refusals.challenges).await {
            Ok(credentials) => {
                client.answer.trail.user = Some(credentials.user().into());
                admitted.credentials = Some(Box::new(credentials));
                if options.satisfy == Satisfy::Any {
                    return Ok(admitted);
                }
            }
            Err(Refused::Status(status)) => {
                refusals.note(status);
                if options.satisfy == Satisfy::All {
                    return Err(refusals.end(client));
                }
            }
            Err(Refused::End(acted)) => return Err(acted),
        }
    }
    if let Some(target) = &options.auth_request {
        match ask(cx, client, target, &mut refusals.challenges).await {
            Ok(granted) => {
                admitted.granted = granted;
                return Ok(admitted);
            }
            Err(Refused::Status(status)) => refusals.note(status),
            Err(Refused::End(acted)) => return Err(acted),
        }
    }
    match refusals.status {
        None => Ok(admitted),
        Some(_) => Err(refusals.end(client)),
    }
}

/// Whether the request may learn that it has no route: strangers by address do not. `Err`: it ends here.
pub(super) async fn to_nowhere(cx: &Cx<'_>, client: &mut Client<'_>, scratch: &mut Vec<u8>) -> Result<(), Acted> {
    match by_address(cx) {
        Some(false) => to_route(cx, client, scratch).await.map(drop),
        Some(true) | None => limits::admit(cx, client, scratch).await.map_or(Ok(()), Err),
    }
}

/// What the address rules say; `None`: nothing.
fn by_address(cx: &Cx<'_>) -> Option<bool> {
    let source = cx.request.client.map_or(Source::Unix, Source::Ip);
    cx.options.access.as_ref()?.verdict(source)
}

/// Asks another path of the site; returns the fields of an answer that lets the request in.
async fn ask(cx: &Cx<'_>, client: &mut Client<'_>, target: &str, challenges: &mut Vec<u8>) -> Result<Vec<u8>, Refused> {
    let Cx { worker, connection, .. } = *cx;
    // Answers to earlier requests of a pipeline do not wait for this one.
    if client.answer.flush().await.is_err() {
        return Err(Refused::End(Ok(abandoned(ServedBy::Worker))));
    }
    let question = Redirected::question(cx.request, target.as_bytes(), &cx.options.auth_request_headers);
    let wire = Wire::Noted(Noted { presence: client.answer.presence(), fields: Vec::new() });
    let mut asker = Client::new(Upload::Nothing, Answer::new(worker, connection, Method::Get, wire));
    // Boxed: it is the whole of an exchange within this one.
    let outcome = Box::pin(exchange::run_inside(worker, connection, question.request(cx.request), &mut asker)).await;
    let fields = Fields::new(asker.answer.noted_fields());
    match asker.answer.status() {
        200..=299 => Ok(asker.answer.noted_fields().to_vec()),
        401 => {
            for value in fields.values("www-authenticate") {
                write_field(challenges, "WWW-Authenticate", value);
            }
            Err(Refused::Status(401))
        }
        403 => Err(Refused::Status(403)),
        // The client has left, or whoever was asked has closed without a word.
        0 => Err(Refused::End(Ok(Outcome { after: After::Close, ..outcome }))),
        // The request itself is to blame: whatever it is sent on as would be refused.
        400 if outcome.served_by == ServedBy::Worker => Err(Refused::End(error(400))),
        status => {
            let site = cx.site.map_or("", |site| &worker.config.sites[site].name);
            tracing::error!(%site, path = target, status, "auth_request got neither 2xx nor 401 nor 403");
            Err(Refused::End(error(500)))
        }
    }
}

/// Who the client proves to be. Slow hashes are computed elsewhere, and once for a while (RFC 7617).
async fn login(
    cx: &Cx<'_>,
    client: &mut Client<'_>,
    auth: &Auth,
    challenges: &mut Vec<u8>,
) -> Result<Credentials, Refused> {
    let worker = cx.worker;
    let mut denied = || {
        write_field(challenges, "WWW-Authenticate", auth.challenge());
        Refused::Status(401)
    };
    let mut sent = cx.request.head.fields.iter().filter(|field| field.known == FieldName::Authorization);
    let (first, second) = (sent.next(), sent.next());
    let value = first.filter(|_| second.is_none()).map(|field| field.value.of(cx.request.bytes));
    let Some(Ok(credentials)) = value.map(Credentials::parse) else { return Err(denied()) };
    let check = auth.check(&credentials, &mut worker.verified.borrow_mut(), &worker.hasher, worker.now());
    let verdict = match check {
        Check::Now(verdict) => verdict,
        Check::Wait(waiter) => {
            let presence = client.answer.presence();
            presence.watched().clear();
            let settled = presence.while_client_stays(pin!(waiter)).await;
            let Ok(settled) = settled else { return Err(Refused::End(error(499))) };
            worker.verified.borrow_mut().settle(settled, worker.now())
        }
    };
    match verdict {
        Verdict::Admitted => Ok(credentials),
        Verdict::Denied => Err(denied()),
        Verdict::Busy => Err(Refused::End(error(503))),
    }
}

//! Who may come in at a route: what its address rules and its login say, in nginx's order.
//!
//! With `satisfy = "all"` the first that refuses ends it; with `any` the first that agrees does, and a login that was not
//! shown outweighs an address that was refused: 401, not 403. Address rules none of which matches say nothing either way.

use std::pin::pin;

use super::cx::Cx;
use super::exchange::{Acted, Client, error};
use crate::config::model::Satisfy;
use crate::guard::{Auth, Check, Credentials, Source, Verdict};
use crate::http::h1::{FieldName, write_field};

/// What is known of a request that came in.
#[derive(Default)]
pub(super) struct Admitted {
    credentials: Option<Box<Credentials>>,
}

impl Admitted {
    /// Name that the client has proved to be.
    pub(super) fn user(&self) -> Option<&[u8]> {
        self.credentials.as_deref().map(Credentials::user)
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
pub(super) async fn to_route(cx: &Cx<'_>, client: &mut Client<'_>) -> Result<Admitted, Acted> {
    let (options, mut admitted) = (cx.options, Admitted::default());
    let mut refusals = Refusals::default();
    match (by_address(cx), options.satisfy) {
        (Some(false), Satisfy::All) => return Err(error(403)),
        (Some(true), Satisfy::Any) => return Ok(admitted),
        (Some(false), Satisfy::Any) => refusals.note(403),
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
    match refusals.status {
        None => Ok(admitted),
        Some(_) => Err(refusals.end(client)),
    }
}

/// Whether the request may learn that it has no route: strangers by address do not. `Err`: it ends here.
pub(super) async fn to_nowhere(cx: &Cx<'_>, client: &mut Client<'_>) -> Result<(), Acted> {
    match by_address(cx) {
        Some(false) => to_route(cx, client).await.map(drop),
        Some(true) | None => Ok(()),
    }
}

/// What the address rules say; `None`: nothing.
fn by_address(cx: &Cx<'_>) -> Option<bool> {
    let source = cx.request.client.map_or(Source::Unix, Source::Ip);
    cx.options.access.as_ref()?.verdict(source)
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

//! Requests to servers of FastCGI, uwsgi and SCGI: which script is meant, whether it is there, and what the server is told.
//!
//! The head is first written as for a server of HTTP, so that all rules for fields hold here too, and then put into the
//! variables of the Common Gateway Interface ([`crate::proxy::gateway`]).

use std::os::unix::ffi::OsStrExt;

use super::outgoing::{Outgoing, Room};
use super::{Forward, NoResponse, give_up};
use crate::config::model::{Action, Cgi, HostPattern, PathMatch};
use crate::files::{FileError, Sought};
use crate::http::h1::{BodyKind, FieldName};
use crate::log::AddressText;
use crate::metrics::ServedBy;
use crate::proxy::gateway::{
    Form, Meta, Opening, Vars, VarsError, announce, end_content, put_content, put_fields, put_meta, split,
};
use crate::route::{Origin, Routed};
use crate::util::path::{encode, normalize};
use crate::util::template::Encoding;
use crate::variables::Condition;
use crate::worker::body::BodyFailure;
use crate::worker::cx::Cx;
use crate::worker::exchange::{Acted, Client, Instead, Request, abandoned};
use crate::worker::redirected::Sent;
use crate::worker::trail::QueueEnd;
use crate::worker::upload::Left;

/// What a request is to such a server.
pub(super) struct Gateway<'a> {
    pub(super) form: Form,
    pub(super) cgi: &'a Cgi,
    /// Decoded: SCRIPT_NAME, then PATH_INFO.
    path: Vec<u8>,
    script_bytes: usize,
}

/// Finds out what `form` will be told that the request is for. `Err`: the request ends here, because no script is.
pub(super) async fn find<'a>(cx: &Cx<'a>, client: &Client<'_>, form: Form) -> Result<Box<Gateway<'a>>, Acted> {
    // The check has seen to it that a route to such a server has one.
    let Some(cgi) = cx.options.cgi.as_deref() else { return Err(give_up(client, ServedBy::Worker, 500)) };
    let mut scratch = Vec::new();
    // Of the target behind rewrites, which the path of the route is not.
    let path = match normalize(cx.request.head.path(cx.request.bytes), &mut scratch) {
        Ok(path) => path.as_bytes().to_vec(),
        Err(problem) => return Err(give_up(client, ServedBy::Worker, problem.status())),
    };
    if cgi.root.is_none() {
        return Ok(Box::new(Gateway { form, cgi, path, script_bytes: 0 }));
    }
    // Routes are asked about the path that they know: a rewrite of this one has made another one of it for the server alone.
    let is_rewritten = path != cx.path;
    if let Some(found) = split(&path, &cgi.split) {
        let script_bytes = found.script.len();
        if is_there(cx, client, cgi, &path[..script_bytes]).await? {
            return Ok(Box::new(Gateway { form, cgi, path, script_bytes }));
        }
    } else if !cgi.index.is_empty() && path.ends_with(b"/") {
        let script = [&path, cgi.index.as_bytes()].concat();
        if is_there(cx, client, cgi, &script).await? {
            if cx.path.ends_with(b"/") {
                route_again(cx, client, &[cx.path, cgi.index.as_bytes()].concat())?;
            } else if !is_rewritten {
                route_again(cx, client, &script)?;
            }
            return Ok(Box::new(Gateway { form, cgi, script_bytes: script.len(), path: script }));
        }
    }
    match &cgi.fallback {
        Some(fallback) if is_there(cx, client, cgi, fallback.as_bytes()).await? => {
            if !is_rewritten && !is_named(cx, client) {
                route_again(cx, client, fallback.as_bytes())?;
            }
            let path = fallback.clone().into_bytes();
            Ok(Box::new(Gateway { form, cgi, script_bytes: path.len(), path }))
        }
        _ => Err(give_up(client, ServedBy::Worker, 404)),
    }
}

/// A script that the client has not named is still one that the routes of the site have a say in, as in nginx, whose `index`
/// and `try_files` look for a location anew: else the index of a folder would run where no script may. `Err`: another route
/// has it, or one that depends on conditions, and the request goes there with its query. A named route, which no path leads to,
/// keeps a script that a route of files would have: that may be the one that sent the request here, and would send its source.
fn route_again(cx: &Cx<'_>, client: &Client<'_>, path: &[u8]) -> Result<(), Acted> {
    let Request { head, bytes, .. } = cx.request;
    let router = &cx.worker.routers[cx.connection.listener(cx.worker)];
    let mut is_conditional = false;
    let routed = router.site(head.host(bytes)).map(|site| {
        let unknown = |_: &[Condition], _| {
            is_conditional = true;
            false
        };
        site.route(head.method_text.of(bytes), path, Origin::Internal, unknown)
    });
    let here = client.answer.trail.route.map(usize::from);
    let is_ours = |route: usize| {
        let has_files = |site: usize| matches!(cx.worker.config.sites[site].routes[route].action, Action::Files(_));
        Some(route) == here || is_named(cx, client) && cx.site.is_some_and(has_files)
    };
    if !is_conditional && matches!(routed, Some(Routed::Found(found)) if is_ours(found.route)) {
        return Ok(());
    }
    let mut target = Vec::new();
    encode(path, &mut target);
    if let Some(query) = head.query(bytes) {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    Err(Err(Instead::Go { target, sent: Sent::AsItIs }))
}

/// The request has come to a named route: the fallback that it always runs is its own.
fn is_named(cx: &Cx<'_>, client: &Client<'_>) -> bool {
    let (Some(site), Some(route)) = (cx.site, client.answer.trail.route) else { return false };
    matches!(cx.worker.config.sites[site].routes[usize::from(route)].path, PathMatch::Named(_))
}

/// Whether the script at `path` is there, as far as anyone is to look.
async fn is_there(cx: &Cx<'_>, client: &Client<'_>, cgi: &Cgi, path: &[u8]) -> Result<bool, Acted> {
    let Some(root) = &cgi.lookup else { return Ok(true) };
    let failed = |error: FileError| give_up(client, ServedBy::Worker, error.status());
    let valid = cx.worker.config.process.file_cache_valid;
    let sought = cx.worker.scripts.borrow_mut().look(root, path, valid, cx.worker.now());
    match sought.map_err(failed)? {
        Sought::Known(is_there) => Ok(is_there),
        Sought::Unknown(search) => {
            let presence = client.answer.presence();
            presence.watched().clear();
            let errand = search.clone();
            let found = presence.while_client_stays(cx.worker.helpers.run(move || errand.run())).await;
            let found = found.map_err(|_| Ok(abandoned(ServedBy::Worker)))?;
            // Where no helper is free it is looked for here: better late than not at all.
            let is_there = found.unwrap_or_else(|| search.run()).map_err(failed)?;
            cx.worker.scripts.borrow_mut().note(root, path, is_there);
            Ok(is_there)
        }
    }
}

impl Gateway<'_> {
    /// The content goes out in records.
    pub(super) fn has_records(&self) -> bool {
        self.form == Form::FastCgi
    }

    /// Where the server's answer is one of HTTP.
    pub(super) fn answers_http(&self) -> bool {
        self.form == Form::Uwsgi
    }
}

impl Forward<'_> {
    /// A connection is asked to stay open behind an answer.
    pub(super) fn keeps_gateway(&self, gateway: &Gateway<'_>) -> bool {
        gateway.has_records() && self.config.keep_idle > 0
    }

    /// Appends the end of a request in records.
    pub(super) fn end_gateway(&self, bytes: &mut Vec<u8>) {
        end_content(bytes);
        if self.config.announces {
            announce(bytes);
        }
    }

    /// The whole content, which these protocols tell the length of first, and what it takes beyond the needs of a second try; `Err`: 411
    /// where the length cannot be known, 503 where too much is kept already.
    pub(super) async fn keep_unsized(
        &self,
        client: &mut Client<'_>,
        kept: &mut Vec<u8>,
    ) -> Result<Option<Room>, BodyFailure> {
        let bytes_max = self.gateway.as_ref().map_or(0, |gateway| gateway.cgi.unsized_body_bytes_max);
        let small = self.config.retry.body_bytes_max.min(bytes_max);
        if client.keep(self.worker, self.connection, kept, small).await? && kept.len() <= bytes_max {
            return Ok(None);
        }
        let mut room = self.worker.for_programs.room();
        let mut has_room = room.grow(kept.len());
        let mut is_whole = false;
        if has_room {
            client.left = Left::Unread;
            let still_has_room = |bytes| {
                has_room = room.grow(bytes);
                has_room
            };
            is_whole = client.keep_while(self.worker, self.connection, kept, bytes_max, still_has_room).await?;
        }
        if is_whole && kept.len() <= bytes_max {
            return Ok(Some(room));
        }
        if has_room {
            return Err(BodyFailure::Malformed(411));
        }
        self.worker.stats.upstreams[self.upstream].queue_full.inc();
        client.answer.trail.queue_end = Some(QueueEnd::Full);
        Err(BodyFailure::Malformed(503))
    }

    /// The variables and what is kept of the body in one buffer.
    pub(super) fn gateway_bytes(
        &self,
        gateway: &Gateway<'_>,
        outgoing: &Outgoing,
        server: usize,
        is_reused: bool,
    ) -> Result<Vec<u8>, NoResponse> {
        let refused = |status| NoResponse::Body(BodyFailure::Malformed(status));
        let kind = outgoing.kind.get();
        let content_bytes = match kind {
            BodyKind::Length(bytes) => Some(bytes),
            _ => self.request.head.field(self.request.bytes, FieldName::ContentLength).map(|_| 0),
        };
        let head = self.head_bytes(kind, server)?;
        let buffer = self.worker.hot.take_buffer(2 * head.len());
        let mut vars = Vars::new(gateway.form, buffer, content_bytes.unwrap_or(0));
        self.put_variables(&mut vars, gateway, content_bytes, &head);
        self.worker.hot.give_buffer_back(head);
        let kept = outgoing.kept.borrow();
        let mut bytes = self.worker.hot.take_buffer(1024 + kept.len());
        let opening = match self.keeps_gateway(gateway) {
            false => Opening::Alone,
            true if is_reused && self.config.announces => Opening::Announced,
            true => Opening::Kept,
        };
        let (result, buffer) = vars.finish(opening, &mut bytes);
        self.worker.hot.give_buffer_back(buffer);
        match result {
            // RFC 6585 section 5.
            Err(VarsError::TooLarge) => return Err(refused(431)),
            Err(VarsError::Nul) => return Err(refused(400)),
            Ok(()) => {}
        }
        match gateway.has_records() {
            false => bytes.extend_from_slice(&kept),
            true => {
                put_content(&mut bytes, &kept);
                if outgoing.is_whole.get() {
                    self.end_gateway(&mut bytes);
                }
            }
        }
        Ok(bytes)
    }

    /// `head`: as a server of HTTP would get it.
    fn put_variables(&self, vars: &mut Vars, gateway: &Gateway<'_>, content_bytes: Option<u64>, head: &[u8]) {
        let (request, cgi) = (self.request, gateway.cgi);
        let (script_name, path_info) = gateway.path.split_at(gateway.script_bytes);
        let client = request.client_text();
        let here = self.connection.destination();
        let here_text = here.map(|here| AddressText::new(Some(here.ip())));
        let mut server_name = self.worker.hot.take_buffer(0);
        self.put_server_name(&mut server_name);
        let meta = Meta {
            method: request.head.method_text.of(request.bytes),
            request_uri: request.asked.target,
            query: request.head.query(request.bytes).unwrap_or_default(),
            script_name,
            path_info,
            root: cgi.root.as_deref().map_or(b"", |root| root.as_os_str().as_bytes()),
            content_bytes,
            protocol: request.head.version.text(),
            is_https: request.is_https,
            remote_address: client.as_bytes(),
            remote_port: self.remote_port(),
            remote_user: request.user.unwrap_or_default(),
            server_address: here_text.as_ref().map_or(b"unix:", |text| text.as_bytes()),
            server_port: self.server_port(here.map(|here| here.port())),
            server_name: &server_name,
            software: &cgi.software,
        };
        let is_set = |name: &[u8]| cgi.sets(name);
        put_meta(vars, &meta, is_set);
        put_fields(vars, head, is_set);
        self.worker.hot.give_buffer_back(server_name);
        let mut value = self.worker.hot.take_buffer(0);
        for (name, template) in &cgi.params {
            value.clear();
            template.put(Encoding::Raw, self.cx, &mut value);
            if !value.is_empty() {
                vars.put(name.as_bytes(), &value);
            }
        }
        self.worker.hot.give_buffer_back(value);
    }

    /// The port of the client; `None`: a proxy that is trusted has told its address, and nobody its port.
    fn remote_port(&self) -> Option<u16> {
        let peer = self.connection.peer()?;
        let client = self.request.client?;
        (client.to_canonical() == peer.ip().to_canonical()).then_some(peer.port())
    }

    /// The name of the site, as far as it has one of its own, and the host that the client names.
    fn put_server_name(&self, out: &mut Vec<u8>) {
        let hosts = self.cx.site.map_or(&[][..], |site| &self.worker.config.sites[site].hosts);
        let own = hosts.iter().find_map(|host| if let HostPattern::Exact(name) = host { Some(name) } else { None });
        match own {
            Some(name) => out.extend_from_slice(name.as_bytes()),
            None => out.extend(self.request.head.host(self.request.bytes).iter().map(u8::to_ascii_lowercase)),
        }
    }

    /// The port that the client has connected to. Where a proxy that is trusted has taken TLS off, it is the proxy's: the one
    /// that the client names, or else that of the scheme.
    fn server_port(&self, here: Option<u16>) -> u16 {
        let request = self.request;
        if request.is_https == self.connection.is_tls() {
            return here.unwrap_or(self.worker.ports[self.connection.listener(self.worker)]);
        }
        let authority = request.head.authority.of(request.bytes);
        let host_bytes = request.head.host(request.bytes).len();
        let named = authority.get(host_bytes + 1..).and_then(|port| std::str::from_utf8(port).ok()?.parse().ok());
        named.unwrap_or(if request.is_https { 443 } else { 80 })
    }
}

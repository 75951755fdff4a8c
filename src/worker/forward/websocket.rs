//! WebSockets to servers of HTTP/2: extended CONNECT (RFC 8441) over a stream of a shared connection, for clients of all
//! versions.

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;

use super::attempt::Arrived;
use super::multiplexed::Begun;
use super::{Forward, NoResponse};
use crate::http::fields::FieldsMut;
use crate::proxy::head::write_response_fields;
use crate::proxy::upgrade::{accept_of, client_key};
use crate::worker::exchange::{After, Client, Instead, Outcome, Unanswered};
use crate::worker::link::Place;
use crate::worker::tunnel::{self, Flow, LinkClient, LinkTunnel, Meter, ServerEnd};
use crate::worker::upload::Upload;

/// A request for another protocol, and a server of HTTP/2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// None is asked for, or the server may ignore it: an ordinary request.
    Ordinary,
    /// Extended CONNECT.
    Connect,
    /// The client waits for a tunnel that the server has no means for.
    Nothing,
}

impl Forward<'_> {
    /// How a server is asked over this connection for what the client asks for.
    pub(super) fn means_over(&self, place: &Place) -> Means {
        match self.upgrade {
            None => Means::Ordinary,
            Some(name) if place.takes_websockets() && self.is_websocket(name) => Means::Connect,
            Some(_) if self.websocket_key.is_some() => Means::Nothing,
            Some(_) => Means::Ordinary,
        }
    }

    /// It is one that an extended CONNECT can ask for: a client of HTTP/1.1 has a key that we must answer ourselves.
    fn is_websocket(&self, name: &[u8]) -> bool {
        let has_key = || client_key(self.request.head, self.request.bytes).is_some();
        name.eq_ignore_ascii_case(b"websocket") && (self.websocket_key.is_some() || has_key())
    }

    /// The client hears that there is no tunnel.
    pub(super) fn no_tunnel(&self, server: usize) -> NoResponse {
        let served_by = self.served_by(server);
        NoResponse::Instead(Instead::Error(Unanswered { status: 501, closes: false, served_by }))
    }

    /// Waits for the answer to an extended CONNECT; a success becomes a tunnel, all else is relayed.
    pub(super) async fn exchange_websocket(
        &self,
        client: &mut Client<'_>,
        fields: &mut Vec<u8>,
        mut response: ResponseFuture,
        mut stream: SendStream<Bytes>,
        begun: &Begun<'_>,
    ) -> Result<Outcome, NoResponse> {
        let arrived = self.receive_shared(&mut client.answer, fields, &mut response, begun).await?;
        if matches!(arrived.status(), 200..=299) {
            return self.join(client, fields, arrived, stream, begun.server).await;
        }
        self.may_pass(&client.answer, begun, arrived.status())?;
        // There is nothing more to be said to it.
        let _ = stream.send_data(Bytes::new(), true);
        Ok(self.relay_shared(&mut client.answer, fields, arrived, begun).await?.outcome)
    }

    /// Tells the client that the tunnel is open, then carries bytes both ways until both ends are done.
    async fn join(
        &self,
        client: &mut Client<'_>,
        fields: &mut Vec<u8>,
        Arrived { response, first, content }: Arrived,
        stream: SendStream<Bytes>,
        server: usize,
    ) -> Result<Outcome, NoResponse> {
        fields.clear();
        let served_by = self.served_by(server);
        if write_response_fields(fields, &response.head, &response.input).is_err() {
            return Err(NoResponse::Instead(Instead::Error(Unanswered { status: 502, closes: true, served_by })));
        }
        self.worker.hot.give_response_head_back(response.head);
        self.worker.hot.give_buffer_back(response.input);
        // Nobody has asked the server for it.
        FieldsMut::new(fields, 0).remove("sec-websocket-accept");
        if self.websocket_key.is_none() {
            let key = client_key(self.request.head, self.request.bytes).unwrap_or_default();
            FieldsMut::new(fields, 0).add("Sec-WebSocket-Accept", accept_of(key).as_bytes());
            FieldsMut::new(fields, 0).add("Connection", b"upgrade");
            FieldsMut::new(fields, 0).add("Upgrade", b"websocket");
        }
        self.open_tunnel(&mut client.answer, fields).await?;
        let end = ServerEnd::of_stream(stream, content, first);
        let flow = Box::pin(self.carry_over_link(&mut client.upload, end, server)).await;
        tunnel::end(self.worker, &mut client.answer, flow);
        Ok(Outcome { after: After::Close, served_by })
    }

    async fn carry_over_link(&self, upload: &mut Upload<'_>, end: ServerEnd, server: usize) -> Flow {
        let tunnel = LinkTunnel {
            worker: self.worker,
            idle_timeout: self.config.tunnel_timeout,
            half_closed_timeout: self.config.half_closed_timeout,
            meter: Meter::of_server(self.stats(server)),
        };
        match LinkClient::of(self.connection, upload, self.presence) {
            Some(client) => tunnel.run(client, end).await,
            None => Flow::default(),
        }
    }
}

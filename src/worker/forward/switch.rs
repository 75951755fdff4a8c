//! The other protocol that a client and a server have agreed on.

use super::attempt::{At, Relayed, Response};
use super::{Forward, NoResponse};
use crate::http::fields::FieldsMut;
use crate::proxy::head::write_response_fields;
use crate::worker::answer::{Answer, Presence};
use crate::worker::exchange::{After, Client, Instead, Outcome, Unanswered};
use crate::worker::tunnel::{self, Flow, Meter, StreamTunnel, Tunnel};
use crate::worker::upload::Upload;

impl Forward<'_> {
    /// Passes the 101 on, then bytes both ways until both ends are done.
    pub(super) async fn switch(
        &self,
        client: &mut Client<'_>,
        fields: &mut Vec<u8>,
        response: Response,
        at: At<'_>,
    ) -> Result<Relayed, NoResponse> {
        let Response { head, mut input } = response;
        let served_by = self.served_by(at.server);
        fields.clear();
        let protocol = self.upgrade.unwrap_or_default();
        if write_response_fields(fields, &head, &input).is_err() {
            return Err(NoResponse::Instead(Instead::Error(Unanswered { status: 502, closes: true, served_by })));
        }
        if self.websocket_key.is_some() {
            // The answer to our key.
            FieldsMut::new(fields, 0).remove("sec-websocket-accept");
        } else {
            FieldsMut::new(fields, 0).add("Connection", b"upgrade");
            FieldsMut::new(fields, 0).add("Upgrade", protocol);
        }
        self.open_tunnel(&mut client.answer, fields).await?;
        input.drain(..head.head_bytes);
        self.worker.hot.give_response_head_back(head);
        let flow = self.carry(&mut client.upload, input, at).await;
        tunnel::end(self.worker, &mut client.answer, flow);
        Ok(Relayed { outcome: Outcome { after: After::Close, served_by }, is_reusable: false })
    }

    /// Tells the client that it has what it asked for.
    pub(super) async fn open_tunnel(&self, answer: &mut Answer<'_>, fields: &[u8]) -> Result<(), NoResponse> {
        self.is_relaying.set(true);
        tunnel::begin(self.worker, answer, fields).await.map_err(|_| NoResponse::Broken)
    }

    /// Carries bytes both ways; `first_down` has come behind the 101.
    async fn carry(&self, upload: &mut Upload<'_>, first_down: Vec<u8>, at: At<'_>) -> Flow {
        let (worker, server) = (self.worker, at.connection);
        let (idle_timeout, half_closed_timeout) = (self.config.tunnel_timeout, self.config.half_closed_timeout);
        let meter = Meter::of_server(self.stats(at.server));
        match (upload, self.presence) {
            (Upload::Stream(receiver), Presence::Stream(stream)) => {
                let tunnel = StreamTunnel { worker, stream, server, idle_timeout, half_closed_timeout, meter };
                Box::pin(tunnel.run(receiver, first_down)).await
            }
            (Upload::H1 { body, input }, _) => {
                let first_up = input.bytes[body.end()..].to_vec();
                // It is of no more use here, and may be large.
                (input.bytes, input.start) = (Vec::new(), 0);
                let connection = self.connection;
                let tunnel = Tunnel { worker, connection, server, idle_timeout, half_closed_timeout, meter };
                Box::pin(tunnel.run(first_up, first_down)).await
            }
            // Nobody asks for another protocol there.
            (Upload::Stream(_) | Upload::Nothing, _) => Flow::default(),
        }
    }
}

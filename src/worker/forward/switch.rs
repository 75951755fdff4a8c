//! The other protocol that a client and a server have agreed on.

use super::attempt::{At, Relayed, Response};
use super::{Forward, NoResponse};
use crate::http::fields::FieldsMut;
use crate::proxy::head::write_response_fields;
use crate::worker::exchange::{After, Client, Instead, Outcome, Unanswered};
use crate::worker::tunnel::Tunnel;
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
        FieldsMut::new(fields, 0).add("Connection", b"upgrade");
        FieldsMut::new(fields, 0).add("Upgrade", protocol);
        self.is_relaying.set(true);
        client.answer.switch_protocols(fields).await.map_err(|_| NoResponse::Broken)?;
        input.drain(..head.head_bytes);
        self.worker.hot.give_response_head_back(head);
        let first = match &mut client.upload {
            Upload::H1 { body, input } => {
                let rest = input.bytes[body.end()..].to_vec();
                // It is of no more use here, and may be large.
                (input.bytes, input.start) = (Vec::new(), 0);
                rest
            }
            Upload::H2(_) | Upload::Nothing => Vec::new(),
        };
        let stats = &self.worker.stats.http;
        stats.tunnels.inc();
        let tunnel = Tunnel {
            worker: self.worker,
            connection: self.connection,
            server: at.connection,
            idle_timeout: self.config.tunnel_timeout,
        };
        let flow = tunnel.run(first, input).await;
        stats.tunnels.dec();
        stats.timeouts.add(u64::from(flow.is_timed_out));
        client.answer.count_tunnelled(flow.down_bytes);
        client.answer.trail.tunnelled = Some(flow);
        Ok(Relayed { outcome: Outcome { after: After::Close, served_by }, is_reusable: false })
    }
}

//! WebSockets and the like that end in an application inside the process: what is asked for, and the tunnel once the application
//! has agreed.

use super::answer::{Answer, Presence};
use super::cx::Cx;
use super::exchange::{After, Outcome};
use super::tunnel::{self, Flow, LinkClient, LinkTunnel, Meter, ServerEnd};
use super::upload::Upload;
use crate::app::TunnelEnd;
use crate::config::model::Upstream;
use crate::http::fields::FieldsMut;
use crate::metrics::{AppStats, ServedBy, ServerStats};
use crate::proxy::upgrade::WebSocketKey;
use crate::runtime::body::body_channel;
use crate::worker::connection::Broken;

/// Bytes that may be under way between the cores in each direction.
const WINDOW_BYTES: usize = 64 * 1024;

/// The tunnel that a client asks for.
pub(super) struct Wanted<'a> {
    /// As the client spells it.
    protocol: &'a [u8],
    end: ServerEnd,
}

impl<'a> Wanted<'a> {
    /// A tunnel for this protocol, with the application's end of it.
    pub(super) fn new(protocol: &'a [u8]) -> (Wanted<'a>, TunnelEnd) {
        let ((to_app, from_client), (to_client, from_app)) = (body_channel(WINDOW_BYTES), body_channel(WINDOW_BYTES));
        let wanted = Wanted { protocol, end: ServerEnd::of_app(to_app, from_app) };
        (wanted, TunnelEnd { from_client, to_client })
    }

    /// The application has agreed, with these fields: tells the client, then carries bytes both ways until both ends are done.
    /// `stats`: of the application, and of it as a server.
    pub(super) async fn open(
        self,
        cx: &Cx<'_>,
        config: &Upstream,
        (stats, of_server): (&AppStats, &ServerStats),
        (upload, answer, presence): (&mut Upload<'_>, &mut Answer<'_>, Presence<'_>),
        mut fields: Vec<u8>,
        served_by: ServedBy,
    ) -> Result<Outcome, Broken> {
        let worker = cx.worker;
        if answer.is_to_connect() {
            // The answer to our key.
            FieldsMut::new(&mut fields, 0).remove("sec-websocket-accept");
        } else {
            FieldsMut::new(&mut fields, 0).add("Connection", b"upgrade");
            FieldsMut::new(&mut fields, 0).add("Upgrade", self.protocol);
        }
        tunnel::begin(worker, answer, &fields).await?;
        drop(fields);
        stats.tunnels.inc();
        let carried = LinkTunnel {
            worker,
            idle_timeout: config.tunnel_timeout,
            half_closed_timeout: config.half_closed_timeout,
            meter: Meter::of_server(of_server).and_app(stats),
        };
        let flow = match LinkClient::of(cx.connection, upload, presence) {
            Some(client) => Box::pin(carried.run(client, self.end)).await,
            None => Flow::default(),
        };
        stats.tunnels.dec();
        tunnel::end(worker, answer, flow);
        // The application may have gone first: what the client still says must not destroy what was said to it.
        let is_whole = flow.broken.is_none() && !flow.is_timed_out;
        Ok(Outcome { after: if is_whole { After::Linger } else { After::Close }, served_by })
    }
}

/// Makes a request that came as an extended CONNECT what it is over HTTP/1.1, whose key is ours.
pub(super) fn put_opening(fields: &mut FieldsMut<'_>) {
    fields.add("Connection", b"upgrade");
    fields.set("Sec-WebSocket-Key", WebSocketKey::new(rand::random()).as_bytes());
}

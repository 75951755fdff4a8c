//! Requests that wait on purpose: for their turn under a limit, or in a tarpit.

use std::time::Duration;

use super::cx::Cx;
use super::exchange::Client;
use crate::runtime::time::sleep;

/// The client left while it waited.
pub(super) struct Left;

/// Waits for `time` while the client stays. Answers to earlier requests of a pipeline do not wait with this one.
pub(super) async fn wait(cx: &Cx<'_>, client: &mut Client<'_>, time: Duration) -> Result<(), Left> {
    wait_for(cx, client, sleep(time)).await
}

/// The same for other work.
pub(super) async fn wait_for(cx: &Cx<'_>, client: &mut Client<'_>, work: impl Future<Output = ()>) -> Result<(), Left> {
    client.answer.flush().await.map_err(|_| Left)?;
    let presence = client.answer.presence();
    presence.watched().clear();
    // Whatever the client has sent behind the head lies unread meanwhile, before its close.
    cx.connection.watched.set_uploading(true);
    let waited = presence.while_client_stays(work).await;
    cx.connection.watched.set_uploading(false);
    waited.map_err(|_| Left)
}

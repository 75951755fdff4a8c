//! Requests that wait on purpose: for their turn under a limit, or in a tarpit.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::cx::Cx;
use super::exchange::Client;
use crate::runtime::time::sleep;

/// The client left while it waited.
pub(super) struct Left;

/// Waits for `time` while the client stays and the worker does not drain, which wakes whoever waits. Answers to earlier
/// requests of a pipeline do not wait with this one.
pub(super) async fn wait(cx: &Cx<'_>, client: &mut Client<'_>, time: Duration) -> Result<(), Left> {
    let mut time = pin!(sleep(time));
    let over = poll_fn(|context| match cx.connection.is_draining() {
        true => Poll::Ready(()),
        false => time.as_mut().poll(context),
    });
    client.answer.flush().await.map_err(|_| Left)?;
    let presence = client.answer.presence();
    presence.watched().clear();
    // Whatever the client has sent behind the head lies unread meanwhile, before its close.
    cx.connection.watched.set_uploading(true);
    let waited = presence.while_client_stays(over).await;
    cx.connection.watched.set_uploading(false);
    waited.map_err(|_| Left)
}

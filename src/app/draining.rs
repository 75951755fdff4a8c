//! Tells applications that the process comes to its end.

use tokio::sync::watch;

/// Knows whether the process drains: it takes no new connections, finishes what it has, and ends. For requests without
/// an end of their own, such as WebSockets and streams of events, which hold it up until `drain_timeout`.
///
/// ```
/// use axum::extract::ws::{CloseFrame, Message, WebSocket};
/// use one_server::app::Draining;
///
/// async fn ticker(mut socket: WebSocket, draining: Draining) {
///     loop {
///         let next = tokio::select! {
///             () = draining.begun() => Message::Close(Some(CloseFrame { code: 1001, reason: "restart".into() })),
///             () = tokio::time::sleep(std::time::Duration::from_secs(1)) => Message::text("tick"),
///         };
///         let is_last = matches!(next, Message::Close(_));
///         if socket.send(next).await.is_err() || is_last {
///             return;
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Draining(watch::Receiver<bool>);

/// Where a drain is told.
pub(crate) struct TellDraining(watch::Sender<bool>);

/// Both ends.
pub(crate) fn draining() -> (TellDraining, Draining) {
    let (tell, told) = watch::channel(false);
    (TellDraining(tell), Draining(told))
}

impl TellDraining {
    /// The drain begins now.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Draining {
    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it begins, which may be never.
    pub async fn begun(&self) {
        if self.0.clone().wait_for(|has_begun| *has_begun).await.is_err() {
            std::future::pending().await
        }
    }
}

//! A check over FastCGI, uwsgi or SCGI: the request and the answer of the conversation, which are those of HTTP, go over in
//! the words of the protocol.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::probe::Socket;
use crate::proxy::check::{Conversation, Step, Verdict, gateway};
use crate::proxy::gateway::Form;

/// Holds the conversation, which is one of HTTP.
///
/// Errors: the connection broke before there was an answer.
pub(super) async fn converse(
    socket: &mut dyn Socket,
    conversation: &mut Conversation<'_>,
    form: Form,
) -> io::Result<Verdict> {
    let asked = match conversation.begin() {
        Step::Send(http) => gateway::asked(form, &http).ok_or_else(|| io::Error::other("nothing that can be asked"))?,
        Step::Done(verdict) => return Ok(verdict),
        Step::Read => return Err(io::Error::other("nothing to ask")),
    };
    socket.write_all(&asked).await?;
    socket.flush().await?;
    let mut raw = Vec::new();
    loop {
        let has_ended = socket.read_buf(&mut raw).await? == 0;
        if let Some(verdict) = gateway::judge(conversation, form, &raw, has_ended) {
            return Ok(verdict);
        }
    }
}

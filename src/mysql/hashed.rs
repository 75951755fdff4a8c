//! Clients of accounts of which the config has the hash of `caching_sha2_password`: it says who is right to somebody who sees the
//! password, so the first client of a data worker has to send it, over TLS, a Unix socket, or sealed with a key of ours. With it
//! servers are logged on to, and later clients are let in by the short exchange.
//!
//! Source: MySQL internals manual, `page_caching_sha2_authentication_exchanges`.

use std::cell::OnceCell;
use std::sync::Arc;

use super::account::Account;
use super::login::{Answer, Refusal};
use super::protocol::auth::native::Scramble;
use super::protocol::auth::own_key::OwnKey;
use super::protocol::auth::sha_crypt::Stored;
use super::protocol::auth::switch::put_more;
use super::protocol::auth::verify::without_end;
use super::protocol::auth::{Method, Proof, sha2};
use super::protocol::packet::HEADER_BYTES;
use super::serve::Splitter;
use super::wire::Wire;
use crate::runtime::helpers::Helpers;

/// Passwords that wait to be looked at; whoever comes then is refused.
const QUEUE_MAX: usize = 64;
/// What a client sends that wants to be told the key.
const WANTS_KEY: &[u8] = &[2];

/// What a data worker has for it, made when it is needed first.
#[derive(Debug, Default)]
pub(super) struct Hashed {
    /// A hash takes milliseconds, a key a part of a second: nobody else waits for them.
    helper: OnceCell<Helpers>,
    /// Clients that come while it is made wait for that one.
    key: tokio::sync::OnceCell<Arc<OwnKey>>,
}

/// How a client has proved itself.
pub(super) enum Shown {
    /// By the short exchange, which is ended by a packet of its own.
    Fast(Proof),
    /// It has sent the password.
    Whole(Proof),
}

impl Hashed {
    async fn on_helper<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let busy = || Refusal::Error(1040, b"08004", "too many clients prove themselves at the moment".into());
        if self.helper.get().is_none() {
            let _ = self.helper.set(Helpers::start(1, QUEUE_MAX).map_err(|_| busy())?);
        }
        let helper = self.helper.get().cloned().ok_or_else(busy)?;
        helper.run(work).await.ok_or_else(busy)
    }

    async fn key(&self) -> Result<&Arc<OwnKey>, Refusal> {
        let none =
            || Refusal::Error(1045, b"28000", "there is no key to seal a password with: connect over TLS".into());
        let generate = async || self.on_helper(OwnKey::generate).await?.map(Arc::new).ok_or_else(none);
        self.key.get_or_try_init(generate).await
    }
}

impl Splitter {
    /// Has a client prove that it knows the password of `stored`, after its `answer`. `None`: it does not.
    pub(super) async fn prove_by_hash(
        &self,
        wire: &mut Wire,
        account: &Account,
        stored: &Stored,
        answer: &Answer,
    ) -> Result<Option<Shown>, Refusal> {
        let password = match (answer.method, <&Scramble>::try_from(&answer.nonce[..])) {
            (Method::Clear, _) => without_end(&answer.bytes).to_vec(),
            // Nothing is no password of a hash.
            (Method::CachingSha2, Ok(_)) if matches!(&answer.bytes[..], [] | [0]) => return Ok(None),
            (Method::CachingSha2, Ok(scramble)) => {
                let known = account.learned_password();
                if known.is_some_and(|known| sha2::verify(known, scramble, &answer.bytes)) {
                    return Ok(Some(Shown::Fast(Proof::default())));
                }
                match self.password_of(wire, scramble).await? {
                    Some(password) => password,
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        let (stored, shown) = (stored.clone(), password.clone());
        let is_right = self.hashed.on_helper(move || stored.is_of(&shown)).await?;
        Ok(is_right.then_some(Shown::Whole(Proof { stage1: None, password: Some(password) })))
    }

    /// The password, which the client is asked for.
    async fn password_of(&self, wire: &mut Wire, scramble: &Scramble) -> Result<Option<Vec<u8>>, Refusal> {
        let said = tell_more(wire, &[sha2::FULL_AUTHENTICATION]).await?;
        if wire.stream.is_secret() {
            return Ok(Some(without_end(&said).to_vec()));
        }
        let key = self.hashed.key().await?;
        // One that was given a key beforehand cannot have been given this one.
        let sealed = if said == WANTS_KEY { tell_more(wire, key.pem()).await? } else { said };
        Ok(key.open(&sealed, scramble))
    }
}

/// AuthMoreData, and what the client says to it.
async fn tell_more(wire: &mut Wire, data: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::with_capacity(data.len() + 8);
    put_more(&mut out, wire.next_sequence_id, data);
    wire.next_sequence_id = wire.next_sequence_id.wrapping_add(1);
    wire.send(out).await?;
    let message = wire.login_packet(wire.next_sequence_id).await?;
    Ok(message[HEADER_BYTES..].to_vec())
}

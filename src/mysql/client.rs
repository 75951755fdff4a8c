//! One client after its login: reads commands, answers those that need no server, hands statements to
//! [`super::statement`].

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ahash::AHashMap;

use super::account::Place;
use super::backend::{BackendError, Carry, Key};
use super::begun::Begun;
use super::causal::{MustSee, Reading};
use super::diagnostics::{Counted, Witness};
use super::insight::Watch;
use super::lease::{Lease, LeaseError};
use super::pool::{Since, Wish};
use super::prepared::Statement;
use super::presence::Presence;
use super::protocol::ProtocolError;
use super::protocol::capability::{DEPRECATE_EOF, QUERY_ATTRIBUTES};
use super::protocol::packet::{HEADER_BYTES, answer_sequence_id};
use super::protocol::response::{ErrPacket, OkPacket, UNREACHABLE};
use super::serve::{NO_INSERT_ID, Splitter};
use super::session::{Session, State};
use super::settings::Settings;
use super::sql::Pin;
use super::statement::Reject;
use super::wire::{Next, Wire};
use crate::proxy::balance::Tried;
use crate::runtime::time::{timeout, unless};

/// Buffers larger than this are not kept between commands.
pub(super) const KEPT_BYTES_MAX: usize = 256 << 10;
/// Where the SQL of a command begins, unless attributes stand in front of it: behind the code.
pub(super) const SQL_AT: usize = HEADER_BYTES + 1;
/// How long a client may take to hear that TLS ends.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// The client is gone or must go: close its connection.
#[derive(Debug)]
pub struct End;

/// Why a wait is over, see [`Client::poll_abandoned`].
pub(super) enum Waited {
    /// The client is to end.
    Killed,
    /// The alarm has gone off.
    TooLong,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End
    }
}

/// One logged-on client.
pub struct Client {
    pub(super) splitter: Rc<Splitter>,
    pub(super) place: usize,
    /// By which KILL finds it.
    pub(super) presence: Rc<Presence>,
    /// Its place among the clients of its account.
    pub(super) account: Place,
    pub(super) deprecate_eof: bool,
    pub(super) capabilities: u32,
    pub(super) key: Key,
    pub(super) session: Session,
    pub(super) begun: Begun,
    /// What it keeps of that, and the connection it holds is still to be told of.
    pub(super) owed: Option<Box<State>>,
    /// Why it is pinned, as far as metrics know.
    noted_pin: Option<Pin>,
    pub(super) carry: Rc<Carry>,
    /// The connection the session must keep.
    pub(super) held: Option<Lease>,
    /// The session must keep a connection and has lost it: what brings the next one to where that one was.
    pub(super) prelude: Option<Vec<Vec<u8>>>,
    /// What the session had is gone with its connection: it must end, or begin anew.
    pub(super) is_gone: bool,
    /// Its causal token knows of everything that became void before this epoch.
    pub(super) token_epoch: u64,
    /// It was lost outside of a statement: the client must go.
    pub(super) has_lost_held: bool,
    /// What ran the last statement; `None`: there was none.
    pub(super) last: Option<Witness>,
    /// The same for the last query, whose rows FOUND_ROWS() counts. Before the first one it is what another session left.
    pub(super) found: Option<Witness>,
    /// The same for the statement whose warnings count.
    pub(super) warned: Option<Witness>,
    /// What the last statement would answer to ROW_COUNT() and FOUND_ROWS(), as far as that is known here.
    pub(super) counted: Counted,
    /// Where it reads, and what it has been shown.
    pub(super) reading: Reading,
    pub(super) statements: AHashMap<u32, Statement>,
    /// Length of their texts.
    pub(super) statement_bytes: usize,
    pub(super) next_statement_id: u32,
    /// All of them were settled for the statement under way, which was what pinned the session.
    pub(super) is_settled_for: bool,
    /// An error that the splitter itself has answered, and no server knows of: what SHOW WARNINGS must tell.
    pub(super) own_error: Option<Reject>,
    /// The error that is about to be answered is a server's word: that one knows of it.
    pub(super) is_servers_word: bool,
    /// The command under way, headers included.
    pub(super) request: Vec<u8>,
    /// Where its SQL begins: behind query attributes, if the client sends any.
    pub(super) sql_at: usize,
    /// For the server.
    pub(super) to_server: Vec<u8>,
    /// Sequence id of the server's first packet in answer to it.
    pub(super) sent_sequence_id: u8,
    /// For the client.
    pub(super) out: Vec<u8>,
    /// What is counted of the statement under way.
    pub(super) watch: Watch,
    /// See [`Client::settings`]; `None`: no command is under way.
    pub(super) settings: Option<Rc<Settings>>,
    /// [`Splitter::edition`] as of which `watch` knows the rules.
    pub(super) edition: u64,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.carry.gone.set(true);
        self.session.unpin();
        self.note_pin();
    }
}

impl Client {
    pub(super) fn new(
        splitter: Rc<Splitter>,
        place: usize,
        presence: Rc<Presence>,
        account: Place,
        capabilities: u32,
        key: Key,
        schema: Option<Vec<u8>>,
    ) -> Client {
        let begun = Begun::now(&splitter.shared);
        let mode = begun.beginning().mode(splitter.shared.mode());
        let session = Session::new(schema, mode, key.collation, capabilities);
        let carry = Carry { session: splitter.next_id(), insert_id: Cell::new(NO_INSERT_ID), gone: Cell::new(false) };
        Client {
            edition: splitter.edition(),
            settings: Some(splitter.config()),
            splitter,
            place,
            presence,
            account,
            deprecate_eof: capabilities & DEPRECATE_EOF != 0,
            capabilities,
            key,
            session,
            begun,
            owed: None,
            noted_pin: None,
            carry: Rc::new(carry),
            held: None,
            prelude: None,
            is_gone: false,
            token_epoch: 0,
            has_lost_held: false,
            last: None,
            found: Some(Witness::NOBODY),
            warned: None,
            counted: Counted::default(),
            reading: Reading::default(),
            statements: AHashMap::new(),
            statement_bytes: 0,
            next_statement_id: 1,
            is_settled_for: false,
            own_error: None,
            is_servers_word: false,
            request: Vec::new(),
            sql_at: SQL_AT,
            to_server: Vec::new(),
            sent_sequence_id: 1,
            out: Vec::new(),
            watch: Watch::new(None, 0),
        }
    }

    /// `since`: when the server was chosen.
    pub(super) fn wish(&self, careful: bool, since: Since) -> Wish<'_> {
        let trusts_at = (!careful).then_some(self.watch.started);
        Wish { key: self.key, state: &self.session.state, session: self.carry.session, trusts_at, since }
    }

    /// Selects the login's database on some server, so that a wrong name is refused at once.
    pub(super) async fn check_schema(&mut self) -> Result<(), (u16, String)> {
        if self.session.state.schema.is_none() {
            return Ok(());
        }
        let (mut trouble, started) = (None, Instant::now());
        let mut server = self.splitter.pick_replica(None, &MustSee::Anything, &Tried::new(), Instant::now());
        if server.is_none() && self.splitter.primary_trouble(false).is_some() && self.hold_login(started).await {
            server = self.splitter.pick_replica(None, &MustSee::Anything, &Tried::new(), Instant::now());
        }
        let primary = self.splitter.shared.lead().primary;
        for server in server.into_iter().chain(primary) {
            let wish = self.wish(true, Since::turn(self.splitter.shared.server(server)));
            let lease = Lease::borrow(&self.splitter, server, wish, &self.carry).await;
            let result = match lease {
                Ok(mut lease) => {
                    let prepared = self.prepare(&mut lease, false, None).await;
                    if !matches!(prepared, Err(ref error) if !matches!(error, BackendError::Refused(..))) {
                        lease.give_back();
                    }
                    prepared
                }
                Err(LeaseError::Server(error)) => Err(error),
                Err(LeaseError::Full(_)) => return Err((1040, "Too many connections to the servers".into())),
                Err(LeaseError::Moved) => {
                    trouble = Some("it is no longer what it was".to_owned());
                    continue;
                }
            };
            match result {
                Ok(()) => return Ok(()),
                // A replica may not know a fresh database yet.
                Err(BackendError::Refused(code, message)) if primary == Some(server) => {
                    return Err((code, String::from_utf8_lossy(&message).into_owned()));
                }
                Err(error) => trouble = Some(error.to_string()),
            }
        }
        let Some(primary) = primary else {
            let trouble = self.splitter.primary_trouble(false).map(|(_, _, text)| text);
            return Err((UNREACHABLE, trouble.unwrap_or_else(|| "the primary has just changed: try again".into())));
        };
        let address = self.splitter.shared.address(primary);
        Err((UNREACHABLE, format!("the primary {address} does not let us in: {}", trouble.unwrap_or_default())))
    }

    /// Serves commands until the client leaves.
    ///
    /// What this future holds is what an idle client costs: keep it small.
    pub(super) async fn run(mut self: Box<Self>, wire: &mut Wire) {
        // Boxed: an idle client does not carry the size of a busy one.
        while Box::pin(self.serve(wire)).await.is_ok() {
            (self.request, self.to_server, self.out) = (Vec::new(), Vec::new(), Vec::new());
            self.forget_config();
            let idle = &self.splitter.stats().idle_clients;
            idle.inc();
            self.splitter.cooled.note();
            let next = wire.wait_cold(&self).await;
            idle.dec();
            match next {
                Next::Drain => drop(Box::pin(self.shut_down(wire)).await),
                Next::Closed => {}
                Next::Command(_) | Next::Idle => continue,
            }
            break;
        }
        self.release_held();
        let _ = timeout(GOODBYE_TIMEOUT, Box::pin(wire.stream.say_goodbye())).await;
    }

    async fn shut_down(&mut self, wire: &Wire) -> Result<(), End> {
        self.goodbye(wire, 0, 1053, "Server shutdown in progress").await
    }

    /// Serves commands until none has come for a moment.
    async fn serve(&mut self, wire: &mut Wire) -> Result<(), End> {
        loop {
            match wire.next_command(self).await {
                Ok(Next::Command(len)) => {
                    let mut request = std::mem::take(&mut self.request);
                    wire.take_command(len, &mut request);
                    self.request = request;
                    self.splitter.stats().bytes_in.add(self.request.len() as u64);
                    self.command(wire).await?;
                    if self.request.capacity() > KEPT_BYTES_MAX {
                        self.request = Vec::new();
                    }
                }
                Ok(Next::Idle) => return Ok(()),
                Ok(Next::Drain) => return self.shut_down(wire).await,
                Ok(Next::Closed) => return Err(End),
                Err(error @ ProtocolError::TooLarge(_)) => {
                    return self.goodbye(wire, 1, 1153, &error.to_string()).await;
                }
                Err(error) => return self.goodbye(wire, 1, 1156, &error.to_string()).await,
            }
        }
    }

    pub(super) async fn goodbye(&mut self, wire: &Wire, sequence_id: u8, code: u16, message: &str) -> Result<(), End> {
        self.out.clear();
        ErrPacket { code, sql_state: b"08S01", message: message.as_bytes() }.encode(&mut self.out, sequence_id);
        let _ = self.flush(wire).await;
        Err(End)
    }

    /// Counts what ties the session to one connection now.
    pub(super) fn note_pin(&mut self) {
        let (before, now) = (std::mem::replace(&mut self.noted_pin, self.session.pin), self.session.pin);
        if before == now {
            return;
        }
        let stats = self.splitter.stats();
        self.splitter.note_pin(self.place, now);
        if let Some(pin) = before {
            stats.pinned[pin.index()].dec();
        }
        if let Some(pin) = now {
            stats.pinned[pin.index()].inc();
            stats.pins[pin.index()].add(u64::from(before.is_none()));
        }
    }

    /// For how long the session has been pinned, to a quarter of a second.
    pub(super) fn pin_age(&self) -> Duration {
        self.splitter.pin_age(self.place)
    }

    /// Gives the held connection back; what the session left there is rolled back and dropped first.
    pub(super) fn release_held(&mut self) {
        if let Some(lease) = self.held.take() {
            lease.clean_and_give_back();
        }
    }

    /// Sends what is in `out` and leaves that empty, with its memory. Errors: the client is gone, to be killed, or has taken
    /// nothing for `client_timeout`.
    pub(super) async fn flush(&mut self, wire: &Wire) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.splitter.stats().bytes_out.add(self.out.len() as u64);
        self.set_alarm(self.splitter.config().client_timeout);
        let sending = wire.stream.write_all(std::mem::take(&mut self.out));
        let (result, buffer) = unless(sending, |cx| self.poll_abandoned(cx)).await.map_err(|_| End)?;
        if buffer.capacity() <= KEPT_BYTES_MAX {
            self.out = buffer;
            self.out.clear();
        }
        Ok(result?)
    }

    /// What the client waits for next takes this long at most: its wait ends with [`Client::poll_abandoned`].
    pub(super) fn set_alarm(&self, time: Duration) {
        self.splitter.set_alarm(self.place, time);
    }

    /// Ready when nothing is to be waited for any longer.
    pub(super) fn poll_abandoned(&self, cx: &mut Context<'_>) -> Poll<Waited> {
        if self.presence.poll_killed(cx).is_ready() {
            return Poll::Ready(Waited::Killed);
        }
        self.splitter.poll_alarm(self.place, cx).map(|()| Waited::TooLong)
    }

    /// The SQL in the command under way.
    pub(super) fn sql(&self) -> &[u8] {
        self.request.get(self.sql_at..).unwrap_or_default()
    }

    /// Whether the client writes query attributes.
    pub(super) fn has_attributes(&self) -> bool {
        self.capabilities & QUERY_ATTRIBUTES != 0
    }

    /// Sequence id of the first packet in answer to the command under way.
    pub(super) fn reply_sequence_id(&self) -> u8 {
        answer_sequence_id(&self.request)
    }

    pub(super) async fn reply_ok(&mut self, wire: &Wire) -> Result<(), End> {
        self.out.clear();
        OkPacket::plain(self.session.own_status()).encode(&mut self.out, 1, false);
        self.flush(wire).await
    }

    /// Answers with an error of ours.
    pub(super) async fn reply_error(
        &mut self,
        wire: &Wire,
        code: u16,
        state: &[u8],
        message: &(impl AsRef<[u8]> + ?Sized),
    ) -> Result<(), End> {
        self.splitter.stats().errors.inc();
        self.out.clear();
        let sequence_id = self.reply_sequence_id();
        ErrPacket { code, sql_state: state, message: message.as_ref() }.encode(&mut self.out, sequence_id);
        self.flush(wire).await
    }
}

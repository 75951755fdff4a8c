//! What a client may command: statements go to [`super::statement`], the rest is answered here.

use super::client::{Client, End};
use super::diagnostics::Witness;
use super::protocol::capability::{MULTI_STATEMENTS, SESSION_MASK};
use super::protocol::command;
use super::protocol::login::Login;
use super::protocol::packet::{HEADER_BYTES, PAYLOAD_BYTES_MAX};
use super::protocol::response::{OkPacket, put_eof};
use super::rules::Verdict;
use super::serve::NO_INSERT_ID;
use super::session::Session;
use super::sql::{Class, Kind, used_schema};
use super::statement::Work;
use super::wire::Wire;

impl Client {
    pub(super) async fn command(&mut self, wire: &mut Wire) -> Result<(), End> {
        let Some(&code) = self.request.get(HEADER_BYTES) else {
            // Nobody means that, and a few compressed bytes can be millions of it.
            return self.goodbye(wire, 1, 1835, "Malformed communication packet").await;
        };
        let local = Class { kind: Kind::Local, pin: None, ..Class::UNKNOWN };
        self.watch.verdict = Verdict::default();
        match code {
            command::QUIT => Err(End),
            command::PING => self.reply_ok(wire).await,
            command::QUERY => {
                let class = self.classify();
                self.statement(wire, class, Work::Plain).await
            }
            command::INIT_DB => {
                let class = Class { kind: Kind::Use, pin: None, tables: false, ..Class::UNKNOWN };
                self.statement(wire, class, Work::Plain).await
            }
            command::STMT_PREPARE => self.prepare_command(wire).await,
            command::STMT_EXECUTE => self.execute_command(wire).await,
            command::STMT_FETCH => self.direct_command(wire).await,
            command::STMT_RESET => self.direct_command(wire).await,
            command::STMT_SEND_LONG_DATA => self.long_data(wire).await,
            command::STMT_CLOSE => self.close_statement().await,
            command::FIELD_LIST | command::STATISTICS => self.statement(wire, local, Work::Plain).await,
            command::RESET_CONNECTION => {
                self.reset();
                self.reply_ok(wire).await
            }
            command::CHANGE_USER => self.change_user(wire).await,
            command::SET_OPTION => self.set_option(wire).await,
            command::PROCESS_KILL => self.refuse_kill(wire).await,
            _ => {
                let message = format!("command 0x{code:02x} is not supported through the splitter");
                self.reply_error(wire, 1047, b"08S01", &message).await
            }
        }
    }

    pub(super) async fn refuse_kill(&mut self, wire: &Wire) -> Result<(), End> {
        let message = "KILL is not supported through the splitter: connection ids seen here are not the server's";
        self.reply_error(wire, 1235, b"42000", message).await
    }

    /// What the account may not do, as an error for the client.
    pub(super) fn forbidden(&self, class: &Class) -> Option<(u16, &'static [u8], String)> {
        let account = self.splitter.accounts.get(self.key.account);
        let name = self.splitter.config().account_name(self.key.account.into());
        if !account.may_run(class) {
            let text = format!(
                "user '{name}' may only read here (read_only in the splitter's config): the statement was not executed"
            );
            return Some((1290, b"HY000", text));
        }
        if account.may_hide_a_choice(class) {
            let text = format!(
                "user '{name}' may select some databases alone (schemas in the splitter's config): a statement that could hide its choice was not executed"
            );
            return Some((1044, b"42000", text));
        }
        // What is executed was looked at when it was prepared.
        let is_execution = self.request.get(HEADER_BYTES) == Some(&command::STMT_EXECUTE);
        if class.kind != Kind::Use || !account.has_schemas() || is_execution {
            return None;
        }
        let body = self.request.get(HEADER_BYTES + 1..).unwrap_or_default();
        let schema = match self.request.get(HEADER_BYTES) {
            Some(&command::INIT_DB) => Some(body),
            _ => used_schema(body, self.session.mode()),
        };
        if schema.is_some_and(|schema| account.may_select(schema)) {
            return None;
        }
        let schema = String::from_utf8_lossy(schema.unwrap_or_default());
        let text = format!("Access denied for user '{name}' to database '{schema}' (schemas in the splitter's config)");
        Some((1044, b"42000", text))
    }

    /// The class of the SQL in the command under way.
    pub(super) fn classify(&mut self) -> Class {
        if self.request.len() >= PAYLOAD_BYTES_MAX {
            return Class::UNKNOWN;
        }
        self.steer()
    }

    /// Back to the state after login; statements are gone, the database stays.
    fn reset(&mut self) {
        self.release_held();
        self.session.reset();
        self.statements.clear();
        self.statement_bytes = 0;
        self.last = None;
        self.found = Some(Witness::NOBODY);
        self.warned = None;
        self.carry.insert_id.set(NO_INSERT_ID);
    }

    async fn change_user(&mut self, wire: &mut Wire) -> Result<(), End> {
        let request = std::mem::take(&mut self.request);
        let decoded = Login::decode_change_user(&request[HEADER_BYTES..], self.capabilities, self.key.collation);
        let Ok(login) = decoded else {
            return self.goodbye(wire, 1, 1835, "Malformed communication packet").await;
        };
        let schema = self.splitter.schema_of(&login);
        // As in servers: nothing of the session is left, whoever comes of it.
        self.reset();
        match self.splitter.change_user(wire, login.user, schema.as_deref(), self.account.account()).await {
            Ok(Some(account)) => self.account = account,
            Ok(None) => {}
            Err(Some((code, message))) => return self.goodbye(wire, wire.next_sequence_id, code, &message).await,
            Err(None) => return Err(End),
        }
        (self.key.collation, self.key.account) = (login.collation, self.account.account());
        self.watch.rules = self.splitter.rules.of_client(self.key.account, self.watch.peer.map(|peer| peer.ip()));
        let token = self.session.token.clone();
        self.session = Session::new(schema, self.splitter.shared.mode(), login.collation, self.capabilities);
        self.session.token = token;
        let sequence_id = wire.next_sequence_id;
        match self.check_schema().await {
            Ok(()) => {
                self.out.clear();
                OkPacket::plain(self.session.own_status()).encode(&mut self.out, sequence_id, false);
                self.flush(wire).await
            }
            Err((code, message)) => self.goodbye(wire, sequence_id, code, &message).await,
        }
    }

    /// Multi-statements on or off.
    async fn set_option(&mut self, wire: &Wire) -> Result<(), End> {
        let on = match self.request.get(HEADER_BYTES + 1..) {
            Some([0, 0]) => true,
            Some([1, 0]) => false,
            _ => return self.reply_error(wire, 1047, b"08S01", "Unknown option").await,
        };
        let bit = MULTI_STATEMENTS & SESSION_MASK;
        self.key.capabilities = if on { self.key.capabilities | bit } else { self.key.capabilities & !bit };
        if let Some(lease) = &mut self.held {
            // The server keeps it through a reset, so the connection now belongs under the new key.
            lease.key = self.key;
            let local = Class { kind: Kind::Local, pin: None, ..Class::UNKNOWN };
            return self.statement(wire, local, Work::Plain).await;
        }
        self.out.clear();
        let status = self.session.own_status();
        match self.deprecate_eof {
            true => OkPacket::plain(status).encode(&mut self.out, 1, true),
            false => put_eof(&mut self.out, 1, status, 0),
        }
        self.flush(wire).await
    }
}

//! What a client may command: statements go to [`super::statement`], the rest is answered here.

use std::time::Instant;

use super::backend::BackendError;
use super::begun::Begun;
use super::causal::MustSee;
use super::client::{Client, End, SQL_AT};
use super::diagnostics::Witness;
use super::get_diagnostics::is_get_diagnostics;
use super::pool::Since;
use super::protocol::attributes::sql_offset;
use super::protocol::capability::{IGNORE_SPACE, INTERACTIVE, LOCAL_FILES, MULTI_STATEMENTS, SESSION_MASK};
use super::protocol::command;
use super::protocol::login::Login;
use super::protocol::packet::{HEADER_BYTES, PAYLOAD_BYTES_MAX};
use super::protocol::response::{OkPacket, UNREACHABLE, put_eof};
use super::rules::Verdict;
use super::serve::NO_INSERT_ID;
use super::session::Session;
use super::sql::{Class, Kind, used_schema};
use super::statement::Work;
use super::survey;
use super::wire::Wire;
use crate::proxy::balance::Tried;
use crate::runtime::time::timeout;

impl Client {
    pub(super) async fn command(&mut self, wire: &mut Wire) -> Result<(), End> {
        let Some(&code) = self.request.get(HEADER_BYTES) else {
            // Nobody means that, and a few compressed bytes can be millions of it.
            return self.goodbye(wire, 1, 1835, "Malformed communication packet").await;
        };
        let is_statement = matches!(code, command::QUERY | command::STMT_PREPARE | command::STMT_EXECUTE);
        if is_statement && self.splitter.shared.survey.is_imminent() {
            Box::pin(self.await_survey(wire, 1, survey::FIRST_WAIT)).await?;
        }
        self.look_at_config();
        let local = Class::of_command(Kind::Local);
        self.sql_at = SQL_AT;
        self.watch.verdict = Verdict::default();
        match code {
            command::QUIT => Err(End),
            command::PING if self.held.is_none() => {
                (self.counted, self.last) = (self.counted.with_rows(0), Some(Witness::NOBODY));
                self.reply_ok(wire).await
            }
            command::QUERY => self.query(wire).await,
            command::INIT_DB => {
                let class = Class::of_command(Kind::Use);
                self.statement(wire, class, Work::Plain).await
            }
            command::STMT_PREPARE => self.prepare_command(wire).await,
            command::STMT_EXECUTE => self.execute_command(wire).await,
            command::STMT_FETCH => self.direct_command(wire).await,
            command::STMT_RESET => self.direct_command(wire).await,
            command::STMT_SEND_LONG_DATA => Box::pin(self.long_data(wire)).await,
            command::STMT_CLOSE => self.close_statement().await,
            // A connection that the session keeps must not be idle for too long: the ping is for that one, too.
            command::FIELD_LIST | command::STATISTICS | command::PROCESS_INFO | command::DEBUG | command::PING => {
                let class = Class { tables: code == command::FIELD_LIST, ..local };
                self.statement(wire, class, Work::Plain).await
            }
            command::REFRESH => {
                let class = Class::of_command(Kind::Definition);
                self.statement(wire, class, Work::Plain).await
            }
            command::RESET_CONNECTION => {
                self.reset();
                self.reply_ok(wire).await
            }
            command::CHANGE_USER => Box::pin(self.change_user(wire)).await,
            command::SET_OPTION => self.set_option(wire).await,
            command::PROCESS_KILL => Box::pin(self.kill_command(wire)).await,
            _ => self.deny(wire, 1047, b"08S01", unsupported(code)).await,
        }
    }

    async fn query(&mut self, wire: &mut Wire) -> Result<(), End> {
        if self.has_attributes() {
            let body = &self.request[HEADER_BYTES + 1..self.request.len().min(HEADER_BYTES + PAYLOAD_BYTES_MAX)];
            match sql_offset(body) {
                Ok(offset) => self.sql_at = SQL_AT + offset,
                Err(error) => return self.deny(wire, 1835, b"HY000", error.to_string()).await,
            }
        }
        let mut class = self.classify();
        if self.put_own_answer(&class) {
            class = self.classify();
        }
        let counted = self.counted;
        let is_set = is_get_diagnostics(&class) && self.put_diagnostics(class).await;
        if is_set {
            class = self.classify();
        }
        self.statement(wire, class, Work::Plain).await?;
        if is_set {
            // The client's own statement counts no rows, other than SET.
            (self.counted, self.last) = (counted, Some(Witness::NOBODY));
        }
        Ok(())
    }

    /// What the account may not do, as an error for the client.
    pub(super) fn forbidden(&self, class: &Class) -> Option<(u16, &'static [u8], String)> {
        let account = self.settings().accounts.get(self.key.account);
        let name = self.settings().account_name(self.key.account.into());
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
        if class.local_file && self.key.capabilities & LOCAL_FILES == 0 {
            return Some(self.no_local_file());
        }
        // What is executed was looked at when it was prepared.
        let is_execution = self.request.get(HEADER_BYTES) == Some(&command::STMT_EXECUTE);
        if class.kind != Kind::Use || !account.has_schemas() || is_execution {
            return None;
        }
        let schema = match self.request.get(HEADER_BYTES) {
            Some(&command::INIT_DB) => Some(self.sql()),
            _ => used_schema(self.sql(), self.session.mode()),
        };
        if schema.is_some_and(|schema| account.may_select(schema)) {
            return None;
        }
        let schema = String::from_utf8_lossy(schema.unwrap_or_default());
        let text = format!("Access denied for user '{name}' to database '{schema}' (schemas in the splitter's config)");
        Some((1044, b"42000", text))
    }

    fn no_local_file(&self) -> (u16, &'static [u8], String) {
        let why = match self.settings().local_infile {
            true => "the client does not offer its files (CLIENT_LOCAL_FILES, for example --local-infile=1)",
            false => "it is off in the splitter's config (local_infile)",
        };
        let is_mariadb = self.splitter.shared.identity().is_some_and(|identity| identity.is_mariadb);
        // ER_LOAD_INFILE_CAPABILITY_DISABLED, ER_CLIENT_LOCAL_FILES_DISABLED.
        let code = if is_mariadb { 4166 } else { 3948 };
        (code, b"HY000", format!("LOAD DATA LOCAL was not executed: {why}"))
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
        // What the login has set by these is set to the global values.
        self.key.capabilities &= !(IGNORE_SPACE | INTERACTIVE);
        self.release_held();
        self.prelude = None;
        self.is_gone = false;
        // On MySQL the character sets are among these.
        if let Some(identity) = self.splitter.shared.identity().filter(|identity| !identity.is_mariadb) {
            self.key.collation = identity.collation;
            self.session.take_names(identity.collation);
        }
        (self.begun, self.owed) = (Begun::now(&self.splitter.shared), None);
        self.session.reset(self.begun.beginning().mode(self.splitter.shared.mode()));
        self.note_pin();
        self.statements.clear();
        self.statement_bytes = 0;
        self.last = None;
        self.found = Some(Witness::NOBODY);
        self.warned = None;
        self.own_error = None;
        self.counted = self.counted.with_rows(0); // FOUND_ROWS() stays
        self.carry.insert_id.set(NO_INSERT_ID);
    }

    async fn change_user(&mut self, wire: &mut Wire) -> Result<(), End> {
        let request = std::mem::take(&mut self.request);
        let present = self.key.collation.into();
        let decoded = Login::decode_change_user(&request[HEADER_BYTES..], self.capabilities, present);
        let Ok(login) = decoded else {
            return self.goodbye(wire, 1, 1835, "Malformed communication packet").await;
        };
        let schema = self.splitter.schema_of(&login);
        // As in servers: nothing of the session is left, whoever comes of it.
        self.reset();
        match self
            .splitter
            .change_user(wire, login.user, schema.as_deref(), self.account.account(), self.watch.peer)
            .await
        {
            Ok(Some(account)) => self.account = account,
            Ok(None) => {}
            Err(Some((code, message))) => return self.goodbye(wire, wire.next_sequence_id, code, &message).await,
            Err(None) => return Err(End),
        }
        self.key.account = self.account.account();
        // Other rules may be about it.
        self.watch.rules = self.settings().rules.of_client(self.key.account, self.watch.peer.map(|peer| peer.ip()));
        self.presence.set_account(self.key.account);
        let sequence_id = wire.next_sequence_id;
        match self.begin_anew(schema, login.collation).await {
            Ok(()) => {
                self.out.clear();
                OkPacket::plain(self.session.own_status()).encode(&mut self.out, sequence_id, false);
                self.flush(wire).await
            }
            Err((code, message)) => self.goodbye(wire, sequence_id, code, &message).await,
        }
    }

    /// The session of a new login on the old connection.
    async fn begin_anew(&mut self, schema: Option<Vec<u8>>, collation: u16) -> Result<(), (u16, String)> {
        if let Ok(collation) = u8::try_from(collation) {
            self.key.collation = collation;
        }
        let token = self.session.token.clone();
        let mode = self.begun.beginning().mode(self.splitter.shared.mode());
        self.session = Session::new(schema, mode, self.key.collation, self.key.capabilities);
        self.session.token = token;
        if u8::try_from(collation).is_err() {
            let (charset, collation) = self.names_of(collation).await?;
            self.session.begin_with_names(&charset, &collation);
        }
        self.check_schema().await
    }

    /// Character set and name of a collation whose number is too large for a server's login packet.
    async fn names_of(&self, collation: u16) -> Result<(Vec<u8>, Vec<u8>), (u16, String)> {
        let unreachable = || (UNREACHABLE, "no server to look up the collation on".to_owned());
        let replica = self.splitter.pick_replica(None, &MustSee::Anything, &Tried::new(), Instant::now());
        let server = replica.or_else(|| self.splitter.shared.lead().primary).ok_or_else(unreachable)?;
        let plain = "SELECT CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLLATIONS WHERE ID=";
        // Where MariaDB has numbers for one collation with each of its character sets.
        let full = "SELECT CHARACTER_SET_NAME, FULL_COLLATION_NAME \
                    FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE ID=";
        for question in [plain, full] {
            // Any server knows it, whatever its sessions begin with.
            let since = Since::turn(self.splitter.shared.server(server));
            let lease = self.borrow_since(server, since, false, None, true).await;
            let mut lease = lease.map_err(|_| unreachable())?;
            let sql = format!("{question}{collation}");
            let limit = self.splitter.config().connect_timeout;
            match timeout(limit, lease.row(sql.as_bytes()))
                .await
                .unwrap_or(Err(BackendError::Timeout("waiting for an answer")))
            {
                Ok(row) => {
                    lease.give_back();
                    let mut row = row.into_iter().flatten();
                    if let (Some(charset), Some(name)) = (row.next(), row.next()) {
                        return Ok((charset, name));
                    }
                }
                Err(BackendError::Refused(..)) => {
                    lease.protected = true; // the refusal is what SHOW WARNINGS would tell there
                    lease.give_back();
                }
                Err(error) => return Err((UNREACHABLE, format!("the collation was not looked up: {error}"))),
            }
        }
        Err((1273, format!("Unknown collation: '{collation}'")))
    }

    /// Multi-statements on or off.
    async fn set_option(&mut self, wire: &mut Wire) -> Result<(), End> {
        let on = match self.request.get(HEADER_BYTES + 1..) {
            Some([0, 0]) => true,
            Some([1, 0]) => false,
            _ => return self.deny(wire, 1047, b"08S01", "Unknown option").await,
        };
        let bit = MULTI_STATEMENTS & SESSION_MASK;
        self.key.capabilities = if on { self.key.capabilities | bit } else { self.key.capabilities & !bit };
        if let Some(lease) = &mut self.held {
            // The server keeps it through a reset, so the connection now belongs under the new key.
            lease.key = self.key;
            let local = Class::of_command(Kind::Local);
            return self.statement(wire, local, Work::Plain).await;
        }
        (self.counted, self.last) = (self.counted.with_rows(-1), Some(Witness::NOBODY));
        self.out.clear();
        let status = self.session.own_status();
        match self.deprecate_eof {
            true => OkPacket::plain(status).encode(&mut self.out, 1, true),
            false => put_eof(&mut self.out, 1, status, 0),
        }
        self.flush(wire).await
    }
}

/// Why a command is refused.
fn unsupported(code: u8) -> String {
    match code {
        command::SHUTDOWN => {
            "COM_SHUTDOWN is not supported through the splitter: it would end the primary for all".into()
        }
        command::BINLOG_DUMP | command::BINLOG_DUMP_GTID | command::REGISTER_SLAVE | command::TABLE_DUMP => {
            "replication is not supported through the splitter: connect to the server itself".into()
        }
        command::STMT_BULK_EXECUTE | command::MULTI => format!("command 0x{code:02x} was not offered by the splitter"),
        _ => format!("command 0x{code:02x} is not supported through the splitter"),
    }
}

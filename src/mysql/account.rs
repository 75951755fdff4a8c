//! The accounts of one splitter on one data worker: who may log on from where, and what a session may do.
//!
//! The grants of an account are the servers' affair; what is kept here is what they cannot see (where a client comes from,
//! how many there are), and what is worth being sure of before a statement leaves.

use std::cell::OnceCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::protocol::auth::native::Sha1Hash;
use super::protocol::auth::prover::Secret;
use super::protocol::auth::{Proof, Verifier};
use super::shared::Shared;
use super::sql::{Class, Kind, Pin};
use crate::config::model::{MysqlUser, Splitter};
use crate::guard::{AddressRules, Source};

/// One account.
pub struct Account {
    name: Vec<u8>,
    verifier: Verifier,
    /// What a client has shown, where the config has a hash.
    learned: OnceCell<Learned>,
    access: Option<Arc<AddressRules>>,
    schemas: Vec<Vec<u8>>,
    read_only: bool,
    clients_max: usize,
    /// Nobody new comes in.
    is_gone: bool,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &String::from_utf8_lossy(&self.name)).finish_non_exhaustive()
    }
}

/// What servers are logged on to with, of an account whose password is not in the config.
#[derive(Clone)]
enum Learned {
    /// SHA1(password).
    Stage1(Sha1Hash),
    Password(Vec<u8>),
}

/// All of them; 0 is the splitter's own user.
#[derive(Debug)]
pub struct Accounts(Vec<Account>);

impl Accounts {
    /// Those of the config. `before`: the same, and perhaps less, under another one.
    pub fn new(splitter: &Splitter, before: Option<&Accounts>) -> Accounts {
        let own = MysqlUser {
            name: splitter.user.clone(),
            verifier: Verifier::Password(splitter.password.0.clone().into_bytes()),
            access: None,
            schemas: Vec::new(),
            read_only: false,
            clients_max: None,
            server_connections_max: None,
            is_gone: false,
        };
        let mut accounts: Vec<Account> =
            std::iter::once(&own).chain(&splitter.users).map(|user| Account::new(user, splitter)).collect();
        for (account, before) in accounts.iter_mut().zip(before.into_iter().flat_map(|before| &before.0)) {
            if account.verifier == before.verifier {
                account.learned.clone_from(&before.learned);
            }
        }
        Accounts(accounts)
    }

    /// By name, with its number, also when it is gone: somebody may still be logged on.
    pub fn find(&self, name: &[u8]) -> Option<(u16, &Account)> {
        let at = self.0.iter().position(|account| account.name == name)?;
        Some((at as u16, &self.0[at]))
    }

    /// By number. Panics when there is none: numbers come from [`Accounts::find`].
    pub fn get(&self, number: u16) -> &Account {
        &self.0[usize::from(number)]
    }
}

impl Account {
    fn new(user: &MysqlUser, splitter: &Splitter) -> Account {
        Account {
            name: user.name.clone().into_bytes(),
            verifier: user.verifier.clone(),
            learned: OnceCell::new(),
            access: user.access.clone(),
            schemas: user.schemas.iter().map(|schema| schema.clone().into_bytes()).collect(),
            read_only: user.read_only,
            clients_max: user.clients_max.unwrap_or(splitter.clients_max),
            is_gone: user.is_gone,
        }
    }

    /// What a client must prove.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Keeps what a proof has told.
    pub fn learn(&self, proof: &Proof) {
        let password = || proof.password.clone().map(Learned::Password);
        if let Some(learned) = proof.stage1.map(Learned::Stage1).or_else(password) {
            let _ = self.learned.set(learned);
        }
    }

    /// The password, where a client has had to show it.
    pub fn learned_password(&self) -> Option<&[u8]> {
        match self.learned.get() {
            Some(Learned::Password(password)) => Some(password),
            _ => None,
        }
    }

    /// What servers are logged on to with. Where the config has a hash, a client must have logged on before.
    pub fn secret(&self) -> Secret<'_> {
        match (&self.verifier, self.learned.get()) {
            (Verifier::Password(password), _) => Secret::Password(password),
            (_, Some(Learned::Stage1(stage1))) => Secret::Stage1(stage1),
            (_, Some(Learned::Password(password))) => Secret::Password(password),
            (_, None) => Secret::Password(b""),
        }
    }

    /// Whether it may log on from there; `None`: a Unix socket.
    pub fn admits(&self, peer: Option<SocketAddr>) -> bool {
        if self.is_gone {
            return false;
        }
        let source = peer.map_or(Source::Unix, |peer| Source::Ip(peer.ip()));
        self.access.as_ref().is_none_or(|rules| rules.admits(source))
    }

    /// Connections at once, whole process.
    pub fn clients_max(&self) -> usize {
        self.clients_max
    }

    /// Whether it may select this database. Upper and lower case count, as they do on Linux.
    pub fn may_select(&self, schema: &[u8]) -> bool {
        self.schemas.is_empty() || self.schemas.iter().any(|known| known == schema)
    }

    /// Whether any database can be refused to it.
    pub fn has_schemas(&self) -> bool {
        !self.schemas.is_empty()
    }

    /// Whether it may run a statement of this class.
    pub fn may_run(&self, class: &Class) -> bool {
        !self.read_only || changes_nothing(class)
    }

    /// Whether a statement of this class could select a database without being seen to, and may not.
    pub fn may_hide_a_choice(&self, class: &Class) -> bool {
        let hides =
            matches!(class.pin, Some(Pin::MultiStatement | Pin::TextPrepare | Pin::ExecutableComment | Pin::Unknown));
        hides && self.has_schemas()
    }
}

/// Nothing but the session itself changes by it, whatever the servers hold.
fn changes_nothing(class: &Class) -> bool {
    let harmless = matches!(
        class.kind,
        Kind::Read
            | Kind::Local
            | Kind::Locking
            | Kind::Diagnostics
            | Kind::Set
            | Kind::Use
            | Kind::Transaction
            | Kind::Rollback
    );
    // A pin tells what the kind does not: functions of one's own, statements hidden in texts, comments and SET STATEMENT.
    let harmless = harmless || class.batch.is_some_and(|batch| !batch.changes);
    harmless && matches!(class.pin, None | Some(Pin::UserVariable | Pin::Statement))
}

/// A client's place among those of its account; given up when dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    account: u16,
}

impl Place {
    /// `None`: the account has as many clients as it may.
    pub fn take(shared: &Arc<Shared>, account: u16, clients_max: usize) -> Option<Place> {
        shared.account_came(account, clients_max).then(|| Place { shared: Arc::clone(shared), account })
    }

    /// Number of the account.
    pub fn account(&self) -> u16 {
        self.account
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.account_left(self.account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::sql::{Mode, classify};

    #[test]
    fn what_may_change_something_is_told_from_what_does_not() {
        let yes = [
            "SELECT 1",
            "SELECT * FROM t JOIN u USING (id)",
            "SHOW TABLES",
            "EXPLAIN SELECT 1",
            "SET NAMES utf8mb4",
            "USE d",
            "BEGIN",
            "START TRANSACTION READ ONLY",
            "COMMIT",
            "ROLLBACK",
            "SET @a = 1",
            "SELECT @a",
            "SET sql_mode = DEFAULT, @b = 2",
            "SELECT COUNT(*) FROM t",
            "SELECT LAST_INSERT_ID()",
            "SHOW WARNINGS",
            "SELECT * FROM t FOR UPDATE",
            "(SELECT 1) UNION SELECT 2",
        ];
        let no = [
            "INSERT INTO t VALUES (1)",
            "UPDATE t SET a = 1",
            "DELETE FROM t",
            "REPLACE INTO t VALUES (1)",
            "DROP TABLE t",
            "CREATE TABLE t (a INT)",
            "CREATE TEMPORARY TABLE t (a INT)",
            "TRUNCATE t",
            "CALL p()",
            "SELECT f()",
            "DO f()",
            "SET GLOBAL read_only = 0",
            "SELECT 1; DROP TABLE t",
            "/*!50000 DROP TABLE t */",
            "PREPARE s FROM 'DROP TABLE t'",
            "EXECUTE s",
            "EXECUTE IMMEDIATE 'DROP TABLE t'",
            "GRANT ALL ON *.* TO u",
            "LOAD DATA INFILE 'x' INTO TABLE t",
            "SELECT 1 INTO OUTFILE '/x'",
            "LOCK TABLES t WRITE",
            "XA START 'a'",
            "SELECT NEXT VALUE FOR s",
            "FLUSH TABLES",
            "EXPLAIN ANALYZE DELETE FROM t",
            "ANALYZE DELETE FROM t",
            "BEGIN NOT ATOMIC DELETE FROM t; END",
            "WITH c AS (SELECT 1) DELETE FROM t",
            "HANDLER t OPEN",
            "KILL 1",
            "what is this",
            "SELECT @a, f()",
            "SET @a = f()",
            "SELECT @a, s.nextval",
            "SELECT @a := 1, NEXT VALUE FOR s",
            "SET NAMES utf8mb4, PASSWORD = PASSWORD('x')",
            "SET @a = 1, PASSWORD = 'x'",
            "SET NAMES utf8mb4, DEFAULT ROLE r",
            "SET STATEMENT max_statement_time=1 FOR DELETE FROM t",
        ];
        for (statements, expect) in [(&yes[..], true), (&no[..], false)] {
            for sql in statements {
                let class = classify(sql.as_bytes(), Mode::default());
                assert_eq!(changes_nothing(&class), expect, "{sql}: {class:?}");
            }
        }
    }
}

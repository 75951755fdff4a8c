//! Rules of the config about statements: which of them is about one, and what that means for where it may go. Pure.
//!
//! What a rule wants of the normal form is looked at once for each text ([`Rules::about`], kept with its class), what it wants
//! of the client once for each login ([`Rules::of_client`]); for an execution that leaves the selected database.

use std::net::IpAddr;
use std::time::Duration;

use super::sql::{Class, Hint, Kind, Pin};
use crate::config::model::{MysqlRoute, MysqlRule};

/// Most rules of a splitter: each is a bit of a number.
pub const RULES_MAX: usize = 128;

/// The rules of one splitter on one data worker.
#[derive(Debug)]
pub struct Rules {
    /// Their expressions match with memory of this worker's own.
    rules: Vec<MysqlRule>,
}

/// Where a statement is to go, other than by its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// To the primary.
    Primary,
    /// To a replica.
    Replica,
}

/// What was decided for a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Keyed hash of its normal form.
    pub digest: Option<u64>,
    /// The rule that is about it.
    pub rule: Option<u16>,
    /// A rule or a comment has chosen.
    pub choice: Option<Choice>,
    /// It does not run.
    pub rejected: bool,
    /// How long it may run.
    pub time_limit: Option<Duration>,
}

impl Rules {
    /// Those of the config.
    pub fn new(rules: &[MysqlRule]) -> Rules {
        Rules { rules: rules.to_vec() }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// A rule by its number.
    pub fn get(&self, number: u16) -> &MysqlRule {
        &self.rules[usize::from(number)]
    }

    fn bits(&self, is_about: impl Fn(&MysqlRule) -> bool) -> u128 {
        self.rules.iter().enumerate().filter(|(_, rule)| is_about(rule)).fold(0, |bits, (at, _)| bits | 1 << at)
    }

    /// The rules that are about statements of this normal form.
    pub fn about(&self, digest: &[u8]) -> u128 {
        self.bits(|rule| rule.digest.as_ref().is_none_or(|pattern| pattern.is_match(digest)))
    }

    /// The rules that are about this client; `None`: it came by a Unix socket.
    pub fn of_client(&self, account: u16, peer: Option<IpAddr>) -> u128 {
        self.bits(|rule| {
            let is_near = |networks: &crate::guard::Networks| peer.is_some_and(|peer| networks.contains(peer));
            (rule.accounts.is_empty() || rule.accounts.contains(&account)) && rule.clients.as_ref().is_none_or(is_near)
        })
    }

    /// The first one of `bits` that is about the selected database.
    pub fn first(&self, mut bits: u128, schema: Option<&[u8]>) -> Option<u16> {
        while bits != 0 {
            let number = bits.trailing_zeros() as u16;
            let schemas = &self.get(number).schemas;
            if schemas.is_empty() || schema.is_some_and(|schema| schemas.iter().any(|known| known.as_bytes() == schema))
            {
                return Some(number);
            }
            bits &= bits - 1;
        }
        None
    }
}

impl Verdict {
    /// What `rule` (with its number) and the comments of a statement of this class mean. A rule counts more than a comment.
    pub fn new(class: &mut Class, rule: Option<(u16, &MysqlRule)>, hint: Option<Hint>) -> Verdict {
        let mut verdict = Verdict { rule: rule.map(|(number, _)| number), ..Verdict::default() };
        if let Some((_, rule)) = rule {
            (verdict.rejected, verdict.time_limit) = (rule.reject.is_some(), rule.time_limit);
            if rule.unpinned && class.plain_call && class.pin == Some(Pin::Call) {
                (class.pin, class.trusted) = (None, true);
            }
        }
        verdict.choice = match (rule.and_then(|(_, rule)| rule.route), hint) {
            (Some(MysqlRoute::Primary), _) | (None, Some(Hint::Primary)) => Some(Choice::Primary),
            (Some(MysqlRoute::Replica), _) => class.is_read().then_some(Choice::Replica),
            (Some(MysqlRoute::Unsafe), _) => trust(class).then_some(Choice::Replica),
            (None, Some(Hint::Replica)) => admit_local(class).then_some(Choice::Replica),
            (None, None) => None,
        };
        verdict
    }
}

/// The operator knows that it only reads: functions that are not known to be pure, also of a view, and what is about one server.
fn trust(class: &mut Class) -> bool {
    if class.kind == Kind::Read && matches!(class.pin, Some(Pin::UnknownFunction | Pin::Hidden)) {
        class.pin = None;
    }
    admit_local(class)
}

/// What is harmless but about one server may be asked of any, where somebody chooses that.
fn admit_local(class: &mut Class) -> bool {
    if class.kind == Kind::Local && class.pin.is_none() && class.diagnostics == 0 {
        class.kind = Kind::Read;
    }
    class.is_read()
}

#[cfg(test)]
mod tests {
    use super::super::sql::{Mode, classify};
    use super::*;
    use crate::guard::Networks;
    use crate::util::pattern::Pattern;

    fn rule() -> MysqlRule {
        MysqlRule {
            name: "r".into(),
            accounts: Vec::new(),
            schemas: Vec::new(),
            clients: None,
            digest: None,
            route: None,
            reject: None,
            rewrite: None,
            time_limit: None,
            unpinned: false,
        }
    }

    #[test]
    fn all_conditions_must_hold_and_the_first_rule_decides() {
        let rules = Rules::new(&[
            MysqlRule {
                digest: Some(Pattern::new_caseless("^SELECT a").unwrap()),
                schemas: vec!["d".into()],
                ..rule()
            },
            MysqlRule { accounts: vec![2], ..rule() },
            MysqlRule { clients: Some(Networks::new(["10.0.0.0/8".parse().unwrap()])), ..rule() },
            rule(),
        ]);
        let ten: Option<IpAddr> = Some("10.1.1.1".parse().unwrap());
        assert_eq!((rules.about(b"SELECT a"), rules.about(b"SELECT b")), (0b1111, 0b1110));
        assert_eq!(
            (rules.of_client(2, ten), rules.of_client(0, ten), rules.of_client(0, None)),
            (0b1111, 0b1101, 0b1001)
        );
        let first = |bits: u128, schema: Option<&[u8]>| rules.first(bits, schema);
        assert_eq!(
            (first(0b1111, Some(b"d")), first(0b1111, Some(b"e")), first(0b1001, None)),
            (Some(0), Some(1), Some(3))
        );
        assert_eq!(first(0, Some(b"d")), None);
    }

    #[test]
    fn nothing_but_a_call_is_trusted() {
        let rule = MysqlRule { unpinned: true, ..rule() };
        for (sql, is_trusted) in [
            ("CALL p()", true),
            ("CALL d.p(1, 'x', NOW())", true),
            ("call p(?)", true),
            ("CALL p(@a)", false),
            ("CALL p(f())", false),
            ("CALL p(CONNECTION_ID())", false),
            ("CALL p(@a := 1)", false),
            ("CALL p(); CALL p()", false),
            ("CALL p() /*! */", false),
            ("DO f()", false),
            ("SELECT f()", false),
            ("EXECUTE IMMEDIATE 'CALL p()'", false),
            ("BEGIN NOT ATOMIC CALL p(); END", false),
            ("SELECT GET_LOCK('a', 1)", false),
            ("SET @a = 1", false),
        ] {
            let mut class = classify(sql.as_bytes(), Mode::default());
            assert!(class.pin.is_some(), "{sql}");
            let verdict = Verdict::new(&mut class, Some((0, &rule)), None);
            assert_eq!((class.trusted, class.pin.is_none()), (is_trusted, is_trusted), "{sql}");
            assert!(verdict.choice.is_none() && !class.is_read(), "{sql}");
        }
        let mut class = classify(b"CALL p()", Mode::default());
        Verdict::new(&mut class, Some((0, &MysqlRule { unpinned: false, ..rule })), Some(Hint::Replica));
        assert!(class.pin.is_some() && !class.trusted);
    }

    #[test]
    fn nothing_but_reads_is_ever_sent_to_a_replica() {
        let check =
            |sql: &str, route: Option<MysqlRoute>, hint: Option<Hint>, expect: Option<Choice>, is_read: bool| {
                let mut class = classify(sql.as_bytes(), Mode::default());
                let rule = MysqlRule { route, ..rule() };
                let verdict = Verdict::new(&mut class, route.map(|_| (0, &rule)), hint);
                assert_eq!((verdict.choice, class.is_read()), (expect, is_read), "{sql} {route:?} {hint:?}");
            };
        use Choice::{Primary, Replica};
        let (to_primary, to_replica) = (Some(MysqlRoute::Primary), Some(MysqlRoute::Replica));
        let unsafe_ = Some(MysqlRoute::Unsafe);
        check("SELECT 1", to_primary, None, Some(Primary), true);
        check("SELECT 1", to_replica, Some(Hint::Primary), Some(Replica), true);
        check("SELECT 1", None, Some(Hint::Primary), Some(Primary), true);
        check("SELECT f()", to_replica, None, None, false);
        check("SELECT f()", unsafe_, None, Some(Replica), true);
        check("SELECT f()", None, Some(Hint::Replica), None, false);
        check("SHOW PROCESSLIST", unsafe_, None, Some(Replica), true);
        check("SHOW PROCESSLIST", None, Some(Hint::Replica), Some(Replica), true);
        check("SHOW PROCESSLIST", to_replica, None, None, false);
        for write in [
            "DELETE FROM t",
            "INSERT INTO t SELECT f()",
            "SELECT 1 FOR UPDATE",
            "SELECT @a := 1",
            "SELECT GET_LOCK('a', 1) INTO @x",
            "SELECT 1 INTO OUTFILE '/x'",
            "CALL p()",
            "SET @a = 1",
            "BEGIN",
            "SELECT 1; DELETE FROM t",
            "CREATE TEMPORARY TABLE t (a INT)",
            "SHOW WARNINGS",
            "nonsense",
        ] {
            check(write, unsafe_, None, None, false);
            check(write, None, Some(Hint::Replica), None, false);
        }
    }
}

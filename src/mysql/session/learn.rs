//! What the OK packets of an answer tell: of settings, and of what was written. Pure.

use std::rc::Rc;

use super::super::gtid::{Gtid, Position};
use super::super::gtid_set::GtidSet;
use super::super::protocol::follow::{Cut, Outcome};
use super::super::protocol::tracker::{Change, Changes};
use super::super::sql::{Batch, Charset, Class, First, Kind};
use super::super::token::News;
use super::state::{
    CHARACTER_SET_CLIENT, CHARACTER_SET_CONNECTION, CHARACTER_SET_RESULTS, COLLATION_CONNECTION, SQL_MODE, State,
    has_place, place_of,
};
use super::{After, SYNTAX_ERROR, Session, is_refusal};

/// Whether all that a SET or USE has changed, as its OK packets tell, can be set again on any other connection.
pub(in super::super) fn is_portable(changes: &[u8]) -> bool {
    let (mut changed, mut told) = (false, false);
    let is_known = |change| {
        match change {
            Ok(Change::Variable { name: b"last_gtid", .. }) => {}
            Ok(Change::Variable { name, value }) => {
                told = true;
                return has_place(name, value);
            }
            Ok(Change::Schema(_)) => told = true,
            Ok(Change::State(state)) => changed |= state,
            Ok(_) => {}
            Err(_) => return false,
        }
        true
    };
    Changes::new(changes).all(is_known) && (told || !changed)
}

/// The transactions that the OK packets of an answer name.
pub(in super::super) fn transactions_of(changes: &[u8]) -> News {
    let mut learned = Learned::default();
    for change in Changes::new(changes) {
        match change {
            Ok(Change::Variable { name: b"last_gtid", value }) => {
                learned.on_gtids(Gtid::parse(value).map(Position::from));
            }
            Ok(Change::Gtids(set)) => learned.on_gtids(GtidSet::parse(set).map(Position::from)),
            Ok(_) => {}
            Err(_) => learned.on_gtids(None),
        }
    }
    learned.told
}

/// Whose character sets the last SET has named.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Names {
    client: bool,
    results: bool,
}

impl Session {
    pub(super) fn learn(&mut self, class: &Class, outcome: &Outcome, after: &mut After) -> Learned {
        let mut learned = Learned::default();
        if outcome.cut == Cut::Transactions {
            learned.on_gtids(None);
        }
        learned.unexplained = outcome.cut != Cut::Nothing;
        // What nobody may see of it would be told in the same word as what it sets for itself.
        after.dirty |= class.restores && class.may_set;
        if outcome.changes.is_empty() {
            self.is_limit_owed |= class.restores;
            return learned;
        }
        let mut state = Rc::clone(&self.state); // copied once it changes
        let (mut reported, mut told) = (false, false);
        let (mut charset, mut client, mut results, mut collation) = (false, false, false, false);
        for change in Changes::new(&outcome.changes) {
            match change {
                Ok(Change::Variable { name: b"last_gtid", value }) => {
                    learned.on_gtids(Gtid::parse(value).map(Position::from));
                }
                Ok(Change::Variable { name: b"autocommit", .. }) => told = true,
                Ok(Change::Variable { name: b"last_insert_id" | b"identity", .. }) => {
                    (told, learned.insert_id) = (true, true);
                }
                // MariaDB tells of the limit that a statement has for itself; behind it there is the session's again, whatever a
                // function has done.
                Ok(Change::Variable { name: b"max_statement_time", .. }) if class.restores => told = true,
                // That it is there again is told with what a later statement changes.
                Ok(Change::Variable { name: b"max_statement_time", .. })
                    if class.kind != Kind::Set
                        && self.is_limit_owed
                        && !class.may_set
                        && (!class.trusted || class.batch.is_some()) =>
                {
                    (told, self.is_limit_owed) = (true, false);
                }
                // Whether something else has set it, too, nobody can know: the connection is reset.
                Ok(Change::Variable { .. }) if class.restores => (told, after.dirty) = (true, true),
                Ok(Change::Variable { name, value }) => {
                    told = true;
                    if let Some(index) = place_of(name) {
                        Rc::make_mut(&mut state).set(index as u8, value);
                    }
                    learned.untracked |= !has_place(name, value);
                    if name == b"sql_log_bin" {
                        self.token.doubt_for_good();
                    }
                    charset |= name == b"character_set_connection";
                    client |= name == b"character_set_client";
                    results |= name == b"character_set_results";
                    collation |= name == b"collation_connection";
                    learned.unexplained |= class.kind != Kind::Set;
                }
                Ok(Change::Schema(schema)) => {
                    told = true;
                    Rc::make_mut(&mut state).schema = (!schema.is_empty()).then(|| schema.to_vec());
                }
                Ok(Change::State(changed)) => reported |= changed,
                Ok(Change::Characteristics(text)) => {
                    self.characteristics.clear();
                    self.characteristics.extend_from_slice(text);
                }
                Ok(Change::Transaction(letters)) => {
                    self.wrote_in_transaction |= letters.iter().any(|b| matches!(b, b'W' | b'w'));
                    self.untouched = letters.starts_with(b"T") && letters[1..].iter().all(|b| *b == b'_');
                }
                Ok(Change::Gtids(set)) => learned.on_gtids(GtidSet::parse(set).map(Position::from)),
                Ok(Change::Other(_)) => {}
                Err(_) => learned.unexplained = true,
            }
        }
        learned.unexplained |= reported && !told;
        self.is_limit_owed |= class.restores;
        if client {
            Rc::make_mut(&mut state).client_collation = None;
        }
        if results {
            Rc::make_mut(&mut state).results_collation = None;
        }
        self.names = Names { client: client && class.collate, results: results && class.collate };
        if charset && !collation {
            // The character set brings its default collation with it.
            Rc::make_mut(&mut state).unset(COLLATION_CONNECTION);
        }
        after.read_collation = collation || charset && class.collate;
        self.adopt(state, after);
        learned
    }

    fn adopt(&mut self, state: Rc<State>, after: &mut After) {
        if Rc::ptr_eq(&state, &self.state) || state == self.state {
            return;
        }
        after.state_changed = true;
        if let Some(name) = state.value(CHARACTER_SET_CLIENT) {
            self.mode.charset = Charset::of_name(name);
        }
        if let Some(sql_mode) = state.value(SQL_MODE) {
            let has = |flag: &str| sql_mode.split(|b| *b == b',').any(|part| part == flag.as_bytes());
            self.mode.ansi_quotes = has("ANSI_QUOTES");
            self.mode.ignore_space = has("IGNORE_SPACE");
            self.mode.oracle = has("ORACLE");
        }
        self.state = state;
    }

    /// The pair read back from the server after [`After::read_collation`].
    pub fn on_collation(&mut self, character_set_connection: &[u8], collation_connection: &[u8]) {
        let mut state = State::clone(&self.state);
        // SET CHARACTER SET has another one for the connection.
        let Names { client, results } = std::mem::take(&mut self.names);
        let is_same = |state: &State, index| state.value(index) == Some(character_set_connection);
        if client && is_same(&state, CHARACTER_SET_CLIENT) {
            state.client_collation = Some(collation_connection.to_vec());
        }
        if results && is_same(&state, CHARACTER_SET_RESULTS) {
            state.results_collation = Some(collation_connection.to_vec());
        }
        state.set(CHARACTER_SET_CONNECTION, character_set_connection);
        state.set(COLLATION_CONNECTION, collation_connection);
        self.state = Rc::new(state);
    }

    /// What a statement wrote. `told`: the GTIDs of its OK packets.
    pub(super) fn news(&mut self, class: &Class, outcome: &Outcome, told: News, was_in_transaction: bool) -> News {
        let committed = was_in_transaction && !self.in_transaction();
        let wrote = std::mem::take(&mut self.wrote_in_transaction);
        if told != News::None {
            return told;
        }
        if self.in_transaction() {
            self.wrote_in_transaction = wrote;
            return News::None;
        }
        let unseen_write = match class.kind {
            _ if outcome.error.is_some_and(is_refusal) && class.pin.is_none() && !class.trusted => false,
            _ if class.batch.is_some_and(|batch| has_run_nothing(batch, outcome)) => false,
            Kind::Rollback => false,
            Kind::Write => outcome.affected_rows > 0 || outcome.error.is_some() || outcome.had_rows,
            Kind::Unknown if class.batch.is_some_and(|batch| batch.changes) => {
                let returns = class.batch.is_some_and(|batch| batch.returns);
                outcome.affected_rows > 0 || outcome.error.is_some() || outcome.had_rows && returns
            }
            Kind::Unknown => outcome.affected_rows > 0,
            Kind::Definition => true,
            _ => false,
        };
        match unseen_write || committed && wrote && class.kind != Kind::Rollback {
            true => News::Untold,
            false => News::None,
        }
    }
}

/// Whether several statements were refused as a whole, or the first of them was.
fn has_run_nothing(batch: Batch, outcome: &Outcome) -> bool {
    let is_refused = match batch.first {
        First::Plain => outcome.error.is_some_and(is_refusal),
        First::Strange => outcome.error == Some(SYNTAX_ERROR),
        First::Other => false,
    };
    is_refused && outcome.results == 0 && !outcome.had_rows
}

#[derive(Default)]
pub(super) struct Learned {
    pub(super) told: News,
    pub(super) insert_id: bool,
    /// State changed in a way the class did not announce.
    pub(super) unexplained: bool,
    /// A variable that cannot be set again elsewhere.
    pub(super) untracked: bool,
}

impl Learned {
    /// One result of several may have committed, and the next one, too. `None`: unreadable.
    fn on_gtids(&mut self, gtids: Option<Position>) {
        self.told = match (std::mem::take(&mut self.told), gtids) {
            (News::None, Some(gtids)) => News::Gtids(gtids),
            (News::Gtids(mut all), Some(gtids)) => match all.unite(&gtids) {
                true => News::Gtids(all),
                false => News::Untold,
            },
            (_, None) | (News::Untold, _) => News::Untold,
        };
    }
}

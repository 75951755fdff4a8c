use super::super::gtid::Position;
use super::super::protocol::follow::Cut;
use super::super::protocol::lenenc::put_bytes;
use super::super::sql::classify;
use super::locks::LOCK_NAMES_MAX;
use super::*;

fn entry(kind: u8, data: &[&[u8]]) -> Vec<u8> {
    let mut inner = Vec::new();
    for part in data {
        put_bytes(&mut inner, part);
    }
    let mut out = vec![kind];
    put_bytes(&mut out, &inner);
    out
}

const STATE_CHANGED: &[u8] = b"\x02\x011";

fn variable(name: &str, value: &str) -> Vec<u8> {
    entry(0, &[name.as_bytes(), value.as_bytes()])
}

fn session() -> Session {
    Session::new(Some(b"db".to_vec()), Mode::default(), 45, 0)
}

/// One statement that succeeded with these changes and status flags.
fn run(session: &mut Session, sql: &str, status: u16, affected_rows: u64, changes: &[Vec<u8>]) -> After {
    let outcome = Outcome { status: Some(status), affected_rows, changes: changes.concat(), ..Outcome::default() };
    let class = classify(sql.as_bytes(), session.mode());
    session.on_outcome(&class, &outcome)
}

fn route(session: &Session, sql: &str) -> Route {
    session.route(&classify(sql.as_bytes(), session.mode()))
}

const AC: u16 = STATUS_AUTOCOMMIT;

/// What is in these tables is each server's own.
#[test]
fn reads_of_a_system_schema_that_is_selected_go_to_the_primary() {
    for (schema, expect) in [
        ("mysql", Route::Primary),
        ("INFORMATION_schema", Route::Primary),
        ("performance_schema", Route::Primary),
        ("sys", Route::Primary),
        ("mysql2", Route::Replica),
    ] {
        let s = Session::new(Some(schema.into()), Mode::default(), 45, 0);
        assert_eq!(route(&s, "SELECT * FROM user"), expect, "{schema}");
    }
}

#[test]
fn what_was_too_much_to_be_kept_pins_and_leaves_a_doubt() {
    for (cut, told) in [(Cut::Settings, true), (Cut::Transactions, false)] {
        let mut s = session();
        let changes = variable("last_gtid", "0-1-5");
        let outcome = Outcome { status: Some(AC), changes, cut, ..Outcome::default() };
        let after = s.on_outcome(&classify(b"INSERT INTO t VALUES (1)", s.mode()), &outcome);
        assert!(after.hold && s.pin == Some(Pin::StateChange), "{cut:?}");
        assert_eq!((s.token.position().is_some(), after.news == News::Untold), (told, !told), "{cut:?}");
    }
}

#[test]
fn a_server_that_counts_its_statements_pins_nobody_by_that() {
    let mut s = session();
    let count = variable("statement_id", "520");
    let after = run(&mut s, "SELECT a FROM t", AC, 0, std::slice::from_ref(&count));
    assert!(!after.hold && s.pin.is_none());
    let after = run(
        &mut s,
        "SET group_replication_consistency = 'BEFORE'",
        AC,
        0,
        &[variable("group_replication_consistency", "BEFORE"), count.clone(), STATE_CHANGED.to_vec()],
    );
    assert!(!after.hold && s.pin.is_none() && after.state_changed);
    let hinted = run(
        &mut s,
        "SELECT /*+ SET_VAR(sort_buffer_size = 9) */ a FROM t",
        AC,
        0,
        &[variable("sort_buffer_size", "262144"), variable("bulk_insert_buffer_size", "1"), STATE_CHANGED.to_vec()],
    );
    assert!(!hinted.hold && s.pin.is_none() && !hinted.state_changed && hinted.dirty, "it is as before");
    // Nor does it explain what else has changed.
    let after = run(&mut s, "SELECT v FROM view", AC, 0, &[count, STATE_CHANGED.to_vec()]);
    assert!(after.hold && s.pin == Some(Pin::StateChange));
}

#[test]
fn what_can_be_set_again_anywhere_is_told_from_what_cannot() {
    let schema = entry(1, &[b"d"]);
    let is_portable = |changes: &[Vec<u8>]| is_portable(&changes.concat());
    let changed = STATE_CHANGED.to_vec();
    assert!(is_portable(&[]));
    assert!(is_portable(&[variable("sql_mode", "ANSI"), changed.clone()]));
    assert!(is_portable(&[schema, changed.clone()]));
    for name in ["autocommit", "last_insert_id", "identity"] {
        assert!(is_portable(&[variable(name, "1"), changed.clone()]), "{name}");
    }
    assert!(is_portable(&[entry(4, &[b"SET TRANSACTION READ ONLY;"]), variable("sql_auto_is_null", "OFF")]));
    for name in ["timestamp", "pseudo_thread_id"] {
        assert!(!is_portable(&[variable("sql_mode", "ANSI"), variable(name, "5"), changed.clone()]), "{name}");
    }
    assert!(!is_portable(&[variable("sql_auto_is_null", "ON"), changed.clone()]));
    assert!(!is_portable(std::slice::from_ref(&changed)), "a role, a user variable");
    assert!(!is_portable(&[variable("last_gtid", "0-1-5"), changed]));
    assert!(!is_portable(&[b"\x02\x09".to_vec()]), "whatever it was to say");
}

#[test]
fn reads_go_to_replicas_until_something_ties_the_session() {
    let mut s = session();
    assert_eq!(route(&s, "SELECT 1"), Route::Replica);
    assert_eq!(route(&s, "DELETE FROM t"), Route::Primary);
    assert!(run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[]).hold);
    assert_eq!(route(&s, "SELECT 1"), Route::Held);
    assert!(!run(&mut s, "COMMIT", AC, 0, &[]).hold);
    assert!(run(&mut s, "SET autocommit=0", 0, 0, &[variable("autocommit", "OFF")]).hold);
    assert_eq!(route(&s, "SELECT 1"), Route::Held);
    assert!(!run(&mut s, "SET autocommit=1", AC, 0, &[variable("autocommit", "ON")]).hold);
    assert_eq!(s.pin, None);
    assert!(run(&mut s, "SET @a=1", AC, 0, &[STATE_CHANGED.to_vec()]).hold);
    assert_eq!(route(&s, "SELECT 1"), Route::Held);
    s.reset(Mode::default());
    assert_eq!(route(&s, "SELECT 1"), Route::Replica);
}

#[test]
fn an_untouched_transaction_can_begin_elsewhere() {
    let characteristics = |text: &str| entry(4, &[text.as_bytes()]);
    let letters = |text: &str| entry(5, &[text.as_bytes()]);
    let texts =
        |s: &Session| -> Vec<String> { s.prelude().into_iter().map(|sql| String::from_utf8(sql).unwrap()).collect() };
    let mut s = session();
    assert!(!s.is_untouched() && texts(&s).is_empty());
    run(&mut s, "SET autocommit=0", 0, 0, &[variable("autocommit", "OFF")]);
    assert!(s.holds() && texts(&s).is_empty(), "whoever gets a connection sets it there");
    run(&mut s, "SET autocommit=1", AC, 0, &[variable("autocommit", "ON")]);
    let serializable = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;";
    run(&mut s, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", AC, 0, &[characteristics(serializable)]);
    assert!(s.holds() && texts(&s).is_empty() && s.next_characteristics() == serializable.as_bytes());
    let both = format!("{serializable} START TRANSACTION READ ONLY;");
    run(&mut s, "START TRANSACTION READ ONLY", AC | STATUS_IN_TRANS, 0, &[characteristics(&both), letters("T_______")]);
    assert!(s.is_untouched());
    assert_eq!(texts(&s), ["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "START TRANSACTION READ ONLY"]);
    run(&mut s, "SELECT a FROM t", AC | STATUS_IN_TRANS, 0, &[letters("T_R__sS_")]);
    assert!(!s.is_untouched());
    s.on_transaction_lost();
    assert!(!s.holds() && texts(&s).is_empty());
    run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[letters("T_______")]);
    assert_eq!((s.is_untouched(), texts(&s)), (true, vec!["START TRANSACTION".to_owned()]));
    let class = classify(b"DELETE FROM t", s.mode());
    s.on_outcome(&class, &Outcome { error: Some(1205), ..Outcome::default() });
    assert!(!s.is_untouched(), "it may have locks");
}

#[test]
fn an_error_in_a_transaction_keeps_it() {
    let mut s = session();
    run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[]);
    let class = classify(b"DELETE FROM t", s.mode());
    let after = s.on_outcome(&class, &Outcome { error: Some(1205), ..Outcome::default() });
    assert!(after.hold && s.in_transaction());
}

#[test]
fn variables_are_captured_and_set_again() {
    let mut s = session();
    let changes = [variable("sql_mode", "ANSI_QUOTES,IGNORE_SPACE"), STATE_CHANGED.to_vec()];
    let after = run(&mut s, "SET sql_mode='ANSI_QUOTES,IGNORE_SPACE'", AC, 0, &changes);
    assert!(after.state_changed && !after.hold);
    assert!(s.mode().ansi_quotes && s.mode().ignore_space);
    run(&mut s, "SET max_statement_time=1", AC, 0, &[variable("max_statement_time", "1.000000")]);
    run(&mut s, "SET lc_messages='x'", AC, 0, &[variable("lc_messages", "it's")]);
    let mut out = Vec::new();
    s.state.put_assignments(&mut out);
    let text = ", sql_mode='ANSI_QUOTES,IGNORE_SPACE', max_statement_time=1.000000, lc_messages=X'69742773'";
    assert_eq!(String::from_utf8(out).unwrap(), text);
    assert!(run(&mut s, "SET timestamp=5", AC, 0, &[variable("timestamp", "5")]).hold, "not on the list");
}

#[test]
fn a_character_set_brings_its_collation_unless_one_is_named() {
    let mut s = session();
    let charset = [variable("character_set_connection", "latin1"), variable("character_set_client", "latin1")];
    assert!(!run(&mut s, "SET NAMES latin1", AC, 0, &charset).read_collation);
    assert_eq!(s.mode().charset, Charset::AsciiSafe);
    assert!(run(&mut s, "SET NAMES latin1 COLLATE latin1_bin", AC, 0, &charset).read_collation);
    s.on_collation(b"latin1", b"latin1_bin");
    assert_eq!(s.state.value(COLLATION_CONNECTION), Some(&b"latin1_bin"[..]));
    run(&mut s, "SET NAMES latin1", AC, 0, &charset);
    assert_eq!(s.state.value(COLLATION_CONNECTION), None);
}

#[test]
fn client_and_results_get_the_collation_that_set_names_gave_them() {
    let assignments = |s: &Session| {
        let mut out = Vec::new();
        s.state.put_assignments(&mut out);
        String::from_utf8(out).unwrap()
    };
    let mut s = session();
    let all = ["client", "connection", "results"].map(|kind| variable(&format!("character_set_{kind}"), "utf8mb4"));
    run(&mut s, "SET NAMES utf8mb4 COLLATE utf8mb4_bin", AC, 0, &all);
    s.on_collation(b"utf8mb4", b"utf8mb4_bin");
    run(&mut s, "SET time_zone='+01:00'", AC, 0, &[variable("time_zone", "+01:00")]);
    let rest = "character_set_connection='utf8mb4', collation_connection=";
    let named = ", NAMES 'utf8mb4' COLLATE 'utf8mb4_bin', ";
    assert_eq!(assignments(&s), format!("{named}{rest}'utf8mb4_bin', time_zone='+01:00'"));
    let other = [variable("character_set_connection", "utf8mb4"), variable("collation_connection", "utf8mb4_da")];
    run(&mut s, "SET collation_connection=utf8mb4_da", AC, 0, &other);
    assert_eq!(assignments(&s), format!("{named}{rest}'utf8mb4_da', time_zone='+01:00'"));
    run(&mut s, "SET character_set_results=utf8mb4", AC, 0, &all[2..]);
    let results = "character_set_connection='utf8mb4', character_set_results='utf8mb4', ";
    assert!(assignments(&s).starts_with(&format!("{named}{results}")), "the client has it still");
    run(&mut s, "SET character_set_client=utf8mb4", AC, 0, &all[..1]);
    assert!(!assignments(&s).contains("NAMES"));
}

#[test]
fn unannounced_changes_pin() {
    let mut s = session();
    assert!(run(&mut s, "INSERT INTO t VALUES (1)", AC, 1, &[STATE_CHANGED.to_vec()]).hold);
    let mut s = session();
    assert!(run(&mut s, "SELECT 1", AC, 0, &[variable("sql_mode", "")]).hold);
    let mut s = session();
    assert!(!run(&mut s, "USE x", AC, 0, &[entry(1, &[b"x"]), STATE_CHANGED.to_vec()]).hold);
    assert_eq!(s.state.schema.as_deref(), Some(&b"x"[..]));
}

#[test]
fn the_token_follows_writes() {
    let mut s = session();
    let gtid = |text: &str| variable("last_gtid", text);
    run(&mut s, "INSERT INTO t VALUES (1)", AC, 1, &[gtid("0-1-5")]);
    let seen = |text: &str| Position::parse(text.as_bytes());
    assert_eq!(s.token.position(), seen("0-1-5").as_ref());
    run(&mut s, "UPDATE t SET a=1", AC, 1, &[]);
    assert_eq!(s.token.position(), None);
    run(&mut s, "DELETE FROM t", AC, 1, &[gtid("0-1-6")]);
    assert_eq!(s.token.position(), seen("0-1-6").as_ref());
    run(&mut s, "INSERT INTO t VALUES (1); DELETE FROM t", AC, 1, &[gtid("0-1-7"), gtid("1-1-1")]);
    assert_eq!(s.token.position(), seen("0-1-7,1-1-1").as_ref(), "each result of a packet may have one");
    s.pin = None;
    run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[]);
    run(&mut s, "DELETE FROM t", AC | STATUS_IN_TRANS, 1, &[entry(5, &[b"T___W___"])]);
    run(&mut s, "ROLLBACK", AC, 0, &[entry(5, &[b"________"])]);
    assert!(s.token.position().is_some(), "nothing was committed");
    run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[]);
    run(&mut s, "DELETE FROM t", AC | STATUS_IN_TRANS, 1, &[entry(5, &[b"T___W___"])]);
    run(&mut s, "COMMIT", AC, 0, &[entry(5, &[b"________"])]);
    assert_eq!(s.token.position(), None, "committed without a GTID");
    let (mut s, uuid) = (session(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:5");
    run(&mut s, "DELETE FROM t", AC, 1, &[entry(3, &[b"", uuid.as_bytes()])]);
    assert_eq!(s.token.position(), seen(uuid).as_ref());
    run(&mut s, "DELETE FROM t", AC, 1, &[gtid("nonsense")]);
    assert_eq!(s.token.position(), None);
}

#[test]
fn escapes_are_right_from_the_first_statement_on() {
    let mode = Mode { no_backslash_escapes: true, ..Mode::default() };
    let mut s = Session::new(None, mode, 45, 0);
    assert_eq!(s.own_status(), AC | STATUS_NO_BACKSLASH_ESCAPES);
    run(&mut s, "SET sql_mode=''", AC, 0, &[variable("sql_mode", "")]);
    assert_eq!((s.own_status(), s.mode().no_backslash_escapes), (AC, false));
    s.reset(mode);
    assert_eq!((s.own_status(), s.mode().no_backslash_escapes), (AC | STATUS_NO_BACKSLASH_ESCAPES, true));
}

#[test]
fn what_was_global_at_the_login_is_kept_unless_it_was_set() {
    let mut s = session();
    run(&mut s, "SET group_concat_max_len=50", AC, 0, &[variable("group_concat_max_len", "50")]);
    s.keep([("group_concat_max_len", "4000"), ("sql_mode", "ANSI"), ("no_such", "1")].into_iter());
    let kept = |s: &Session| {
        let mut text = Vec::new();
        s.state.put_assignments(&mut text);
        String::from_utf8(text).unwrap()
    };
    assert_eq!(kept(&s), ", sql_mode='ANSI', group_concat_max_len=50");
    s.keep([("sql_mode", "")].into_iter());
    assert_eq!(kept(&s), ", sql_mode='ANSI', group_concat_max_len=50", "that of before is not the one it began with");
    s.reset(Mode::default());
    assert_eq!(kept(&s), "");
    // One variable, by whichever of its names.
    run(&mut s, "SET tx_isolation='SERIALIZABLE'", AC, 0, &[variable("tx_isolation", "SERIALIZABLE")]);
    s.keep([("transaction_isolation", "READ-COMMITTED"), ("tx_isolation", "READ-COMMITTED")].into_iter());
    assert_eq!(kept(&s), ", tx_isolation='SERIALIZABLE'");
    // Another server's are taken.
    s.rebase(Mode { ansi_quotes: true, ..Mode::default() });
    assert!(s.mode().ansi_quotes);
    run(&mut s, "SET sql_mode=''", AC, 0, &[variable("sql_mode", "")]);
    s.rebase(Mode { ansi_quotes: true, ..Mode::default() });
    assert!(!s.mode().ansi_quotes, "it has set its own");
    for (value, expect) in
        [("", "IGNORE_SPACE"), ("ANSI_QUOTES", "ANSI_QUOTES,IGNORE_SPACE"), ("IGNORE_SPACE", "IGNORE_SPACE")]
    {
        let mut s = Session::new(None, Mode::default(), 45, super::super::protocol::capability::IGNORE_SPACE);
        s.keep([("sql_mode", value)].into_iter());
        assert_eq!(kept(&s), format!(", sql_mode='{expect}'"), "as its login has set it");
    }
}

#[test]
fn returned_rows_of_a_write_tell_neither_its_insert_id_nor_what_was_written() {
    let mut s = session();
    let class = classify(b"INSERT INTO t VALUES (1) RETURNING id", s.mode());
    let outcome = Outcome { status: Some(AC), had_rows: true, results: 1, ..Outcome::default() };
    assert!(s.on_outcome(&class, &outcome).insert_id_moved);
    assert_eq!(s.token.position(), None);
    let class = classify(b"INSERT INTO t VALUES (1), (1)", s.mode());
    assert!(s.on_outcome(&class, &Outcome { error: Some(1062), ..Outcome::default() }).insert_id_moved);
    assert_eq!(s.token.position(), None, "rows of tables without transactions stay");
    let mut s = session();
    s.on_outcome(&class, &Outcome { error: Some(1792), ..Outcome::default() });
    assert!(s.token.position().is_some(), "it did not begin");
}

#[test]
fn one_shot_transaction_settings_hold_the_connection() {
    let mut s = session();
    assert!(run(&mut s, "SET TRANSACTION READ ONLY", AC, 0, &[entry(4, &[b"SET TRANSACTION READ ONLY;"])]).hold);
    assert!(!run(&mut s, "SELECT 1", AC, 0, &[entry(4, &[b""])]).hold);
}

#[test]
fn read_only_transactions_may_run_on_replicas() {
    let begins = |s: &Session, sql: &str| s.begins_read_only(&classify(sql.as_bytes(), s.mode()));
    let mut s = session();
    for sql in ["START TRANSACTION READ ONLY", "start transaction with consistent snapshot, read only"] {
        assert!(begins(&s, sql) && route(&s, sql) == Route::Primary, "{sql}");
        let class = Class { kind: Kind::Read, ..classify(sql.as_bytes(), s.mode()) };
        assert_eq!(s.route(&class), Route::Replica, "{sql}");
    }
    for sql in
        ["BEGIN", "START TRANSACTION", "START TRANSACTION READ WRITE", "SELECT 1", "BEGIN NOT ATOMIC SELECT 1; END"]
    {
        assert!(!begins(&s, sql), "{sql}");
    }
    // Of the next transaction alone.
    run(&mut s, "SET TRANSACTION READ ONLY", AC, 0, &[entry(4, &[b"SET TRANSACTION READ ONLY;"])]);
    assert!(begins(&s, "BEGIN") && begins(&s, "START TRANSACTION") && !begins(&s, "START TRANSACTION READ WRITE"));
    assert_eq!(route(&s, "SELECT 1"), Route::Held, "a statement by itself is the next transaction, too");
    let started = entry(4, &[b"START TRANSACTION READ ONLY;"]);
    assert!(run(&mut s, "BEGIN", AC | STATUS_IN_TRANS, 0, &[started]).hold);
    assert!(!begins(&s, "START TRANSACTION READ ONLY") && s.next_characteristics().is_empty());
    assert!(!run(&mut s, "COMMIT", AC, 0, &[entry(4, &[b""])]).hold);
    assert!(!begins(&s, "BEGIN"));
    // Of all of the session.
    for (name, on) in [("tx_read_only", "ON"), ("transaction_read_only", "ON")] {
        let mut s = session();
        assert!(!run(&mut s, "SET SESSION TRANSACTION READ ONLY", AC, 0, &[variable(name, on)]).hold);
        assert!(begins(&s, "BEGIN") && !begins(&s, "START TRANSACTION READ WRITE"));
        run(&mut s, "SET TRANSACTION READ WRITE", AC, 0, &[entry(4, &[b"SET TRANSACTION READ WRITE;"])]);
        assert!(!begins(&s, "BEGIN"));
    }
    // Without autocommit, by whatever reads first.
    let mut s = session();
    run(&mut s, "SET autocommit=0", 0, 0, &[]);
    assert!(!begins(&s, "START TRANSACTION READ ONLY") && !begins(&s, "SELECT 1"));
    run(&mut s, "SET SESSION TRANSACTION READ ONLY", 0, 0, &[variable("tx_read_only", "ON")]);
    assert!(begins(&s, "SELECT 1") && !begins(&s, "SELECT 1 FOR UPDATE") && !begins(&s, "DELETE FROM t"));
    run(&mut s, "SELECT 1", STATUS_IN_TRANS, 0, &[]);
    assert!(!begins(&s, "SELECT 1"));
    // Not while anything ties the session to its connection.
    let mut s = session();
    run(&mut s, "SET @a=1", AC, 0, &[STATE_CHANGED.to_vec()]);
    assert!(!begins(&s, "START TRANSACTION READ ONLY"));
}

#[test]
fn a_xa_transaction_holds_until_its_status_clears() {
    let mut s = session();
    run(&mut s, "XA START 'a'", AC | STATUS_IN_TRANS, 0, &[]);
    assert_eq!(s.pin, Some(Pin::Xa));
    for sql in ["DELETE FROM t", "XA END 'a'", "XA PREPARE 'a'"] {
        assert!(!run(&mut s, sql, AC | STATUS_IN_TRANS, 0, &[]).is_xa_over, "{sql}");
    }
    assert!(run(&mut s, "XA COMMIT 'a'", AC, 0, &[]).is_xa_over);
    // Another reason for a pin outlives it, whichever came first.
    for script in [["SET @a = 1", "XA START 'a'"], ["XA START 'a'", "SET @a = 1"]] {
        let mut s = session();
        for sql in script {
            let changes = sql.contains('@').then(|| STATE_CHANGED.to_vec());
            run(&mut s, sql, AC | STATUS_IN_TRANS, 0, changes.as_slice());
        }
        assert!(!run(&mut s, "XA ROLLBACK 'a'", AC, 0, &[]).is_xa_over, "{script:?}");
    }
}

#[test]
fn a_setting_behind_a_xa_transaction_that_did_not_begin_is_kept() {
    let mut s = session();
    let class = classify(b"XA START 'a'", s.mode());
    s.on_outcome(&class, &Outcome { error: Some(1399), ..Outcome::default() });
    assert_eq!(s.pin, Some(Pin::Xa));
    let after = run(&mut s, "SET timestamp=5", AC, 0, &[variable("timestamp", "5")]);
    assert_eq!((after.is_xa_over, after.hold, s.pin), (false, true, Some(Pin::Setting)));
}

#[test]
fn a_pin_of_locks_alone_ends_with_the_last_of_them() {
    let take = |s: &mut Session, name: &str| {
        run(s, &format!("SELECT GET_LOCK({name}, 1)"), AC, 0, &[]);
        s.on_lock_name(Some(name.as_bytes()));
    };
    let answer = |values: &[&str]| values.iter().map(|value| Some(value.as_bytes().to_vec())).collect::<Vec<_>>();
    let mut s = session();
    take(&mut s, "'a'");
    take(&mut s, "'b'");
    take(&mut s, "'a'");
    run(&mut s, "LOCK TABLES t READ", AC, 0, &[]);
    run(&mut s, "SELECT RELEASE_LOCK('a')", AC, 0, &[]);
    let question = s.lock_question().unwrap();
    let text = "SELECT IS_USED_LOCK('a') <=> CONNECTION_ID(), IS_USED_LOCK('b') <=> CONNECTION_ID()";
    assert_eq!(String::from_utf8(question).unwrap(), text);
    s.on_locks(&answer(&["1", "0"]));
    s.on_locks(&answer(&["0"]));
    assert!(s.lock_question().is_none() && !s.is_unlocked(), "the table is locked still");
    run(&mut s, "UNLOCK TABLES", AC, 0, &[]);
    assert!(s.is_unlocked());
    s.unpin();
    assert!(!s.holds() && !s.is_unlocked());
    // What failed has released nothing.
    run(&mut s, "LOCK TABLES t READ", AC, 0, &[]);
    let class = classify(b"UNLOCK TABLES", s.mode());
    s.on_outcome(&class, &Outcome { error: Some(1192), ..Outcome::default() });
    assert!(!s.is_unlocked() && s.holds());
    // Whatever else pins, before or after, stays.
    for other in ["SET @a = 1", "CALL p()", "SELECT f()", "HANDLER t OPEN", "SET NAMES latin1"] {
        let mut s = session();
        take(&mut s, "'a'");
        let changes = [variable("character_set_client", "latin1")];
        run(&mut s, other, AC, 0, if other.contains("NAMES") { &changes } else { &[] });
        run(&mut s, "SELECT RELEASE_ALL_LOCKS()", AC, 0, &[]);
        assert!(!s.is_unlocked() && s.holds(), "{other}");
        if other.contains("NAMES") {
            continue;
        }
        let mut s = session();
        run(&mut s, other, AC, 0, &[]);
        take(&mut s, "'a'");
        run(&mut s, "SELECT RELEASE_ALL_LOCKS()", AC, 0, &[]);
        assert!(!s.is_unlocked() && s.holds(), "{other}");
    }
    // There is a limit to what is remembered.
    let mut s = session();
    for n in 0..=LOCK_NAMES_MAX {
        take(&mut s, &format!("'{n}'"));
    }
    run(&mut s, "SELECT RELEASE_ALL_LOCKS()", AC, 0, &[]);
    assert!(!s.is_unlocked() && s.holds());
}

#[test]
fn what_no_server_understands_leaves_nothing_behind() {
    let failed = |error, results| Outcome { error: Some(error), results, ..Outcome::default() };
    for (sql, outcome, pin) in [
        ("nonsense", failed(1064, 0), None),
        ("nonsense", failed(1146, 0), Some(Pin::Unknown)),
        ("SELECT 1; nonsense", failed(1064, 1), Some(Pin::MultiStatement)),
        ("SELECT GET_LOCK()", failed(1582, 0), None),
        ("SELECT GET_LOCK('k', 0)", failed(1305, 0), Some(Pin::UnknownFunction)),
        ("CALL p()", failed(1582, 0), Some(Pin::Call)),
        ("SET @a = ", failed(1064, 0), None),
    ] {
        let mut s = session();
        let class = classify(sql.as_bytes(), s.mode());
        s.on_outcome(&class, &outcome);
        assert_eq!(s.pin, pin, "{sql}");
    }
}

#[test]
fn null_that_means_the_last_insert_id_pins() {
    let mut s = session();
    assert!(!run(&mut s, "SET sql_auto_is_null=0", AC, 0, &[variable("sql_auto_is_null", "OFF")]).hold);
    assert!(run(&mut s, "SET sql_auto_is_null=1", AC, 0, &[variable("sql_auto_is_null", "ON")]).hold);
}

#[test]
fn a_reset_goes_back_to_the_names_of_the_login() {
    let mut s = session();
    s.begin_with_names(b"gbk", b"gbk_bin");
    assert_eq!(s.mode().charset, Charset::AsciiTrail);
    run(&mut s, "SET NAMES latin1", AC, 0, &[variable("character_set_client", "latin1")]);
    assert_eq!(s.mode().charset, Charset::AsciiSafe);
    s.reset(Mode::default());
    assert_eq!((s.mode().charset, s.state.value(COLLATION_CONNECTION)), (Charset::AsciiTrail, Some(&b"gbk_bin"[..])));
    // MySQL goes back to its own.
    s.take_names(255);
    s.reset(Mode::default());
    assert_eq!((s.mode().charset, s.state.value(COLLATION_CONNECTION)), (Charset::Utf8, None));
}

#[test]
fn warnings_stay_until_a_statement_uses_tables() {
    let mut s = session();
    let class = classify(b"SELECT 1/0", s.mode());
    let outcome = Outcome { status: Some(AC), warnings: 1, ..Outcome::default() };
    assert!(s.on_outcome(&class, &outcome).diagnostics_here && s.has_diagnostics);
    assert!(!run(&mut s, "SHOW WARNINGS", AC, 0, &[]).diagnostics_here && s.has_diagnostics);
    assert!(!run(&mut s, "SELECT 1", AC, 0, &[]).diagnostics_here && s.has_diagnostics);
    let after = run(&mut s, "CALL p()", AC, 0, &[]);
    assert!(!after.diagnostics_here && after.diagnostics_unsure && s.has_diagnostics);
    let class = classify(b"GET DIAGNOSTICS CONDITION 7 @n = MYSQL_ERRNO", s.mode());
    // MariaDB adds the mistake to what it is asked about.
    assert!(s.on_outcome(&class, &Outcome { warnings: 1, ..Outcome::default() }).diagnostics_here);
    assert!(run(&mut s, "SELECT a FROM t", AC, 0, &[]).diagnostics_here && !s.has_diagnostics);
    let after = run(&mut s, "CALL p()", AC, 0, &[]);
    assert!(!after.diagnostics_here && !after.diagnostics_unsure, "there is nothing to forget");
}

#[test]
fn what_a_set_names_goes_along_or_not() {
    let check = |goes: bool, statements: &[&str]| {
        for sql in statements {
            assert_eq!(sets_what_goes_along(sql.as_bytes(), Mode::default()), goes, "{sql}");
        }
    };
    check(
        true,
        &[
            "SET sql_mode = 'ANSI', session Time_Zone = IF(1, '+02:00', 'SYSTEM'), @@session.sql_notes := 1",
            "set names utf8mb4 collate utf8mb4_bin, autocommit = 1",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
            "SET `sql_mode` = '', @@last_insert_id = 5",
        ],
    );
    check(
        false,
        &[
            "SET insert_id = 5",
            "SET sql_notes = 1, timestamp = 5",
            "SET NAMES utf8mb4, @@local.rand_seed1 = 5",
            "SET @@global.sql_mode = ''",
            "SET sql_auto_is_null = 1",
            "SET @a = 1",
            "SELECT 1",
        ],
    );
}

#[test]
fn a_batch_leaves_a_doubt_only_where_it_may_have_written_untold() {
    let outcome = |affected_rows, had_rows, error: Option<u16>, results| {
        let status = error.is_none().then_some(AC);
        Outcome { status, affected_rows, had_rows, error, results, ..Outcome::default() }
    };
    const UPDATE: &str = "UPDATE t SET a = 1; SELECT ROW_COUNT()";
    for (sql, outcome, expect) in [
        (UPDATE, outcome(0, true, None, 2), News::None),
        (UPDATE, outcome(1, true, None, 2), News::Untold),
        ("DELETE FROM t RETURNING a; SELECT 1", outcome(0, true, None, 2), News::Untold),
        ("SELECT 1; CALL p()", outcome(0, true, None, 3), News::Untold),
        // Several statements of a client that has not asked for that, or the first one is refused.
        (UPDATE, outcome(0, false, Some(1064), 0), News::None),
        (UPDATE, outcome(0, false, Some(1146), 0), News::None),
        ("x; y", outcome(0, false, Some(1064), 0), News::None),
        ("x; y", outcome(0, false, Some(1146), 0), News::Untold),
        (UPDATE, outcome(0, false, Some(1205), 0), News::Untold),
        (UPDATE, outcome(0, false, Some(1064), 1), News::Untold),
        ("CALL p(); SELECT 1", outcome(0, false, Some(1064), 0), News::Untold),
        ("IF 1 THEN DELETE FROM t; EXECUTE IMMEDIATE 'x'; END IF", outcome(0, false, Some(1064), 0), News::Untold),
    ] {
        let mut s = session();
        let after = s.on_outcome(&classify(sql.as_bytes(), s.mode()), &outcome);
        assert_eq!(after.news, expect, "{sql} {outcome:?}");
    }
}

#[test]
fn a_batch_that_has_not_warned_leaves_nothing_to_ask_for() {
    for (sql, before, warned, expect) in [
        ("SELECT 1; SELECT 2", false, false, (false, true, false)),
        ("SELECT a FROM t; SELECT 2", true, false, (false, true, false)),
        ("SELECT 1; SELECT 2", true, false, (true, false, true)),
        ("SELECT 'a' + 1; SELECT 2", false, true, (true, true, false)),
        ("SELECT 'a' + 1; SELECT 2", true, true, (true, true, false)),
    ] {
        let mut s = session();
        s.has_diagnostics = before;
        let outcome = Outcome { status: Some(AC), had_rows: true, results: 2, warned, ..Outcome::default() };
        let after = s.on_outcome(&classify(sql.as_bytes(), s.mode()), &outcome);
        assert_eq!((s.has_diagnostics, after.diagnostics_here, after.diagnostics_unsure), expect, "{sql}");
    }
}

//! What one server tells a session, the splitter tells it too, wherever its statements ran: short scripts, each said to a
//! MariaDB server and, through the splitter, to a primary with a replica, while others take the pooled connections in
//! between. Most were found by the random scripts of `splitter_twin`.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests need one form alone")]
mod split;
#[path = "support/sql_wire.rs"]
#[allow(dead_code, reason = "other tests send broken packets")]
mod sql_wire;

use std::io;
use std::net::SocketAddr;

use mariadb::{Cluster, PASSWORD, USER};
use one_server::mysql::protocol::capability::{
    DEPRECATE_EOF, IGNORE_SPACE, INTERACTIVE, MULTI_RESULTS, MULTI_STATEMENTS, PS_MULTI_RESULTS, STATUS_MORE_RESULTS,
};
use sql_wire::{LogOn, Piece, Shape, Wire};
use support::*;

const POOL_MAX: usize = 2;
/// Status flags that tell of the moment, or of a server's statistics: a slow query, no (good) index, tracked state.
const MOMENTARY: u16 = 0x4000 | 0x0800 | 0x0020 | 0x0010;

/// What a client does, and what is made of its answer.
#[derive(Clone, Copy, Debug)]
enum Do {
    /// The answers must be the same.
    Say(&'static str),
    /// The same, unless the splitter owns up not to know any more.
    Ask(&'static str),
    /// Other sessions take all the pooled connections, and leave them in another state.
    Stir,
    /// Others take and release locks on all the pooled connections, which are looked at then for what is left of the sessions that
    /// were tied to them.
    Lock,
    Prepare(&'static str),
    /// What was prepared last, with this text; then it is closed, since statements tie a session that sets something.
    Execute(&'static str),
    Ping,
    FieldList,
    /// Of what was prepared last.
    ResetStatement,
    /// COM_SET_OPTION.
    MultiStatements(bool),
    Reset,
    ChangeUser,
}

use Do::{Ask, ChangeUser, Execute, FieldList, Lock, MultiStatements, Ping, Prepare, Reset, ResetStatement, Say, Stir};

/// Behaviour, and the script that shows it.
const SCRIPTS: &[(&str, &[Do])] = &[
    (
        "a read that ties its session to another connection keeps LAST_INSERT_ID()",
        &[
            Say("INSERT INTO a (v) VALUES (9)"),
            Stir,
            Say("SELECT v FROM remembering ORDER BY v LIMIT 2"),
            Say("SELECT LAST_INSERT_ID() AS id, 1"),
            Say("SELECT @remembered > 0"),
            Reset,
            Say("INSERT INTO a (v) VALUES (10)"),
            Stir,
            Say("SELECT v FROM remembering ORDER BY v LIMIT 2"),
            Say("SELECT ROW_COUNT()"),
            Say("INSERT INTO k VALUES (3, LAST_INSERT_ID())"),
            Say("SELECT n FROM k"),
        ],
    ),
    (
        "what a read that ties its session warns of is there behind it",
        &[
            Say("INSERT INTO a (v) VALUES (11)"),
            Stir,
            Say("SELECT v, CAST('x' AS INT) FROM remembering ORDER BY v LIMIT 2"),
            Say("SHOW WARNINGS"),
            Say("SELECT @@warning_count"),
            Say("SELECT LAST_INSERT_ID() AS id, 1"),
        ],
    ),
    (
        "before the first statement nothing was counted, also where the question is prepared or part of another statement",
        &[
            ChangeUser,
            Prepare("SELECT ROW_COUNT(), LAST_INSERT_ID(), ?"),
            Lock,
            Execute("x"),
            ChangeUser,
            Lock,
            Say("INSERT INTO k VALUES (1, ROW_COUNT())"),
            Say("SELECT n FROM k"),
        ],
    ),
    (
        "a count that the splitter tells has the type of the server's own",
        &[
            Say("INSERT INTO k VALUES (1, 1)"),
            Say("SET sql_notes = 1"),
            Stir,
            Say("SELECT ROW_COUNT()"),
            Stir,
            Say("SELECT FOUND_ROWS()"),
        ],
    ),
    (
        "a reset leaves the found rows, and forgets the changed ones",
        &[
            Say("SELECT id FROM a"),
            Reset,
            Say("SELECT ROW_COUNT()"),
            Say("SELECT id FROM a"),
            Reset,
            Say("SELECT FOUND_ROWS()"),
        ],
    ),
    (
        "what SHOW prints are no found rows",
        &[
            Say("SELECT id FROM a"),
            Stir,
            Say("SHOW CREATE TABLE k"),
            Stir,
            Ask("SELECT FOUND_ROWS()"),
            Say("EXPLAIN SELECT 1"),
            Stir,
            Ask("SELECT FOUND_ROWS()"),
        ],
    ),
    (
        "rows that an offset leaves out are found",
        &[
            Say("SELECT id FROM a LIMIT 2, 2"),
            Stir,
            Ask("SELECT FOUND_ROWS()"),
            Say("SELECT 1 UNION SELECT 2 UNION SELECT 3 LIMIT 1"),
            Stir,
            Ask("SELECT FOUND_ROWS()"),
        ],
    ),
    (
        "a limit without an offset is known",
        &[
            Say("SELECT id FROM a ORDER BY id LIMIT 3"),
            Stir,
            Say("SELECT FOUND_ROWS()"),
            Stir,
            Say("SELECT FOUND_ROWS() AS n, ROW_COUNT()"),
        ],
    ),
    (
        "settings between a query and the question change no found rows",
        &[Say("SELECT id FROM a"), Say("SET time_zone = '+01:00'"), Stir, Say("SELECT FOUND_ROWS()")],
    ),
    (
        "what was not prepared counts as a statement that failed",
        &[
            Say("REPLACE INTO k VALUES (2, 2), (3, 3)"),
            Prepare("SELECT nothing FROM a"),
            Say("SELECT ROW_COUNT()"),
            Prepare("SELECT 1 FROM nowhere"),
            Stir,
            Say("SELECT ROW_COUNT()"),
        ],
    ),
    (
        "a ping counts no rows, and a list of fields is none that are counted",
        &[
            Say("REPLACE INTO k VALUES (4, 4)"),
            FieldList,
            Stir,
            Say("SELECT ROW_COUNT()"),
            Say("REPLACE INTO k VALUES (2, 2), (3, 3)"),
            Ping,
            Say("SELECT ROW_COUNT()"),
            Say("SET @a = 1"),
            Say("REPLACE INTO k VALUES (2, 3)"),
            Ping,
            Say("SELECT ROW_COUNT()"),
        ],
    ),
    (
        "rows that come back from a write are not counted",
        &[Say("INSERT INTO k VALUES (9, 9) RETURNING id"), Stir, Say("SELECT ROW_COUNT()")],
    ),
    (
        "counts and the last insert id are told together, wherever they come from",
        &[
            Say("INSERT INTO a (v) VALUES (70)"),
            Say("SELECT id, v FROM a ORDER BY id"),
            Say("SELECT LAST_INSERT_ID(), ROW_COUNT()"),
            Say("SELECT v FROM a ORDER BY id"),
            Say("SELECT FOUND_ROWS(), ROW_COUNT() AS n, LAST_INSERT_ID()"),
            Say("UPDATE a SET v = v + 100 WHERE v > 3 AND v < 60"),
            Stir,
            Say("SELECT LAST_INSERT_ID(), ROW_COUNT()"),
        ],
    ),
    (
        "the last insert id is there on the connection that a session is tied to",
        &[
            Say("INSERT INTO a (v) VALUES (71)"),
            Stir,
            Say("SELECT v, CONNECTION_ID() > 0 FROM a"),
            Say("INSERT INTO a (id, v) VALUES (900, 1)"),
            Say("SELECT LAST_INSERT_ID()"),
            Reset,
            Say("INSERT INTO a (v) VALUES (72)"),
            Stir,
            Say("SELECT CAST(s AS INT) FROM a WHERE v = 2 FOR UPDATE"),
            Say("GET DIAGNOSTICS @n = NUMBER"),
            Say("SELECT @n, LAST_INSERT_ID()"),
        ],
    ),
    (
        "diagnostics of a read on a replica are got",
        &[
            Say("SELECT CAST('3x' AS INT), 1/0 FROM a LIMIT 1"),
            Say("GET DIAGNOSTICS @n = NUMBER, @r = ROW_COUNT"),
            Say("SELECT @n, @r"),
            Say("SELECT ROW_COUNT()"),
            Reset,
            Say("SET NAMES latin1"),
            Say("SELECT CAST('é' AS INT)"),
            Say(
                "GET DIAGNOSTICS CONDITION 1 @`a b` = MESSAGE_TEXT, @e = MYSQL_ERRNO, @s = RETURNED_SQLSTATE, @c = COLUMN_NAME",
            ),
            Say("SELECT @`a b`, @e, @s, @c, HEX(@`a b`), CHARSET(@`a b`)"),
            Reset,
            Say("SELECT v FROM a"),
            Say("GET DIAGNOSTICS @n = NUMBER"),
            Say("SELECT @n"),
            Reset,
            Say("SELECT (SELECT id FROM a)"),
            Say("GET DIAGNOSTICS CONDITION 1 @e = MYSQL_ERRNO, @m = MESSAGE_TEXT"),
            Say("SELECT @e, @m"),
        ],
    ),
    (
        "a definition ends a READ ONLY transaction",
        &[
            Say("START TRANSACTION READ ONLY"),
            Say("SELECT COUNT(*) FROM a"),
            Say("CREATE TABLE made (n INT)"),
            Say("INSERT INTO made VALUES (1)"),
            Say("SET autocommit = 0"),
            Say("START TRANSACTION READ ONLY"),
            Say("SELECT COUNT(*) FROM a"),
            Say("DROP TABLE IF EXISTS made, never"),
            Say("SHOW WARNINGS"),
            Say("INSERT INTO k VALUES (5, 5)"),
            Say("ROLLBACK"),
            Say("SELECT id FROM k WHERE id = 5"),
        ],
    ),
    (
        "a mistake in a READ ONLY transaction is told as one",
        &[
            Say("START TRANSACTION READ ONLY"),
            Say("SELECT COUNT(*) FROM a"),
            Say("SELEKT 1"),
            Say("SHOW WARNINGS"),
            Say("INSERT INTO k VALUES (1, 1"),
            Say("SHOW WARNINGS"),
            Say("SELECT ROW_COUNT()"),
            Say("SELECT COUNT(*) FROM a"),
            Say("COMMIT"),
            Say("CREATE DATABASE gone"),
            Say("USE gone"),
            Say("DROP DATABASE gone"),
            Say("START TRANSACTION READ ONLY"),
            Say("DELETE FROM a"),
            Say("SHOW WARNINGS"),
            Say("ALTER TABLE a COMMENT 'x'"),
            Say("SHOW WARNINGS"),
            Say("COMMIT"),
        ],
    ),
    (
        "BEGIN begins a block in sql_mode ORACLE, and ends no transaction",
        &[
            Say("START TRANSACTION READ ONLY"),
            Say("SELECT v FROM a"),
            Say("SET sql_mode = 'ORACLE'"),
            Say("BEGIN"),
            Say("SELECT v FROM a"),
            Say("BEGIN WORK"),
            Say("SELECT @@in_transaction"),
            Say("COMMIT"),
            Say("BEGIN SELECT 1; END"),
            Say("SET sql_mode = DEFAULT"),
            Say("BEGIN"),
            Say("SELECT @@in_transaction"),
            Say("ROLLBACK"),
        ],
    ),
    (
        "a number for the next row waits for it behind what inserts nothing",
        &[
            Say("SET insert_id = 700"),
            Say("SELEKT 1"),
            Say("SELECT v FROM a"),
            Say("SELECT GET_LOCK('number', 0)"),
            Say("SELECT RELEASE_ALL_LOCKS()"),
            Say("INSERT INTO a (v) VALUES (1)"),
            Say("SELECT LAST_INSERT_ID()"),
        ],
    ),
    (
        "a refusal in a READ ONLY transaction is told again by whoever asks",
        &[
            Say("START TRANSACTION READ ONLY"),
            Say("SELECT v FROM a"),
            Say("DELETE FROM a"),
            Say("SHOW WARNINGS"),
            Say("UPDATE nowhere SET n = 1"),
            Say("SELECT ROW_COUNT()"),
            Say("SELECT @@error_count"),
            Say("SELECT COUNT(*) FROM a"),
            Say("COMMIT"),
        ],
    ),
    (
        "a reset and a change of user take away what the login's flags have set",
        &[
            Say("SELECT @@sql_mode, @@wait_timeout"),
            Stir,
            Say("SELECT COUNT (*), @@wait_timeout FROM a"),
            Reset,
            Say("SELECT @@sql_mode, @@wait_timeout"),
            Say("SELECT COUNT (*) FROM a"),
            ChangeUser,
            Stir,
            Say("SELECT @@sql_mode, @@wait_timeout"),
            Say("SELECT COUNT (*) FROM a"),
        ],
    ),
    (
        "what a view's function sets is there for the session",
        &[Say("SELECT * FROM remembering ORDER BY v"), Say("SELECT @remembered > 0")],
    ),
    (
        "statements are prepared under the character sets that the session has",
        &[
            Say("SET NAMES cp1251"),
            Say("SET CHARACTER SET utf8mb4"),
            Stir,
            Prepare("SELECT ?, 'a' = 'A', DATABASE(), s FROM a LIMIT 1"),
            Execute("ä"),
            Say("SET NAMES gbk"),
            Say("SET CHARACTER SET DEFAULT"),
            Stir,
            Prepare("SELECT ?, 'a' = 'A', DATABASE(), s FROM a LIMIT 1"),
            Execute("ä"),
        ],
    ),
    (
        "parameters have the collation that SET NAMES has given the client",
        &[
            Say("SET NAMES utf8mb4 COLLATE utf8mb4_bin"),
            Stir,
            Prepare("SELECT ?"),
            Execute("ä"),
            Say("SET character_set_results = latin1"),
            Stir,
            Prepare("SELECT ?"),
            Execute("ä"),
            Say("SET character_set_client = utf8mb4"),
            Stir,
            Prepare("SELECT ?"),
            Execute("ä"),
        ],
    ),
    (
        "explaining what uses no table leaves warnings as they are",
        &[
            Say("INSERT IGNORE INTO k VALUES ('1x', 1)"),
            Say("EXPLAIN SELECT 1"),
            Say("SHOW WARNINGS"),
            Say("EXPLAIN SELECT v FROM a"),
            Say("SHOW WARNINGS"),
        ],
    ),
    (
        "a CALL leaves warnings as they are unless its routine uses a table",
        &[
            Say("INSERT IGNORE INTO k VALUES ('11x', 1)"),
            Say("SET time_zone = '+02:00'"),
            Say("SELECT 1"),
            Say("CALL talk()"),
            Say("SHOW WARNINGS"),
            Say("BEGIN NOT ATOMIC SELECT @@time_zone; END"),
            Say("SELECT @@warning_count"),
            Say("CALL look()"),
            Say("SHOW WARNINGS"),
        ],
    ),
    (
        "a CALL elsewhere than the statement that warned makes nothing up",
        &[
            Say("INSERT IGNORE INTO k VALUES ('12x', 1)"),
            Stir,
            Say("CALL talk()"),
            Ask("SHOW WARNINGS"),
            Reset,
            Say("SELECT CAST('3x' AS INT) FROM a LIMIT 1"),
            Say("CALL talk()"),
            Ask("SHOW WARNINGS"),
            Say("CALL look()"),
            Ask("SHOW WARNINGS"),
            Say("SELECT v FROM a"),
            Say("SHOW WARNINGS"),
        ],
    ),
    (
        "the last insert id goes along to the connection that has warned",
        &[
            Say("INSERT INTO a (v) VALUES (80)"),
            Stir,
            Say("SELECT CAST('13x' AS INT) FROM a LIMIT 1 FOR UPDATE"),
            Say("SET sql_mode = 'ANSI'"),
            Say("CALL talk()"),
            Say("SHOW WARNINGS"),
            Say("SELECT LAST_INSERT_ID(), @@sql_mode"),
        ],
    ),
    (
        "a FROM without a table leaves warnings as they are",
        &[
            Say("SELECT CAST('3x' AS INT) FROM a LIMIT 1"),
            Say("SELECT @@server_id > 0 FROM DUAL"),
            Say("SHOW WARNINGS"),
            Say("SELECT TRIM(LEADING 'x' FROM 'xy'), @@server_id > 0"),
            Say("SHOW WARNINGS"),
            Say("SET @x = (SELECT COUNT(*) FROM a)"),
            Say("SHOW WARNINGS"),
        ],
    ),
    (
        "to ask for warnings changes no counts",
        &[
            Say("SELECT v FROM a"),
            Say("BEGIN"),
            Say("SELECT 1 UNION SELECT 2 UNION SELECT 3"),
            Say("SHOW WARNINGS"),
            Say("SELECT FOUND_ROWS()"),
        ],
    ),
    (
        "what waits for a replica counts no rows for the session",
        &[
            Say("SELECT v FROM a"),
            Say("INSERT INTO k VALUES (21, 1)"),
            Say("VALUES (1), (2)"),
            Ask("SELECT FOUND_ROWS()"),
            Say("INSERT INTO k VALUES (22, 1)"),
            Say("SELECT 1 UNION SELECT 2"),
            Say("VALUES (1), (2)"),
            Ask("SELECT FOUND_ROWS()"),
        ],
    ),
    (
        "several statements know what was before them, and it is known what they leave",
        &[
            Say("INSERT INTO a (v) VALUES (91), (92)"),
            Say("SELECT ROW_COUNT(); SELECT LAST_INSERT_ID()"),
            Say("UPDATE a SET v = v + 1 WHERE id < 4"),
            Stir,
            Ask("SELECT ROW_COUNT(); SELECT 1"),
            Say("INSERT INTO a (v) VALUES (93); SELECT ROW_COUNT(), LAST_INSERT_ID()"),
            Say("SELECT ROW_COUNT()"),
            Stir,
            Say("SELECT LAST_INSERT_ID()"),
            Say("SELECT LAST_INSERT_ID(); SELECT id FROM a; UPDATE a SET v = 7 WHERE id < 3"),
            Say("SELECT ROW_COUNT()"),
            Say("DELETE FROM a WHERE id = 3; SELECT id FROM a"),
            Stir,
            Say("SELECT ROW_COUNT()"),
            Say("SELECT SQL_CALC_FOUND_ROWS id FROM a LIMIT 2; SELECT FOUND_ROWS()"),
            Say("SELECT id FROM a LIMIT 2; COMMIT"),
            Ask("SELECT FOUND_ROWS()"),
            Say("SELECT id FROM a LIMIT 3"),
            Ask("UPDATE a SET v = 8 WHERE id < 3; SELECT FOUND_ROWS()"),
            Say("SELECT id FROM a; UPDATE a SET v = 9 WHERE id < 3"),
            Stir,
            Say("SELECT ROW_COUNT()"),
        ],
    ),
    (
        "what several statements warn of is there behind them",
        &[
            Say("INSERT IGNORE INTO k VALUES ('41x', 1); SELECT 1"),
            Say("SHOW WARNINGS"),
            Say("SELECT id FROM a LIMIT 1; SHOW WARNINGS"),
            Say("INSERT IGNORE INTO k VALUES ('42x', 1)"),
            Say("SELECT 1; SHOW WARNINGS"),
            Say("INSERT IGNORE INTO k VALUES ('43x', 1)"),
            Stir,
            Ask("SELECT 1; SHOW WARNINGS"),
            Say("INSERT IGNORE INTO k VALUES ('44x', 1); SELECT id FROM k; INSERT INTO k VALUES (45, 1)"),
            Stir,
            Say("SHOW WARNINGS"),
            Say("SELECT 1; SELECT * FROM nowhere; SELECT 2"),
            Say("SHOW WARNINGS"),
            Say("SELECT COUNT(*) FROM k; SELECT 1; SELECT CAST('1x' AS INT); COMMIT"),
            Say("SELECT @@warning_count"),
            Stir,
            Ask("SHOW WARNINGS"),
        ],
    ),
    (
        "several statements that forget nothing leave what was warned of before them",
        &[
            Say("INSERT IGNORE INTO k VALUES ('46x', 1)"),
            Say("SET rand_seed1 = 34, rand_seed2 = 5"),
            Say("IF 15 > 20 THEN SELECT 'large'; ELSE SELECT 'small'; END IF"),
            Ask("SHOW COUNT(*) WARNINGS"),
            Reset,
            Say("INSERT IGNORE INTO k VALUES ('47x', 1)"),
            Say("SELECT 1; COMMIT"),
            Say("SHOW COUNT(*) WARNINGS"),
        ],
    ),
    (
        "transactions begin, go on and end in several statements",
        &[
            Say("BEGIN; INSERT INTO k VALUES (51, 1)"),
            Say("SELECT COUNT(*) FROM k; INSERT INTO k VALUES (52, 1)"),
            Say("ROLLBACK; SELECT COUNT(*) FROM k"),
            Say("START TRANSACTION READ ONLY; SELECT COUNT(*) FROM k"),
            Say("INSERT INTO k VALUES (53, 1); SELECT 1"),
            Say("COMMIT; SELECT COUNT(*) FROM k"),
            Say("INSERT INTO k VALUES (54, 1); BEGIN"),
            Say("INSERT INTO k VALUES (55, 1); SAVEPOINT s; INSERT INTO k VALUES (56, 1)"),
            Say("ROLLBACK TO s; COMMIT"),
            Say("SELECT id FROM k"),
        ],
    ),
    (
        "several statements tie a session where one of them does",
        &[
            Say("SELECT v FROM remembering LIMIT 1; SELECT 1"),
            Say("SELECT @remembered"),
            Reset,
            Say("SELECT 1; SET @a = 5"),
            Say("SELECT @a"),
            Reset,
            Say("SELECT 1; SET sql_mode = 'ANSI'"),
            Say("SELECT \"id\" FROM a LIMIT 1"),
            Reset,
            Say("DO 1; CREATE TEMPORARY TABLE mine (id INT)"),
            Say("SELECT * FROM mine"),
        ],
    ),
    (
        "a session without autocommit has none behind a READ ONLY transaction",
        &[
            Say("SET autocommit = 0"),
            Say("START TRANSACTION READ ONLY"),
            Say("SELECT COUNT(*) FROM k"),
            Say("COMMIT"),
            Say("SHOW WARNINGS"),
            Say("INSERT INTO k VALUES (61, 1)"),
            Say("ROLLBACK"),
            Say("SELECT COUNT(*) FROM k"),
            Say("COMMIT"),
            Say("START TRANSACTION READ ONLY"),
            Say("SELECT COUNT(*) FROM k"),
            Say("COMMIT"),
            Say("INSERT INTO k VALUES (62, 1); SELECT 1"),
            Say("ROLLBACK"),
            Say("SELECT COUNT(*) FROM k"),
        ],
    ),
    (
        "SHOW VARIABLES shows those of the session",
        &[
            Say("SHOW VARIABLES LIKE 'last_insert_id'"),
            Say("INSERT INTO a (v) VALUES (71), (72)"),
            Stir,
            Say("SHOW VARIABLES LIKE '%insert_id'"),
            Say("SHOW SESSION VARIABLES WHERE Variable_name = 'identity'"),
            Say("SELECT v FROM a LIMIT 1"),
            Say("INSERT IGNORE INTO k VALUES ('71x', 1)"),
            Say("SHOW VARIABLES LIKE 'warning_count'"),
            Stir,
            Ask("SHOW VARIABLES LIKE 'warning_count'"),
            Say("SELECT CAST('x' AS INT) FROM a LIMIT 1"),
            Say("SHOW VARIABLES LIKE 'warning_count'"),
            Say("SHOW VARIABLES LIKE 'sql_select_limit'"),
        ],
    ),
    (
        "flags between several results are those of the moment, also for clients that want EOF packets",
        &[
            Say("SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT 1; SET sql_mode = ''; SELECT '\\n'"),
            Reset,
            Say("SELECT 1; BEGIN; SELECT 2; COMMIT; SELECT 3"),
            Say("START TRANSACTION READ ONLY; SELECT 1; ROLLBACK; SELECT 2"),
        ],
    ),
    (
        "what a session switches off stays off where it left warnings or an insert id",
        &[
            Say("INSERT IGNORE INTO k VALUES ('31x', 1)"),
            MultiStatements(false),
            Say("DO 1; DO 2"),
            Reset,
            MultiStatements(true),
            Say("INSERT INTO a (v) VALUES (90)"),
            MultiStatements(false),
            Say("DELETE FROM k WHERE id = 31; DELETE FROM k"),
            Say("SELECT LAST_INSERT_ID()"),
        ],
    ),
    (
        "commands that are no statements count rows as servers do",
        &[
            Prepare("SELECT id FROM a"),
            Say("INSERT INTO k VALUES (25, 1)"),
            ResetStatement,
            Say("SELECT ROW_COUNT()"),
            Say("SET @a = 1"),
            Prepare("SELECT id FROM a"),
            Say("SELECT id FROM a"),
            ResetStatement,
            Say("SELECT ROW_COUNT(), LAST_INSERT_ID() > 0"),
            Say("SELECT id FROM a"),
            Ping,
            Say("SELECT ROW_COUNT(), LAST_INSERT_ID() > 0"),
            Reset,
            Say("INSERT INTO k VALUES (23, 1)"),
            MultiStatements(true),
            Say("SELECT ROW_COUNT()"),
            Say("SET @a = 1"),
            Say("INSERT INTO k VALUES (24, 1)"),
            MultiStatements(true),
            Say("SELECT ROW_COUNT(), LAST_INSERT_ID() > 0"),
        ],
    ),
    (
        "a mistake in a question about warnings is told with them",
        &[Say("SELECT v FROM a"), Say("GET DIAGNOSTICS CONDITION 7 @n = MESSAGE_TEXT"), Say("SHOW WARNINGS")],
    ),
    (
        "warnings are told in the state that the session has now",
        &[
            Say("SELECT CAST('é' AS INT) FROM a LIMIT 1"),
            Say("SET sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES'"),
            Say("SHOW WARNINGS"),
            Say("SET NAMES latin1"),
            Say("SHOW WARNINGS"),
            Say("SELECT 'a\\'"),
        ],
    ),
];

/// What each script finds in its database.
const DEFINITIONS: &[&str] = &[
    "CREATE OR REPLACE DATABASE d CHARACTER SET utf8mb4",
    "USE d",
    "CREATE TABLE k (id INT PRIMARY KEY, n INT)",
    "CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, v INT, s VARCHAR(40))",
    "INSERT INTO a (v, s) VALUES (1, 'x'), (2, 'y'), (3, 'z'), (4, 'x'), (5, 'y')",
    "CREATE FUNCTION remember(x INT) RETURNS INT BEGIN SET @remembered = x; RETURN x; END",
    "CREATE PROCEDURE talk() SELECT 'talk'",
    "CREATE PROCEDURE look() SELECT COUNT(*) > 0 FROM a",
    "CREATE VIEW remembering AS SELECT remember(v) AS v FROM a",
];

struct Pair {
    direct: Wire,
    split: Wire,
    address: SocketAddr,
    log_on: LogOn,
}

fn normal(mut pieces: Vec<Piece>) -> Vec<Piece> {
    for piece in &mut pieces {
        match piece {
            Piece::Ok { status, .. } | Piece::Eof((_, status)) => *status &= !MOMENTARY,
            Piece::Rows { middle, end: Some(end), .. } => {
                // In front of the rows nobody knows whether another result will follow them.
                if let Some((_, status)) = middle {
                    *status &= !STATUS_MORE_RESULTS;
                }
                if let Piece::Ok { status, .. } = &mut **end {
                    *status &= !MOMENTARY;
                }
            }
            _ => {}
        }
    }
    pieces
}

impl Pair {
    fn both(&mut self, run: impl Fn(&mut Wire) -> io::Result<Vec<Piece>>) -> [Vec<Piece>; 2] {
        [run(&mut self.direct), run(&mut self.split)].map(|answer| normal(answer.expect("an answer")))
    }

    fn step(&mut self, behaviour: &str, step: Do) {
        eprintln!("{behaviour}: {step:?}");
        let [direct, split] = match step {
            Say(sql) | Ask(sql) => self.both(|wire| wire.query(sql)),
            Prepare(sql) => self.both(|wire| {
                wire.send(0x16, sql.as_bytes())?;
                wire.answer(Shape::Prepared)
            }),
            Execute(text) => self.both(|wire| {
                let id = wire.prepared_id.to_le_bytes();
                let value = [&[text.len() as u8], text.as_bytes()].concat();
                wire.send(0x17, &[&id[..], &[0, 1, 0, 0, 0, 0, 1, 0xFD, 0], &value].concat())?;
                let answer = wire.answer(Shape::Results);
                wire.send(0x19, &id)?;
                answer
            }),
            Ping => self.both(|wire| {
                wire.send(0x0E, b"")?;
                wire.answer(Shape::Single)
            }),
            FieldList => self.both(|wire| {
                wire.send(0x04, b"a\0")?;
                wire.answer(Shape::Fields)
            }),
            ResetStatement => self.both(|wire| {
                wire.send(0x1A, &wire.prepared_id.to_le_bytes())?;
                wire.answer(Shape::Single)
            }),
            MultiStatements(on) => self.both(|wire| {
                wire.send(0x1B, &[u8::from(!on), 0])?;
                wire.answer(Shape::Single)
            }),
            Reset => {
                self.both(|wire| {
                    wire.send(0x1F, b"")?;
                    wire.answer(Shape::Single)
                });
                // A server keeps the database and forgets its character set; the splitter selects it anew.
                self.both(|wire| wire.query("USE d"))
            }
            ChangeUser => self.both(|wire| {
                wire.send_change_user("d")?;
                wire.change_user_answer()
            }),
            Stir => return self.stir(),
            Lock => return self.lock(),
        };
        let owns_up = matches!(step, Ask(_)) && split.first().and_then(Piece::code) == Some(1105);
        assert!(owns_up || direct == split, "{behaviour}: {step:?}\n  directly: {direct:?}\n  split: {split:?}");
    }

    fn others(&self) -> Vec<Wire> {
        let connect = |_| Wire::connect(self.address, &self.log_on).expect("a login");
        (0..POOL_MAX).map(connect).collect()
    }

    fn lock(&self) {
        let mut others = self.others();
        for question in ["SELECT GET_LOCK('of {}', 0)", "SELECT RELEASE_LOCK('of {}')"] {
            for (n, other) in others.iter_mut().enumerate() {
                let answer = other.query(question.replace("{}", &n.to_string())).expect("an answer");
                assert!(answer.iter().all(|piece| piece.code().is_none()), "{answer:?}");
            }
        }
    }

    fn stir(&self) {
        let mut others = self.others();
        for begin in ["BEGIN", "START TRANSACTION READ ONLY"] {
            for sql in ["SET sql_mode = 'ANSI'", begin, "SELECT v, v / 0 FROM a", "SELECT 1"] {
                for other in &mut others {
                    let answer = other.query(sql).expect("an answer");
                    assert!(answer.iter().all(|piece| piece.code().is_none()), "{answer:?}");
                }
            }
            others.iter_mut().for_each(|other| drop(other.query("ROLLBACK")));
        }
    }
}

#[test]
fn a_session_is_told_what_one_server_tells() {
    if !mariadb::is_installed() {
        return;
    }
    let (alone, cluster) = std::thread::scope(|scope| {
        let alone = scope.spawn(|| Cluster::start(0));
        (alone.join().expect("it starts"), Cluster::start(1))
    });
    let servers = || [&alone.primary].into_iter().chain([&cluster.primary]).chain(&cluster.replicas);
    for server in servers() {
        // So that it shows which of them a session has.
        server.sql("SET GLOBAL wait_timeout = 20000, GLOBAL interactive_timeout = 30000");
    }
    let splitter = split::site(Driver::Auto, &cluster, &format!("pool_max = {POOL_MAX}")).start();
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    for (behaviour, script) in SCRIPTS {
        for server in [&alone.primary, &cluster.primary] {
            let mut wire = Wire::connect(local(server.port), &LogOn::new(USER, PASSWORD, None)).expect("a login");
            for sql in DEFINITIONS {
                let answer = wire.query(sql).expect("an answer");
                assert!(answer.iter().all(|piece| piece.code().is_none()), "{sql}: {answer:?}");
            }
        }
        cluster.wait_for_replicas();
        let mut log_on = LogOn::new(USER, PASSWORD, Some("d"));
        log_on.capabilities = DEPRECATE_EOF | MULTI_STATEMENTS | MULTI_RESULTS | PS_MULTI_RESULTS;
        if behaviour.contains("EOF") {
            log_on.capabilities &= !DEPRECATE_EOF;
        } else if behaviour.contains("flags") {
            log_on.capabilities |= IGNORE_SPACE | INTERACTIVE;
        }
        let connect = |address| Wire::connect(address, &log_on).expect("a login");
        let address = splitter.address("db");
        let mut pair = Pair { direct: connect(local(alone.primary.port)), split: connect(address), address, log_on };
        // MariaDB starts with what another session of the same thread has found.
        pair.step(behaviour, Say("SELECT 1"));
        script.iter().for_each(|step| pair.step(behaviour, *step));
    }
}

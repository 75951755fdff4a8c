//! Statements and their classes.

use super::*;

fn check(kind: Kind, pin: Option<Pin>, statements: &[&str]) {
    for sql in statements {
        let class = classify(sql.as_bytes(), Mode::default());
        assert_eq!((class.kind, class.pin), (kind, pin), "{sql}");
    }
}

#[test]
fn reads_are_recognised() {
    check(
        Kind::Read,
        None,
        &[
            "SELECT 1",
            "select * from t where a in (1, 2) and b = 'x'",
            "\n\t /* comment */ -- line\n # other\n SELECT 1;",
            "SELECT 1 ; ; ",
            "(SELECT 1) UNION (SELECT 2)",
            "((select 1))",
            "WITH c AS (SELECT 1) SELECT * FROM c",
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION SELECT n + 1 FROM c WHERE n < 5) SELECT * FROM c",
            "TABLE t",
            "VALUES (1, 2)",
            "SELECT COUNT(*), MAX(a) FROM t GROUP BY b HAVING COUNT(*) > 1 ORDER BY (b) LIMIT 5",
            "SELECT 'into', \"for update\", `into` FROM t",
            "SELECT t.`update` FROM t",
            "SELECT a FROM t USE INDEX FOR JOIN (i)",
            "SELECT REPLACE(a, 'x', 'y'), INSERT(a, 1, 2, 'z') FROM t",
            "SELECT SUBSTRING(a FROM 1 FOR 2) FROM t",
            "SELECT /*+ MAX_EXECUTION_TIME(1000) */ 1",
            "DESC t",
            "EXPLAIN SELECT 1",
            "EXPLAIN FORMAT=JSON SELECT * FROM t",
            "SHOW TABLES",
            "SHOW FULL COLUMNS FROM t",
            "SHOW CREATE TABLE t",
            "SELECT a -- FOR UPDATE\n FROM t",
            "SELECT NOW(), DATABASE()",
            "SELECT t.into FROM t",
            "SELECT 1.5, .5, 1e3, t.1a, 2fa.b FROM t, 2fa",
            "SELECT a FROM t WHERE MATCH (a, b) AGAINST ('x' IN BOOLEAN MODE)",
            "SELECT * FROM JSON_TABLE('[]', '$[*]' COLUMNS (a INT PATH '$')) AS t",
            "SELECT COUNT(*) OVER (PARTITION BY a) FROM t",
        ],
    );
}

#[test]
fn one_server_s_answers_come_from_the_primary() {
    check(
        Kind::Local,
        None,
        &[
            "SELECT @@server_id",
            "SELECT @@read_only, 1",
            "SELECT VERSION()",
            "SHOW PROCESSLIST",
            "SHOW FULL PROCESSLIST",
            "SHOW MASTER STATUS",
            "SHOW VARIABLES LIKE 'x'",
            "SHOW STATUS",
            "SELECT * FROM information_schema.tables",
            "SELECT * FROM `mysql`.user",
            "SELECT * FROM performance_schema.threads",
            "EXPLAIN FOR CONNECTION 5",
            "SELECT SQL_CALC_FOUND_ROWS * FROM t LIMIT 1",
            "",
        ],
    );
}

#[test]
fn locking_reads_are_no_reads() {
    check(
        Kind::Locking,
        None,
        &[
            "SELECT * FROM t FOR UPDATE",
            "SELECT * FROM t FOR/**/UPDATE",
            "(SELECT * FROM t FOR UPDATE)",
            "SELECT * FROM t LOCK IN SHARE MODE",
            "WITH c AS (SELECT 1) SELECT * FROM c FOR SHARE",
            "SELECT @@server_id FROM t FOR UPDATE",
            "WITH c AS (SELECT * FROM t FOR UPDATE) SELECT * FROM c",
            "SELECT * FROM (SELECT * FROM t LOCK IN SHARE MODE) x",
            "SELECT * FROM t WHERE a = (SELECT MAX(b) FROM u FOR UPDATE)",
            "SELECT * FROM t WHERE a = 1.FOR UPDATE",
            "SELECT * FROM t WHERE a = 1e5LOCK IN SHARE MODE",
            "(SELECT 1) UNION (SELECT a FROM t LOCK IN SHARE MODE)",
        ],
    );
}

#[test]
fn writes_go_to_the_primary() {
    check(
        Kind::Write,
        None,
        &[
            "INSERT INTO t (a, b) VALUES (1, NOW())",
            "INSERT INTO db.t(a) SELECT COUNT(*) FROM u",
            "insert t values (1) on duplicate key update a = values(a)",
            "INSERT INTO t VALUES (1) RETURNING id",
            "REPLACE INTO t VALUES (1)",
            "UPDATE t SET a = 1",
            "DELETE FROM t",
            "LOAD DATA CONCURRENT LOCAL INFILE 'x' INTO TABLE t",
            "WITH c AS (SELECT 1) UPDATE t SET a = 1",
            "WITH c AS (SELECT 1) DELETE FROM t",
            "EXPLAIN UPDATE t SET a = 1",
            "EXPLAIN DELETE FROM t",
            "EXPLAIN INSERT INTO t VALUES (1)",
            "SELECT 1 INTO OUTFILE '/tmp/x'",
            "SELECT 1.INTO OUTFILE '/tmp/x'",
            "SELECT 1.5INTO OUTFILE '/tmp/x'",
            "SELECT .5INTO DUMPFILE '/tmp/x'",
            "SELECT 1e5INTO OUTFILE '/tmp/x'",
            "(SELECT 1) INTO OUTFILE '/tmp/x'",
            "TABLE t INTO OUTFILE '/tmp/x'",
            "SET GLOBAL x = 1",
            "SET @@global.read_only = 0",
            "SET SESSION a = 1, GLOBAL b = 2",
            "SET PERSIST x = 1",
        ],
    );
    check(
        Kind::Definition,
        None,
        &[
            "CREATE TABLE t (a INT, KEY k (a))",
            "ALTER TABLE t ADD b VARCHAR(20)",
            "DROP TABLE t",
            "TRUNCATE t",
            "GRANT ALL ON *.* TO u",
            "FLUSH PRIVILEGES",
            "OPTIMIZE TABLE t",
            "START SLAVE",
            "SET PASSWORD = 'x'",
            "CREATE TABLE t AS SELECT MAX(a) FROM u",
        ],
    );
}

#[test]
fn transactions_and_settings_are_told_apart() {
    check(
        Kind::Transaction,
        None,
        &[
            "BEGIN",
            "begin work",
            "START TRANSACTION READ ONLY",
            "COMMIT",
            "SAVEPOINT a",
            "RELEASE SAVEPOINT a",
            "ROLLBACK TO a",
            "ROLLBACK WORK TO SAVEPOINT a",
            "COMMIT AND CHAIN",
        ],
    );
    check(Kind::Rollback, None, &["ROLLBACK", "rollback work"]);
    check(
        Kind::Set,
        None,
        &[
            "SET NAMES utf8mb4",
            "SET sql_mode = CONCAT(@@sql_mode, ',ANSI')",
            "SET autocommit=0",
            "SET TRANSACTION READ ONLY",
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        ],
    );
    check(Kind::Use, None, &["USE db", "use `db`"]);
    check(Kind::Kill, None, &["KILL 5", "KILL QUERY 5", "SELECT 1; KILL 5", "/*! KILL 5 */", "BEGIN;; kill 5;"]);
    assert!(classify(b"SET NAMES utf8mb4 COLLATE utf8mb4_bin", Mode::default()).collate);
}

#[test]
fn found_rows_are_those_sent_unless_some_are_left_out() {
    let counts = |sql: &str| classify(sql.as_bytes(), Mode::default()).counts;
    for sql in
        ["SELECT a FROM t LIMIT 3", "SELECT a FROM t LIMIT ?", "WITH c AS (SELECT 1) SELECT * FROM c", "SELECT 1, 2"]
    {
        assert!(counts(sql), "{sql}");
    }
    for sql in [
        "SELECT a FROM t LIMIT 2, 3",
        "SELECT a FROM t LIMIT 3 OFFSET 2",
        "SELECT 1 UNION SELECT 2 LIMIT 1",
        "SELECT SQL_CALC_FOUND_ROWS a FROM t",
        "SHOW CREATE TABLE t",
        "EXPLAIN SELECT 1",
        "VALUES (1)",
    ] {
        assert!(!counts(sql), "{sql}");
    }
}

#[test]
fn what_uses_no_table_leaves_warnings_as_they_are() {
    let check = |forgets, statements: &[&str]| {
        for sql in statements {
            assert_eq!(classify(sql.as_bytes(), Mode::default()).forgets, forgets, "{sql}");
        }
    };
    check(
        Forgets::No,
        &[
            "SELECT 1",
            "SELECT (SELECT 1)",
            "SELECT EXISTS (SELECT 1)",
            "SELECT 1 FROM DUAL",
            "SELECT TRIM(LEADING 'x' FROM 'xy'), EXTRACT(YEAR FROM NOW())",
            "VALUES (1)",
            "EXPLAIN SELECT 1",
            "EXPLAIN FORMAT=JSON SELECT 1",
            "EXPLAIN SELECT (SELECT 1)",
            "SET NAMES utf8mb4",
            "SET @x = 1",
            "USE db",
            "BEGIN",
            "ROLLBACK",
            "XA START 'a'",
            "DO 1",
            "UNLOCK TABLES",
            "DEALLOCATE PREPARE p",
            "SHOW WARNINGS LIMIT 0",
        ],
    );
    check(
        Forgets::Yes,
        &[
            "SELECT 1 FROM t",
            "SELECT (SELECT 1 FROM t) FROM DUAL",
            "SELECT TRIM(LEADING 'x' FROM (SELECT a FROM t))",
            "(SELECT 1) UNION (SELECT a FROM t)",
            "WITH c AS (SELECT 1 AS x) SELECT x FROM c",
            "TABLE t",
            "EXPLAIN SELECT a FROM t",
            "EXPLAIN t",
            "EXPLAIN UPDATE t SET a = 1",
            "SET @x = (SELECT COUNT(*) FROM t)",
            "DO (SELECT a FROM t)",
            "INSERT INTO t VALUES (1)",
            "DELETE FROM t",
            "TRUNCATE t",
            "CREATE OR REPLACE TABLE t (a INT)",
            "DROP VIEW v",
            "CREATE UNIQUE INDEX i ON t (a)",
            "ALTER TABLE t COMMENT 'function'",
            "CHECK TABLE t",
            "SHOW TABLES",
            "SHOW FULL COLUMNS FROM t",
            "SHOW CREATE TABLE t",
            "SHOW SESSION VARIABLES LIKE 'x'",
            "LOCK TABLES t READ",
            "HANDLER t OPEN",
        ],
    );
    check(
        Forgets::Perhaps,
        &[
            "CALL p()",
            "DO f()",
            "SELECT f()",
            "SELECT NEXT VALUE FOR s",
            "SET @x = f()",
            "SET STATEMENT max_statement_time = 1 FOR SELECT 1",
            "EXECUTE p",
            "PREPARE p FROM 'SELECT 1'",
            "BEGIN NOT ATOMIC SELECT 1; END",
            "SELECT 1; SELECT 2",
            "SELECT 1 /*! FROM t */",
            "CREATE FUNCTION f() RETURNS INT RETURN (SELECT MAX(a) FROM table_of_ints)",
            "CREATE PROCEDURE p() CREATE TABLE x (a INT)",
            "CREATE DATABASE d",
            "GRANT CREATE VIEW ON *.* TO u",
            "FLUSH TABLES",
            "SHOW MASTER STATUS",
            "SHOW CREATE PROCEDURE p",
            "nonsense",
        ],
    );
    let deep = format!("SELECT {}1 FROM t", "(SELECT ".repeat(70));
    assert_eq!(classify(deep.as_bytes(), Mode::default()).forgets, Forgets::Perhaps);
}

#[test]
fn what_trackers_do_not_report_pins() {
    let check = |pin, statements: &[&str]| {
        for sql in statements {
            assert_eq!(classify(sql.as_bytes(), Mode::default()).pin, Some(pin), "{sql}");
        }
    };
    check(
        Pin::UserVariable,
        &[
            "SET @a = 1",
            "SELECT @a",
            "SELECT 1 INTO @b",
            "SELECT @c:=1",
            "INSERT INTO t VALUES (@d:=3)",
            "LOAD DATA INFILE 'x' INTO TABLE t (@a)",
            "GET DIAGNOSTICS @n = NUMBER",
        ],
    );
    check(
        Pin::UnknownFunction,
        &[
            "SELECT f()",
            "SELECT db.f()",
            "SELECT `f`(1)",
            "SELECT t.recursive, f() FROM t",
            "SELECT t.with, f() FROM t",
            "SELECT path(1)",
            "SELECT a, columns(1) FROM t",
            "SELECT against(1)",
            "SELECT 1a()",
            "SELECT db.1a()",
            "SELECT db.1()",
            "SELECT t.a+nested(1) FROM t",
            "ANALYZE UPDATE t SET a = f()",
            "SELECT (SELECT f())",
            "WITH c AS (SELECT f()) SELECT * FROM c",
            "SELECT 1 UNION SELECT f()",
            "SELECT * FROM t WHERE a IN (SELECT b FROM u WHERE c = f(b))",
            "SELECT db.count(1)",
            "SELECT GET_LOCK('a', 1)",
            "SELECT RELEASE_ALL_LOCKS()",
            "SELECT NEXT VALUE FOR s",
            "SELECT nextval(s)",
            "SELECT s.nextval",
            "SELECT setval(s, 5)",
            "SELECT COUNT (*) FROM t",
            "INSERT INTO t SELECT f()",
            "INSERT INTO t VALUES (f())",
            "INSERT INTO t VALUES (NEXT VALUE FOR s)",
            "UPDATE t SET a = PREVIOUS VALUE FOR s",
            "UPDATE t SET a = f()",
            "SET sql_mode = f()",
            "SELECT MASTER_GTID_WAIT('0-1-1', 5)",
            "CREATE TABLE t AS SELECT f()",
        ],
    );
    check(
        Pin::ConnectionId,
        &["SELECT CONNECTION_ID()", "SELECT id = CONNECTION_ID() FROM t", "INSERT INTO t VALUES (CONNECTION_ID())"],
    );
    check(
        Pin::Lock,
        &[
            "LOCK TABLES t READ",
            "UNLOCK TABLES",
            "FLUSH TABLES WITH READ LOCK",
            "FLUSH TABLES t FOR EXPORT",
            "HANDLER t OPEN",
            "BACKUP STAGE START",
            "BACKUP STAGE BLOCK_COMMIT",
            "BACKUP STAGE END",
            "BACKUP LOCK d.t",
            "BACKUP UNLOCK",
            "LOCK INSTANCE FOR BACKUP",
            "UNLOCK INSTANCE",
            "LOCK TABLE t WRITE",
            "HANDLER t READ FIRST",
            "HANDLER t CLOSE",
            "FLUSH TABLES t WITH READ LOCK",
            "flush no_write_to_binlog tables with read lock",
        ],
    );
    check(
        Pin::Temporary,
        &["CREATE TEMPORARY TABLE t (a INT)", "CREATE OR REPLACE TEMPORARY TABLE t (a INT)", "DROP TEMPORARY TABLE t"],
    );
    check(
        Pin::TextPrepare,
        &[
            "PREPARE s FROM 'SELECT 1'",
            "EXECUTE s",
            "DEALLOCATE PREPARE s",
            "DROP PREPARE s",
            "EXECUTE IMMEDIATE 'SELECT 1'",
        ],
    );
    check(Pin::Call, &["CALL p()", "DO SLEEP(1)", "BEGIN NOT ATOMIC SELECT 1"]);
    check(Pin::Xa, &["XA START 'a'", "XA END 'a'"]);
    check(
        Pin::Setting,
        &[
            "SET STATEMENT max_statement_time=1 FOR SELECT 1",
            "SET ROLE r",
            "COMMIT RELEASE",
            "ROLLBACK AND NO CHAIN RELEASE",
        ],
    );
    assert_eq!(classify(b"COMMIT NO RELEASE", Mode::default()).pin, None);
    check(
        Pin::MultiStatement,
        &["SELECT 1; SELECT @a", "SELECT 1 /*! ; DELETE FROM t */", ";; CALL p()", "BEGIN NOT ATOMIC SELECT 1; END"],
    );
    check(
        Pin::ExecutableComment,
        &[
            "/*! SELECT 1 */",
            "SELECT /*!40001 SQL_NO_CACHE */ 1",
            "/*M!100100 DELETE FROM t */",
            "/*!40101 SET NAMES utf8 */",
        ],
    );
    check(
        Pin::Unknown,
        &[
            "SELECT @@session . warning_count",
            "SET @@global .x = 1",
            "SELECT 'open",
            "FROBNICATE",
            "1",
            "SELECT /* open",
            "SELECT 1\0",
        ],
    );
}

#[test]
fn questions_about_the_statement_before() {
    use super::diagnostics::{FOUND, INSERT_ID, ROWS, WARNINGS};
    for (sql, bits) in [
        ("SHOW WARNINGS", WARNINGS),
        ("SHOW COUNT(*) WARNINGS", WARNINGS),
        ("SHOW ERRORS LIMIT 1", WARNINGS),
        ("SELECT @@warning_count", WARNINGS),
        ("SELECT FOUND_ROWS()", FOUND),
        ("SELECT FOUND_ROWS(), ROW_COUNT()", FOUND | ROWS),
        ("GET DIAGNOSTICS n = NUMBER", WARNINGS),
        ("GET DIAGNOSTICS n = NUMBER, r = ROW_COUNT", WARNINGS | ROWS),
        ("SELECT ROW_COUNT()", ROWS),
        ("SELECT LAST_INSERT_ID() AS id;", INSERT_ID),
        ("SELECT last_insert_id()", INSERT_ID),
        ("SELECT @@identity", INSERT_ID),
        ("SELECT @@session.last_insert_id", INSERT_ID),
    ] {
        let class = classify(sql.as_bytes(), Mode::default());
        assert_eq!((class.kind, class.diagnostics, class.pin), (Kind::Diagnostics, bits, None), "{sql}");
    }
    let class = classify(b"INSERT INTO c VALUES (LAST_INSERT_ID(), 1)", Mode::default());
    assert_eq!((class.kind, class.diagnostics, class.pin), (Kind::Write, INSERT_ID, None));
    assert!(classify(b"SELECT SQL_CALC_FOUND_ROWS 1", Mode::default()).calc_found_rows);
}

#[test]
fn the_session_s_mode_changes_the_class() {
    let no_escapes = Mode { no_backslash_escapes: true, ..Mode::default() };
    let sql = br"SELECT '\' INTO OUTFILE 'x";
    assert_eq!(classify(sql, Mode::default()).pin, None);
    assert_eq!(classify(sql, no_escapes).kind, Kind::Unknown);
    let ansi = Mode { ansi_quotes: true, ..Mode::default() };
    assert_eq!(classify(br#"SELECT "f"(1)"#, ansi).pin, Some(Pin::UnknownFunction));
    let ignore_space = Mode { ignore_space: true, ..Mode::default() };
    assert!(classify(b"SELECT COUNT (*) FROM t", ignore_space).is_read());
    let oracle = Mode { oracle: true, ..Mode::default() };
    for sql in ["BEGIN", "begin work", "BEGIN SELECT 1; END"] {
        let class = classify(sql.as_bytes(), oracle);
        assert!(class.begins.is_none() && class.pin.is_some() && !class.is_read(), "{sql}: a block");
    }
    assert!(classify(b"START TRANSACTION", oracle).begins.is_some());
}

proptest::proptest! {
    #[test]
    fn nothing_makes_it_panic(sql: Vec<u8>) {
        classify(&sql, Mode::default());
    }

    #[test]
    fn whatever_stands_around_it_a_locking_word_is_never_missed(before in "[a-z0-9 ,.=]{0,40}", after in "[a-z0-9 ,.=]{0,40}") {
        for what in ["FOR UPDATE", "INTO OUTFILE 'x'", "LOCK IN SHARE MODE", "; DELETE FROM t"] {
            let sql = format!("SELECT {before} x {what} {after}");
            let class = classify(sql.as_bytes(), Mode::default());
            assert!(!class.is_read(), "{sql}");
        }
    }
}

#[test]
fn what_begins_a_transaction_and_how() {
    let check = |begins: Option<Access>, statements: &[&str]| {
        for sql in statements {
            assert_eq!(classify(sql.as_bytes(), Mode::default()).begins, begins, "{sql}");
        }
    };
    check(
        Some(Access::Unsaid),
        &["BEGIN", "begin work", "START TRANSACTION", "START TRANSACTION WITH CONSISTENT SNAPSHOT"],
    );
    check(
        Some(Access::ReadOnly),
        &[
            "START TRANSACTION READ ONLY",
            "/* c */ start transaction read/**/only;",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            "START TRANSACTION READ ONLY, WITH CONSISTENT SNAPSHOT",
        ],
    );
    check(
        Some(Access::ReadWrite),
        &["START TRANSACTION READ WRITE", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ WRITE"],
    );
    check(
        None,
        &[
            "BEGIN NOT ATOMIC SELECT 1; END",
            "START SLAVE",
            "SET TRANSACTION READ ONLY",
            "COMMIT AND CHAIN",
            "SELECT 1 FROM t -- READ ONLY",
        ],
    );
}

#[test]
fn reasons_for_a_pin_have_their_places_and_names() {
    for (place, pin) in Pin::ALL.into_iter().enumerate() {
        assert_eq!(pin.index(), place, "{pin:?}");
        assert!(Pin::ALL[place + 1..].iter().all(|other| other.name() != pin.name()), "{pin:?}");
    }
}

#[test]
fn a_file_of_the_client_is_seen_wherever_local_stands() {
    for (sql, is_local) in [
        ("LOAD DATA LOCAL INFILE 'x' INTO TABLE t", true),
        ("load data concurrent /* c */ local infile 'x' into table t", true),
        ("LOAD DATA LOW_PRIORITY LOCAL INFILE 'x' INTO TABLE t", true),
        ("LOAD XML LOCAL INFILE 'x' INTO TABLE t", true),
        ("LOAD DATA INFILE 'local' INTO TABLE t", false),
        ("INSERT INTO t VALUES ('LOCAL INFILE')", false),
    ] {
        assert_eq!(classify(sql.as_bytes(), Mode::default()).local_file, is_local, "{sql}");
    }
}

#[test]
fn what_shows_tables_is_told_from_what_is_about_the_server() {
    let tables = |sql: &str| classify(sql.as_bytes(), Mode::default()).tables;
    for sql in [
        "SELECT COUNT(*) FROM information_schema.tables",
        "SHOW TABLE STATUS",
        "SHOW PROCEDURE STATUS",
        "SHOW VARIABLES WHERE variable_name IN (SELECT name FROM t)",
        "CHECKSUM TABLE t",
        "TABLE t",
    ] {
        assert!(tables(sql), "{sql}");
    }
    for sql in ["SHOW VARIABLES LIKE 'version'", "SHOW GLOBAL STATUS", "SELECT @@version", "SET NAMES utf8mb4", "USE d"]
    {
        assert!(!tables(sql), "{sql}");
    }
}

#[test]
fn a_kill_hides_nowhere() {
    let class = |sql: &str| classify(sql.as_bytes(), Mode { flavour: Flavour::MariaDb, ..Mode::default() });
    for sql in [
        "SELECT 1; KILL 5",
        "SELECT 1; SET STATEMENT max_statement_time=1 FOR KILL 5",
        "CREATE TABLE t (a INT); SET STATEMENT max_statement_time=1 FOR KILL 5",
        "BEGIN NOT ATOMIC KILL 5; END",
        "BEGIN NOT ATOMIC IF 1 THEN KILL 5; END IF; END",
        "SET @a = 1; BEGIN NOT ATOMIC KILL 5; END",
    ] {
        assert_eq!(class(sql).kind, Kind::Kill, "{sql}");
    }
    for sql in [
        "SELECT t.kill FROM t",
        "SELECT `kill`, 'KILL 5' FROM t",
        "CREATE PROCEDURE p() KILL 5",
        "SELECT @kill FROM t",
        "SELECT 1; SELECT t.kill FROM t",
    ] {
        assert_ne!(class(sql).kind, Kind::Kill, "{sql}");
    }
}

/// As MariaDB's Connector/J says it for `setQueryTimeout`: such a query is a read like any other.
#[test]
fn a_query_with_a_time_limit_is_what_it_limits() {
    let class = |flavour, sql: &str| classify(sql.as_bytes(), Mode { flavour, ..Mode::default() });
    for query in [
        "SELECT a FROM t WHERE b = 1",
        "SELECT COUNT(*) FROM t JOIN u USING (id)",
        "WITH c AS (SELECT 1 FROM t) SELECT * FROM c",
    ] {
        let limited = format!("SET STATEMENT max_statement_time=10 FOR {query}");
        let expect = Class { restores: true, ..class(Flavour::MariaDb, query) };
        assert_eq!(class(Flavour::MariaDb, &limited), expect, "{query}");
        assert!(expect.is_read());
        assert_eq!(class(Flavour::MySql, &limited).pin, Some(Pin::Setting), "{query}");
    }
    for other in [
        "SET STATEMENT max_statement_time=10 FOR SELECT 1",
        "SET STATEMENT max_statement_time=10 FOR SELECT f() FROM t",
        "SET STATEMENT max_statement_time=10 FOR SELECT LAST_INSERT_ID() FROM t",
        "SET STATEMENT max_statement_time=10 FOR SELECT a FROM t FOR UPDATE",
        "SET STATEMENT max_statement_time=10 FOR DELETE FROM t",
        "SET STATEMENT max_statement_time=10, sql_mode='' FOR SELECT a FROM t",
        "SET STATEMENT sql_mode='' FOR SELECT a FROM t",
        "SET STATEMENT max_statement_time=@a FOR SELECT a FROM t",
        "/*! SET STATEMENT max_statement_time=10 FOR */ SELECT a FROM t",
        "SET STATEMENT max_statement_time=10 FOR SET STATEMENT max_statement_time=5 FOR SELECT a FROM t",
        "SET STATEMENT max_statement_time=10 FOR SELECT a FROM t; DELETE FROM t",
    ] {
        assert!(class(Flavour::MariaDb, other).pin.is_some(), "{other}");
    }
    assert_eq!(class(Flavour::MariaDb, "SET STATEMENT max_statement_time=10 FOR KILL 5").kind, Kind::Kill);
    assert_eq!(class(Flavour::MariaDb, "SET STATEMENT sql_mode='', max_statement_time=10 FOR USE e").kind, Kind::Use);
    let executes = "SET STATEMENT max_statement_time=10 FOR EXECUTE IMMEDIATE 'USE e'";
    assert_eq!(class(Flavour::MariaDb, executes).pin, Some(Pin::TextPrepare));
    let shows = class(Flavour::MariaDb, "SET STATEMENT max_statement_time=10 FOR SHOW WARNINGS");
    assert_eq!(shows.diagnostics, diagnostics::WARNINGS);
    assert_eq!(class(Flavour::MariaDb, "SET PASSWORD FOR kill@localhost = PASSWORD('x')").kind, Kind::Definition);
}

#[test]
fn what_mysql_alone_understands_is_classed_too() {
    let check_on = |flavour, kind, pin, statements: &[&str]| {
        for sql in statements {
            let class = classify(sql.as_bytes(), Mode { flavour, ..Mode::default() });
            assert_eq!((class.kind, class.pin), (kind, pin), "{sql} on {flavour:?}");
        }
    };
    let check = |kind, pin, statements: &[&str]| {
        for flavour in [Flavour::MySql, Flavour::MySqlWithoutHashes] {
            check_on(flavour, kind, pin, statements);
        }
    };
    check(
        Kind::Read,
        None,
        &[
            "SELECT ANY_VALUE(a), BIN_TO_UUID(b), GROUPING(a) FROM t WHERE REGEXP_LIKE(c, 'x') GROUP BY a WITH ROLLUP",
            "SELECT * FROM t, LATERAL (SELECT MAX(b) FROM u WHERE u.a = t.a) AS x",
            "SELECT a->>'$.x' FROM t WHERE 1 MEMBER OF (b->'$.y') AND JSON_OVERLAPS(b, '[1]')",
            "TABLE t ORDER BY a LIMIT 1",
            "VALUES ROW(1, 2), ROW(3, 4) ORDER BY column_0",
            "SELECT /*+ SET_VAR(sort_buffer_size = 16M) */ a FROM t",
            "WITH c AS (SELECT 1) SELECT * FROM c INTERSECT SELECT 1 EXCEPT SELECT 2",
            "(TABLE t) UNION (VALUES ROW(1))",
            "EXPLAIN FORMAT=TREE SELECT a FROM t",
            "DESC FORMAT=TREE TABLE t",
            "SELECT ST_SRID(POINT(1, 2)), UUID_TO_BIN(a, 1) FROM t",
        ],
    );
    check(Kind::Local, None, &["EXPLAIN ANALYZE SELECT a FROM t", "SHOW REPLICAS", "SHOW BINARY LOG STATUS"]);
    check(
        Kind::Locking,
        None,
        &[
            "SELECT a FROM t FOR UPDATE OF t SKIP LOCKED",
            "SELECT a FROM t FOR SHARE NOWAIT",
            "WITH c AS (SELECT 1) SELECT a FROM t JOIN c FOR UPDATE OF t",
        ],
    );
    check(
        Kind::Write,
        None,
        &[
            "SET PERSIST max_connections = 100",
            "SET @@PERSIST_ONLY.max_connections = 100",
            "EXPLAIN ANALYZE UPDATE t JOIN u SET a = 1",
            "EXPLAIN ANALYZE REPLACE t SET a = 1",
            "EXPLAIN FORMAT=TREE REPLACE t SET a = 1",
            "EXPLAIN FORMAT=TREE INSERT t VALUES ROW(1)",
            "TABLE t INTO OUTFILE 'x'",
            "INSERT INTO t TABLE u",
            "INSERT INTO t VALUES (1) AS n ON DUPLICATE KEY UPDATE a = n.a",
            "WITH c AS (SELECT 1) UPDATE t, c SET a = 1",
        ],
    );
    check(Kind::Write, Some(Pin::UserVariable), &["EXPLAIN FORMAT=JSON INTO @v SELECT 1"]);
    let unknown = Some(Pin::UnknownFunction);
    check(
        Kind::Read,
        unknown,
        &[
            "SELECT WAIT_FOR_EXECUTED_GTID_SET('x', 1)",
            "SELECT SOURCE_POS_WAIT('x', 1)",
            "SELECT RELEASE_ALL_LOCKS()",
            "SELECT NVL(1, 2)",
            "SELECT CHR(65)",
            "SELECT WITHIN(1)",
        ],
    );
    check_on(Flavour::MySqlWithoutHashes, Kind::Read, unknown, &["SELECT MD5(a) FROM t", "SELECT SHA1(a) FROM t"]);
    check_on(Flavour::MySql, Kind::Read, None, &["SELECT MD5(a), SHA(a), SHA1(a) FROM t"]);
    check_on(Flavour::MariaDb, Kind::Read, None, &["SELECT MD5(a), NVL(a, 1), CHR(65) FROM t"]);
    check_on(Flavour::MariaDb, Kind::Read, unknown, &["SELECT ANY_VALUE(a) FROM t", "SELECT LATERAL(a) FROM t"]);
}

#[test]
fn what_is_set_for_sessions_that_begin_later_is_known_by_its_place() {
    for (sql, expect) in [
        ("SET GLOBAL a = 1", Some(0)),
        ("SET @@global.a = 1", Some(0)),
        ("SET @@GLOBAL . a = 1", Some(0)),
        ("/* why */ set persist a = 1", Some(0)),
        ("SET sql_mode = '', @@global.a = 1", Some(0)),
        ("SET @a = IF(1, 2, 3), GLOBAL a = 1", Some(0)),
        ("SET /*!50000 GLOBAL */ a = 1", Some(0)),
        ("/*!50000 SET GLOBAL a = 1 */", Some(0)),
        ("SET STATEMENT lock_wait_timeout = 1 FOR SET GLOBAL a = 1", Some(0)),
        ("SET GLOBAL a = 'open", Some(0)),
        ("SELECT 1; SET a = 1; SET GLOBAL a = 1; SET GLOBAL b = 1", Some(2)),
        ("SET GLOBAL a = 1; SELECT 1", Some(0)),
        ("SELECT 1; SET /*!50000 GLOBAL */ a = 1", Some(0)),
        ("SELECT /*! 1; SET */ 1", None),
        // A look for each of these would be for nothing.
        ("SET a = @@global.a", None),
        ("SET a = IF(1, @@global.a, @@global.b), c = (SELECT global FROM t)", None),
        ("SET PERSIST_ONLY a = 1", None),
        ("SET @global = 1", None),
        ("SET SESSION a = 1", None),
        ("SELECT @@global.a", None),
        ("SHOW GLOBAL VARIABLES", None),
        ("INSERT INTO t (global) VALUES (1)", None),
        ("INSERT INTO t VALUES ('SET GLOBAL a = 1')", None),
        ("SELECT 1; INSERT INTO t VALUES (@@global.a)", None),
    ] {
        assert_eq!(classify(sql.as_bytes(), Mode::default()).global_at, expect, "{sql}");
    }
}

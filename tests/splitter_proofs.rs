//! What a session must not lose, gain or leave behind where that is easy to get wrong: hints and one-statement settings,
//! roles, locks by name, warnings after a move, the account in the key of prepared statements, comments that only some
//! servers execute, a lock wait that timed out. The same statements are sent to a server directly wherever the answer is
//! for the server to give.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "other tests look at packets")]
mod sessions;

use std::time::Duration;

use mariadb::{Cluster, PASSWORD, USER};
use mysql_async::prelude::Queryable;
use mysql_async::{ChangeUserOpts, Conn, Row, Value};
use sessions::{block_on, code, connect, mark_servers, one, options, wait_for_reads_on_replica};
use support::{Driver, Server, Site, eventually, ports};

/// A further account, which may not see `d.t`.
const OTHER: &str = "other";

/// One worker with two connections for each account and server, so that a session finds its own taken by others.
fn before(cluster: &Cluster, driver: Driver, more: &str) -> (Server, u16) {
    let replicas: Vec<_> = cluster.replicas.iter().map(|replica| format!("\"127.0.0.1:{}\"", replica.port)).collect();
    let primary = cluster.primary.port;
    let mysql = format!(
        "[mysql.db]\nlisten = \"127.0.0.1:0\"\nprimary = \"127.0.0.1:{primary}\"\nreplicas = [{}]\nuser = \"{USER}\"\n\
         password = \"{PASSWORD}\"\npool_max = 2\ncausal_timeout = \"10s\"\nmonitor_interval = \"100ms\"\n{more}\n",
        replicas.join(", ")
    );
    let site = "[site.main]\n[[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";
    let server = Site::new(driver, site).one_worker().more(&mysql).start();
    let port = server.address("db").port();
    if !cluster.replicas.is_empty() {
        block_on(wait_for_reads_on_replica(port));
    }
    (server, port)
}

/// Other sessions take so many of the primary's two connections at once and leave them in another state; and all of the
/// replica's.
async fn stir(port: u16, primaries: usize) {
    let (mut first, mut second) = (connect(port).await, connect(port).await);
    let busy = [&mut first, &mut second].into_iter().take(primaries);
    let mut open = Vec::new();
    for conn in busy {
        conn.query_drop("SET sql_mode='ANSI'").await.unwrap();
        conn.query_drop("BEGIN").await.unwrap();
        conn.query_drop("SELECT id FROM who").await.unwrap();
        open.push(conn);
    }
    for conn in open {
        conn.query_drop("COMMIT").await.unwrap();
        conn.query_drop("SELECT 1 FROM who FOR UPDATE").await.unwrap();
    }
    const SLOW: &str = "SELECT id FROM who WHERE (SELECT COUNT(*) FROM seq_1_to_100000 WHERE seq % 7 = 3) > 0";
    tokio::join!(async { one::<u32>(&mut first, SLOW).await }, async { one::<u32>(&mut second, SLOW).await });
    first.disconnect().await.unwrap();
    second.disconnect().await.unwrap();
}

/// All values of the first row as texts, or the error's number.
async fn told(conn: &mut Conn, sql: impl AsRef<[u8]>) -> Result<Vec<String>, u16> {
    match conn.query_first::<Row, _>(sql.as_ref()).await {
        Ok(row) => Ok(row.map(|row| row.unwrap().iter().map(|value| value.as_sql(true)).collect()).unwrap_or_default()),
        Err(error) => Err(code(&error)),
    }
}

#[test]
fn sessions_keep_what_is_theirs_and_nothing_else() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    cluster.primary.sql(&format!(
        "GRANT RELOAD ON *.* TO {USER}@'%';
         CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40)) ENGINE=InnoDB;
         CREATE DATABASE vault; CREATE TABLE vault.gold (n INT) ENGINE=InnoDB; INSERT INTO vault.gold VALUES (7);
         CREATE USER {OTHER}@'%' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON d.who TO {OTHER}@'%';
         CREATE USER plain@'%' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON d.* TO plain@'%';
         CREATE ROLE keeper; GRANT SELECT ON vault.* TO keeper; GRANT keeper TO plain@'%', {USER}@'%'"
    ));
    cluster.wait_for_replicas();
    let accounts = format!(
        "users = [{{ name = \"{OTHER}\", password = \"{PASSWORD}\" }}, {{ name = \"plain\", password = \"{PASSWORD}\" }}]"
    );
    for driver in [Driver::IoUring, Driver::Epoll] {
        let (server, port) = before(&cluster, driver, &accounts);
        let direct = cluster.primary.port;
        block_on(async {
            hints_and_set_statement_set_nothing(port).await;
            get_diagnostics_after_a_move_is_right_or_refused(port).await;
            the_same_text_of_another_account_is_another_statement(port).await;
            comments_for_other_servers_change_nothing(port, direct).await;
            letters_that_end_like_a_backslash_hide_nothing(port, direct).await;
            backup_stages_stay_where_they_began(port).await;
            what_is_prepared_keeps_its_meaning(port, direct).await;
            a_role_stays_with_its_session(port, direct).await;
        });
        let pins = |reason: &str| server.metric("one_server_splitter_pins_total", &format!("reason=\"{reason}\""));
        assert!(pins("lock") >= 1.0 && pins("executable_comment") >= 1.0 && pins("setting") >= 1.0);
    }
}

async fn hints_and_set_statement_set_nothing(port: u16) {
    const SETTINGS: &str = "SELECT @@sql_mode, @@max_statement_time, @@sort_buffer_size, @@group_concat_max_len";
    let (mut conn, mut other) = (connect(port).await, connect(port).await);
    let untouched = told(&mut other, SETTINGS).await.unwrap();
    // What a hint says, it says of its statement: the next read is at the replica as before.
    for _ in 0..3 {
        let hinted = "SELECT /*+ SET_VAR(sql_mode='ANSI') SET_VAR(max_statement_time=7) */ id FROM who";
        assert_eq!(told(&mut conn, hinted).await, Ok(vec!["'2'".into()]));
        assert_eq!(told(&mut conn, SETTINGS).await.unwrap(), untouched);
        assert_eq!(one::<u32>(&mut conn, "SELECT id FROM who").await, 2);
    }
    for statement in [
        "SET STATEMENT max_statement_time=7, sql_mode='ANSI', group_concat_max_len=99 FOR SELECT 1",
        "SET STATEMENT sort_buffer_size=65536 FOR INSERT INTO t (v) VALUES ('set')",
        "SET STATEMENT sql_mode='ANSI' FOR SELECT nonsense",
        "SET STATEMENT max_statement_time=7 FOR DELETE FROM t",
    ] {
        let _ = conn.query_drop(statement).await;
        stir(port, 1).await;
        assert_eq!(told(&mut conn, SETTINGS).await.unwrap(), untouched, "{statement}");
        // Neither a statement that runs later, nor a session that gets the connection, has it.
        assert_eq!(told(&mut other, SETTINGS).await.unwrap(), untouched, "{statement}");
        conn.reset().await.unwrap();
        stir(port, 2).await;
        assert_eq!(told(&mut conn, SETTINGS).await.unwrap(), untouched, "{statement}, and a reset");
    }
    conn.disconnect().await.unwrap();
    other.disconnect().await.unwrap();
}

async fn get_diagnostics_after_a_move_is_right_or_refused(port: u16) {
    // Statement, number of its conditions, number of the first one.
    for (statement, count, number) in
        [("INSERT IGNORE INTO t (id) VALUES (1), (1)", 1, 1062), ("SELECT CAST('x' AS INT)", 1, 1292)]
    {
        for moved in [false, true] {
            for question in ["GET DIAGNOSTICS @count = NUMBER", "GET DIAGNOSTICS CONDITION 1 @number = MYSQL_ERRNO"] {
                let mut conn = connect(port).await;
                conn.query_drop(statement).await.unwrap();
                if moved {
                    stir(port, 2).await;
                }
                let asked = conn.query_drop(question).await;
                let what = format!("{statement}; {question}, moved: {moved}");
                match asked {
                    Ok(()) => {
                        let (variable, answer) = if question.contains("NUMBER") && !question.contains("ERRNO") {
                            ("@count", count)
                        } else {
                            ("@number", number)
                        };
                        assert_eq!(one::<u32>(&mut conn, &format!("SELECT {variable}")).await, answer, "{what}");
                    }
                    Err(error) => {
                        assert!(moved, "{what}: {error}");
                        assert_eq!(code(&error), 1105, "{what}: {error}");
                    }
                }
                conn.query_drop("DELETE FROM t").await.unwrap();
                conn.disconnect().await.unwrap();
            }
        }
    }
    // A count that the answer has told is known wherever the connection is.
    let mut conn = connect(port).await;
    conn.query_drop("INSERT INTO t (v) VALUES ('a'), ('b'), ('c')").await.unwrap();
    stir(port, 2).await;
    conn.query_drop("GET DIAGNOSTICS @n = ROW_COUNT").await.unwrap();
    assert_eq!(one::<i64>(&mut conn, "SELECT @n").await, 3);
    conn.query_drop("DELETE FROM t").await.unwrap();
    conn.disconnect().await.unwrap();
}

async fn the_same_text_of_another_account_is_another_statement(port: u16) {
    let log_on = |name: &'static str| async move {
        Conn::new(options(port).user(Some(name)).db_name(Some("d")))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    const WHO: &str = "SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)";
    const ROWS: &str = "SELECT COUNT(*) FROM t WHERE id > ?";
    let mut conns = [(USER, log_on(USER).await), (OTHER, log_on(OTHER).await), (USER, log_on(USER).await)];
    for _ in 0..3 {
        for (name, conn) in &mut conns {
            assert_eq!(conn.exec_first(WHO, ()).await.unwrap(), Some((*name).to_owned()));
            match conn.exec_first::<u64, _, _>(ROWS, (0,)).await {
                Ok(count) => assert_eq!((*name, count), (USER, Some(0))),
                Err(error) => assert_eq!((*name, code(&error)), (OTHER, 1142)),
            }
        }
    }
    // One client that becomes another account, and the first one again.
    let (_, mut conn) = conns.into_iter().next().unwrap();
    for name in [OTHER, USER, OTHER] {
        let options = ChangeUserOpts::default()
            .with_user(Some(name.into()))
            .with_pass(Some(PASSWORD.into()))
            .with_db_name(Some("d".into()));
        conn.change_user(options).await.unwrap();
        assert_eq!(conn.exec_first(WHO, ()).await.unwrap(), Some(name.to_owned()));
        assert_eq!(conn.exec_first::<u64, _, _>(ROWS, (0,)).await.is_ok(), name == USER);
    }
    conn.disconnect().await.unwrap();
}

/// What a server of another kind or version would execute is a comment for this one; whether it is, only the server knows.
async fn comments_for_other_servers_change_nothing(port: u16, direct: u16) {
    for sql in [
        "SELECT id /*!99999 + 10 */ FROM who",
        "SELECT id /*!50000 + 10 */ FROM who",
        "SELECT id /*! + 10 */ FROM who",
        "SELECT id /*M!100000 + 10 */ FROM who",
        "SELECT id /*M!999999 + 10 */ FROM who",
        "SELECT id /*M! + 10 */ FROM who",
        "SELECT id FROM who /*!99999 FOR UPDATE */",
        "SELECT id FROM who /*M!999999 FOR UPDATE */",
        "/*!99999 DELETE FROM who; */ SELECT id FROM who",
        "/*M!999999 DELETE FROM who; */ SELECT id FROM who",
        "SELECT id FROM who WHERE id < 5 /*!99999 AND id > 9 /* nested */ */",
        "SELECT '/*!99999 ' AS c, id /*!99999 , 5 */ FROM who",
        "SELECT id FROM who /*!80000 nonsense */",
        "SELECT id FROM who /*!99999 ' */",
        "SELECT id FROM who /*M!999999 ' */",
        "SELECT id FROM who /*!99999",
    ] {
        let (mut conn, mut plain) = (connect(port).await, connect(direct).await);
        // On the primary, as if each of them ran there: the direct connection leads to it.
        assert_eq!(told(&mut conn, sql).await, told(&mut plain, sql).await, "{sql}");
        conn.disconnect().await.unwrap();
        plain.disconnect().await.unwrap();
    }
}

/// The last byte of a letter may be that of a backslash: a quote behind it ends the text.
async fn letters_that_end_like_a_backslash_hide_nothing(port: u16, direct: u16) {
    for charset in ["cp932", "sjis", "gb18030"] {
        let mut conn = connect(port).await;
        if conn.query_drop(format!("SET NAMES {charset}")).await.is_err() {
            eprintln!("skipped: the server has no character set {charset}");
            conn.disconnect().await.unwrap();
            continue;
        }
        let mut plain = connect(direct).await;
        plain.query_drop(format!("SET NAMES {charset}")).await.unwrap();
        for (head, tail) in [
            ("SELECT id FROM who WHERE '", "' <> ' FOR UPDATE -- '"),
            ("SELECT id FROM who WHERE '", "' <> '' FOR UPDATE -- '"),
            ("SELECT id FROM who WHERE ' FOR UPDATE ' <> '", "'"),
            ("SELECT id, HEX('", "'), LENGTH('\\''), ' -- ' FROM who"),
            ("SELECT id /* ", " */ FROM who FOR UPDATE -- */"),
            ("SELECT id AS `", "` FROM who FOR UPDATE -- `"),
        ] {
            // 0x83 0x5C is a letter in each of them. Whether it hides the quote is left to the primary, which the direct
            // connection leads to.
            let sql = [head.as_bytes(), b"\x83\x5C", tail.as_bytes()].concat();
            let answer = told(&mut plain, &sql).await;
            assert_eq!(told(&mut conn, &sql).await, answer, "{charset}: {head}..{tail}");
            assert!(answer.is_ok_and(|values| values[0] == "'1'"), "{charset}: {head}..{tail}");
        }
        conn.disconnect().await.unwrap();
        plain.disconnect().await.unwrap();
    }
}

async fn backup_stages_stay_where_they_began(port: u16) {
    let mut conn = connect(port).await;
    // MySQL's own word for it, which this server does not know.
    assert_eq!(told(&mut conn, "LOCK INSTANCE FOR BACKUP").await, Err(1064));
    conn.reset().await.unwrap();
    for stage in ["BACKUP STAGE START", "BACKUP STAGE FLUSH", "BACKUP STAGE END"] {
        conn.query_drop(stage).await.unwrap_or_else(|error| panic!("{stage}: {error}"));
        stir(port, 1).await;
    }
    conn.query_drop("BACKUP LOCK d.t").await.unwrap();
    stir(port, 1).await;
    conn.query_drop("BACKUP UNLOCK").await.unwrap();
    // Left in the middle of it: the next one may begin.
    conn.query_drop("BACKUP STAGE START").await.unwrap();
    conn.disconnect().await.unwrap();
    let mut next = connect(port).await;
    let mut tries = 0;
    while let Err(error) = next.query_drop("BACKUP STAGE START").await {
        tries += 1;
        assert!(tries < 100, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    next.query_drop("BACKUP STAGE END").await.unwrap();
    next.disconnect().await.unwrap();
}

/// Settings that change how a text is read do not change what was prepared before.
async fn what_is_prepared_keeps_its_meaning(port: u16, direct: u16) {
    let mut all = Vec::new();
    for port in [port, direct] {
        let mut conn = connect(port).await;
        // In ANSI_QUOTES the second would lock, and the third would be a text with a name in it.
        let mut kept = Vec::new();
        for sql in [
            "SELECT \"id\" FROM who",
            "SELECT \"a' FOR UPDATE -- \" FROM who",
            "SELECT 'a' || 'b', \"x\" FROM who",
            "SELECT 'a\\' FROM who -- ' FROM who",
            "INSERT INTO t (v) VALUES (\"v\")",
        ] {
            kept.push(conn.prep(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")));
        }
        let mut seen = Vec::new();
        for mode in ["ANSI_QUOTES,PIPES_AS_CONCAT", "NO_BACKSLASH_ESCAPES", ""] {
            conn.query_drop(format!("SET sql_mode='{mode}'")).await.unwrap();
            for statement in &kept {
                let row: Result<Option<Row>, _> = conn.exec_first(statement, ()).await;
                let row = row.map(|row| row.map(|row| row.unwrap().iter().map(Value::clone).collect::<Vec<_>>()));
                seen.push(row.map_err(|error| code(&error)));
            }
            seen.push(Ok(conn
                .query_first::<u64, _>("SELECT COUNT(*) FROM t WHERE v = 'v'")
                .await
                .unwrap()
                .map(|n| vec![n.into()])));
        }
        conn.query_drop("DELETE FROM t").await.unwrap();
        conn.disconnect().await.unwrap();
        all.push(seen);
    }
    assert_eq!(all[0], all[1]);
    assert!(all[0].iter().all(Result::is_ok), "{:?}", all[0]);
}

async fn a_role_stays_with_its_session(port: u16, direct: u16) {
    const ROLE: &str = "SELECT COALESCE(CURRENT_ROLE(), '-')";
    const GOLD: &str = "SELECT n FROM vault.gold";
    let log_on =
        |port: u16| async move { Conn::new(options(port).user(Some("plain")).db_name(Some("d"))).await.unwrap() };
    let (mut conn, mut bare, mut other) = (log_on(port).await, log_on(direct).await, log_on(port).await);
    for turn in 0..2 {
        for conn in [&mut conn, &mut bare] {
            assert_eq!(told(conn, ROLE).await, Ok(vec!["'-'".into()]), "turn {turn}");
            assert_eq!(told(conn, GOLD).await, Err(1142), "turn {turn}");
            conn.query_drop("SET ROLE keeper").await.unwrap();
        }
        // The other two of this account's connections, and others' sessions on them.
        for _ in 0..3 {
            other.query_drop("BEGIN").await.unwrap();
            assert_eq!(told(&mut other, ROLE).await, Ok(vec!["'-'".into()]), "turn {turn}");
            assert_eq!(told(&mut other, GOLD).await, Err(1142), "turn {turn}: another session's role");
            assert_eq!(told(&mut conn, GOLD).await, Ok(vec!["'7'".into()]), "turn {turn}");
            assert_eq!(told(&mut conn, ROLE).await, Ok(vec!["'keeper'".into()]), "turn {turn}");
            other.query_drop("COMMIT").await.unwrap();
        }
        conn.reset().await.unwrap();
        bare.reset().await.unwrap();
        let (told_role, bare_role) = (told(&mut conn, ROLE).await, told(&mut bare, ROLE).await);
        eprintln!("after a reset: {told_role:?} here, {bare_role:?} directly");
        // Whatever a server makes of its own reset, nobody is left with rights that he has not asked for.
        for conn in [&mut conn, &mut other] {
            assert_eq!(told(conn, ROLE).await, Ok(vec!["'-'".into()]), "turn {turn}");
            assert_eq!(told(conn, GOLD).await, Err(1142), "turn {turn}");
        }
        bare.query_drop("SET ROLE NONE").await.unwrap();
    }
    // A session that leaves takes its role along.
    conn.query_drop("SET ROLE keeper").await.unwrap();
    conn.disconnect().await.unwrap();
    for _ in 0..4 {
        let (mut first, mut second) = (log_on(port).await, log_on(port).await);
        for conn in [&mut first, &mut second] {
            conn.query_drop("BEGIN").await.unwrap();
            assert_eq!(told(conn, GOLD).await, Err(1142), "the role of a session that has left");
        }
        first.disconnect().await.unwrap();
        second.disconnect().await.unwrap();
    }
    bare.disconnect().await.unwrap();
    other.disconnect().await.unwrap();
}

/// An account that `read_only` does not stop is warned of, by whichever right.
#[test]
fn an_account_that_may_write_to_a_replica_is_warned_of() {
    if !mariadb::is_installed() {
        return;
    }
    let cluster = Cluster::start(1);
    mark_servers(&cluster);
    let replica = &cluster.replicas[0];
    let warned = |server: &Server| {
        server
            .lines()
            .into_iter()
            .any(|line| line.contains("may write to this replica") && line.contains(&replica.port.to_string()))
    };
    let own = replica.sql(&format!("SHOW GRANTS FOR {USER}@'%'"));
    for (grant, is_told) in
        [("SUPER", true), ("ALL PRIVILEGES", true), ("READ_ONLY ADMIN", true), ("REPLICATION SLAVE ADMIN", false)]
    {
        replica.sql(&format!("SET sql_log_bin=0; GRANT {grant} ON *.* TO {USER}@'%'"));
        let (server, _) = before(&cluster, Driver::Auto, "");
        match is_told {
            true => eventually(&format!("a warning of {grant}"), || warned(&server)),
            false => assert!(!warned(&server), "{grant} lets nobody write"),
        }
        let primary = cluster.primary.port.to_string();
        assert!(
            !server
                .lines()
                .iter()
                .any(|line| line.contains("may write to this replica") && line.contains(&format!(":{primary}")))
        );
        replica.sql(&format!(
            "SET sql_log_bin=0; REVOKE ALL PRIVILEGES, GRANT OPTION FROM {USER}@'%'; {}",
            own.replace('\n', "; ")
        ));
    }
}

/// 1205 ends the statement, and with `innodb_rollback_on_timeout` the transaction: a session is told what a server tells.
#[test]
fn a_lock_wait_that_timed_out_leaves_what_the_server_leaves() {
    if !mariadb::is_installed() {
        return;
    }
    for rolls_back in [false, true] {
        let argument = format!("--innodb-rollback-on-timeout={}", if rolls_back { "ON" } else { "OFF" });
        let cluster = Cluster::start_with(0, &[], &[&argument]);
        cluster
            .primary
            .sql("CREATE TABLE d.t (id INT PRIMARY KEY, v INT) ENGINE=InnoDB; INSERT INTO d.t VALUES (1, 0)");
        let (_server, port) = before(&cluster, Driver::Auto, "");
        block_on(async {
            let mut seen = Vec::new();
            for (n, port) in [(10, port), (20, cluster.primary.port)] {
                seen.push(times_out(port, cluster.primary.port, n).await);
            }
            assert_eq!(seen[0], seen[1], "rolls back: {rolls_back}");
            let survives = &seen[0][3];
            assert_eq!(survives, &Ok(vec![if rolls_back { "'0'" } else { "'1'" }.to_owned()]), "{:?}", seen[0]);
        });
    }
}

async fn times_out(port: u16, direct: u16, n: u32) -> Vec<Result<Vec<String>, u16>> {
    let (mut conn, mut blocker) = (connect(port).await, connect(direct).await);
    blocker.query_drop("BEGIN").await.unwrap();
    blocker.query_drop("UPDATE t SET v = v + 1 WHERE id = 1").await.unwrap();
    conn.query_drop("SET innodb_lock_wait_timeout=1").await.unwrap();
    let mut seen = Vec::new();
    for sql in [
        "BEGIN".to_owned(),
        format!("INSERT INTO t VALUES ({n}, 1)"),
        "UPDATE t SET v = 5 WHERE id = 1".to_owned(),
        format!("SELECT COUNT(*) FROM t WHERE id = {n}"),
        "SELECT @@in_transaction".to_owned(),
        format!("INSERT INTO t VALUES ({n} + 1, 1)"),
        "ROLLBACK".to_owned(),
        format!("SELECT COUNT(*) FROM t WHERE id IN ({n}, {n} + 1)"),
        "SELECT @@in_transaction".to_owned(),
    ] {
        seen.push(told(&mut conn, &sql).await);
    }
    assert_eq!(seen[2], Err(1205));
    blocker.query_drop("ROLLBACK").await.unwrap();
    conn.query_drop("DELETE FROM t WHERE id > 1").await.unwrap();
    conn.disconnect().await.unwrap();
    blocker.disconnect().await.unwrap();
    seen
}

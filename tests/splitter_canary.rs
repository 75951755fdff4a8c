//! Leak canaries: many clients over few connections, each with settings, variables, temporary tables, locks, databases and
//! transactions of its own. None ever sees another's, whatever ends a session or breaks a connection.
//!
//! `CANARY_SEED` repeats a run's choices, `CANARY_SECONDS` makes it longer.

mod support;

#[path = "support/mariadb.rs"]
#[allow(dead_code, reason = "other tests stop servers")]
mod mariadb;
#[path = "support/split.rs"]
#[allow(dead_code, reason = "other tests need one form alone")]
mod split;
#[path = "support/sql_wire.rs"]
#[allow(dead_code, reason = "other tests compare whole answers")]
mod sql_wire;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mariadb::{Cluster, PASSWORD, USER};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sql_wire::{LogOn, Piece, Shape, Wire, text_values};
use support::ports;
use support::*;

const CLIENTS: usize = 12;
const POOL_MAX: usize = 4;

struct Scene {
    seed: u64,
    address: SocketAddr,
    /// Sessions that may keep a connection: fewer than there are, or all would wait for each other.
    permits: AtomicUsize,
    ended: AtomicBool,
    lives: AtomicUsize,
    /// Lives that ended because a connection was killed.
    broken: AtomicUsize,
    checks: AtomicUsize,
}

/// Why a life ends early.
#[derive(Debug)]
struct Broken;

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        let kind = error.kind();
        assert!(
            matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
            "only a closed connection may end a session: {error}"
        );
        Broken
    }
}

/// One session, from login to whatever ends it.
struct Life<'a> {
    scene: &'a Scene,
    client: usize,
    wire: Wire,
    random: StdRng,
    /// What it has set.
    mine: Mine,
    has_permit: bool,
}

/// What a session should see of itself.
#[derive(Clone, Debug, PartialEq)]
struct Mine {
    schema: Option<String>,
    sql_mode: &'static str,
    time_zone: String,
    concat_max: usize,
    collation: &'static str,
}

impl Mine {
    fn fresh(schema: Option<String>) -> Mine {
        Mine {
            schema,
            sql_mode: DEFAULT_MODE,
            time_zone: "SYSTEM".into(),
            concat_max: 1 << 20,
            collation: "utf8mb4_general_ci",
        }
    }
}

const DEFAULT_MODE: &str = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION";
const MODES: [&str; 4] = ["PIPES_AS_CONCAT", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "IGNORE_SPACE"];
const COLLATIONS: [&str; 4] = ["utf8mb4_bin", "latin1_swedish_ci", "gbk_chinese_ci", "utf8mb4_unicode_ci"];

#[test]
fn no_session_sees_what_another_one_left() {
    if !mariadb::is_installed() {
        return;
    }
    let seed: u64 = std::env::var("CANARY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    let seconds = std::env::var("CANARY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    eprintln!("CANARY_SEED={seed}");
    let cluster = Cluster::start(1);
    cluster.primary.sql(
        "CREATE TABLE d.open (life INT, nth INT, done INT, PRIMARY KEY (life, nth)) ENGINE=InnoDB;
         CREATE TABLE d.one (x INT); INSERT INTO d.one VALUES (1);
         CREATE PROCEDURE d.leave(n INT) SET SESSION group_concat_max_len = n;
         CREATE PROCEDURE d.leave_table() CREATE TEMPORARY TABLE d.canary (owner INT)",
    );
    for client in 0..CLIENTS {
        cluster.primary.sql(&format!("CREATE DATABASE c{client}; CREATE TABLE c{client}.own (owner INT); INSERT INTO c{client}.own VALUES ({client})"));
    }
    cluster.wait_for_replicas();
    let driver = if seed.is_multiple_of(2) { Driver::IoUring } else { Driver::Epoll };
    let splitter = split::site(driver, &cluster, &format!("pool_max = {POOL_MAX}\npool_timeout = \"30s\"")).start();
    let scene = Scene {
        seed,
        address: splitter.address("db"),
        permits: AtomicUsize::new(POOL_MAX - 1),
        ended: AtomicBool::new(false),
        lives: AtomicUsize::new(0),
        broken: AtomicUsize::new(0),
        checks: AtomicUsize::new(0),
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let scene = &scene;
                scope.spawn(move || scene.run(client))
            })
            .collect();
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut random = StdRng::seed_from_u64(seed);
        // Most connections that are killed are idle: no session need be hit.
        let is_enough = || {
            Instant::now() > end && (scene.broken.load(Relaxed) > 0 || Instant::now() > end + Duration::from_secs(30))
        };
        while !is_enough() && !clients.iter().any(|client| client.is_finished()) {
            std::thread::sleep(Duration::from_millis(random.random_range(20..120)));
            let servers = [&cluster.primary, &cluster.replicas[0]];
            kill_a_connection(servers[random.random_range(0..2)]);
        }
        scene.ended.store(true, Relaxed);
    });
    let (lives, broken, checks) = (scene.lives.into_inner(), scene.broken.into_inner(), scene.checks.into_inner());
    eprintln!("{lives} sessions, {broken} of them broken, {checks} checks");
    // A slow machine gets through fewer of them.
    assert!(lives > CLIENTS && broken > 0 && checks > 100, "the run is worth something");
}

/// Any of the splitter's, whatever it is doing.
fn kill_a_connection(server: &mariadb::Server) {
    let id = server
        .sql(&format!("SELECT id FROM information_schema.processlist WHERE user = '{USER}' ORDER BY RAND() LIMIT 1"));
    if !id.is_empty() {
        // It may be gone by now: error 1094.
        server.sql(&format!(
            "DELIMITER //\nBEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1094 BEGIN END; KILL {id}; END//"
        ));
    }
}

impl Scene {
    fn run(&self, client: usize) {
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_mul(31).wrapping_add(client as u64));
        while !self.ended.load(Relaxed) {
            let has_permit = random.random_range(0..3) == 0
                && self.permits.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
            let number = self.lives.fetch_add(1, Relaxed);
            if self.live(client, number, has_permit, &mut random).is_err() {
                self.broken.fetch_add(1, Relaxed);
            }
            if has_permit {
                self.permits.fetch_add(1, Relaxed);
            }
        }
    }

    fn live(&self, client: usize, number: usize, has_permit: bool, random: &mut StdRng) -> Result<(), Broken> {
        let schema = (random.random_range(0..2) == 0).then(|| format!("c{client}"));
        let log_on = LogOn::new(USER, PASSWORD, schema.as_deref());
        let Ok(wire) = Wire::connect(self.address, &log_on) else { return Err(Broken) };
        let random = StdRng::seed_from_u64(random.random());
        let mut life = Life { scene: self, client, wire, random, mine: Mine::fresh(schema), has_permit };
        life.has_nothing_of_others()?;
        for _ in 0..life.random.random_range(1..4) {
            life.settle()?;
            for _ in 0..life.random.random_range(1..6) {
                life.sees_itself()?;
            }
        }
        if has_permit {
            life.leave_traces(number)?;
        }
        life.end()
    }
}

impl Life<'_> {
    /// An answer, or the end of this life when its connection was killed.
    fn ask(&mut self, sql: &str) -> Result<Vec<Piece>, Broken> {
        let answer = self.wire.query(sql)?;
        // Lost, unreachable; killed; interrupted; shut down.
        let was_killed = answer.iter().any(|piece| matches!(piece.code(), Some(1158 | 1429 | 1927 | 1317 | 1053)));
        if was_killed { Err(Broken) } else { Ok(answer) }
    }

    fn run(&mut self, sql: &str) -> Result<(), Broken> {
        let answer = self.ask(sql)?;
        assert_eq!(answer.last().and_then(Piece::code), None, "{}: {sql}: {answer:?}", self.who());
        Ok(())
    }

    fn values(&mut self, sql: &str) -> Result<Vec<Option<String>>, Broken> {
        let answer = self.ask(sql)?;
        match &answer[..] {
            [Piece::Rows { rows, .. }, ..] if rows.len() == 1 && answer[0].code().is_none() => {
                Ok(text_values(&rows[0]))
            }
            other => panic!("{}: {sql}: {other:?}", self.who()),
        }
    }

    fn who(&self) -> String {
        format!("CANARY_SEED={} client {} {:?}", self.scene.seed, self.client, self.mine)
    }

    /// A session that has just begun.
    fn has_nothing_of_others(&mut self) -> Result<(), Broken> {
        self.sees_itself()?;
        let row =
            self.values("SELECT LAST_INSERT_ID(), @@autocommit, @@in_transaction, @@tx_isolation, @@insert_id")?;
        let expected = ["0", "1", "0", "REPEATABLE-READ", "0"];
        assert_eq!(row.iter().flatten().collect::<Vec<_>>(), expected, "{}", self.who());
        let warnings = self.ask("SHOW WARNINGS")?;
        assert!(matches!(&warnings[..], [Piece::Rows { rows, .. }] if rows.is_empty()), "{}: {warnings:?}", self.who());
        if !self.has_permit {
            return Ok(());
        }
        let row = self.values("SELECT @v, @w, @'odd name'")?;
        assert_eq!(row, [None, None, None], "{}", self.who());
        for (sql, code) in
            [("SELECT * FROM d.canary", 1146), ("EXECUTE left_behind", 1243), ("HANDLER h READ FIRST", 1109)]
        {
            let answer = self.ask(sql)?;
            assert_eq!(answer[0].code(), Some(code), "{}: {sql}: {answer:?}", self.who());
        }
        Ok(())
    }

    /// Settings that follow the session from connection to connection.
    fn settle(&mut self) -> Result<(), Broken> {
        let n = self.random.random_range(0..4);
        match self.random.random_range(0..5) {
            0 => {
                let schema = format!("c{}", self.client);
                self.run(&format!("USE {schema}"))?;
                self.mine.schema = Some(schema);
            }
            1 => {
                self.run(&format!("SET sql_mode = '{}'", MODES[n]))?;
                self.mine.sql_mode = MODES[n];
            }
            2 => {
                self.run(&format!("SET time_zone = '+{:02}:3{n}'", self.client))?;
                self.mine.time_zone = format!("+{:02}:3{n}", self.client);
            }
            3 => {
                let max = 2000 + self.client * 10 + n;
                self.run(&format!("SET group_concat_max_len = {max}"))?;
                self.mine.concat_max = max;
            }
            _ => {
                let charset = COLLATIONS[n].split('_').next().expect("a charset");
                self.run(&format!("SET NAMES {charset} COLLATE {}", COLLATIONS[n]))?;
                self.mine.collation = COLLATIONS[n];
            }
        }
        Ok(())
    }

    /// As the primary says it, and as a replica behaves.
    fn sees_itself(&mut self) -> Result<(), Broken> {
        self.scene.checks.fetch_add(1, Relaxed);
        let row =
            self.values("SELECT DATABASE(), @@sql_mode, @@time_zone, @@group_concat_max_len, @@collation_connection")?;
        let mine = &self.mine;
        let expected = [
            mine.schema.clone(),
            Some(mine.sql_mode.to_owned()),
            Some(mine.time_zone.clone()),
            Some(mine.concat_max.to_string()),
            Some(mine.collation.to_owned()),
        ];
        assert_eq!(row, expected, "{}", self.who());
        let row = self.values(r"SELECT DATABASE(), '1' || '0', LENGTH('\n'), COLLATION('x'), (SELECT COUNT(*) FROM d.open WHERE done = 0), HOUR(FROM_UNIXTIME(0)) FROM d.one")?;
        let mine = &self.mine;
        let hour = if mine.time_zone == "SYSTEM" { row[5].clone() } else { Some(self.client.to_string()) };
        let expected = [
            mine.schema.clone(),
            Some(if mine.sql_mode == "PIPES_AS_CONCAT" { "10" } else { "1" }.into()),
            Some(if mine.sql_mode == "NO_BACKSLASH_ESCAPES" { "2" } else { "1" }.into()),
            Some(mine.collation.to_owned()),
            Some("0".into()),
            hour,
        ];
        assert_eq!(row, expected, "{}", self.who());
        if mine.schema.is_some() {
            let row = self.values("SELECT owner FROM own")?;
            assert_eq!(row, [Some(self.client.to_string())], "{}", self.who());
        }
        Ok(())
    }

    /// What nobody else may find, in a random order and number.
    fn leave_traces(&mut self, number: usize) -> Result<(), Broken> {
        let client = self.client;
        let lock = format!("canary {client}.{number}");
        for nth in 0..self.random.random_range(2..9) {
            match self.random.random_range(0..10) {
                0 => self.run(&format!("SET @v = {client}, @'odd name' = 1"))?,
                1 => drop(self.values(&format!("SELECT @w := {client}"))?),
                2 => self.run(&format!("CREATE OR REPLACE TEMPORARY TABLE d.canary AS SELECT {client} AS owner"))?,
                3 => {
                    let row = self.values(&format!("SELECT GET_LOCK('{lock}', 0)"))?;
                    assert_eq!(row, [Some("1".into())], "{}", self.who());
                }
                4 => self.run("PREPARE left_behind FROM 'SELECT 1'")?,
                5 => {
                    let max = 3000 + client;
                    self.run(&format!("CALL d.leave({max})"))?;
                    self.mine.concat_max = max;
                }
                6 => {
                    self.run("BEGIN")?;
                    self.run(&format!("INSERT INTO d.open VALUES ({number}, {nth}, 0)"))?;
                    // An error in the middle leaves the transaction open.
                    let _ = self.ask("INSERT INTO d.nowhere VALUES (1)")?;
                    let row = self
                        .values(&format!("SELECT COUNT(*) > 0, @@in_transaction FROM d.open WHERE life = {number}"))?;
                    assert_eq!(row, [Some("1".into()), Some("1".into())], "{}", self.who());
                    match self.random.random_range(0..3) {
                        0 => self.run("ROLLBACK")?,
                        1 => {
                            // By its whole key: no other row is locked, or sessions could deadlock.
                            self.run(&format!("UPDATE d.open SET done = 1 WHERE life = {number} AND nth = {nth}"))?;
                            self.run("COMMIT")?;
                        }
                        // Nothing more can be checked: its own row would be found.
                        _ => return Ok(()),
                    }
                }
                7 => self.run("SET SESSION tx_isolation = 'READ-COMMITTED', last_insert_id = 77, insert_id = 99")?,
                8 => {
                    // It may be open already.
                    let _ = self.ask("HANDLER d.one OPEN AS h")?;
                    self.run("HANDLER h READ FIRST")?;
                }
                _ => drop(self.ask("SELECT 1/0, CAST('x' AS INT)")?),
            }
            self.sees_itself()?;
        }
        Ok(())
    }

    /// One of the ways in which clients leave.
    fn end(mut self) -> Result<(), Broken> {
        match self.random.random_range(0..7) {
            // Just gone.
            0 => {}
            1 => self.wire.send(0x01, b"")?,
            // In the middle of a statement, of an answer, of a packet.
            2 => self.wire.send(0x03, b"SELECT SLEEP(0.01), x FROM d.one")?,
            3 => self.wire.send(0x03, b"SELECT REPEAT('x', 3000000), x FROM d.one")?,
            4 => self.wire.send_raw(&Wire::command_bytes(0x03, b"SELECT 'half a packet'")[..9])?,
            5 => {
                self.wire.send(0x1F, b"")?;
                self.begin_again(None)?;
            }
            _ => {
                let schema = format!("c{}", self.client);
                self.wire.send_change_user(&schema)?;
                self.begin_again(Some(schema))?;
            }
        }
        Ok(())
    }

    fn begin_again(&mut self, schema: Option<String>) -> Result<(), Broken> {
        let answer = match schema {
            None => self.wire.answer(Shape::Single)?,
            Some(_) => self.wire.change_user_answer()?,
        };
        if answer[0].code().is_some() {
            return Err(Broken);
        }
        self.mine = Mine::fresh(schema.or(self.mine.schema.take()));
        self.has_nothing_of_others()
    }
}

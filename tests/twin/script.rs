//! Random session scripts for the twin run: what a client may say to a MySQL server, in any order.
//!
//! What could make the splitter keep a connection for the session is only said under a permit, of which there are fewer
//! than pooled connections: two clients that hold them all would wait for each other.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// A parameter of a prepared statement.
#[derive(Clone, Debug)]
pub(crate) enum Param {
    Null,
    Int(i64),
    Double(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
    /// Sent by COM_STMT_SEND_LONG_DATA before.
    Long,
}

/// One thing a client does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Query(Vec<u8>),
    Prepare {
        slot: usize,
        sql: String,
    },
    /// `bind`: the types are sent along.
    Execute {
        slot: usize,
        params: Vec<Param>,
        bind: bool,
        cursor: bool,
    },
    Fetch {
        slot: usize,
        rows: u32,
    },
    ResetStatement {
        slot: usize,
    },
    CloseStatement {
        slot: usize,
    },
    LongData {
        slot: usize,
        param: u16,
        bytes: Vec<u8>,
    },
    InitDb(String),
    FieldList(String),
    MultiStatements(bool),
    Ping,
    ResetConnection,
    ChangeUser(String),
    Reconnect,
}

impl Step {
    fn query(sql: impl Into<String>) -> Vec<Step> {
        vec![Step::Query(sql.into().into_bytes())]
    }

    /// Whether the session is as new behind it: what it held before is free again.
    pub(crate) fn is_fresh_start(&self) -> bool {
        matches!(self, Step::ResetConnection | Step::ChangeUser(_) | Step::Reconnect)
    }
}

/// One client's script.
pub(crate) struct Script {
    pub(crate) random: StdRng,
    /// Number of the client: its databases are `t{n}` and `u{n}`.
    pub(crate) client: usize,
    /// It may do what holds a connection.
    pub(crate) permit: bool,
    steps: usize,
    /// When the run began, in seconds since 1970.
    begun: u64,
    /// Logins so far: what a connection held may be freed only after the next one is there.
    logins: usize,
}

const SLOTS: usize = 4;

/// What both databases of a client hold. `N` is its number.
pub(crate) fn definitions(database: &str) -> Vec<String> {
    let mut all = vec![
        format!("CREATE OR REPLACE DATABASE {database} CHARACTER SET utf8mb4"),
        format!("USE {database}"),
        "CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, v INT UNIQUE, s VARCHAR(40), d DECIMAL(10,3), t DATETIME(3), \
         b BLOB, e ENUM('x','y','z'), f DOUBLE) ENGINE=InnoDB"
            .into(),
        "CREATE TABLE k (id INT PRIMARY KEY, n INT NOT NULL DEFAULT 7, CHECK (n < 1000)) ENGINE=InnoDB".into(),
        "CREATE TABLE m (id INT AUTO_INCREMENT PRIMARY KEY, v INT) ENGINE=MyISAM".into(),
        "CREATE TABLE g (id INT AUTO_INCREMENT PRIMARY KEY, s VARCHAR(40) CHARACTER SET gbk, j VARCHAR(40) CHARACTER SET \
         sjis, l VARCHAR(40) CHARACTER SET latin1) ENGINE=InnoDB"
            .into(),
        "CREATE VIEW w AS SELECT id, v, v * 2 AS twice FROM a WHERE v IS NOT NULL".into(),
        "CREATE SEQUENCE q".into(),
        "CREATE TABLE n (id INT) ENGINE=InnoDB".into(),
        "CREATE TRIGGER n_insert BEFORE INSERT ON n FOR EACH ROW SET @by_trigger = NEW.id".into(),
        "CREATE TRIGGER k_insert BEFORE INSERT ON k FOR EACH ROW SET NEW.n = NEW.n + 1".into(),
        "CREATE FUNCTION f_pure(x INT) RETURNS INT DETERMINISTIC RETURN x + 1".into(),
        "CREATE FUNCTION f_insert(x INT) RETURNS INT BEGIN INSERT INTO m (v) VALUES (x); RETURN x; END".into(),
        "CREATE FUNCTION f_var(x INT) RETURNS INT BEGIN SET @by_function = x; RETURN x; END".into(),
        "CREATE VIEW w_var AS SELECT id, f_var(id + 1) AS x FROM k".into(),
        "CREATE FUNCTION f_lock(x VARCHAR(40)) RETURNS INT RETURN GET_LOCK(x, 0)".into(),
        "CREATE PROCEDURE p_set() SET SESSION group_concat_max_len = 123, sql_mode = 'ANSI_QUOTES'".into(),
        "CREATE PROCEDURE p_var(x INT) SET @by_procedure = x".into(),
        "CREATE PROCEDURE p_temporary() BEGIN CREATE TEMPORARY TABLE IF NOT EXISTS p (x INT); INSERT INTO p VALUES (1); END"
            .into(),
        "CREATE PROCEDURE p_rows(n INT) BEGIN SELECT id, v FROM a WHERE v < n ORDER BY id; SELECT COUNT(*) FROM k; END".into(),
        "CREATE PROCEDURE p_out(OUT x INT) BEGIN SET x = 42; SELECT 1; END".into(),
        "CREATE PROCEDURE p_error() BEGIN INSERT INTO m (v) VALUES (1); SELECT 1; SIGNAL SQLSTATE '45000' SET \
         MESSAGE_TEXT = 'on purpose'; END"
            .into(),
        "CREATE PROCEDURE p_begin() BEGIN START TRANSACTION; INSERT INTO a (v) VALUES (NULL); END".into(),
    ];
    for n in 0..6 {
        all.push(format!("INSERT INTO a (v, s, d, t, b, e, f) VALUES ({n}, 'row {n}', {n}.5, '2024-02-2{n} 12:00:00', X'00FF0{n}', 'y', {n}e-3)"));
    }
    all
}

impl Script {
    pub(crate) fn new(random: StdRng, client: usize, begun: u64) -> Script {
        Script { random, client, permit: false, steps: 0, begun, logins: 0 }
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list.choose(&mut self.random).expect("not empty")
    }

    fn number(&mut self) -> i64 {
        self.random.random_range(0..40)
    }

    fn database(&mut self) -> String {
        format!("{}{}", self.pick(&["t", "u"]), self.client)
    }

    /// What the client does next; `can_have_permit`: one is free.
    pub(crate) fn next(&mut self, can_have_permit: bool) -> Vec<Step> {
        self.steps += 1;
        // Tables must not grow for ever, and a session not forget how it began.
        if self.steps.is_multiple_of(150) {
            return Step::query(self.pick(&["TRUNCATE a", "DELETE FROM a WHERE id % 3 > 0", "DELETE FROM k"]));
        }
        if self.permit {
            if self.below(18) == 0 {
                return self.fresh_start();
            }
            return match self.below(10) {
                0..=5 => self.holding(),
                6 => self.questions(),
                _ => self.plain(),
            };
        }
        match self.below(60) {
            0..=4 if can_have_permit => {
                self.permit = true;
                self.holding()
            }
            5 => self.fresh_start(),
            6..=14 => self.questions(),
            15..=22 => self.settings(),
            23..=28 => self.prepared_at_once(),
            _ => self.plain(),
        }
    }

    fn fresh_start(&mut self) -> Vec<Step> {
        match self.below(3) {
            // MariaDB keeps the database and forgets its character set; the splitter selects it anew.
            0 => vec![Step::ResetConnection, Step::InitDb(self.database())],
            1 => vec![Step::ChangeUser(self.database())],
            _ => {
                self.logins += 1;
                vec![Step::Reconnect]
            }
        }
    }

    /// Statements that leave nothing behind in the session but what can be carried over.
    fn plain(&mut self) -> Vec<Step> {
        match self.below(12) {
            0..=3 => self.write(),
            4..=7 => self.read(),
            8 => self.mistake(),
            9 => self.definition(),
            10 => self.show(),
            _ => self.other_command(),
        }
    }

    fn write(&mut self) -> Vec<Step> {
        let (n, m) = (self.number(), self.number());
        Step::query(match self.below(22) {
            0 | 1 => format!("INSERT INTO a (v, s) VALUES ({n}, 'text {m}')"),
            2 => format!("INSERT INTO a (s, d, f) VALUES ('many', {n}.25, {m}), ('more', NULL, 1e{m})"),
            3 => format!("INSERT IGNORE INTO a (v) VALUES ({n}), ({m}), ({n})"),
            4 => format!(
                "INSERT INTO a (v) VALUES ({n}) ON DUPLICATE KEY UPDATE s = 'again {m}', id = LAST_INSERT_ID(id)"
            ),
            5 => format!("REPLACE INTO a (v, s) VALUES ({n}, 'replaced')"),
            6 => format!("INSERT INTO a (s) SELECT s FROM a WHERE v < {n} ORDER BY id LIMIT 3"),
            7 => format!("INSERT INTO a (v, e) VALUES ({n}, 'x') RETURNING id, v, s"),
            8 => format!("UPDATE a SET s = 'changed', f = f + 1 WHERE v = {n}"),
            9 => format!("UPDATE a SET v = v WHERE v > {n}"),
            10 => format!("DELETE FROM a WHERE v = {n}"),
            11 => format!("DELETE FROM a WHERE v > {n} ORDER BY id LIMIT 2 RETURNING id"),
            12 => format!("INSERT INTO k (id, n) VALUES ({n}, {m})"),
            13 => format!("REPLACE INTO k VALUES ({n}, {m})"),
            14 => format!("INSERT INTO m (v) VALUES ({n}), ({m})"),
            // Below zero, where it does not move the counter: InnoDB moves that by the auto_increment_increment which the handler
            // that it finds in its cache saw last, whoever's that was (ha_innobase::write_row).
            15 => format!("INSERT INTO a (id, v) VALUES (-{}, NULL)", 1_000_000 + self.steps),
            16 => format!("INSERT INTO a (t, b) VALUES ('2024-01-{:02} 01:02:03.456', X'{n:02X}00FF')", n % 28 + 1),
            17 => format!(
                "INSERT INTO a (s) VALUES ('{}')",
                ["é", "日本", "💡", "'' \\'", "-- no", "/* no */"][n as usize % 6]
            ),
            18 => format!("INSERT IGNORE INTO a (v, d, e) VALUES ('{n}x', 'y', 'nothing')"),
            19 => format!("UPDATE a JOIN k ON a.v = k.id SET a.s = 'joined' WHERE k.n < {n}"),
            20 => format!("INSERT INTO a (v) VALUES (NEXT VALUE FOR q + {m}00000)"),
            _ => "WITH c AS (SELECT 1 AS x) SELECT x FROM c FOR UPDATE".into(),
        })
    }

    fn read(&mut self) -> Vec<Step> {
        let (n, m) = (self.number(), self.number());
        Step::query(match self.below(30) {
            0 => "SELECT * FROM a ORDER BY id".into(),
            1 => format!("SELECT id, v, s FROM a WHERE v < {n} ORDER BY id DESC LIMIT 5"),
            2 => "SELECT COUNT(*), SUM(v), MAX(d), GROUP_CONCAT(s ORDER BY id) FROM a".into(),
            3 => format!("SELECT SQL_CALC_FOUND_ROWS id FROM a ORDER BY id LIMIT {}", m % 4),
            4 => format!("SELECT a.id, k.n FROM a LEFT JOIN k ON a.v = k.id WHERE a.v > {n} ORDER BY a.id"),
            5 => format!("(SELECT id FROM a ORDER BY id LIMIT 2) UNION ALL (SELECT {n}) ORDER BY 1"),
            6 => "WITH RECURSIVE c AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM c WHERE x < 5) SELECT x FROM c".into(),
            7 => "SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS r FROM a ORDER BY id LIMIT 4".into(),
            8 => format!("SELECT CAST('{n}x' AS INT), 1/0, CONVERT('y', DECIMAL)"),
            9 => format!("SELECT id FROM a WHERE v = '{n}y'"),
            10 => format!("SELECT JSON_EXTRACT('{{\"a\": [{n}, {m}]}}', '$.a[1]') AS j"),
            11 => "SELECT s FROM a WHERE s LIKE '%e%' ORDER BY id FOR UPDATE".into(),
            12 => "SELECT id FROM a ORDER BY id LIMIT 1 LOCK IN SHARE MODE".into(),
            13 => format!("SELECT /* comment; SELECT 2 */ {n} -- more\n , {m} # end"),
            14 => "SELECT 'a' = 'A', 'a' || 'b', \"quoted\", CHARSET('x'), COLLATION('x'), CHARSET(DATABASE())".into(),
            15 => "SELECT @@sql_mode, @@time_zone, @@collation_connection, @@character_set_client, @@autocommit".into(),
            16 => "SELECT @@group_concat_max_len, @@sql_select_limit, @@tx_isolation, @@foreign_key_checks, @@max_error_count".into(),
            17 => "SELECT DATABASE(), USER(), CURRENT_USER(), SCHEMA()".into(),
            18 => format!("SELECT FROM_UNIXTIME({n}00000), CAST('2024-03-10 02:30:00' AS DATETIME), UNIX_TIMESTAMP('2024-03-10 02:30:00')"),
            19 => "SELECT HEX(b), LENGTH(s), CHAR_LENGTH(s), HEX(s) FROM a ORDER BY id LIMIT 8".into(),
            20 => "SELECT * FROM w ORDER BY id LIMIT 3".into(),
            21 => "SELECT s, j, l, HEX(s), HEX(j) FROM g ORDER BY id".into(),
            22 => format!("SELECT id FROM a WHERE id IN (SELECT id FROM k WHERE n < {n}) OR EXISTS (SELECT 1 FROM m WHERE v = {m}) ORDER BY id"),
            23 => format!("SELECT REPEAT('x', {})", [10, 250, 251, 70_000, 0][n as usize % 5]),
            24 => "SELECT a.* FROM a NATURAL JOIN k ORDER BY 1".into(),
            25 => format!("VALUES ({n}), ({m})"),
            26 => format!("SELECT DATE_FORMAT('2024-01-0{} 00:00:00', '%W %M'), FORMAT({m}1234.5, 2), 7/3", n % 9 + 1),
            27 => format!("SET STATEMENT max_statement_time = 60 FOR SELECT id, v + {n} FROM a ORDER BY id LIMIT 3"),
            28 => format!("SET STATEMENT max_statement_time=60.5 FOR SELECT COUNT(*), 1/0 FROM k WHERE n < {m}"),
            _ => "SELECT id, SLEEP(0), BENCHMARK(2, 1) FROM k ORDER BY id LIMIT 1".into(),
        })
    }

    fn mistake(&mut self) -> Vec<Step> {
        let n = self.number();
        Step::query(match self.below(14) {
            0 => "SELECT * FROM nowhere".into(),
            1 => "SELECT nothing FROM a".into(),
            2 => "SELEKT 1".into(),
            3 => format!("INSERT INTO k (id) VALUES ({n}), ({n})"),
            4 => "INSERT INTO k (id, n) VALUES (777, 5000)".into(),
            5 => "SELECT (SELECT id FROM a), (SELECT 1 UNION SELECT 2)".into(),
            6 => "INSERT INTO a (v) VALUES ('x')".into(),
            7 => "INSERT INTO a (d) VALUES (99999999999)".into(),
            8 => "UPDATE a SET v = 1 / 0 WHERE id > 0 LIMIT 1".into(),
            9 => "INSERT INTO nowhere VALUES (1)".into(),
            10 => "DROP TABLE nowhere".into(),
            11 => "SELECT * FROM no_database.t".into(),
            12 => format!("INSERT INTO a (v) VALUES ({n}), ({n})"),
            _ => "".into(),
        })
    }

    fn definition(&mut self) -> Vec<Step> {
        let n = self.below(4);
        Step::query(match self.below(9) {
            0 => format!("CREATE TABLE IF NOT EXISTS x{n} (id INT AUTO_INCREMENT PRIMARY KEY, c INT)"),
            1 => format!("DROP TABLE IF EXISTS x{n}"),
            2 => format!("ALTER TABLE a ADD COLUMN IF NOT EXISTS extra{n} INT DEFAULT {n}"),
            3 => format!("ALTER TABLE a DROP COLUMN IF EXISTS extra{n}"),
            4 => format!("CREATE TABLE IF NOT EXISTS x{n} AS SELECT id, v FROM a"),
            5 => "TRUNCATE m".into(),
            6 => format!("CREATE OR REPLACE VIEW w{n} AS SELECT {n} AS n"),
            7 => format!("SELECT * FROM x{n} ORDER BY 1"),
            _ => format!("INSERT INTO x{n} (c) VALUES ({n})"),
        })
    }

    fn show(&mut self) -> Vec<Step> {
        Step::query(self.pick(&[
            "SHOW TABLES",
            "SHOW COLUMNS FROM a",
            "DESCRIBE k",
            "SHOW CREATE TABLE k",
            "SHOW CREATE VIEW w",
            "SHOW DATABASES LIKE 't_'",
            "SHOW VARIABLES LIKE 'sql_mode'",
            "SHOW SESSION VARIABLES LIKE 'character_set_c%'",
            "SHOW INDEX FROM k WHERE Seq_in_index > 1",
            "SHOW COLLATION LIKE 'gbk%'",
            "EXPLAIN SELECT 1",
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY 1",
            "CHECKSUM TABLE a",
            "CHECK TABLE k",
        ]))
    }

    fn other_command(&mut self) -> Vec<Step> {
        match self.below(5) {
            0 => vec![Step::InitDb(self.database())],
            1 => vec![Step::InitDb("no_such_database".into())],
            2 => vec![Step::FieldList(self.pick(&["a", "w", "nowhere"]).into())],
            // Servers count no rows for it; the splitter answers by itself, and the last statement stays the last one.
            _ => vec![Step::Ping, Step::Query(b"SET sql_notes = 1".to_vec())],
        }
    }

    /// Questions about the statement before, and what keeps them company.
    fn questions(&mut self) -> Vec<Step> {
        Step::query(self.pick(&[
            "SHOW WARNINGS",
            "SHOW WARNINGS LIMIT 1",
            "SHOW ERRORS",
            "SHOW COUNT(*) WARNINGS",
            "SELECT ROW_COUNT()",
            "SELECT FOUND_ROWS()",
            "SELECT LAST_INSERT_ID()",
            "SELECT LAST_INSERT_ID() AS id, 1",
            "SELECT @@identity",
            "SELECT @@last_insert_id",
            "SELECT @@warning_count, @@error_count",
            "SELECT @@warning_count",
            "SELECT FOUND_ROWS(), ROW_COUNT(), LAST_INSERT_ID()",
        ]))
    }

    fn settings(&mut self) -> Vec<Step> {
        let n = self.number();
        Step::query(match self.below(22) {
            0 => format!("USE {}", self.database()),
            1 => format!("USE `{}`;", self.database()),
            2..=4 => format!(
                "SET sql_mode = '{}'",
                self.pick(&[
                    "",
                    "ANSI",
                    "TRADITIONAL",
                    "PIPES_AS_CONCAT",
                    "NO_ZERO_DATE,STRICT_ALL_TABLES",
                    "ANSI_QUOTES"
                ])
            ),
            5 => "SET sql_mode = DEFAULT".into(),
            6 => "SET NAMES latin1".into(),
            7 => "SET NAMES utf8mb4 COLLATE utf8mb4_bin".into(),
            8 => format!("SET NAMES {}", self.pick(&["utf8mb4", "'utf8mb3'", "DEFAULT", "cp1251", "gbk", "nonsense"])),
            9 => format!("SET CHARACTER SET {}", self.pick(&["utf8mb4", "latin1", "DEFAULT"])),
            10 => format!("SET time_zone = '+0{}:00'", n % 9),
            11 => format!("SET SESSION group_concat_max_len = {}", 100 + n),
            12 => format!("SET @@session.sql_select_limit = {}, max_error_count = {}", n + 3, n + 1),
            13 => "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".into(),
            14 => format!("SET foreign_key_checks = {}, unique_checks = {}", n % 2, (n + 1) % 2),
            15 => format!("SET lc_time_names = '{}'", self.pick(&["de_DE", "en_US", "ja_JP", "xx_YY"])),
            16 => format!(
                "SET collation_connection = {}",
                self.pick(&["utf8mb4_bin", "latin1_german1_ci", "utf8mb4_unicode_ci"])
            ),
            17 => format!("SET div_precision_increment = {}, default_week_format = {}", n % 8, n % 7),
            18 => format!("SET sql_notes = {}, sql_warnings = {}", n % 2, n % 2),
            19 => format!("SET STATEMENT max_statement_time = 5 FOR SELECT {n}, @@max_statement_time"),
            20 => "SET SESSION max_statement_time = 0, sql_mode = 'WRONG'".into(),
            _ => format!("SET GLOBAL no_such_variable = {n}"),
        })
    }

    fn params(&mut self, count: usize) -> Vec<Param> {
        (0..count)
            .map(|_| match self.below(6) {
                0 => Param::Null,
                1 | 2 => Param::Int(self.number()),
                3 => Param::Double(self.number() as f64 / 4.0),
                4 => Param::Text(
                    self.pick(&["17", "é💡", "row 3", "", "2024-01-02 03:04:05", "it's"]).as_bytes().to_vec(),
                ),
                _ => Param::Blob(vec![0, 0xFF, b'\'', self.number() as u8]),
            })
            .collect()
    }

    fn preparable(&mut self) -> (&'static str, usize) {
        const TEXTS: &[(&str, usize)] = &[
            ("SELECT id, v, s FROM a WHERE v < ? ORDER BY id", 1),
            ("SELECT ?, ? + 1, CONCAT(?, 'x')", 3),
            ("INSERT INTO a (v, s, b) VALUES (?, ?, ?)", 3),
            ("INSERT IGNORE INTO a (v) VALUES (?), (?)", 2),
            ("UPDATE a SET s = ? WHERE v = ?", 2),
            ("DELETE FROM a WHERE v = ?", 1),
            ("SELECT * FROM a ORDER BY id", 0),
            ("SELECT d, t, e, f, b FROM a WHERE s = ? OR id < ? ORDER BY id", 2),
            ("REPLACE INTO k VALUES (?, ?)", 2),
            ("SELECT @@sql_mode, 'a' = 'A', ?", 1),
            ("SELECT * FROM nowhere WHERE x = ?", 1),
            ("SELECT FOUND_ROWS()", 0),
            ("SELECT ROW_COUNT(), LAST_INSERT_ID()", 0),
            ("SELECT SQL_CALC_FOUND_ROWS id FROM a ORDER BY id LIMIT ?", 1),
            ("INSERT INTO a (s) VALUES (?) RETURNING id", 1),
            ("SHOW TABLES", 0),
        ];
        *TEXTS.choose(&mut self.random).expect("not empty")
    }

    /// Prepared, run once or twice, and closed, so that the session is as before.
    fn prepared_at_once(&mut self) -> Vec<Step> {
        let (sql, params) = self.preparable();
        let mut steps = vec![Step::Prepare { slot: SLOTS, sql: sql.into() }];
        let first = self.params(params);
        steps.push(Step::Execute { slot: SLOTS, params: first.clone(), bind: true, cursor: false });
        if self.below(2) == 0 {
            if self.below(3) == 0 {
                steps.extend(self.questions());
            }
            steps.push(Step::Execute { slot: SLOTS, params: first, bind: false, cursor: false });
        }
        steps.push(Step::CloseStatement { slot: SLOTS });
        steps
    }

    /// What the session cannot do without a connection of its own.
    fn holding(&mut self) -> Vec<Step> {
        match self.below(14) {
            0..=3 => self.transaction(),
            4 => self.variable(),
            5 => self.temporary(),
            6 => self.text_prepared(),
            7 => self.multi(),
            8 => self.routine(),
            9 => self.lock(),
            10 => self.untracked(),
            11 => self.lexical(),
            12 => self.settings(),
            _ => self.prepared_statement(),
        }
    }

    fn transaction(&mut self) -> Vec<Step> {
        let n = self.below(3);
        Step::query(match self.below(28) {
            0..=2 => "BEGIN".into(),
            3 => "START TRANSACTION".into(),
            4 | 5 => "START TRANSACTION READ ONLY".into(),
            6 => "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ WRITE".into(),
            7..=9 => "COMMIT".into(),
            10 => "COMMIT AND CHAIN".into(),
            11 => "COMMIT WORK AND NO CHAIN NO RELEASE".into(),
            12..=14 => "ROLLBACK".into(),
            15 => "ROLLBACK AND CHAIN".into(),
            16 | 17 => format!("SAVEPOINT s{n}"),
            18 | 19 => format!("ROLLBACK TO SAVEPOINT s{n}"),
            20 => format!("RELEASE SAVEPOINT s{n}"),
            21 | 22 => "SET autocommit = 0".into(),
            23 => "SET @@autocommit = ON".into(),
            24 => "SET TRANSACTION READ ONLY".into(),
            25 => "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE".into(),
            _ => return self.xa(),
        })
    }

    /// Always to its end: what is prepared outlives its connection.
    fn xa(&mut self) -> Vec<Step> {
        let name = format!("x{}", self.client);
        let mut steps = Step::query(format!("XA START '{name}'"));
        steps.extend(self.write());
        steps.extend(self.read());
        steps.extend(Step::query(format!("XA END '{name}'")));
        if self.below(2) == 0 {
            steps.extend(Step::query(format!("XA PREPARE '{name}'")));
        }
        steps.extend(Step::query(format!("XA ROLLBACK '{name}'")));
        steps
    }

    fn variable(&mut self) -> Vec<Step> {
        let n = self.number();
        Step::query(match self.below(9) {
            0 => format!("SET @a = {n}, @b = 'text {n}'"),
            1 => "SELECT @a, @b, @c, @by_function, @by_procedure".into(),
            2 => format!("SELECT @c := {n}"),
            3 => "SELECT MAX(v) INTO @a FROM a".into(),
            4 => format!("INSERT INTO a (v) VALUES (@d := {n})"),
            5 => "SELECT @d, @`odd name`, @'quoted'".into(),
            6 => "GET DIAGNOSTICS @n = NUMBER, @r = ROW_COUNT".into(),
            7 => "SELECT @n, @r".into(),
            _ => "SELECT id FROM a WHERE v > @a ORDER BY id".into(),
        })
    }

    fn temporary(&mut self) -> Vec<Step> {
        let n = self.number();
        Step::query(match self.below(8) {
            0 => "CREATE TEMPORARY TABLE IF NOT EXISTS k (id INT, n INT)".into(),
            1 => "CREATE OR REPLACE TEMPORARY TABLE tmp (x INT PRIMARY KEY)".into(),
            2 => format!("INSERT INTO tmp VALUES ({n})"),
            3 => "SELECT * FROM tmp ORDER BY x".into(),
            4 => "DROP TEMPORARY TABLE IF EXISTS k, tmp".into(),
            5 => "SELECT * FROM k ORDER BY id".into(),
            6 => "CREATE TEMPORARY TABLE p SELECT id FROM a".into(),
            _ => "DROP TABLE IF EXISTS tmp".into(),
        })
    }

    fn text_prepared(&mut self) -> Vec<Step> {
        let n = self.number();
        Step::query(match self.below(8) {
            0 => "PREPARE p FROM 'SELECT ?, @@sql_mode'".into(),
            1 => "PREPARE p FROM 'INSERT INTO a (v) VALUES (?)'".into(),
            2 => format!("SET @p = {n}"),
            3 | 4 => "EXECUTE p USING @p".into(),
            5 => "DEALLOCATE PREPARE p".into(),
            6 => format!("EXECUTE IMMEDIATE 'SELECT {n}'"),
            _ => "EXECUTE p".into(),
        })
    }

    fn multi(&mut self) -> Vec<Step> {
        let n = self.number();
        match self.below(22) {
            0 => vec![Step::MultiStatements(self.below(2) == 0)],
            8 => Step::query(format!("INSERT INTO a (v) VALUES ({n}); SELECT ROW_COUNT(), LAST_INSERT_ID()")),
            // What may be refused has nothing else to do that one of them would have done.
            9 => Step::query("SELECT ROW_COUNT(); SELECT 2"),
            10 => Step::query("SELECT id FROM a ORDER BY id LIMIT 2; SELECT FOUND_ROWS()"),
            11 => Step::query("SELECT FOUND_ROWS(); SELECT 2"),
            12 => Step::query(format!("SELECT CAST('{n}x' AS INT); SELECT 1")),
            13 => Step::query("SELECT LAST_INSERT_ID(); SELECT COUNT(*) FROM a; SELECT @@warning_count"),
            14 => Step::query(format!("BEGIN; INSERT INTO a (v) VALUES ({n})")),
            15 => Step::query("ROLLBACK; SELECT COUNT(*) FROM a"),
            16 => Step::query("SELECT 1; SHOW WARNINGS"),
            17 => Step::query(format!("INSERT INTO n VALUES ({n}); SELECT COUNT(*) FROM k")),
            18 => Step::query("SELECT x FROM w_var ORDER BY id LIMIT 1; DO 1"),
            19 => Step::query(format!("DELETE FROM m WHERE v = {n}; INSERT INTO m (v) VALUES ({n}); COMMIT")),
            20 => Step::query("SELECT SQL_CALC_FOUND_ROWS id FROM a ORDER BY id LIMIT 1; SELECT 1"),
            21 => Step::query("SET sql_mode = 'ANSI'; SELECT @@sql_mode"),
            1 => Step::query(format!("SELECT 1; INSERT INTO a (v) VALUES ({n}); SELECT LAST_INSERT_ID()")),
            2 => Step::query("BEGIN; SELECT COUNT(*) FROM a; COMMIT"),
            3 => Step::query("SELECT 1; SELECT * FROM nowhere; SELECT 2"),
            4 => Step::query("SET @m = 1; SELECT @m;"),
            5 => Step::query("BEGIN NOT ATOMIC DECLARE x INT DEFAULT 1; SELECT x; END"),
            6 => Step::query(format!("IF {n} > 20 THEN SELECT 'large'; ELSE SELECT 'small'; END IF")),
            7 => Step::query("DO 1; DO 2"),
            _ => Step::query("SELECT ';' ; # nothing\n"),
        }
    }

    fn routine(&mut self) -> Vec<Step> {
        let n = self.number();
        Step::query(match self.below(21) {
            17 => format!("INSERT INTO n VALUES ({n})"),
            18 => "SELECT x FROM w_var ORDER BY id LIMIT 1".into(),
            19 => "SET STATEMENT max_statement_time=60 FOR SELECT x FROM w_var ORDER BY id LIMIT 1".into(),
            0 => "CALL p_set()".into(),
            1 => format!("CALL p_var({n})"),
            2 => "CALL p_temporary()".into(),
            3 => format!("CALL p_rows({n})"),
            4 => "CALL p_out(@out)".into(),
            5 | 20 => "SELECT @out, @by_procedure, @by_function, @by_trigger".into(),
            6 => "CALL p_error()".into(),
            7 => "CALL p_begin()".into(),
            8 => format!("SELECT f_pure({n})"),
            9 => format!("SELECT f_insert({n}), id FROM k ORDER BY id LIMIT 2"),
            10 => format!("SELECT f_var({n})"),
            11 => format!("SELECT f_lock('lock {}.{}.0')", self.client, self.logins),
            12 => format!("DO f_insert({n})"),
            13 => "SELECT NEXTVAL(q), LASTVAL(q)".into(),
            14 => "CALL no_procedure()".into(),
            15 => "SELECT * FROM p".into(),
            _ => format!("INSERT INTO a (v) VALUES (f_pure({n}))"),
        })
    }

    fn lock(&mut self) -> Vec<Step> {
        let number = self.below(2);
        let name = format!("lock {}.{}.{number}", self.client, self.logins);
        Step::query(match self.below(13) {
            0 | 1 => format!("SELECT GET_LOCK('{name}', 0)"),
            2 => format!("SELECT RELEASE_LOCK('{name}')"),
            3 => format!("SELECT IS_FREE_LOCK('{name}')"),
            4 => "SELECT RELEASE_ALL_LOCKS()".into(),
            5 => "LOCK TABLES a WRITE, k READ".into(),
            6 | 7 => "UNLOCK TABLES".into(),
            8 => "HANDLER a OPEN".into(),
            9 => "HANDLER a READ FIRST".into(),
            10 => "HANDLER a READ NEXT LIMIT 2".into(),
            11 => "HANDLER a CLOSE".into(),
            _ => format!("DO GET_LOCK('{name}', 0)"),
        })
    }

    fn untracked(&mut self) -> Vec<Step> {
        let n = self.number();
        Step::query(match self.below(13) {
            0 | 1 => {
                // Not long ago: replicas take it for the age of what the session writes.
                let mut steps = Step::query(format!("SET timestamp = {}", self.begun - n as u64));
                steps.extend(Step::query("SELECT NOW(), CURDATE(), @@timestamp, UNIX_TIMESTAMP()"));
                return steps;
            }
            2 => "SET timestamp = DEFAULT".into(),
            3 => format!("SET insert_id = {}", 2_000_000 + self.steps),
            4 => format!("SET last_insert_id = {n}"),
            5 | 6 => {
                let mut steps = Step::query(format!("SET rand_seed1 = {n}, rand_seed2 = 5"));
                steps.extend(Step::query("SELECT RAND(), RAND(3)"));
                return steps;
            }
            7 => "SET SESSION profiling_history_size = 4".into(),
            8 => format!("SELECT LAST_INSERT_ID({n})"),
            9 => "SET sql_auto_is_null = 1, sql_safe_updates = 0".into(),
            11 => "SELECT id, CONNECTION_ID() > 0 FROM k ORDER BY id LIMIT 1".into(),
            10 => format!("SET SESSION auto_increment_increment = {}, auto_increment_offset = 1", n % 4 + 1),
            _ => format!("SET SESSION wait_timeout = {}, lock_wait_timeout = {}", 3000 + n, 40 + n),
        })
    }

    /// Texts that are cut differently by another sql_mode or character set.
    fn lexical(&mut self) -> Vec<Step> {
        match self.below(20) {
            0 => Step::query(r"SELECT 'a\'b', 'c'"),
            1 => Step::query(r"SELECT '\\', 'x' -- '"),
            2 => Step::query(r#"SELECT "a""b", 'it''s', "id" FROM a ORDER BY id LIMIT 1"#),
            3 => Step::query("SET sql_mode = 'NO_BACKSLASH_ESCAPES'"),
            4 => Step::query("SET sql_mode = 'ORACLE'"),
            5 => Step::query("SET sql_mode = 'IGNORE_SPACE,ANSI'"),
            6 => Step::query("SELECT COUNT (*) FROM a"),
            7 => Step::query("SELECT f_var (1), @by_function"),
            8 => Step::query("SELECT 1 /*!50000 , 2 */ /*M!100000 , 3 */ /*!999999 , 4 */"),
            9 => Step::query("SELECT/**/1+--1\n 2"),
            10 => Step::query("SELECT 1e5, .5, 0x41, X'42', b'01', N'n', _utf8mb4'u', _latin1 X'E9'"),
            11 => Step::query("SET NAMES gbk"),
            12 => Step::query("SET NAMES sjis"),
            13 => Step::query("SET NAMES big5"),
            // 0x5C as the second byte of a letter.
            14 => vec![Step::Query(b"SELECT HEX('\xbf\\'), 'x'".to_vec())],
            15 => vec![Step::Query(b"INSERT INTO g (s) VALUES ('\xd2\\')".to_vec())],
            16 => vec![Step::Query(b"INSERT INTO g (j) VALUES ('\x95\\')".to_vec())],
            17 => vec![Step::Query(b"SELECT '\x83\\' AS x, 'b' -- '\n".to_vec())],
            18 => Step::query("SELECT `id`, a.`v` FROM `a` WHERE `v` IS NULL ORDER BY `id` LIMIT 2"),
            _ => Step::query("SELECT 'unterminated"),
        }
    }

    fn prepared_statement(&mut self) -> Vec<Step> {
        let slot = self.below(SLOTS);
        let (sql, count) = self.preparable();
        match self.below(6) {
            0 => {
                let params = self.params(count);
                // A question that is not answered opens none.
                let cursor = self.below(2) == 0 && !sql.contains("_ROWS()") && !sql.contains("ROW_COUNT()");
                let mut steps = vec![
                    Step::Prepare { slot, sql: sql.into() },
                    Step::Execute { slot, params: params.clone(), bind: true, cursor },
                ];
                if cursor {
                    steps.push(Step::Fetch { slot, rows: 2 });
                    if self.below(2) == 0 {
                        steps.extend(self.read());
                    }
                    steps.push(Step::Fetch { slot, rows: 100 });
                }
                steps
            }
            1 => vec![
                Step::Prepare { slot, sql: "INSERT INTO a (b, s) VALUES (?, ?)".into() },
                Step::LongData { slot, param: 0, bytes: vec![0xAB; 300] },
                Step::LongData { slot, param: 0, bytes: b"tail".to_vec() },
                Step::Execute {
                    slot,
                    params: vec![Param::Long, Param::Text(b"long".to_vec())],
                    bind: true,
                    cursor: false,
                },
            ],
            2 => vec![Step::ResetStatement { slot }],
            3 => vec![Step::CloseStatement { slot }],
            4 => vec![
                Step::Prepare {
                    slot,
                    sql: self
                        .pick(&[
                            "BEGIN",
                            "COMMIT",
                            "SET autocommit = 1",
                            "SELECT f_var(5)",
                            "CALL p_rows(9)",
                            "SELECT @a",
                        ])
                        .into(),
                },
                Step::Execute { slot, params: Vec::new(), bind: true, cursor: false },
                // Whether a routine was prepared anew as it ran, because somebody had made a view meanwhile, decides whether
                // MariaDB keeps the warnings of before: two servers need not agree.
                Step::Query(b"SELECT id FROM a LIMIT 0".to_vec()),
            ],
            _ => vec![
                Step::Prepare { slot, sql: "SELECT id, v FROM a WHERE v < ? ORDER BY id".into() },
                Step::Execute { slot, params: vec![Param::Int(9)], bind: true, cursor: false },
                Step::Query(b"ALTER TABLE a ADD COLUMN IF NOT EXISTS extra9 INT".to_vec()),
                Step::Execute { slot, params: vec![Param::Int(30)], bind: false, cursor: false },
            ],
        }
    }
}

//! Statements for the classifier's test: listed ones that have fooled others, plain reads, and generated ones.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// What the statements use, on the primary.
pub(crate) const DEFINITIONS: &str = "
CREATE TABLE d.t (id INT PRIMARY KEY, v INT, s VARCHAR(40), j TEXT) ENGINE=InnoDB;
INSERT INTO d.t VALUES (1, 10, 'one', '{\"a\": 1}'), (2, 20, 'two', '[1, 2]'), (3, 30, 'three', NULL);
CREATE TABLE d.log (id INT AUTO_INCREMENT PRIMARY KEY, x INT) ENGINE=InnoDB;
CREATE VIEW d.w AS SELECT id, v FROM d.t;
CREATE SEQUENCE d.q NOCACHE;
DELIMITER //
CREATE FUNCTION d.f_write(x INT) RETURNS INT BEGIN INSERT INTO d.log (x) VALUES (x); RETURN x; END//
CREATE FUNCTION d.f_const() RETURNS INT DETERMINISTIC BEGIN INSERT INTO d.log (x) VALUES (1); RETURN 1; END//
CREATE FUNCTION d.f_var(x INT) RETURNS INT BEGIN SET @by_function = x; RETURN x; END//
CREATE FUNCTION d.f_lock() RETURNS INT RETURN GET_LOCK('l1', 0)//
CREATE FUNCTION d.rank2() RETURNS INT RETURN GET_LOCK('l1', 0)//
CREATE PROCEDURE d.p_write() INSERT INTO d.log (x) VALUES (1)//
CREATE PROCEDURE d.p_set() SET SESSION group_concat_max_len = 77//
DELIMITER ;
";

/// Reads that must be taken for reads.
pub(crate) const READS: &[&[u8]] = &[
    b"SELECT id FROM t",
    b"select * from t where id = 1",
    b"  \n\t SELECT 1",
    b"(SELECT id FROM t)",
    b"((SELECT id FROM t) UNION (SELECT 2)) ORDER BY 1 LIMIT 1",
    b"/* comment */ SELECT /* FOR UPDATE */ id FROM t -- FOR UPDATE",
    b"# first\nSELECT id FROM t",
    b"WITH c AS (SELECT id FROM t) SELECT * FROM c",
    b"WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 4) SELECT n FROM c",
    b"SELECT COUNT(*), SUM(v), MIN(id), GROUP_CONCAT(s ORDER BY id SEPARATOR ';') FROM t GROUP BY v HAVING COUNT(*) > 0",
    b"SELECT id, ROW_NUMBER() OVER (PARTITION BY v ORDER BY id) FROM t",
    b"SELECT IF(v > 10, 'a', 'b'), IFNULL(s, ''), COALESCE(NULL, 1), CASE WHEN id = 1 THEN 2 ELSE 3 END FROM t",
    b"SELECT CONCAT(s, 'FOR UPDATE'), 'INTO @a', \"; DELETE FROM t\" FROM t",
    b"SELECT t.id AS `for update`, `t`.`v` FROM `d`.`t` WHERE `s` LIKE '%a\\'%' ESCAPE '|'",
    b"SELECT DATE_ADD('2024-01-01', INTERVAL 1 DAY), EXTRACT(YEAR FROM '2024-01-01')",
    b"SELECT JSON_EXTRACT(j, '$.a') FROM t WHERE JSON_VALID(j)",
    b"SELECT a.id FROM t a JOIN t b ON a.id = b.id LEFT JOIN w USING (id) WHERE EXISTS (SELECT 1 FROM w WHERE w.id = a.v)",
    b"SELECT id FROM t WHERE v IN (10, 20) AND s BETWEEN 'a' AND 'z' ORDER BY RAND(3) LIMIT 2 OFFSET 1",
    b"SELECT CAST('1' AS SIGNED), CONVERT('x' USING utf8mb4), 0x41, X'41', b'1', 1e3, .5, TRUE, NULL",
    b"VALUES (1, 2), (3, 4)",
    b"SELECT SQL_NO_CACHE DISTINCT v FROM t",
    b"SELECT id FROM t;",
    b"EXPLAIN SELECT id FROM t",
    b"DESCRIBE t",
];

/// No reads, though they may look so; a read behind a sign that deceives; and what only some servers understand.
pub(crate) const TRAPS: &[&[u8]] = &[
    b"SELECT id FROM t FOR UPDATE",
    b"SELECT id FROM t LOCK IN SHARE MODE",
    b"(SELECT id FROM t FOR UPDATE)",
    b"(SELECT id FROM t) FOR UPDATE",
    b"SELECT id FROM t FOR UPDATE SKIP LOCKED",
    b"SELECT id FROM t LOCK IN SHARE MODE NOWAIT",
    b"SELECT id FROM t FOR/**/UPDATE",
    b"SELECT id FROM t FOR\nUPDATE",
    b"SELECT id FROM t LOCK -- x\n IN SHARE MODE",
    b"WITH c AS (SELECT id FROM t FOR UPDATE) SELECT * FROM c",
    b"WITH c AS (SELECT id FROM t) SELECT * FROM c, t FOR UPDATE",
    b"SELECT * FROM (SELECT id FROM t FOR UPDATE) x",
    b"SELECT (SELECT id FROM t LIMIT 1 FOR UPDATE)",
    b"SELECT 1 UNION (SELECT id FROM t FOR UPDATE)",
    b"SELECT id INTO @a FROM t LIMIT 1",
    b"SELECT id FROM t LIMIT 1 INTO @a",
    b"SELECT @a := 1",
    b"SELECT @a:=id FROM t",
    b"SELECT 1 FROM t WHERE (@a := v) > 0",
    b"SELECT GET_LOCK('l1', 0)",
    b"SELECT get_lock ('l1', 0)",
    b"SELECT GET_LOCK/* */('l1', 0)",
    b"SELECT IF(1, GET_LOCK('l1', 0), 0)",
    b"SELECT f_write(1)",
    b"SELECT f_write (1)",
    b"SELECT `f_write`(1)",
    b"SELECT d.f_write(1)",
    b"SELECT d . f_write ( 1 )",
    b"SELECT `d`.`f_write`(1)",
    b"SELECT d./**/f_write(1)",
    b"SELECT f_write\n(1)",
    b"SELECT f_write#(\n(1)",
    b"SELECT f_const()",
    b"SELECT id FROM t WHERE id = f_const()",
    b"EXPLAIN SELECT id FROM t WHERE id = f_const()",
    b"EXPLAIN EXTENDED SELECT id FROM t WHERE id = (SELECT f_const())",
    b"DESC SELECT * FROM (SELECT f_write(1) AS x) y",
    b"EXPLAIN SELECT * FROM (SELECT f_const() AS x) y",
    b"EXPLAIN FORMAT=JSON SELECT * FROM t WHERE v = f_const() + 9",
    b"ANALYZE SELECT f_write(1)",
    b"ANALYZE FORMAT=JSON SELECT f_write(1)",
    b"ANALYZE UPDATE log SET x = 1",
    b"EXPLAIN UPDATE log SET x = 1",
    b"EXPLAIN ANALYZE SELECT f_write(1)",
    b"VALUES (f_write(1))",
    b"VALUES (1), (GET_LOCK('l1', 0))",
    b"WITH c AS (SELECT f_write(1) AS x) SELECT x FROM c",
    b"WITH f_write AS (SELECT 1 AS x) SELECT f_write(x) FROM f_write",
    b"WITH c (x) AS (SELECT 1) SELECT f_write(x) FROM c",
    b"SELECT id FROM t ORDER BY f_write(id)",
    b"SELECT id FROM t GROUP BY f_write(id)",
    b"SELECT id FROM t HAVING f_write(id) > 0",
    b"SELECT a.id FROM t a JOIN t b ON f_write(a.id) = b.id",
    b"SELECT CASE WHEN f_write(1) THEN 1 END",
    b"SELECT id IN (f_write(1)) FROM t",
    b"SELECT DATE_ADD('2024-01-01', INTERVAL f_write(1) DAY)",
    b"SELECT COUNT(f_write(id)) FROM t",
    b"SELECT NEXTVAL(q)",
    b"SELECT NEXT VALUE FOR q",
    b"SELECT NEXT/**/VALUE FOR d.q",
    b"SELECT SETVAL(q, 100)",
    b"SELECT q.nextval",
    b"SELECT LAST_INSERT_ID(7)",
    b"SELECT id FROM t WHERE LAST_INSERT_ID(7) > 0",
    b"SELECT 1; INSERT INTO log (x) VALUES (1)",
    b"SELECT 1; SELECT f_write(1)",
    b"SELECT 1;; DELETE FROM log",
    b"SELECT 1 /*!50000 FROM t FOR UPDATE */",
    b"SELECT 1 /*! FROM t FOR UPDATE */",
    b"SELECT 1 /*M! FROM t FOR UPDATE */",
    b"SELECT 1 /*M!100000 FROM t FOR UPDATE */",
    b"SELECT 1 /*!999999 FROM t FOR UPDATE */",
    b"/*! INSERT INTO log (x) VALUES (1) */",
    b"/*!50000 SELECT */ f_write(1)",
    b"/*!50001 SELECT f_write(1) */",
    b"SELECT /*!50000 f_write */ (1)",
    b"SELECT 1 /*! , f_write(1) */",
    b"SELECT/*!*/f_write(1)",
    b"SELECT 'a\\' , f_write(1) -- '",
    b"SELECT '\\\\', f_write(1), '\\'",
    b"SELECT \"a\\\" , f_write(1) -- \"",
    b"SELECT 'a''', f_write(1), '''b'",
    b"SELECT `a\\` , f_write(1) FROM (SELECT 1 AS `a\\`) x",
    b"SELECT 1 -- x\n, f_write(1)",
    b"SELECT 1 --\n, f_write(1)",
    b"SELECT 1--1, f_write(1)",
    b"SELECT 1 # x\n, f_write(1)",
    b"SELECT 1 /* x */, f_write(1) /* y */",
    b"SELECT 1 /* /* */, f_write(1) -- */",
    b"SELECT '\xbf\\', f_write(1) -- '",
    b"SELECT '\xbf\\' , 'x', f_write(1) #'",
    b"SELECT '\x95\\', f_write(1) -- '",
    b"SELECT '\xa4\\', f_write(1) -- '",
    b"SELECT \"f_write\"(1)",
    b"SELECT \"d\".\"f_write\"(1)",
    b"SELECT 1 AS x, f_write(1)AS y",
    b"SELECT 1e0f_write(1)",
    b"SELECT .1f_write(1)",
    b"SELECT 0x1f_write(1)",
    b"SELECT (f_write)(1)",
    b"SELECT @@global.max_connections, f_write(1)",
    b"SELECT EXISTS (SELECT f_write(1))",
    b"SELECT N'x', f_write(1)",
    b"SELECT _utf8mb4'x', f_write(1)",
    b"SELECT DATE'2024-01-01', f_write(1)",
    b"SELECT * FROM JSON_TABLE('[1]', '$[*]' COLUMNS (x INT PATH '$')) j, (SELECT f_write(1)) y",
    b"SELECT f_write(1) OVER ()",
    b"SELECT SUM(f_write(1)) OVER ()",
    b"SELECT rank2()",
    b"SET @a = 1",
    b"DO f_write(1)",
    b"DO GET_LOCK('l1', 0)",
    b"CALL p_write()",
    b"CALL p_set",
    b"BEGIN",
    b"START TRANSACTION READ ONLY",
    b"SET autocommit = 0",
    b"SET STATEMENT max_statement_time = 1 FOR SELECT f_write(1)",
    b"SET STATEMENT sql_mode = '' FOR INSERT INTO log (x) VALUES (1)",
    b"USE e",
    b"use`e`",
    b"CREATE TEMPORARY TABLE tmp (i INT)",
    b"CREATE OR REPLACE TEMPORARY TABLE tmp (i INT)",
    b"CREATE TEMPORARY TABLE tmp SELECT 1",
    b"PREPARE p FROM 'SELECT 1'",
    b"EXECUTE IMMEDIATE 'INSERT INTO d.log (x) VALUES (1)'",
    b"BEGIN NOT ATOMIC INSERT INTO log (x) VALUES (1); END",
    b"IF 1 THEN INSERT INTO log (x) VALUES (1); END IF",
    b"INSERT INTO log (x) VALUES (1)",
    b"INSERT INTO log (x) SELECT 1",
    b"INSERT INTO log (x) VALUES (1) RETURNING id",
    b"REPLACE INTO log (x) VALUES (1)",
    b"REPLACE log SET x = 1",
    b"UPDATE log SET x = 2",
    b"DELETE FROM log",
    b"WITH c AS (SELECT 1) DELETE FROM log",
    b"TRUNCATE log",
    b"(((INSERT INTO log (x) VALUES (1))))",
    b"XA START 'x'",
    b"LOCK TABLES log WRITE",
    b"HANDLER t OPEN",
    b"ANALYZE TABLE log",
    b"OPTIMIZE TABLE log",
    b"SELECT * FROM t PROCEDURE ANALYSE()",
    b"SELECT SQL_CALC_FOUND_ROWS id FROM t LIMIT 1",
    b"",
    b";",
    b";;SELECT f_write(1)",
    b"; INSERT INTO log (x) VALUES (1)",
    b"\0SELECT f_write(1)",
    b"SELECT 1\0, f_write(1)",
    b"\xef\xbb\xbfSELECT f_write(1)",
    b"\xa0SELECT f_write(1)",
    b"\x0cSELECT\x0bf_write(1)",
    b"SELECT\xa0f_write(1)",
];

/// Functions that certainly do nothing but compute.
pub(crate) const HARMLESS: &[&str] = &[
    "abs",
    "avg",
    "bit_and",
    "cast",
    "char_length",
    "coalesce",
    "concat",
    "count",
    "date_add",
    "dense_rank",
    "extract",
    "floor",
    "group_concat",
    "if",
    "ifnull",
    "json_extract",
    "json_valid",
    "left",
    "length",
    "lower",
    "max",
    "min",
    "mod",
    "nullif",
    "rand",
    "rank",
    "replace",
    "round",
    "row_number",
    "substring",
    "sum",
    "trim",
    "upper",
    "convert",
    "interval",
    "values",
    "json_table",
    "greatest",
    "least",
    "insert",
    "repeat",
    "char",
    "year",
    "lag",
    "first_value",
];

/// What is no longer a read when it contains this.
const EFFECTS: &[&str] = &[
    "f_write(1)",
    "f_write (2)",
    "`f_write`(3)",
    "d.f_write(4)",
    "d . `f_write` (5)",
    "f_const()",
    "f_var(6)",
    "f_lock()",
    "rank2()",
    "GET_LOCK('l1', 0)",
    "get_lock ('l1',0)",
    "@a := 1",
    "(@b:=v)",
    "NEXTVAL(q)",
    "NEXT VALUE FOR q",
    "LAST_INSERT_ID(9)",
    "SETVAL(q, 5)",
    "(SELECT id FROM t LIMIT 1 FOR UPDATE)",
    "(SELECT COUNT(*) FROM t LOCK IN SHARE MODE)",
];

const PLAIN: &[&str] = &[
    "id",
    "v + 1",
    "t.id",
    "`v`",
    "COUNT(*)",
    "MAX(v)",
    "'text'",
    "\"text\"",
    "'it''s'",
    "'a\\'b'",
    "1e3",
    "0x41",
    "NULL",
    "-id",
    "CONCAT(s, 'x')",
    "IF(v > 1, 2, 3)",
    "(SELECT MAX(id) FROM w)",
    "CASE v WHEN 10 THEN 'a' ELSE 'b' END",
    "s LIKE 'o%'",
    "v IN (10, 20)",
    "EXISTS (SELECT 1 FROM w)",
    "CAST(v AS CHAR)",
    "JSON_EXTRACT(j, '$.a')",
    "LEFT(s, 2)",
    "INSERT('abc', 1, 1, 'x')",
    "REPLACE(s, 'o', '0')",
    "VALUES(v)",
    "CHAR(65)",
    "YEAR('2024-01-01')",
    "'FOR UPDATE'",
    "`id`",
    "@@sql_mode",
    "REPEAT('x', 3)",
];

const GAPS: &[&str] = &[" ", " ", " ", "\n", "\t", "/**/", " /* ' */ ", " -- x\n", " # \"\n", "  "];

/// Generates statements, half of them with an effect in some place.
pub(crate) struct Statements {
    random: StdRng,
}

impl Statements {
    pub(crate) fn new(random: StdRng) -> Statements {
        Statements { random }
    }

    pub(crate) fn next(&mut self) -> Vec<u8> {
        let effect = self.below(2) == 0;
        let query = self.query(2, effect);
        let framed = self.framed(query);
        let spaced = self.spaced(&framed);
        let mut bytes = spaced.into_bytes();
        if self.below(12) == 0 {
            self.damage(&mut bytes);
        }
        bytes
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    fn pick(&mut self, list: &[&'static str]) -> &'static str {
        list.choose(&mut self.random).expect("not empty")
    }

    fn expression(&mut self, effect: bool) -> String {
        if !effect {
            return self.pick(PLAIN).into();
        }
        let inner = self.pick(EFFECTS);
        match self.below(9) {
            0 => format!("({inner}) + 1"),
            1 => format!("IF(({inner}), 1, 2)"),
            2 => format!("COALESCE(NULL, ({inner}))"),
            3 => format!("(SELECT ({inner}))"),
            4 => format!("CASE WHEN ({inner}) > 0 THEN 1 END"),
            5 => format!("1 IN (2, ({inner}))"),
            6 => format!("EXISTS (SELECT ({inner}) FROM t)"),
            7 => format!("CONCAT('a', ({inner}), 'b')"),
            _ => inner.into(),
        }
    }

    /// `depth`: how many queries may still be nested.
    fn query(&mut self, depth: usize, effect: bool) -> String {
        // Where the effect is, if there is one.
        let place = if effect { self.below(8) } else { 99 };
        let list = format!("{}, {}", self.expression(false), self.expression(place == 0));
        let source = match self.below(6) {
            0 if depth > 0 => format!("({}) x, t", self.query(depth - 1, place == 1)),
            1 => format!("t JOIN w ON t.id = w.id AND {}", self.expression(place == 1)),
            2 => "t, w AS other".into(),
            _ => "t".into(),
        };
        let mut query =
            format!("SELECT {}{list} FROM {source}", self.pick(&["", "", "DISTINCT ", "SQL_NO_CACHE ", "ALL "]));
        if self.below(2) == 0 || place == 2 {
            query += &format!(" WHERE {}", self.expression(place == 2));
        }
        if self.below(6) == 0 || place == 3 {
            query += &format!(" GROUP BY {}", self.expression(place == 3));
        }
        if self.below(8) == 0 || place == 4 {
            query += &format!(" HAVING {}", self.expression(place == 4));
        }
        if self.below(3) == 0 || place == 5 {
            query += &format!(" ORDER BY {}", self.expression(place == 5));
        }
        if self.below(3) == 0 {
            query += " LIMIT 2";
        }
        match place {
            6 => {
                query +=
                    self.pick(&[" FOR UPDATE", " LOCK IN SHARE MODE", " FOR UPDATE NOWAIT", " FOR UPDATE SKIP LOCKED"])
            }
            7 => query += self.pick(&[" INTO @a, @b", "; INSERT INTO log (x) VALUES (1)", "; SELECT f_write(1)"]),
            _ => {}
        }
        if depth > 0 && place < 6 {
            return match self.below(6) {
                0 => format!("({query}) UNION (SELECT 1, 2)"),
                1 => format!("(SELECT 1, 2) UNION ALL ({query})"),
                2 => format!("WITH c AS ({query}) SELECT * FROM c"),
                3 => format!("WITH c AS (SELECT 1), e AS ({query}) SELECT * FROM e, c"),
                _ => query,
            };
        }
        query
    }

    fn framed(&mut self, query: String) -> String {
        match self.below(24) {
            0 => format!("({query})"),
            1 => format!("/* comment */ {query}"),
            2 => format!("EXPLAIN {query}"),
            3 => format!("DESC {query}"),
            4 => format!("ANALYZE {query}"),
            5 => format!("/*!50000 {query} */"),
            6 => format!("SELECT 1 /*! FROM ({query}) z */"),
            7 => format!("# x\n{query};"),
            8 => format!("INSERT INTO log (x) SELECT 1 FROM ({query}) z"),
            9 => format!("SET @z = 1; {query}"),
            10 => format!("EXPLAIN FORMAT=JSON {query}"),
            11 => format!("SET STATEMENT sql_notes = 0 FOR {query}"),
            12 => query.replace("SELECT", "select").replace("FOR UPDATE", "for update"),
            13 => query.replace(", ", ","),
            14 => format!("CREATE TEMPORARY TABLE tmp AS {query}"),
            _ => query,
        }
    }

    /// Other white space and comments in place of spaces outside of texts.
    fn spaced(&mut self, sql: &str) -> String {
        let (mut out, mut quote) = (String::new(), None);
        for letter in sql.chars() {
            match quote {
                Some(open) if open == letter => quote = None,
                None if matches!(letter, '\'' | '"' | '`') => quote = Some(letter),
                _ => {}
            }
            if letter == ' ' && quote.is_none() && self.below(4) == 0 {
                out += self.pick(GAPS);
            } else {
                out.push(letter);
            }
        }
        out
    }

    /// A byte more, less or other.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const ODD: &[u8] = b"'\"`\\/*-#;()@.\0\xbf\x95\xa0!";
        let at = self.below(bytes.len());
        match self.below(3) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, *ODD.choose(&mut self.random).expect("not empty")),
            _ => bytes[at] = *ODD.choose(&mut self.random).expect("not empty"),
        }
    }
}

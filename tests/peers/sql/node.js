// The work of tests/splitter_drivers.rs with mysql2: `node node.js HOST PORT USER PASSWORD [ca=FILE] [compress]`, with
// NODE_PATH. Prints what it saw.
"use strict";
const fs = require("node:fs");
const mysql = require("mysql2/promise");

const [host, port, user, password, ...options] = process.argv.slice(2);
const settings = {
  host, port: Number(port), user, password, database: "d", charset: "utf8mb4", supportBigNumbers: true,
  bigNumberStrings: true, dateStrings: true, multipleStatements: true,
  compress: options.includes("compress"),
};
const ca = options.find((option) => option.startsWith("ca="));
if (ca) settings.ssl = { ca: fs.readFileSync(ca.slice(3)), servername: "localhost" };

const say = (...what) => console.log(JSON.stringify(what));
// The driver takes the text for one without a length in front of it where the server does not track sessions, which the
// splitter does not offer: the length is a character then.
const info = (result) => result.info.replace(/^[^A-Z]/, "");
const error = async (action) => {
  try {
    await action();
    say("no error");
  } catch (failure) {
    say(failure.errno, failure.code, failure.sqlState, failure.sqlMessage);
  }
};

const TABLE = `CREATE TABLE people (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) UNIQUE, born DATE, seen DATETIME(6),
  amount DECIMAL(20,6), data LONGBLOB, note TEXT, big BIGINT UNSIGNED, ratio DOUBLE) CHARACTER SET utf8mb4`;
const INSERT = "INSERT INTO people (name, born, seen, amount, data, note, big, ratio) VALUES (?,?,?,?,?,?,?,?)";
const ROWS = [
  ["Zoë 💡", "2001-02-03", "2024-02-29 23:59:59.123456", "12345678901234.123456", Buffer.from([...Array(256).keys()]), null, "18446744073709551615", 0.1],
  ["日本'\"\\", null, null, null, Buffer.alloc(0), "", 0, -1e300],
  ["null", "1000-01-01", "9999-12-31 00:00:00", "-0.000001", null, "? -- ;", 1, 0.5],
];

async function main() {
  const db = await mysql.createConnection(settings);
  for (const way of ["query", "execute"]) {
    await db.query("DROP TABLE IF EXISTS people");
    await db.query(TABLE);
    for (const row of ROWS) {
      const [result] = await db[way](INSERT, row);
      say(result.insertId, result.affectedRows, result.warningStatus, info(result));
    }
    const [rows, fields] = await db[way]("SELECT * FROM people ORDER BY id");
    say(fields.map((f) => [f.name, f.orgTable, f.columnType, f.columnLength, f.flags, f.characterSet, f.decimals]));
    for (const row of rows) say(Object.values(row).map((v) => (Buffer.isBuffer(v) ? v.toString("hex") : v)));
    for (const id of [1, 2, 3]) say((await db[way]("SELECT id, name, ratio FROM people WHERE id >= ? ORDER BY id", [id]))[0]);
    await db.beginTransaction();
    say((await db[way]("INSERT INTO people (name) VALUES ('rolled back')"))[0].insertId);
    await db.rollback();
    await db.beginTransaction();
    say(info((await db[way]("UPDATE people SET note = 'kept' WHERE id > ?", [1]))[0]));
    await db.commit();
    say((await db[way]("SELECT COUNT(*) AS n, SUM(note = 'kept') AS kept FROM people"))[0]);
    await error(() => db[way]("INSERT INTO people (name) VALUES ('null')"));
    await error(() => db[way]("SELECT * FROM nowhere"));
    await error(() => db[way]("SELEKT 1"));
    await error(() => db[way]("INSERT INTO people (born) VALUES ('not a date')"));
    await error(() => db[way]("CALL fails()"));
    say((await db[way]("CALL two_results(2)"))[0]);
    say((await db[way]("SELECT CAST('1x' AS INT) AS x"))[0], (await db.query("SHOW WARNINGS"))[0]);
  }
  say((await db.query("SELECT 1 AS a; SELECT 2 AS b; INSERT INTO people (name) VALUES ('multi'); SELECT LAST_INSERT_ID() AS id"))[0]);
  const large = Buffer.alloc(3000000, "x");
  await db.execute("UPDATE people SET data = ? WHERE name = 'null'", [large]);
  say((await db.execute("SELECT data FROM people WHERE name = 'null'"))[0][0].data.equals(large));
  say((await db.query("SELECT seq FROM seq_1_to_3000"))[0].reduce((sum, row) => sum + Number(row.seq), 0));
  await db.ping();
  await db.changeUser({ user, password, database: "e" });
  say((await db.query("SELECT DATABASE() AS d, @@autocommit AS a"))[0]);
  await db.end();
}

main().catch((failure) => {
  console.error(failure);
  process.exit(1);
});

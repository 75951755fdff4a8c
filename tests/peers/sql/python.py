"""The work of tests/splitter_drivers.rs with PyMySQL or mysqlclient: `python.py MODULE HOST PORT USER PASSWORD [ca=FILE]
[compress]`. Prints what it saw."""

import datetime
import decimal
import importlib
import sys

module, host, port, user, password, *options = sys.argv[1:]
driver = importlib.import_module(module)
settings = {
    "host": host,
    "port": int(port),
    "user": user,
    "password": password,
    "database": "d",
    "charset": "utf8mb4",
    "autocommit": True,
}
for option in options:
    if option.startswith("ca="):
        settings["ssl"] = {"ca": option[3:]}
    if option == "compress":
        settings["compress"] = True


def connect(**more):
    return driver.connect(**settings, **more)


def say(*what):
    print(*(repr(part) for part in what))


def error(action):
    try:
        action()
        say("no error")
    except driver.Error as failure:
        say(type(failure).__name__, *failure.args)


connection = connect()
cursor = connection.cursor()
cursor.execute("DROP TABLE IF EXISTS people")
cursor.execute(
    "CREATE TABLE people (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) UNIQUE, born DATE, seen DATETIME(6),"
    " amount DECIMAL(20,6), data LONGBLOB, note TEXT, big BIGINT UNSIGNED, ratio DOUBLE, spent TIME, bits BIT(8))"
    " CHARACTER SET utf8mb4"
)
INSERT = "INSERT INTO people (name, born, seen, amount, data, note, big, ratio, spent, bits) VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s)"
ROWS = [
    ("Zoë 💡", datetime.date(2001, 2, 3), datetime.datetime(2024, 2, 29, 23, 59, 59, 123456), decimal.Decimal("12345678901234.123456"),
     bytes(range(256)), None, 2**64 - 1, 0.1, datetime.timedelta(hours=30, seconds=1), b"\x81"),
    ("日本'\"\\", None, None, None, b"", "", 0, -1e300, -datetime.timedelta(minutes=1), None),
    ("null", datetime.date(1000, 1, 1), datetime.datetime(9999, 12, 31), decimal.Decimal("-0.000001"), None, "%s ? -- ;", 1, 0.0, None, b"\0"),
]
for row in ROWS:
    say(cursor.execute(INSERT, row), cursor.lastrowid, cursor.rowcount)
say(cursor.executemany("INSERT INTO people (name) VALUES (%s)", [("many%d" % n,) for n in range(5)]), cursor.lastrowid)
cursor.execute("SELECT * FROM people ORDER BY id")
say(*[column[:2] for column in cursor.description])
for row in cursor.fetchall():
    say(*row)
cursor.execute("SELECT LAST_INSERT_ID()")
say(*cursor.fetchone())
cursor.execute("INSERT INTO people (name) VALUES ('and now')")
cursor.execute("SELECT LAST_INSERT_ID(), ROW_COUNT()")
say(*cursor.fetchone())

connection.begin()
cursor.execute("INSERT INTO people (name) VALUES ('rolled back')")
say(cursor.lastrowid)
connection.rollback()
connection.begin()
say(cursor.execute("UPDATE people SET note = 'kept' WHERE name LIKE 'many%'"))
connection.commit()
cursor.execute("SELECT COUNT(*), SUM(note = 'kept') FROM people")
say(*cursor.fetchone())

connection.autocommit(False)
cursor.execute("DELETE FROM people WHERE name = 'many0'")
connection.rollback()
connection.autocommit(True)
cursor.execute("SELECT name FROM people WHERE name = 'many0'")
say(*cursor.fetchall())

error(lambda: cursor.execute("INSERT INTO people (name) VALUES ('many1')"))
error(lambda: cursor.execute("SELECT * FROM nowhere"))
error(lambda: cursor.execute("SELEKT 1"))
error(lambda: cursor.execute("INSERT INTO people (born) VALUES ('not a date')"))


def call_fails():
    cursor.execute("CALL fails()")
    say(*cursor.fetchall())
    while cursor.nextset():
        pass


error(call_fails)

cursor.callproc("two_results", (2,))
while True:
    if cursor.description:
        say(*cursor.fetchall())
    if not cursor.nextset():
        break
cursor.execute("SELECT CAST('1x' AS INT)")
say(*cursor.fetchall())
cursor.execute("SHOW WARNINGS")
say(*cursor.fetchall())

cursor.execute("SET NAMES latin1")
cursor.execute("SELECT HEX(CONVERT(name USING utf8mb4)) FROM people ORDER BY id LIMIT 2")
say(*cursor.fetchall())
cursor.execute("SET NAMES utf8mb4")
large = b"x" * 3_000_000
say(cursor.execute("UPDATE people SET data = %s WHERE name = 'null'", (large,)))
cursor.execute("SELECT data FROM people WHERE name = 'null'")
say(cursor.fetchone()[0] == large)
cursor.execute("SELECT seq FROM seq_1_to_3000")
say(sum(row[0] for row in cursor.fetchall()))

unbuffered = connection.cursor(importlib.import_module(module + ".cursors").SSCursor)
unbuffered.execute("SELECT id, name FROM people ORDER BY id")
say(*[unbuffered.fetchone() for _ in range(3)])
unbuffered.close()
connection.ping()
connection.select_db("e")
cursor.execute("SELECT DATABASE()")
say(*cursor.fetchone())
connection.close()
found_rows = connect(client_flag=importlib.import_module(module + ".constants").CLIENT.FOUND_ROWS)
say(found_rows.cursor().execute("UPDATE people SET note = 'kept' WHERE name LIKE 'many%'"))
found_rows.close()

"""MariaDB behind the splitter and its peers: a primary and a replica on the load core, and what is in them."""

import hashlib
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass

from . import process
from .process import Failed

USER, PASSWORD, SCHEMA = "bench", "bench", "sbtest"
TABLES, ROWS = 4, 10_000
CONNECTIONS_MAX = 4_000
# Of a splitter, to each of them. one-server's default is 32 for each data worker: of these there is one here instead of one per core.
SERVER_CONNECTIONS = 128
PATIENCE_SECONDS = 70
SETTLE_SECONDS = PATIENCE_SECONDS - 10  # behind rows that write, a replica may have much to do
# sysbench's words for how to reach the tables.
TABLE_WORDS = [f"--tables={TABLES}", f"--table-size={ROWS}"]
ADMIN = """
CREATE DATABASE {schema};
CREATE USER {user}@'%' IDENTIFIED BY '{password}';
GRANT ALL ON {schema}.* TO {user}@'%';
GRANT SLAVE MONITOR ON *.* TO {user}@'%';
CREATE USER replica@'%' IDENTIFIED BY 'replica';
GRANT REPLICATION SLAVE ON *.* TO replica@'%';
"""
FOLLOW = """
SET GLOBAL read_only = 1;
CHANGE MASTER TO master_host = '127.0.0.1', master_port = {port}, master_user = 'replica', master_password = 'replica',
    master_use_gtid = slave_pos, master_connect_retry = 1;
START SLAVE;
"""


@dataclass
class Instance:
    """One mariadbd."""

    port: int
    socket: object
    process: object
    client: str

    def sql(self, text):
        """What the statements print, as root. OSError: nobody listens yet; Failed: an error."""
        command = [self.client, "--no-defaults", "-uroot", "-N", "-B", "-S", str(self.socket), "-e", text]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        if done.returncode != 0 and "(2)" in done.stderr + done.stdout or "(111)" in done.stderr:
            raise ConnectionError(done.stderr)
        if done.returncode != 0:
            raise Failed(f"{text.strip()[:100]}: {done.stderr}")
        return done.stdout.strip()


class Database:
    """Primary and replica, with the tables of sysbench in both."""

    def __init__(self, stage, paths, core):
        self.stage, self.paths, self.core = stage, paths, core
        self.primary, self.replica = self.start(1), self.start(2)
        self.primary.sql(ADMIN.format(schema=SCHEMA, user=USER, password=PASSWORD))
        self.replica.sql(FOLLOW.format(port=self.primary.port))
        words = ["--mysql-host=127.0.0.1", f"--mysql-port={self.primary.port}", *account(), *TABLE_WORDS]
        done = subprocess.run([paths["sysbench"], "oltp_read_write", *words, "prepare"], capture_output=True, text=True,
                              timeout=2 * PATIENCE_SECONDS)
        if done.returncode != 0:
            raise Failed(f"sysbench prepare: {done.stdout}{done.stderr}")

    def settle(self):
        """Waits until the replica has all that the primary has."""
        position = self.primary.sql("SELECT @@gtid_binlog_pos")
        if self.replica.sql(f"SELECT master_gtid_wait('{position}', {SETTLE_SECONDS})") != "0":
            raise Failed("the replica does not reach the primary's position: " + self.replica.sql("SHOW SLAVE STATUS"))

    def start(self, number):
        folder = self.stage.folder / f"mariadb-{number}"
        (folder / "tmp").mkdir(parents=True)
        user = []
        if os.geteuid() == 0:  # which mariadbd refuses to be
            shutil.chown(folder, "mysql")
            shutil.chown(folder / "tmp", "mysql")
            user = ["--user=mysql"]
        install = [self.paths["mariadb-install-db"], "--no-defaults", "--auth-root-authentication-method=normal",
                   "--skip-test-db", "--skip-name-resolve", f"--datadir={folder}/data", f"--tmpdir={folder}/tmp", *user]
        done = subprocess.run(install, capture_output=True, text=True, timeout=2 * PATIENCE_SECONDS)
        if done.returncode != 0:
            raise Failed(f"mariadb-install-db: {done.stdout}{done.stderr}")
        port = process.free_port()
        command = [
            self.paths["mariadbd"], "--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", f"--port={port}",
            f"--datadir={folder}/data", f"--tmpdir={folder}/tmp", f"--socket={folder}/socket", f"--pid-file={folder}/pid",
            f"--server-id={number}", "--log-bin=binlog", "--log-slave-updates", "--binlog-format=ROW", "--sync-binlog=0",
            "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=256M", f"--max-connections={CONNECTIONS_MAX}",
            "--max-connect-errors=1000000", "--table-open-cache=4000", "--max-prepared-stmt-count=1000000", *user,
        ]
        child = self.stage.start(f"mariadbd-{number}", command, self.core)
        instance = Instance(port, folder / "socket", child, self.paths["mariadb"])
        child.wait_ready(lambda: instance.sql("SELECT 1"))
        return instance


def account():
    return [f"--mysql-user={USER}", f"--mysql-password={PASSWORD}", f"--mysql-db={SCHEMA}"]


def log_on(port):
    """A client that has logged on with mysql_native_password and asked one thing, then is silent.

    https://mariadb.com/kb/en/connection/
    """
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        greeting = packet(client)
        text = greeting.index(0, 1) + 1
        salt = greeting[text + 4:text + 12] + greeting[text + 31:text + 43]
        capabilities = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x80000  # long password, database, 4.1, transactions, 4.1 login, methods
        login = capabilities.to_bytes(4, "little") + (1 << 24).to_bytes(4, "little") + b"\x21" + bytes(23)
        login += USER.encode() + b"\0" + b"\x14" + native(PASSWORD.encode(), salt) + SCHEMA.encode() + b"\0"
        send(client, 1, login + b"mysql_native_password\0")
        expect_ok(packet(client))
        send(client, 0, b"\x0e")  # COM_PING
        expect_ok(packet(client))
        return client
    except BaseException:
        client.close()
        raise


def native(password, salt):
    """SHA1(password) XOR SHA1(salt SHA1(SHA1(password)))."""
    once = hashlib.sha1(password).digest()
    mask = hashlib.sha1(salt + hashlib.sha1(once).digest()).digest()
    return bytes(a ^ b for a, b in zip(once, mask))


def send(client, sequence_id, payload):
    client.sendall(len(payload).to_bytes(3, "little") + bytes([sequence_id]) + payload)


def packet(client):
    head = exactly(client, 4)
    return exactly(client, int.from_bytes(head[:3], "little"))


def exactly(client, length):
    got = b""
    while len(got) < length:
        piece = client.recv(length - len(got))
        if not piece:
            raise Failed(f"the connection was closed inside a packet: {got!r}")
        got += piece
    return got


def expect_ok(payload):
    if payload[:1] != b"\0":
        raise Failed(f"not OK but {payload[:100]!r}")


def check(server):
    """Waits until `server` passes a question on, and looks at the answer: the last row of the first table."""
    def ask():
        deadline = time.monotonic() + 5
        while True:
            try:
                return log_on(server.port)
            except Failed:  # the servers behind are not known to be up yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    client = server.wait_ready(ask)
    with client:
        send(client, 0, b"\x03SELECT id FROM sbtest1 ORDER BY id DESC LIMIT 1")
        packets = [packet(client) for _ in range(5)]  # columns, one column, end, one row, end
        if packets[3] != bytes([len(str(ROWS))]) + str(ROWS).encode():
            raise Failed(f"{server.name}: the last row is not {ROWS} but {packets!r}")

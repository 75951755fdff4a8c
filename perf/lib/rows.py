"""The rows of the comparison: which servers meet on which job, and how their rounds are interleaved."""

import contextlib
import fnmatch
import itertools
import json
import statistics
import subprocess
from dataclasses import dataclass, field, replace

from . import content, database, idle, stalls, tls, wordpress
from .apps import PHP_SCRIPT, Apps
from .load import Load, check_body, check_datagram
from .process import Failed, Stage
from .servers import CONNECTIONS, CONNECTIONS_IDLE, Files, Proxied, Starter
from .tools import TOOLS

IDLE_CONNECTIONS = 10_000
IDLE_CLIENTS = 2_000  # of MySQL: behind a peer each has a thread of the server
QUESTION_BYTES = 64
PORT_TEXT = b"-----"  # as long as ports are that nobody has chosen
OURS = "one-server"
# Rows at a share of somebody's top rate: the share, and the rounds that find the rate.
RATE_SHARE, RATE_ROUNDS = 0.70, 3


@dataclass(frozen=True)
class Row:
    """One job. `group` is the letter of `--rows`; `unit` is what the chart and the ratios are about."""

    group: str
    key: str
    title: str
    servers: tuple
    path: str = "/small.txt"
    connections: int = 0
    unit: str = "us"  # see report.UNITS
    kind: str = "static"  # which method of Starter puts a server up
    tool: str = "wrk"  # which load, see tools.TOOLS; rows of unit "bytes" have their own
    streams: int = 1  # requests at a time on each connection
    tls: bool = False
    flow_each: bool = False  # of datagrams: every question is a flow of its own
    rounds: int = 5  # where nobody says how many
    workload: str = ""  # of sysbench
    prepared: bool = False  # statements of sysbench
    coding: str | None = None  # the client takes this content coding, and a file in it lies beside the original
    targets: dict = field(default_factory=dict)  # peer: at most so much of what it takes
    cost_max: float | None = None  # at most so much, in the unit of the report, whatever others take
    time_max: dict = field(default_factory=dict)  # peer: at most so much of its time per request
    added_max: dict = field(default_factory=dict)  # peer: at most so much of what it adds to the p99 without anybody between
    rate_of: str | None = None  # the load offers RATE_SHARE of this server's top rate, found in the run
    rate: int = 0  # that, requests a second, once it is found

    def only(self, servers):
        """The same row with fewer servers."""
        return replace(self, servers=tuple(server for server in self.servers if server in servers))

    def with_proxysql(self):
        """The same row with ProxySQL behind HAProxy, if it is about MySQL."""
        if self.kind != "mysql":
            return self
        behind = self.servers.index("haproxy") + 1
        return replace(self, servers=(*self.servers[:behind], "proxysql", *self.servers[behind:]))

    def is_meant(self, word):
        """Whether a word of `--rows` is its group, its key, or a pattern of it."""
        return word == self.group or fnmatch.fnmatchcase(self.key, word)

    @property
    def headers(self):
        return (f"Accept-Encoding: {self.coding}",) if self.coding else ()

    @property
    def backend(self):
        """What stands behind the servers: `floor`, `files`, `echo` or nothing."""
        if self.kind == "udp":
            return "echo"
        if self.kind == "tcp" or (self.kind == "proxy" and self.body_bytes != content.BYTES["/small.txt"]):
            return "files"
        return "floor" if self.kind in ("proxy", "routes") else None

    @property
    def body_bytes(self):
        """Length of the body of an answer, before any coding; of a datagram."""
        return QUESTION_BYTES if self.kind == "udp" else content.BYTES.get(self.path, 0)


STATIC = (OURS, "nginx", "floor")
PROXIES = (OURS, "nginx", "haproxy")
PAIR = (OURS, "nginx")
TUNNELS = (OURS, "haproxy")
SPLITTERS = (OURS, "haproxy", "direct")


def splitters():
    """The rows of sysbench: every job, with clients few and many, without and with prepared statements. Fewer rounds, for there
    are many rows."""
    jobs = (("point", "point select", "oltp_point_select"), ("read", "read only", "oltp_read_only"),
            ("write", "read and write", "oltp_read_write"))
    for (word, title, workload), prepared, clients in itertools.product(jobs, (False, True), (16, 64, 512)):
        key, title = f"q-{word}{clients}" + "-ps" * prepared, title + ", prepared" * prepared
        yield Row("mysql", key, f"MySQL, {title}, {clients} clients", SPLITTERS, connections=clients, unit="us_query",
                  kind="mysql", tool="sysbench", rounds=3, workload=workload, prepared=prepared, targets={"haproxy": 1.00},
                  added_max={"haproxy": 1.20})


ROWS = (
    Row("a", "a1", "static file, 512 B, 1 connection", STATIC, connections=1),
    Row("a", "a64", "static file, 512 B, 64 connections", STATIC, connections=64, targets={"nginx": 0.70}),
    Row("a", "a512", "static file, 512 B, 512 connections", STATIC, connections=512),
    Row("b", "b64", "static file, 100 KB, 64 connections", PAIR, "/medium.bin", 64, targets={"nginx": 0.95}),
    Row("b", "b4", "static file, 10 MB, 4 connections", PAIR, "/large.bin", 4, "s_per_gb", targets={"nginx": 1.00}),
    Row("c", "c64", "proxied, 512 B, 64 connections", PROXIES, connections=64, kind="proxy",
        targets={"nginx": 0.70, "haproxy": 0.55}),
    Row("c", "c256", "proxied, 512 B, 256 connections", PROXIES, connections=256, kind="proxy",
        targets={"nginx": 0.70, "haproxy": 0.55}),
    Row("e", "e-static", "memory per idle connection, static", PAIR, unit="bytes"),
    Row("e", "e-proxy", "memory per idle connection, proxied", PROXIES, unit="bytes", kind="proxy"),
    Row("e", "e-tls", "memory per idle connection, TLS", PAIR, unit="bytes", tls=True, targets={"nginx": 1.00}),
    Row("f", "f64", "static file over TLS, 512 B, 64 connections", PAIR, connections=64, tls=True, targets={"nginx": 0.85}),
    Row("g", "g-full", "TLS 1.3 handshake, ECDSA P-256", PAIR, connections=16, unit="us_handshake", tool="full", tls=True,
        targets={"nginx": 0.95}),
    Row("g", "g-resumed", "TLS 1.3 handshake, resumed", PAIR, connections=16, unit="us_handshake", tool="resumed", tls=True,
        targets={"nginx": 0.95}),
    Row("h", "h320", "HTTP/2 over TLS, 512 B, 10 × 32 streams", PAIR, connections=10, tool="h2load", streams=32, tls=True,
        targets={"nginx": 1.00}),
    Row("i", "i64", "page compressed beforehand (br), 64 connections", PAIR, "/page.html", 64, coding="br",
        targets={"nginx": 0.75}),
    Row("j", "j4", "TCP passed on, 10 MB answers, 4 connections", TUNNELS, "/large.bin", 4, "s_per_gb", kind="tcp"),
    Row("j", "j64", "TCP passed on, 512 B answers, 64 connections", TUNNELS, connections=64, kind="tcp"),
    Row("l", "l64", "proxied, 64 KB, 64 connections", PROXIES, "/answer.bin", 64, kind="proxy", targets={"haproxy": 0.85}),
    Row("m", "m64", "proxied, TLS in front, 512 B, 64 connections", PROXIES, connections=64, kind="proxy", tls=True,
        targets={"haproxy": 0.85}),
    Row("n", "n64", "proxied, 50 servers, 1,000 routes, 64 connections", (OURS, "one-route"), "/service-1000.txt", 64,
        kind="routes", targets={"one-route": 1.05}),
    Row("o", "o64", "p99 at 70 % of HAProxy's top rate, 64 connections", PROXIES, connections=64, unit="us_p99",
        kind="proxy", tool="steady", targets={"haproxy": 0.70}, rate_of="haproxy"),
    Row("p", "p-flow", "UDP passed on, 64 B, 64 clients, each with a flow", PAIR, connections=64, unit="us_question", kind="udp",
        tool="datagrams"),
    Row("p", "p-each", "UDP passed on, 64 B, 64 clients, a flow for each question", PAIR, connections=64, unit="us_question",
        kind="udp", tool="datagrams", flow_each=True),
    Row("apps", "d64", "axum handler, whole chain, 64 connections", (OURS, "classic"), "/hello", 64, kind="chain",
        targets={"classic": 0.25}),
    Row("apps", "r-php", "PHP script, the server in front of php-fpm, 16 connections", PAIR, "/hello.php", 16, "us_front",
        kind="php", targets={"nginx": 0.80}, time_max={"nginx": 1.00}),
    Row("apps", "r-python", "WSGI, the server in front of gunicorn, 16 connections", PAIR, "/", 16, "us_front",
        kind="gunicorn", targets={"nginx": 0.80}, time_max={"nginx": 1.00}),
    Row("apps", "r-wsgi-threads", "WSGI, the server in front of gunicorn with threads, 16 connections", (OURS, "nginx", "nginx-keepalive"),
        "/", 16, "us_front", kind="gunicorn threads", targets={"nginx": 0.80}, time_max={"nginx": 1.00}),
    Row("apps", "r-page", "WordPress's front page, 8 connections", PAIR, wordpress.PAGE, 8, "ms_page", kind="wordpress",
        targets={"nginx": 1.02}),
    Row("apps", "r-asset", "a script of WordPress, 64 connections", (OURS, "nginx", "files"), wordpress.ASSET, 64,
        kind="wordpress", targets={"files": 1.05}),
    *splitters(),
    Row("mysql", "q-rows", "MySQL, a result of 1,000,000 rows", SPLITTERS, connections=1, unit="s_result", kind="mysql",
        tool="result", targets={"haproxy": 1.03}),
    Row("mysql", "e-mysql", "memory per idle client of MySQL", TUNNELS, unit="bytes", kind="mysql", cost_max=4.00),
)

# Server of a row → programs it takes (see machine.py). What stands behind it comes on top.
PROGRAMS = {"mysql": {"direct": ()}, "static": {}, "proxy": {}, "tcp": {}, "udp": {}, "routes": {"one-route": (OURS,)},
            "php": {"nginx": ("nginx", "php-fpm"), OURS: (OURS, "php-fpm")},
            "gunicorn": {"nginx": ("nginx", "gunicorn"), OURS: (OURS, "gunicorn")},
            "gunicorn threads": {"nginx": ("nginx", "gunicorn"), "nginx-keepalive": ("nginx", "gunicorn"), OURS: (OURS, "gunicorn")},
            "wordpress": {"nginx": ("nginx", "php-fpm"), OURS: (OURS, "php-fpm"), "files": ()},
            "chain": {OURS: ("chain-app",), "classic": ("nginx", "haproxy", "axum-hyper")}}
BACKENDS = {None: (), "floor": ("floor",), "files": (OURS,), "echo": ("datagrams",)}


def programs(rows):
    """Names of all programs and modules the rows need."""
    needed = set()
    for row in rows:
        needed.update({TOOLS[row.tool].program} if row.unit != "bytes" else ())
        needed.update({"nghttp"} if row.tool == "h2load" else ())
        needed.update({"openssl"} if row.tls else ())
        needed.update({"brotli"} if row.coding else ())
        needed.update({"nginx-brotli"} if row.coding and "nginx" in row.servers else ())
        needed.update({"mariadbd", "mariadb-install-db", "mariadb", "sysbench"} if row.kind == "mysql" else ())
        needed.update({OURS, "wordpress", "mariadbd", "mariadb-install-db"} if row.kind == "wordpress" else ())
        needed.update({"nginx-stream"} if row.kind == "udp" and "nginx" in row.servers else ())
        needed.update(BACKENDS[row.backend])
        needed.update({row.rate_of, TOOLS["wrk"].program} if row.rate_of else ())
        for server in row.servers:
            needed.update(PROGRAMS[row.kind].get(server, (server,)))
    return sorted(needed)


@dataclass
class Result:
    """What a row gave: samples (or footprints) by server, in order of measuring; or why there is none."""

    row: Row
    samples: dict = field(default_factory=dict)
    commands: dict = field(default_factory=dict)
    configs: dict = field(default_factory=dict)
    negotiated: str = ""  # TLS of all servers of the row
    failure: str = ""
    top: list = field(default_factory=list)  # samples of `row.rate_of` under a load as high as it goes; see Row.rate
    stalls: object = None  # a `Stalls` of the machine, for rows about how late an answer is


@dataclass(frozen=True)
class Plan:
    """How often and how long, and where."""

    rounds: int | None  # None: as many as the row wants
    seconds: int
    idle_rounds: int
    idle_seconds: int
    server_core: int
    load_core: int


class Common(contextlib.AbstractContextManager):
    """What rows have in common: MySQL's servers, put up for the first row that wants them and kept for the others, because
    that takes a third of the time of a row."""

    def __init__(self, plan, paths):
        self.plan, self.paths = plan, paths
        self.stage = self.made = None

    def database(self):
        """The servers, with nothing left to do of the row before."""
        if self.made is None:
            self.stage = Stage()
            self.made = database.Database(self.stage, self.paths, self.plan.load_core)
        self.made.settle()
        return self.made

    def drop(self):
        """Whoever asks next gets new ones."""
        if self.stage:
            self.stage.__exit__()
        self.stage = self.made = None

    def __exit__(self, *_):
        self.drop()


def run(row, plan, paths, say, common):
    """Measures one row. A failure is in the result, loud, and does not stop the rows after it."""
    result = Result(row)
    try:
        with Stage() as stage:
            bench = Bench(row, replace(plan, rounds=plan.rounds or row.rounds), stage, paths, common)
            result.configs = bench.starter.configs
            measure = idle_rounds if row.unit == "bytes" else load_rounds
            measure(bench, result, say)
    except (Failed, OSError) as error:
        result.failure = str(error) or repr(error)
        result.samples = {}
        common.drop()  # it may have been the reason
    return result


class Bench:
    """A stage with the files, the backend and the servers of one row."""

    def __init__(self, row, plan, stage, paths, common):
        self.row, self.plan, self.stage, self.paths = row, plan, stage, paths
        self.starter = Starter(stage, paths, plan.server_core, plan.load_core)
        self.apps = Apps(self.starter)
        self.expected = self.identity = None
        if row.tls:
            self.identity = tls.make(paths["openssl"], stage.folder)
        if row.kind == "static":
            self.folder = stage.folder / "files"
            self.expected = content.write(self.folder, row.path, paths.get("brotli") if row.coding else None)
        elif row.backend == "floor":
            host = "0.0.0.0" if row.kind == "routes" else "127.0.0.1"
            self.backend = self.starter.floor(plan.load_core, name="backend", host=host)
            self.expected = check_body(self.backend, row.path, None)
        elif row.backend == "files":
            folder = stage.folder / "files"
            self.expected = content.write(folder, row.path, None)
            self.backend = self.starter.backend(folder)
            check_body(self.backend, row.path, self.expected)
        elif row.backend == "echo":
            self.expected = bytes(row.body_bytes)
            self.backend = self.starter.echo()
            check_datagram(self.backend, self.expected)
        elif row.kind == "php":
            self.folder = stage.folder / "php"
            self.folder.mkdir()
            (self.folder / row.path[1:]).write_text(PHP_SCRIPT)
        elif row.kind == "wordpress":
            self.folder = wordpress.install(stage, paths[OURS], plan.load_core)
            self.expected = wordpress.asset(self.folder) if row.path == wordpress.ASSET else None
        elif row.kind == "mysql":
            self.database, self.expected = common.database(), b""
        self.load = self.load_of(row) if row.unit != "bytes" else None

    def load_of(self, row):
        environment = self.identity.environment if self.identity else {}
        return Load(self.stage, self.paths, row, self.plan.load_core, self.plan.server_core, environment)

    def put_up(self, name, connections=CONNECTIONS):
        """Starts server `name` and makes sure that it answers what it should."""
        row = self.row
        if row.kind == "mysql":
            server = self.starter.mysql(name, self.database, connections)
            database.check(server)
            return server
        if row.kind == "udp":
            server = self.starter.udp(name, self.backend.port, row.flow_each)
            check_datagram(server, self.expected)
            return server
        if row.kind == "static":
            http2 = row.tool == "h2load"
            server = self.starter.static(name, Files(self.folder, connections, self.identity, http2, bool(row.coding)))
        elif row.kind == "proxy":
            job = Proxied(self.backend.port, connections, self.identity, row.backend == "files", row.tool == "steady")
            server = self.starter.proxy(name, job)
        elif row.kind == "routes":
            server = self.starter.routes(name, self.backend.port)
        elif row.kind in ("php", "gunicorn", "gunicorn threads", "wordpress"):
            return self.put_up_application(name)
        elif row.kind == "tcp":
            server = self.starter.tcp(name, self.backend.port, connections)
        else:
            server = self.starter.chain(name)
        if name == "floor":
            body = check_body(server, row.path, None)  # it has one answer for everything
            if len(body) != row.body_bytes:
                raise Failed(f"the floor answers {len(body)} bytes, not {row.body_bytes}")
        else:
            body = check_body(server, row.path, self.expected, row.headers, row.coding)
        if row.kind == "chain":
            self.expected = body  # both must give the same
            if json.loads(body).get("greeting") != "Hello, world!":
                raise Failed(f"{name}: this is not the application: {body[:200]!r}")
        if row.tls:
            server.negotiated = self.identity.negotiated(server)
        if row.tool == "h2load":
            self.check_http2(server)
        return server

    def put_up_application(self, name):
        row = self.row
        if name == "files":
            server = self.apps.files_alone(self.folder)
        elif row.kind in ("gunicorn", "gunicorn threads"):
            server = self.apps.gunicorn(name, has_threads=row.kind == "gunicorn threads")
        else:
            server = self.apps.php(name, self.folder)
        # Pages name the port they are asked at.
        body = check_body(server, row.path, None).replace(str(server.port).encode(), PORT_TEXT)
        if self.expected not in (None, body):
            raise Failed(f"{name}: {len(body)} bytes of {row.path} that are not the {len(self.expected)} of the other server")
        self.expected = body
        return server

    def idle(self, server):
        """The footprint of idle clients at `server`."""
        row, seconds = self.row, self.plan.idle_seconds
        if row.kind == "mysql":
            return idle.measure(server, lambda: database.log_on(server.port), IDLE_CLIENTS, seconds)
        return idle.measure(server, lambda: idle.open_one(server, row.path, row.body_bytes), IDLE_CONNECTIONS, seconds)

    def check_http2(self, server):
        """What h2load does not look at: the bytes of an answer over HTTP/2."""
        command = [self.paths["nghttp"], server.url(self.row.path)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
        if done.stdout != self.expected:
            raise Failed(f"{server.name}: {' '.join(command)} gave {len(done.stdout)} bytes that are not the "
                         f"{len(self.expected)} expected: {(done.stdout + done.stderr)[:300]!r}")


def same_tls(servers):
    """What all of them negotiated. Failed: not the same."""
    agreed = {server.negotiated for server in servers}
    if len(agreed) > 1:
        raise Failed("TLS differs: " + "; ".join(f"{server.name} {server.negotiated}" for server in servers))
    return agreed.pop()


def find_rate(bench, result, servers):
    """The row with the rate its load has to offer, from rounds in which the peer gets as much as it takes."""
    row = bench.row
    closed = bench.load_of(replace(row, tool="wrk"))
    peer = next((server for server in servers if server.name == row.rate_of), None) or bench.put_up(row.rate_of)
    closed.warm_up(peer)
    result.top = [closed.run(peer, bench.plan.seconds, len(bench.expected)) for _ in range(RATE_ROUNDS)]
    top = statistics.median(sample.requests_per_second for sample in result.top)
    return replace(row, rate=max(1, round(RATE_SHARE * top)))


def load_rounds(bench, result, say):
    """All servers up at once; each round measures every one of them, and every round begins with another one."""
    row, plan, load = bench.row, bench.plan, bench.load
    servers = [bench.put_up(name) for name in row.servers]
    result.negotiated = same_tls(servers)
    if row.rate_of:
        say(f"{row.key}: the machine, then the top rate of {row.rate_of}", transient=True)
        result.stalls = stalls.measure(plan.server_core, plan.load_core)
        result.row = load.row = find_rate(bench, result, servers)
    for server in servers:
        result.commands[server.name] = [*server.commands(), "load: " + " ".join(load.command(server, plan.seconds))]
        load.warm_up(server)
    samples = {server.name: [] for server in servers}
    for round_index in range(plan.rounds):
        say(f"{row.key}: round {round_index + 1} of {plan.rounds}", transient=True)
        first = round_index % len(servers)
        for server in servers[first:] + servers[:first]:
            samples[server.name].append(load.run(server, plan.seconds, len(bench.expected)))
    result.samples = samples


def idle_rounds(bench, result, say):
    """A fresh server each time: what an allocator keeps from the last round must not make the next one cheap."""
    row, plan = bench.row, bench.plan
    samples = {name: [] for name in row.servers}
    for round_index in range(plan.idle_rounds):
        for name in row.servers:
            say(f"{row.key}: round {round_index + 1} of {plan.idle_rounds}, {name}", transient=True)
            server = bench.put_up(name, CONNECTIONS_IDLE)
            result.commands[name], result.negotiated = server.commands(), server.negotiated
            samples[name].append(bench.idle(server))
            for process in server.processes:
                bench.stage.stop(process)
    result.samples = samples

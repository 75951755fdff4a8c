"""The rows of the comparison: which servers meet on which job, and how their rounds are interleaved."""

import json
from dataclasses import dataclass, field, replace

from . import idle
from .load import Load, check_body
from .process import Failed, Stage
from .servers import CONNECTIONS, CONNECTIONS_IDLE, Starter

SMALL_BYTES = 512
LARGE_BYTES = 10_000_000
IDLE_CONNECTIONS = 10_000
OURS = "one-server"


@dataclass(frozen=True)
class Row:
    """One job. `group` is the letter of `--rows`; `unit` is what the chart and the ratios are about."""

    group: str
    key: str
    title: str
    servers: tuple
    path: str = "/small.txt"
    connections: int = 0
    unit: str = "us"  # "us": CPU microseconds per request; "s_per_gb": CPU seconds per GB; "bytes": memory per connection
    kind: str = "static"  # which method of Starter puts a server up

    def only(self, servers):
        """The same row with fewer servers."""
        return replace(self, servers=tuple(server for server in self.servers if server in servers))


STATIC = (OURS, "nginx", "floor")
PROXIES = (OURS, "nginx", "haproxy")
ROWS = (
    Row("a", "a1", "static file, 512 B, 1 connection", STATIC, connections=1),
    Row("a", "a64", "static file, 512 B, 64 connections", STATIC, connections=64),
    Row("a", "a512", "static file, 512 B, 512 connections", STATIC, connections=512),
    Row("b", "b4", "static file, 10 MB, 4 connections", (OURS, "nginx"), "/large.bin", 4, "s_per_gb"),
    Row("c", "c64", "proxied, 512 B, 64 connections", PROXIES, connections=64, kind="proxy"),
    Row("c", "c256", "proxied, 512 B, 256 connections", PROXIES, connections=256, kind="proxy"),
    Row("d", "d64", "axum handler, whole chain, 64 connections", (OURS, "classic"), "/hello", 64, kind="chain"),
    Row("e", "e-static", "memory per idle connection, static", (OURS, "nginx"), unit="bytes"),
    Row("e", "e-proxy", "memory per idle connection, proxied", PROXIES, unit="bytes", kind="proxy"),
)

# Server of a row → programs it takes (see machine.py). The proxies also need the floor as their backend.
PROGRAMS = {"static": {}, "proxy": {}, "chain": {OURS: ("chain-app",), "classic": ("nginx", "haproxy", "axum-hyper")}}


def programs(rows):
    """Names of all programs the rows need."""
    needed = set()
    for row in rows:
        needed.update({"wrk"} if row.unit != "bytes" else ())
        needed.update({"floor"} if row.kind == "proxy" else ())
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
    failure: str = ""


@dataclass(frozen=True)
class Plan:
    """How often and how long, and where."""

    rounds: int
    seconds: int
    idle_rounds: int
    idle_seconds: int
    server_core: int
    load_core: int


def run(row, plan, paths, say):
    """Measures one row. A failure is in the result, loud, and does not stop the rows after it."""
    result = Result(row)
    try:
        with Stage() as stage:
            bench = Bench(row, plan, stage, paths)
            result.configs = bench.starter.configs
            measure = idle_rounds if row.unit == "bytes" else load_rounds
            measure(bench, result, say)
    except (Failed, OSError) as error:
        result.failure = str(error) or repr(error)
        result.samples = {}
    return result


class Bench:
    """A stage with the files, the backend and the servers of one row."""

    def __init__(self, row, plan, stage, paths):
        self.row, self.plan, self.stage = row, plan, stage
        self.starter = Starter(stage, paths, plan.server_core, plan.load_core)
        self.load = Load(stage, paths.get("wrk"), plan.load_core, plan.server_core)
        self.expected = None
        if row.kind == "static":
            self.expected = self.write_files()
        elif row.kind == "proxy":
            self.backend = self.starter.floor(plan.load_core, name="backend")
            self.expected = check_body(self.backend, row.path, None)

    def write_files(self):
        """The folder that is served; returns the bytes of the file of this row."""
        self.folder = self.stage.folder / "files"
        self.folder.mkdir()
        line = b"All the world is a stage, and all the files on it are players.\n"
        contents = {"/small.txt": (line * 9)[:SMALL_BYTES], "/large.bin": (line * (LARGE_BYTES // 64 + 2))[:LARGE_BYTES]}
        for path, content in contents.items():
            (self.folder / path[1:]).write_bytes(content)
        return contents[self.row.path]

    def put_up(self, name, connections=CONNECTIONS):
        """Starts server `name` and makes sure that it answers what it should."""
        if self.row.kind == "static":
            server = self.starter.static(name, self.folder, connections)
        elif self.row.kind == "proxy":
            server = self.starter.proxy(name, self.backend.port, connections)
        else:
            server = self.starter.chain(name)
        if name == "floor":
            body = check_body(server, self.row.path, None)  # it has one answer for everything
            if len(body) != SMALL_BYTES:
                raise Failed(f"the floor answers {len(body)} bytes, not {SMALL_BYTES}")
        else:
            body = check_body(server, self.row.path, self.expected)
        if self.row.kind == "chain":
            self.expected = body  # both must give the same
            if json.loads(body).get("greeting") != "Hello, world!":
                raise Failed(f"{name}: this is not the application: {body[:200]!r}")
        return server


def load_rounds(bench, result, say):
    """All servers up at once; each round measures every one of them, and every round begins with another one."""
    row, plan, load = bench.row, bench.plan, bench.load
    servers = [bench.put_up(name) for name in row.servers]
    for server in servers:
        command = load.command(server.url(row.path), row.connections, plan.seconds)
        result.commands[server.name] = [*server.commands(), "load: " + " ".join(command)]
        load.warm_up(server, row.path, row.connections)
    samples = {server.name: [] for server in servers}
    for round_index in range(plan.rounds):
        say(f"{row.key}: round {round_index + 1} of {plan.rounds}", transient=True)
        first = round_index % len(servers)
        for server in servers[first:] + servers[:first]:
            samples[server.name].append(load.run(server, row.path, row.connections, plan.seconds))
    result.samples = samples


def idle_rounds(bench, result, say):
    """A fresh server each time: what an allocator keeps from the last round must not make the next one cheap."""
    row, plan = bench.row, bench.plan
    samples = {name: [] for name in row.servers}
    for round_index in range(plan.idle_rounds):
        for name in row.servers:
            say(f"{row.key}: round {round_index + 1} of {plan.idle_rounds}, {name}", transient=True)
            server = bench.put_up(name, CONNECTIONS_IDLE)
            result.commands[name] = server.commands()
            samples[name].append(idle.measure(server, row.path, SMALL_BYTES, IDLE_CONNECTIONS, plan.idle_seconds))
            for process in server.processes:
                bench.stage.stop(process)
    result.samples = samples

"""The load generators: how each is called for a row, and what it counted, in the same words for all of them.

Counted are `requests`, `microseconds`, `bytes`, the times `p50` and `p99` in microseconds (None: it does not know them),
`errors` by kind, `tickets` (sessions the server gave to each connection, None: not looked at) and `seen` (protocol and
cipher the generator itself reports, empty: none). A load of a constant rate knows `p90` too, and says with `lag` how late itself was, p99.
"""

import json
import re
import statistics

from .database import PASSWORD, SCHEMA, TABLE_WORDS, USER, account
from .process import Failed

# wrk's own printout rounds; this prints what it counted. Nothing here runs per request.
REPORT_LUA = """\
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nNUMBERS {"requests": %d, "microseconds": %d, "bytes": %d, "p50": %g, "p99": %g, '
      .. '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""


class Wrk:
    """Keep-alive HTTP/1.1, clear or TLS, one thread."""

    program = "wrk"

    def __init__(self, path, folder):
        self.path, self.script = path, folder / "report.lua"
        self.script.write_text(REPORT_LUA)

    def command(self, server, row, seconds):
        headers = [word for header in row.headers for word in ("-H", header)]
        return [self.path, "-t1", f"-c{row.connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", *headers,
                "-s", self.script, server.url(row.path)]

    def numbers(self, text, row, seconds):
        return {"tickets": None, "seen": ""} | last_json(text, "NUMBERS ")


class H2load:
    """HTTP/2 over TLS, one thread, `row.streams` requests at a time on each connection."""

    program = "h2load"

    def __init__(self, path, folder):
        self.path = path

    def command(self, server, row, seconds):
        return [self.path, "-t1", f"-c{row.connections}", f"-m{row.streams}", f"-D{seconds}", server.url(row.path)]

    def numbers(self, text, row, seconds):
        counts = re.search(r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text, re.MULTILINE)
        statuses = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text, re.MULTILINE)
        traffic = re.search(r"^traffic: .*\((\d+)\) total, ", text, re.MULTILINE)
        protocol = re.search(r"^Application protocol: (\S+)", text, re.MULTILINE)
        if not (counts and statuses and traffic and protocol):
            return None
        if protocol.group(1) != "h2":
            raise Failed(f"h2load spoke {protocol.group(1)}, not HTTP/2")
        succeeded, failed, errored, timeout = map(int, counts.groups())
        seen = [re.search(rf"^{label}: (.+)$", text, re.MULTILINE) for label in ("TLS Protocol", "Cipher", "Server Temp Key")]
        return {
            "requests": succeeded, "microseconds": seconds * 1_000_000, "bytes": int(traffic.group(1)),
            "p50": None, "p99": None,
            "errors": {"failed": failed, "errored": errored, "timeout": timeout, "status": sum(map(int, statuses.groups()[1:]))},
            "tickets": None, "seen": " ".join(line.group(1) for line in seen if line),
        }


class Handshakes:
    """perf/handshakes.rs: a connection, one handshake and one request each time, on `row.connections` threads."""

    program = "handshakes"

    def __init__(self, path, folder):
        self.path = path

    def command(self, server, row, seconds):
        resume = ["--resume"] if row.tool == "resumed" else []
        return [self.path, "--connect", f"127.0.0.1:{server.port}", "--path", row.path, "--body-bytes", row.body_bytes,
                "--threads", row.connections, "--seconds", seconds, *resume]

    def numbers(self, text, row, seconds):
        said = last_json(text, "{", keep=True)
        if said is None:
            return None
        of_other_kind = said["handshakes"] - said["resumed"] if row.tool == "resumed" else said["resumed"]
        return {
            "requests": said["handshakes"], "microseconds": said["seconds"] * 1e6, "bytes": said["body_bytes"],
            "p50": said["p50_us"], "p99": said["p99_us"],
            "errors": {"connection": said["errors"], "not of the kind asked for": of_other_kind,
                       "without close_notify": said["without_close_notify"]},
            "tickets": said["tickets"] / max(said["handshakes"], 1),
            "seen": f"{said['version']} {said['cipher']} {said['group']}",
        }


class Steady:
    """perf/steady.rs: `row.rate` requests a second over keep-alive connections, each timed from when it was due."""

    program = "steady"

    def __init__(self, path, folder):
        self.path = path

    def command(self, server, row, seconds):
        return [self.path, "--connect", f"127.0.0.1:{server.port}", "--path", row.path, "--body-bytes", row.body_bytes,
                "--connections", row.connections, "--rate", row.rate, "--seconds", seconds]

    def numbers(self, text, row, seconds):
        said = last_json(text, "{", keep=True)
        if said is None:
            return None  # it ends with the first error, and its reason is the printout
        return {
            "requests": said["requests"], "microseconds": said["seconds"] * 1e6, "bytes": said["bytes"],
            "p50": said["p50_us"], "p99": said["p99_us"], "errors": {}, "tickets": None, "seen": "",
            "lag": said["lag_p99_us"], "p90": said["p90_us"],
        }


class Datagrams:
    """perf/datagrams.rs: `row.connections` clients over UDP, each asks again when it has its answer."""

    program = "datagrams"

    def __init__(self, path, folder):
        self.path = path

    def command(self, server, row, seconds):
        return [self.path, "--connect", f"127.0.0.1:{server.port}", "--bytes", row.body_bytes, "--clients", row.connections,
                "--seconds", seconds]

    def numbers(self, text, row, seconds):
        said = last_json(text, "{", keep=True)
        if said is None:
            return None
        return {
            "requests": said["questions"], "microseconds": said["seconds"] * 1e6, "bytes": said["bytes"],
            "p50": said["p50_us"], "p99": said["p99_us"], "errors": {"lost": said["lost"], "late": said["late"]},
            "tickets": None, "seen": "",
        }


class Sysbench:
    """MySQL: `row.workload` with `row.connections` threads. Reads are no transactions, so that they may go to a replica."""

    program = "sysbench"

    def __init__(self, path, folder):
        self.path = path

    def command(self, server, row, seconds):
        return [self.path, row.workload, "--mysql-host=127.0.0.1", f"--mysql-port={server.port}", *account(), *TABLE_WORDS,
                f"--threads={row.connections}", f"--time={seconds}", f"--db-ps-mode={'auto' if row.prepared else 'disable'}",
                "--mysql-ignore-errors=" + ("1213" if self.may_deadlock(row) else "none"), "--percentile=99", "--histogram=on",
                "--report-interval=1",
                *(["--skip-trx=on"] if row.workload == "oltp_read_only" else []), "run"]

    @staticmethod
    def may_deadlock(row):
        """Transactions of several clients that write may lock each other out, at any server: that is no fault of who is between."""
        return row.workload == "oltp_read_write"

    def numbers(self, text, row, seconds):
        queries = re.search(r"^\s*queries:\s+(\d+)", text, re.MULTILINE)
        time = re.search(r"^\s*total time:\s+([\d.]+)s", text, re.MULTILINE)
        p99 = re.search(r"^\s*99th percentile:\s+([\d.]+)", text, re.MULTILINE)
        failed = [re.search(rf"^\s*{words}:\s+(\d+)", text, re.MULTILINE) for words in ("ignored errors", "reconnects")]
        if not (queries and time and p99 and all(failed)):
            return None
        return {
            "requests": int(queries.group(1)), "microseconds": float(time.group(1)) * 1e6, "bytes": 0,
            "p50": histogram_median(text) * 1000, "p99": usual_p99(text, float(p99.group(1))) * 1000,
            "errors": {"errors": 0 if self.may_deadlock(row) else int(failed[0].group(1)), "reconnects": int(failed[1].group(1))}, "tickets": None, "seen": "",
        }


def usual_p99(text, whole):
    """Milliseconds: the median of the seconds' p99, as the machine stands still now and then for long enough to be the p99 of a whole
    run; `whole`, where no second was told of."""
    seconds = [float(value) for value in re.findall(r"^\[ \d+s \] thds: .* lat \(ms,99%\): ([\d.]+)", text, re.MULTILINE)]
    return statistics.median(seconds) if seconds else whole


def histogram_median(text):
    """Milliseconds, from sysbench's table of `value |***** count`."""
    bars = [(float(value), int(count)) for value, count in re.findall(r"^\s*([\d.]+) \|\**\s*(\d+)$", text, re.MULTILINE)]
    half = sum(count for _, count in bars) / 2
    for value, count in bars:
        half -= count
        if half <= 0:
            return value
    return 0


class LongResult:
    """MySQL: one client reads a million rows, counts their bytes, and says how long it took."""

    program = "mariadb"
    SQL = "SELECT seq, seq * 7, 'a row of some length' FROM seq_1_to_1000000"
    BYTES = sum(len(f"{n}\t{n * 7}\ta row of some length\n") for n in range(1, 1_000_001))

    def __init__(self, path, folder):
        self.path = path

    def command(self, server, row, seconds):
        client = (f"{self.path} --no-defaults -h127.0.0.1 -P{server.port} -u{USER} -p{PASSWORD} {SCHEMA} --quick -N -B "
                  f'-e "{self.SQL}"')
        return ["bash", "-c", f"TIMEFORMAT='TIME %R'; time {client} | wc -c"]

    def numbers(self, text, row, seconds):
        found = re.search(r"^(\d+)\nTIME ([\d.]+)", text, re.MULTILINE)
        if found is None:
            return None
        wrong = int(int(found.group(1)) != self.BYTES)
        return {"requests": 1, "microseconds": float(found.group(2)) * 1e6, "bytes": int(found.group(1)), "p50": None, "p99": None,
                "errors": {"wrong length": wrong}, "tickets": None, "seen": ""}


# What `Row.tool` may be.
TOOLS = {"wrk": Wrk, "h2load": H2load, "full": Handshakes, "resumed": Handshakes, "steady": Steady, "datagrams": Datagrams,
         "sysbench": Sysbench, "result": LongResult}


def last_json(text, prefix, keep=False):
    """The last line that begins with `prefix`, as JSON; None when there is none."""
    lines = [line for line in text.splitlines() if line.startswith(prefix)]
    return json.loads(lines[-1] if keep else lines[-1].removeprefix(prefix)) if lines else None

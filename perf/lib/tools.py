"""The load generators: how each is called for a row, and what it counted, in the same words for all of them.

Counted are `requests`, `microseconds`, `bytes`, the times `p50` and `p99` in microseconds (None: it does not know them),
`errors` by kind, `tickets` (sessions the server gave to each connection, None: not looked at) and `seen` (protocol and
cipher the generator itself reports, empty: none). A load of a constant rate knows `p90` too, and says with `lag` how late itself was, p99.
"""

import json
import re

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


# What `Row.tool` may be.
TOOLS = {"wrk": Wrk, "h2load": H2load, "full": Handshakes, "resumed": Handshakes, "steady": Steady, "datagrams": Datagrams}


def last_json(text, prefix, keep=False):
    """The last line that begins with `prefix`, as JSON; None when there is none."""
    lines = [line for line in text.splitlines() if line.startswith(prefix)]
    return json.loads(lines[-1] if keep else lines[-1].removeprefix(prefix)) if lines else None

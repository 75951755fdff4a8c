"""The load: wrk, one thread, one connection count, and what it says afterwards."""

import http.client
import json
import subprocess
import time
from dataclasses import dataclass, field

from . import machine
from .process import Failed, core_seconds

# wrk's own printout rounds; this prints what it counted. Nothing here runs per request.
REPORT_LUA = """\
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nNUMBERS {"requests": %d, "microseconds": %d, "bytes": %d, "p50": %g, "p99": %g, "maximum": %g, '
      .. '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99), latency.max,
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""


@dataclass
class Sample:
    """One round of one server. Times are in the unit of the name; `cpu_seconds` is all server processes together."""

    requests: int
    seconds: float
    body_bytes: int
    p50_us: float
    p99_us: float
    cpu_seconds: float
    core_seconds: float  # the server's core was busy that long, for whoever
    wrk: str = field(repr=False)

    @property
    def requests_per_second(self):
        return self.requests / self.seconds

    @property
    def cpu_us_per_request(self):
        return self.cpu_seconds / self.requests * 1e6

    @property
    def cpu_seconds_per_gb(self):
        return self.cpu_seconds / (self.body_bytes / 1e9)

    @property
    def megabytes_per_second(self):
        return self.body_bytes / 1e6 / self.seconds

    @property
    def busy(self):
        """Share of the server's core that the server used, 0 to 1: below about 0.95 something else was the limit."""
        return self.cpu_seconds / self.seconds

    @property
    def strangers(self):
        """Share of the server's core that went to something we did not start."""
        return max(0.0, (self.core_seconds - self.cpu_seconds) / self.seconds)


class Load:
    """wrk on the load core."""

    def __init__(self, stage, wrk, core, server_core):
        self.stage, self.wrk, self.core, self.server_core = stage, wrk, core, server_core
        self.interrupts_apart = machine.interrupts_apart()
        self.script = stage.folder / "report.lua"
        self.script.write_text(REPORT_LUA)

    def command(self, url, connections, seconds):
        return [self.wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency",
                "-s", str(self.script), url]

    def warm_up(self, server, path, connections):
        """A second nobody counts: caches filled, upstream connections made, memory touched."""
        self.run(server, path, connections, 1)

    def run(self, server, path, connections, seconds):
        """One round against `server`. Failed: wrk saw anything but 2xx, or a socket error."""
        cpu_before, (core_before, interrupts_before) = server.cpu_seconds(), core_seconds(self.server_core)
        command = self.command(server.url(path), connections, seconds)
        process = self.stage.start("wrk", command, self.core)
        try:
            status = process.child.wait(seconds + 30)
        except subprocess.TimeoutExpired:
            raise Failed(f"{server.name}: wrk hung for {seconds + 30} s") from None
        finally:
            self.stage.stop(process)
        cpu, (core, interrupts) = server.cpu_seconds() - cpu_before, core_seconds(self.server_core)
        if self.interrupts_apart:
            cpu += interrupts - interrupts_before  # the core is the server's, and so is what interrupts it
        text = process.log.read_text(errors="replace")
        numbers = [line for line in text.splitlines() if line.startswith("NUMBERS ")]
        if status != 0 or not numbers:
            raise Failed(f"{server.name}: wrk failed with status {status}:\n{text}")
        return sample(server.name, json.loads(numbers[0].removeprefix("NUMBERS ")), cpu, core - core_before, text)


def sample(name, numbers, cpu, core, text):
    """What wrk counted, as a Sample; a round with errors is no round."""
    errors = {kind: numbers[kind] for kind in ("connect", "read", "write", "status", "timeout") if numbers[kind]}
    if errors:
        raise Failed(f"{name}: wrk saw errors {errors} in {numbers['requests']} requests:\n{text}")
    if numbers["requests"] == 0:
        raise Failed(f"{name}: not one request was answered:\n{text}")
    return Sample(numbers["requests"], numbers["microseconds"] / 1e6, numbers["bytes"], numbers["p50"], numbers["p99"],
                  cpu, core, text)


def fetch(port, path, times=1):
    """Bodies of `times` GETs over one connection. OSError: nobody listens, or not HTTP; Failed: a wrong answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        bodies = []
        for attempt in range(times):
            connection.request("GET", path)
            if attempt and connection.sock is None:
                raise Failed(f"port {port} does not keep the connection alive")
            response = connection.getresponse()
            bodies.append(response.read())
            if response.status >= 500:
                raise ConnectionError(f"status {response.status}")  # a proxy whose server is not up yet
            if response.status != 200:
                raise Failed(f"port {port}: GET {path} gave {response.status}: {bodies[-1][:200]!r}")
            if response.will_close:
                raise Failed(f"port {port} answers with `Connection: close`; keep-alive is what is compared")
        return bodies
    except http.client.HTTPException as error:
        raise ConnectionError(f"not HTTP: {error!r}") from None
    finally:
        connection.close()


def check_body(server, path, expected):
    """Waits until `server` answers, then compares: `expected` is the body, or None to take whatever it is."""
    bodies = server.processes[0].wait_ready(lambda: fetch(server.port, path, times=3))
    wanted = bodies[0] if expected is None else expected
    for body in bodies:
        if body != wanted:
            raise Failed(f"{server.name}: GET {path} gave {len(body)} bytes that are not the {len(wanted)} expected: "
                         f"{body[:100]!r}")
    time.sleep(0.05)
    return wanted

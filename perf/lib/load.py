"""The load: one generator on the load core, the server's clock before and after, and what makes a round invalid."""

import http.client
import socket
import subprocess
import time
from dataclasses import dataclass, field, replace

from . import machine
from .process import Failed, core_seconds
from .tools import TOOLS


@dataclass
class Sample:
    """One round of one server. Times are in the unit of the name; `cpu_seconds` is all server processes together."""

    requests: int
    seconds: float
    body_bytes: int
    p50_us: float | None
    p99_us: float | None
    cpu_seconds: float
    core_seconds: float  # the server's core was busy that long, for whoever
    printout: str = field(repr=False)  # of the generator
    tickets: float | None = None  # sessions to resume that the server gave with each handshake
    lag_p99_us: float | None = None  # how late a load of a constant rate was by itself
    p90_us: float | None = None
    front_seconds: float | None = None  # of `cpu_seconds` without applications behind the server

    @property
    def requests_per_second(self):
        return self.requests / self.seconds

    @property
    def cpu_us_per_request(self):
        return self.cpu_seconds / self.requests * 1e6

    @property
    def front_us_per_request(self):
        return self.front_seconds / self.requests * 1e6

    @property
    def ms_per_request(self):
        """From one answer to the next."""
        return self.seconds / self.requests * 1e3

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
    """The generator of one row, on the load core."""

    def __init__(self, stage, paths, row, core, server_core, environment):
        self.stage, self.row, self.core, self.server_core = stage, row, core, server_core
        self.environment = environment
        self.tool = TOOLS[row.tool](paths[TOOLS[row.tool].program], stage.folder)
        self.interrupts_apart = machine.interrupts_apart()

    def command(self, server, seconds):
        return [str(word) for word in self.tool.command(server, self.row, seconds)]

    def warm_up(self, server):
        """A second nobody counts: caches filled, upstream connections made, memory touched."""
        self.run(server, 1)

    def run(self, server, seconds, answer_bytes=None):
        """One round against `server`. Failed: the generator saw anything but 2xx, a socket error, or answers whose body
        cannot have been of `answer_bytes`."""
        program = self.tool.program
        cpu_before, front_before = server.cpu_seconds(), server.front_seconds()
        core_before, interrupts_before = core_seconds(self.server_core)
        process = self.stage.start(program, self.command(server, seconds), self.core, self.environment)
        try:
            status = process.child.wait(seconds + 30)
        except subprocess.TimeoutExpired:
            raise Failed(f"{server.name}: {program} hung for {seconds + 30} s") from None
        finally:
            self.stage.stop(process)
        cpu, (core, interrupts) = server.cpu_seconds() - cpu_before, core_seconds(self.server_core)
        front = server.front_seconds() - front_before
        if self.interrupts_apart:
            # the core is the server's, and so is what interrupts it
            cpu, front = (seconds + interrupts - interrupts_before for seconds in (cpu, front))
        text = process.log.read_text(errors="replace")
        numbers = self.tool.numbers(text, self.row, seconds)
        if status != 0 or numbers is None:
            raise Failed(f"{server.name}: {program} failed with status {status}:\n{text}")
        if numbers["seen"] and not agrees(server.negotiated, numbers["seen"]):
            raise Failed(f"{server.name}: {program} got {numbers['seen']}, not {server.negotiated}")
        if answer_bytes and not plausible(numbers, self.row, answer_bytes):
            raise Failed(f"{server.name}: {numbers['bytes']} bytes in {numbers['requests']} answers of {answer_bytes}:\n{text}")
        return replace(sample(server.name, numbers, cpu, core - core_before, text), front_seconds=front)


def plausible(numbers, row, answer_bytes):
    """Whether so many bytes can be so many answers, each with up to 1 KiB around its body. Answers under way when time is
    over may be counted or not."""
    under_way = row.connections * row.streams
    least = (numbers["requests"] - under_way) * answer_bytes
    return least <= numbers["bytes"] <= (numbers["requests"] + under_way) * (answer_bytes + 1024)


def agrees(negotiated, seen):
    """Every word of `seen`, the generator's, is in what was negotiated before; sizes and spelling of the version apart."""
    known = negotiated.replace("_", "").replace(".", "").lower()
    words = seen.replace("_", "").replace(".", "").lower().split()
    return all(word in known for word in words if not word.isdigit() and word != "bits")


def sample(name, numbers, cpu, core, text):
    """What the generator counted, as a Sample; a round with errors is no round."""
    errors = {kind: count for kind, count in numbers["errors"].items() if count}
    if errors:
        raise Failed(f"{name}: the load saw errors {errors} in {numbers['requests']} requests:\n{text}")
    if numbers["requests"] == 0:
        raise Failed(f"{name}: not one request was answered:\n{text}")
    return Sample(numbers["requests"], numbers["microseconds"] / 1e6, numbers["bytes"], numbers["p50"], numbers["p99"],
                  cpu, core, text, numbers["tickets"], numbers.get("lag"), numbers.get("p90"))


def fetch(server, path, headers=(), times=1):
    """(Body, content coding) of `times` GETs over one connection. OSError: nobody listens, or not HTTP; Failed: a wrong
    answer."""
    if server.tls:
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=5, context=server.tls.context())
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        answers = []
        for attempt in range(times):
            connection.request("GET", path, headers=dict(header.split(": ", 1) for header in headers))
            if attempt and connection.sock is None:
                raise Failed(f"port {server.port} does not keep the connection alive")
            response = connection.getresponse()
            body = response.read()
            if response.status >= 500:
                raise ConnectionError(f"status {response.status}")  # a proxy whose server is not up yet
            if response.status != 200:
                raise Failed(f"port {server.port}: GET {path} gave {response.status}: {body[:200]!r}")
            if response.will_close:
                raise Failed(f"port {server.port} answers with `Connection: close`; keep-alive is what is compared")
            answers.append((body, response.getheader("Content-Encoding")))
        return answers
    except http.client.HTTPException as error:
        raise ConnectionError(f"not HTTP: {error!r}") from None
    finally:
        connection.close()


def check_datagram(server, question):
    """Waits until `server` answers `question` with the same bytes, then asks twice more."""
    def ask():
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(1)
            client.connect(("127.0.0.1", server.port))
            client.send(question)
            return client.recv(65_536)

    for answer in [server.processes[0].wait_ready(ask), ask(), ask()]:
        if answer != question:
            raise Failed(f"{server.name}: {len(answer)} bytes that are not the {len(question)} expected: {answer[:100]!r}")


def check_body(server, path, expected, headers=(), coding=None):
    """Waits until `server` answers, then compares: `expected` is the body as it is sent, or None to take whatever it is."""
    answers = server.processes[0].wait_ready(lambda: fetch(server, path, headers, times=3))
    wanted = answers[0][0] if expected is None else expected
    for body, sent_coding in answers:
        if body != wanted:
            raise Failed(f"{server.name}: GET {path} gave {len(body)} bytes that are not the {len(wanted)} expected: "
                         f"{body[:100]!r}")
        if sent_coding != coding:
            raise Failed(f"{server.name}: GET {path} came with Content-Encoding {sent_coding}, not {coding}")
    time.sleep(0.05)
    return wanted

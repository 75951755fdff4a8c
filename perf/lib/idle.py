"""Memory of idle connections, clear or TLS: each makes one request, then stays open and silent."""

import socket
import ssl
import time
from dataclasses import dataclass

from .process import Failed

REQUEST = b"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@dataclass
class Footprint:
    """Memory of all server processes, bytes: before the connections came, and while they idle."""

    connections: int
    rss_before: int
    pss_before: int
    rss_idle: int
    pss_idle: int

    @property
    def rss_per_connection(self):
        return (self.rss_idle - self.rss_before) / self.connections

    @property
    def pss_per_connection(self):
        return (self.pss_idle - self.pss_before) / self.connections


def measure(server, open_one, connections, idle_seconds):
    """Opens the connections with `open_one()`, lets them idle, reads the memory, and makes sure that none was closed meanwhile."""
    held = []
    try:
        held.append(open_one())  # what the first request makes belongs to "before"
        time.sleep(1)
        rss_before, pss_before = server.memory_bytes()
        for _ in range(connections):
            held.append(open_one())
        time.sleep(idle_seconds)
        rss_idle, pss_idle = server.memory_bytes()
        closed = sum(1 for client in held if is_closed(client))
        if closed:
            raise Failed(f"{server.name} closed {closed} of {connections} idle connections")
        return Footprint(connections, rss_before, pss_before, rss_idle, pss_idle)
    except OSError as error:
        raise Failed(f"{server.name}: connection {len(held)} of {connections}: {error}") from None
    finally:
        for client in held:
            client.close()


def open_one(server, path, body_bytes):
    """One connection whose first answer has been read to its end."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    try:
        if server.tls:
            client = server.tls.context().wrap_socket(client, server_hostname="127.0.0.1")
        client.sendall(REQUEST.replace(b"{path}", path.encode()))
        answer = b""
        while len(answer.partition(b"\r\n\r\n")[2]) < body_bytes:
            piece = client.recv(65_536)
            if not piece:
                raise Failed(f"{server.name} closed the connection inside its answer: {answer[:200]!r}")
            answer += piece
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise Failed(f"{server.name} answered {answer[:200]!r}")
        return client
    except BaseException:
        client.close()
        raise


def is_closed(client):
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True

"""A client of HTTP/3 for tests/http3.rs, on aioquic: an implementation of QUIC that is none of ours.

Reads a plan from standard input, a JSON object: `address`, `port`, settings, and `steps`, each an object with `op`. Writes
what it saw to standard output as JSON: answers by the name of their request, GOAWAYs, how the connection ended.
"""

import asyncio
import base64
import hashlib
import json
import socket
import ssl
import sys
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer
from aioquic.h3.connection import FrameType, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic import events as quic
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

import messages

PATIENCE = 30.0
KEPT_BYTES_MAX = 70_000


def pattern(length):
    """As `pattern` of tests/support."""
    mask = (1 << 64) - 1
    return bytes(((at * 0x9E3779B97F4A7C15) & mask) >> 56 for at in range(length))


class Http(H3Connection):
    """Takes the answers to HEAD, which have no content whatever their length says."""

    def _check_content_length(self, stream):
        if stream.content_length:
            super()._check_content_length(stream)


def goaways(control):
    """Ids of the GOAWAY frames in a control stream, which aioquic does not look at."""
    found, buffer = [], Buffer(data=control)
    assert buffer.pull_uint_var() == 0
    while not buffer.eof():
        kind, length = buffer.pull_uint_var(), buffer.pull_uint_var()
        payload = Buffer(data=buffer.pull_bytes(length))
        if kind == FrameType.GOAWAY:
            found.append(payload.pull_uint_var())
    return found


def offers_connect(control):
    """Whether SETTINGS, the first frame of a control stream, has SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 9220 section 3)."""
    buffer = Buffer(data=control)
    if buffer.eof():
        return False
    assert buffer.pull_uint_var() == 0 and buffer.pull_uint_var() == FrameType.SETTINGS
    payload = Buffer(data=buffer.pull_bytes(buffer.pull_uint_var()))
    settings = {}
    while not payload.eof():
        name = payload.pull_uint_var()
        settings[name] = payload.pull_uint_var()
    return settings.get(0x08) == 1


class Exchange:
    def __init__(self, stream_id):
        self.stream_id = stream_id
        self.heads = []
        self.content = bytearray()
        self.is_tunnel = False
        self.unread = bytearray()
        self.digest = hashlib.sha256()
        self.length = 0
        self.end = None  # "whole", or the code of a reset
        self.stopped = None
        self.begun = time.monotonic()
        self.seconds = None  # until the end
        self.changed = asyncio.Event()

    def report(self):
        is_interim = lambda head: head[0][0] == b":status" and head[0][1].startswith(b"1")
        final = [head for head in self.heads if not is_interim(head)]
        text = lambda fields: [[name.decode("latin1"), value.decode("latin1")] for name, value in fields]
        return {
            "status": int(final[0][0][1]) if final else 0,
            "fields": text(final[0][1:]) if final else [],
            "trailers": text(final[1]) if len(final) > 1 else None,
            "interim": [[int(head[0][1]), text(head[1:])] for head in self.heads if is_interim(head)],
            "length": self.length,
            "sha256": self.digest.hexdigest(),
            "content": base64.b64encode(bytes(self.content)).decode() if self.length <= KEPT_BYTES_MAX else None,
            "end": self.end,
            "stopped": self.stopped,
            "seconds": self.seconds,
        }


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = None
        self.exchanges = {}
        self.by_stream = {}
        self.closed = None
        self.moment = asyncio.Event()
        self.is_mute = False
        self.control = bytearray()

    def start(self, raw):
        if not raw:
            self.http = Http(self._quic)
            self.transmit()

    def datagram_received(self, data, addr):
        if not self.is_mute:
            super().datagram_received(data, addr)

    def quic_event_received(self, event):
        if isinstance(event, quic.ConnectionTerminated):
            self.closed = {"code": event.error_code, "is_http": event.frame_type is None, "reason": event.reason_phrase}
            for exchange in self.by_stream.values():
                exchange.changed.set()
        elif isinstance(event, quic.StreamReset) and event.stream_id in self.by_stream:
            exchange = self.by_stream[event.stream_id]
            exchange.end = exchange.end or event.error_code
            exchange.changed.set()
        elif isinstance(event, quic.StopSendingReceived) and event.stream_id in self.by_stream:
            self.by_stream[event.stream_id].stopped = event.error_code
            self.by_stream[event.stream_id].changed.set()
        if isinstance(event, quic.StreamDataReceived) and event.stream_id == 3:
            self.control += event.data
        for part in self.http.handle_event(event) if self.http else []:
            exchange = self.by_stream.get(part.stream_id)
            if exchange is None:
                continue
            if isinstance(part, HeadersReceived):
                exchange.heads.append(part.headers)
            elif isinstance(part, DataReceived):
                exchange.length += len(part.data)
                exchange.digest.update(part.data)
                if exchange.is_tunnel:
                    exchange.unread += part.data
                if exchange.length <= KEPT_BYTES_MAX:
                    exchange.content += part.data
            if part.stream_ended:
                exchange.end = "whole"
                exchange.seconds = time.monotonic() - exchange.begun
            exchange.changed.set()
        self.moment.set()

    async def until(self, exchange, is_there):
        async def wait():
            while not is_there() and self.closed is None:
                exchange.changed.clear()
                await exchange.changed.wait()

        await asyncio.wait_for(wait(), PATIENCE)


def content(step):
    given = step.get("content", b"")
    if isinstance(given, dict):
        return pattern(given["pattern"]) if "pattern" in given else bytes(given["zeros"])
    return given.encode() if isinstance(given, str) else given


class Plan:
    def __init__(self, plan):
        self.plan = plan
        self.client = None
        self.seen = {}
        self.sockets = []

    def exchange(self, step, is_bidirectional=True):
        client = self.client
        stream_id = client._quic.get_next_available_stream_id(is_unidirectional=not is_bidirectional)
        exchange = Exchange(stream_id)
        client.exchanges[step["name"]] = exchange
        client.by_stream[stream_id] = exchange
        return exchange

    async def request(self, step):
        exchange, client = self.exchange(step), self.client
        fields = [
            (b":method", step.get("method", "GET").encode()),
            (b":scheme", b"https"),
            (b":authority", step.get("authority", "test").encode()),
            (b":path", step["path"].encode()),
        ]
        if "protocol" in step:
            fields.insert(1, (b":protocol", step["protocol"].encode()))
            exchange.is_tunnel = True
        fields += [(name.encode(), value.encode()) for name, value in step.get("fields", [])]
        data, ends = content(step), step.get("ends", True)
        client.http.send_headers(exchange.stream_id, fields, end_stream=ends and not data)
        if data:
            client.http.send_data(exchange.stream_id, data, end_stream=ends)
        client.transmit()
        if step.get("waits", True):
            await client.until(exchange, lambda: exchange.end is not None)

    async def step_more(self, step):
        exchange = self.client.exchanges[step["name"]]
        self.client.http.send_data(exchange.stream_id, content(step), end_stream=step.get("ends", False))
        self.client.transmit()

    async def step_trailers(self, step):
        exchange = self.client.exchanges[step["name"]]
        self.client.http.send_headers(exchange.stream_id, [(b"x-sum", b"1")], end_stream=True)
        self.client.transmit()

    async def step_wait(self, step):
        exchange, least = self.client.exchanges[step["name"]], step.get("length")
        if least is not None:
            await self.client.until(exchange, lambda: exchange.length >= least or exchange.end is not None)
        elif step.get("head"):
            await self.client.until(exchange, lambda: exchange.heads or exchange.end is not None)
        elif step.get("stopped"):
            await self.client.until(exchange, lambda: exchange.stopped is not None)
        else:
            await self.client.until(exchange, lambda: exchange.end is not None)

    async def step_reset(self, step):
        stream_id = self.client.exchanges[step["name"]].stream_id
        self.client._quic.reset_stream(stream_id, step.get("code", 0x10C))
        self.client.transmit()

    async def step_stop(self, step):
        stream_id = self.client.exchanges[step["name"]].stream_id
        self.client._quic.stop_stream(stream_id, step.get("code", 0x10C))
        self.client.transmit()

    async def step_raw(self, step):
        """Bytes on a stream of our own, of requests unless it is `uni`."""
        client = self.client
        exchange = client.exchanges.get(step["name"]) or self.exchange(step, not step.get("uni", False))
        client._quic.send_stream_data(exchange.stream_id, bytes.fromhex(step["hex"]), step.get("ends", False))
        client.transmit()

    async def step_request(self, step):
        await self.request(step)

    async def step_requests(self, step):
        """Several at the same time."""
        await asyncio.gather(*(self.request(one) for one in step["requests"]))

    async def step_load(self, step):
        """The same requests side by side, again and again, until the test writes a line."""
        print("@" + step["name"], flush=True)
        over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        load = self.seen["load"] = {"answers": 0, "versions": [], "bad": []}
        digests = {}
        while not over.done():
            names = [f"load {at}" for at, _ in enumerate(step["requests"])]
            await asyncio.gather(
                *(self.request({**one, "name": name}) for name, one in zip(names, step["requests"]))
            )
            for name, one in zip(names, step["requests"]):
                exchange = self.client.exchanges.pop(name)
                del self.client.by_stream[exchange.stream_id]
                report = exchange.report()
                load["answers"] += 1
                version = dict(report["fields"]).get("x-version")
                if version not in load["versions"]:
                    load["versions"].append(version)
                is_same = digests.setdefault(one["path"], report["sha256"]) == report["sha256"]
                if report["status"] != 200 or report["end"] != "whole" or not is_same:
                    load["bad"].append([one["path"], report["status"], report["end"], report["length"]])
            if self.client.closed is not None:
                load["bad"].append(self.client.closed)
                break

    async def step_sleep(self, step):
        await asyncio.sleep(step["seconds"])

    async def step_closed(self, step):
        """Until the connection has ended."""
        begin = time.monotonic()
        while self.client.closed is None and time.monotonic() - begin < step.get("seconds", PATIENCE):
            await asyncio.sleep(0.01)
        self.seen["closed_after"] = time.monotonic() - begin

    async def step_ping(self, step):
        await asyncio.wait_for(self.client.ping(), PATIENCE)

    async def step_mute(self, step):
        """Hears nothing from now on, and says nothing."""
        self.client.is_mute = True
        await asyncio.sleep(step["seconds"])
        self.client.is_mute = not step.get("ends", True)

    async def step_freeze(self, step):
        """Opens no window from now on."""
        connection = self.client._quic
        connection._write_stream_limits = lambda *args, **kwargs: None
        connection._write_connection_limits = lambda *args, **kwargs: None

    async def step_rebind(self, step):
        """Goes on from another port, as behind a NAT that forgot us; with `renew` under another connection id, as a client
        does that knows."""
        client, loop = self.client, asyncio.get_running_loop()
        if step.get("renew"):
            client.change_connection_id()
        plan = self

        class Forward(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                plan.client.datagram_received(data, addr)

        both = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        both.bind(("::", 0, 0, 0))
        transport, _ = await loop.create_datagram_endpoint(Forward, sock=both)
        self.sockets.append(client._transport)
        client._transport = transport
        await asyncio.wait_for(client.ping(), PATIENCE)

    async def step_signal(self, step):
        """Tells the test that it has come here, and waits for a line of it."""
        print("@" + step["name"], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

    async def step_unknown(self, step):
        """A packet for this connection where it is not known, after its end or at another `port`: whether the answer is the
        stateless reset (RFC 9000 section 10.3) that ends it."""
        client, loop = self.client, asyncio.get_running_loop()
        cid = client._quic._peer_cid
        token = cid.stateless_reset_token or client._quic._peer_cid_available[0].stateless_reset_token
        got = loop.create_future()

        class Listen(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                if not got.done():
                    got.set_result(data)

        transport, _ = await loop.create_datagram_endpoint(
            Listen, remote_addr=(self.plan["address"], step.get("port", self.plan["port"]))
        )
        for _ in range(50):
            transport.sendto(bytes([0x41]) + cid.cid + bytes(60))
            await asyncio.sleep(0.1)
            if got.done():
                break
        self.seen["is_answered"] = got.done()
        self.seen["is_reset"] = got.done() and got.result()[-16:] == token
        transport.close()

    async def step_messages(self, step):
        exchange, client = self.client.exchanges[step["name"]], self.client

        async def send(data):
            client.http.send_data(exchange.stream_id, data, end_stream=False)
            client.transmit()

        async def receive():
            await client.until(exchange, lambda: exchange.unread or exchange.end is not None)
            data, exchange.unread = bytes(exchange.unread), bytearray()
            return data

        await messages.talk(send, receive)
        self.seen["talked"] = True

    async def step_resume(self, step):
        self.seen["resumed"] = self.client._quic.tls.session_resumed

    async def stall(self, settings):
        """Proves its address, as far as it is asked to, and says no more: the handshake stays under way."""
        connection, loop = QuicConnection(configuration=settings), asyncio.get_running_loop()
        heard = asyncio.Queue()

        class Listen(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                heard.put_nowait(data)

        address = (self.plan["address"], self.plan["port"])
        transport, _ = await loop.create_datagram_endpoint(Listen, remote_addr=address)
        connection.connect(address, now=loop.time())
        # The answer to the first Initial is a Retry, that to the second one the handshake.
        for _ in range(2):
            for data, _ in connection.datagrams_to_send(now=loop.time()):
                transport.sendto(data)
            data = await asyncio.wait_for(heard.get(), PATIENCE)
            if connection._retry_source_connection_id is None:
                connection.receive_datagram(data, address, now=loop.time())
        self.seen["retried"] = connection._retry_source_connection_id is not None
        await self.step_signal({"name": "stalled"})
        transport.close()

    async def run(self):
        plan = self.plan
        settings = QuicConfiguration(
            is_client=True,
            alpn_protocols=plan.get("protocols", ["h3"]),
            server_name=plan.get("server_name", "localhost"),
            max_stream_data=plan.get("stream_window", 1 << 20),
            max_data=plan.get("connection_window", 1 << 22),
            idle_timeout=plan.get("idle_timeout", 60.0),
        )
        if plan.get("ca"):
            settings.load_verify_locations(plan["ca"])
        else:
            settings.verify_mode = ssl.CERT_NONE
        if plan.get("certificate"):
            settings.load_cert_chain(plan["certificate"], plan["key"])
        if plan.get("stalls"):
            await self.stall(settings)
            return self.seen
        for turn in range(plan.get("connections", 1)):
            tickets = []
            try:
                async with connect(
                    plan["address"],
                    plan["port"],
                    configuration=settings,
                    create_protocol=Client,
                    session_ticket_handler=tickets.append,
                ) as client:
                    self.client = client
                    client.start(plan.get("raw", False))
                    for step in plan["steps"]:
                        await getattr(self, "step_" + step["op"])(step)
                    self.report(client)
            except ConnectionError:
                self.seen["refused"] = True
            if tickets:
                settings.session_ticket = tickets[-1]
        return self.seen

    def report(self, client):
        self.seen["answers"] = {name: exchange.report() for name, exchange in client.exchanges.items()}
        self.seen["offers_connect"] = offers_connect(bytes(client.control))
        self.seen["goaways"] = goaways(bytes(client.control)) if client.control else []
        self.seen["closed"] = client.closed
        self.seen["retried"] = client._quic._retry_source_connection_id is not None
        leaf = client._quic.tls._peer_certificate
        if leaf is not None:
            self.seen["serial"] = format(leaf.serial_number, "x")


def main():
    plan = json.loads(sys.stdin.readline())

    async def all_plans():
        """One plan, or several side by side."""
        if "plans" in plan:
            return await asyncio.gather(*(Plan(one).run() for one in plan["plans"]))
        return await Plan(plan).run()

    print(json.dumps(asyncio.run(all_plans())), flush=True)


main()

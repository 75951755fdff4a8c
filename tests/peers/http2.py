"""A client of HTTP/2 with extended CONNECT (RFC 8441) for tests/websocket.rs, on h2: none of ours.

Reads a plan from standard input and writes what it saw, as http3.py does, with the same names.
"""

import asyncio
import base64
import hashlib
import json
import ssl
import sys

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

import messages

PATIENCE = 30.0

# To this library a GOAWAY is the end, also for streams that go on (RFC 9113 section 6.8).
State, Input = h2.connection.ConnectionState, h2.connection.ConnectionInputs
h2.connection.H2ConnectionStateMachine._transitions[State.CLIENT_OPEN, Input.RECV_GOAWAY] = (None, State.CLIENT_OPEN)
KEPT_BYTES_MAX = 70_000


def pattern(length):
    """As `pattern` of tests/support."""
    mask = (1 << 64) - 1
    return bytes(((at * 0x9E3779B97F4A7C15) & mask) >> 56 for at in range(length))


def content(step):
    given = step.get("content", b"")
    if isinstance(given, dict):
        return pattern(given["pattern"]) if "pattern" in given else bytes(given["zeros"])
    return given.encode() if isinstance(given, str) else given


class Exchange:
    def __init__(self, stream_id):
        self.stream_id = stream_id
        self.head = []
        self.content = bytearray()
        self.unread = bytearray()
        self.digest = hashlib.sha256()
        self.length = 0
        self.end = None  # "whole", or the code of a reset

    def report(self):
        fields = dict(self.head)
        return {
            "status": int(fields.get(":status", 0)),
            "fields": [[name, value] for name, value in self.head if name != ":status"],
            "length": self.length,
            "sha256": self.digest.hexdigest(),
            "content": base64.b64encode(bytes(self.content)).decode() if self.length <= KEPT_BYTES_MAX else None,
            "end": self.end,
        }


class Plan:
    def __init__(self, plan):
        self.plan = plan
        self.seen = {}
        self.exchanges = {}
        self.by_stream = {}
        self.offers_connect = None
        self.goaways = []
        self.is_closed = False
        self.is_held = False
        self.changed = asyncio.Condition()

    async def read(self):
        try:
            while data := await self.reader.read(65536):
                for event in self.http.receive_data(data):
                    self.take(event)
                await self.flush()
                async with self.changed:
                    self.changed.notify_all()
        except (ConnectionError, ssl.SSLError, h2.exceptions.ProtocolError) as error:
            self.seen["error"] = repr(error)
        self.is_closed = True
        async with self.changed:
            self.changed.notify_all()

    def take(self, event):
        exchange = self.by_stream.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.RemoteSettingsChanged):
            code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
            if code in event.changed_settings:
                self.offers_connect = event.changed_settings[code].new_value == 1
            elif self.offers_connect is None:
                self.offers_connect = False
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append(event.last_stream_id)
        elif exchange is None:
            return
        elif isinstance(event, h2.events.ResponseReceived):
            exchange.head = list(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            exchange.length += len(event.data)
            exchange.digest.update(event.data)
            exchange.unread += event.data
            if exchange.length <= KEPT_BYTES_MAX:
                exchange.content += event.data
            if not self.is_held:
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            exchange.end = exchange.end or "whole"
        elif isinstance(event, h2.events.StreamReset):
            exchange.end = exchange.end or event.error_code

    async def flush(self):
        data = self.http.data_to_send()
        if data:
            self.writer.write(data)
            await self.writer.drain()

    async def until(self, is_there):
        async def wait():
            async with self.changed:
                await self.changed.wait_for(lambda: self.is_closed or is_there())

        await asyncio.wait_for(wait(), PATIENCE)

    async def send(self, exchange, data, ends=False):
        """As the server's windows allow."""
        try:
            await self.send_all(exchange, data)
        except h2.exceptions.StreamClosedError:
            return
        if ends and exchange.end is None:
            self.http.end_stream(exchange.stream_id)
            await self.flush()

    async def send_all(self, exchange, data):
        at = 0
        while at < len(data):
            if exchange.end is not None or self.is_closed:
                return
            room = min(
                self.http.local_flow_control_window(exchange.stream_id), self.http.max_outbound_frame_size, len(data) - at
            )
            if room > 0:
                self.http.send_data(exchange.stream_id, data[at : at + room])
                at += room
                await self.flush()
                continue
            await self.until(
                lambda: exchange.end is not None or self.http.local_flow_control_window(exchange.stream_id) > 0
            )
    async def step_request(self, step):
        exchange = Exchange(self.http.get_next_available_stream_id())
        self.exchanges[step["name"]] = self.by_stream[exchange.stream_id] = exchange
        fields = [
            (":method", step.get("method", "GET")),
            (":scheme", "https"),
            (":authority", step.get("authority", "test")),
            (":path", step["path"]),
        ]
        if "protocol" in step:
            fields.insert(1, (":protocol", step["protocol"]))
        elif step.get("method") == "CONNECT":
            fields = [fields[0], fields[2]]
        fields += [(name, value) for name, value in step.get("fields", [])]
        data, ends = content(step), step.get("ends", True)
        self.http.send_headers(exchange.stream_id, fields, end_stream=ends and not data)
        await self.flush()
        if data:
            await self.send(exchange, data, ends)
        if step.get("waits", True):
            await self.until(lambda: exchange.end is not None)

    async def step_more(self, step):
        exchange = self.exchanges[step["name"]]
        sending = self.send(exchange, content(step), step.get("ends", False))
        if step.get("beside"):
            self.beside = asyncio.ensure_future(sending)
        else:
            await sending

    async def step_trailers(self, step):
        self.http.send_headers(self.exchanges[step["name"]].stream_id, [("x-sum", "1")], end_stream=True)
        await self.flush()

    async def step_wait(self, step):
        exchange, least = self.exchanges[step["name"]], step.get("length")
        if least is not None:
            await self.until(lambda: exchange.length >= least or exchange.end is not None)
        elif step.get("head"):
            await self.until(lambda: exchange.head or exchange.end is not None)
        else:
            await self.until(lambda: exchange.end is not None)

    async def step_reset(self, step):
        exchange = self.exchanges[step["name"]]
        if exchange.end is None:
            self.http.reset_stream(exchange.stream_id, 8)
            exchange.end = "reset"
        if self.is_held and exchange.length > 0:
            # What came of it was in nobody's way but that of the connection.
            self.http.increment_flow_control_window(exchange.length)
        await self.flush()

    async def step_freeze(self, step):
        """Opens no window from now on."""
        self.is_held = True

    async def step_sleep(self, step):
        await asyncio.sleep(step["seconds"])

    async def step_signal(self, step):
        print("@" + step["name"], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

    async def step_messages(self, step):
        exchange = self.exchanges[step["name"]]

        async def receive():
            await self.until(lambda: exchange.unread or exchange.end is not None)
            data, exchange.unread = bytes(exchange.unread), bytearray()
            return data

        await messages.talk(lambda data: self.send(exchange, data), receive)
        self.seen["talked"] = True

    async def run(self):
        plan = self.plan
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        self.reader, self.writer = await asyncio.open_connection(
            plan["address"], plan["port"], ssl=context, server_hostname="localhost"
        )
        self.http = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        )
        self.http.initiate_connection()
        await self.flush()
        reading = asyncio.ensure_future(self.read())
        await self.until(lambda: self.offers_connect is not None)
        self.seen["offers_connect"] = self.offers_connect
        for step in plan["steps"]:
            await getattr(self, "step_" + step["op"])(step)
        self.seen["answers"] = {name: exchange.report() for name, exchange in self.exchanges.items()}
        self.seen["goaways"] = self.goaways
        reading.cancel()
        self.writer.close()
        return self.seen


print(json.dumps(asyncio.run(Plan(json.loads(sys.stdin.readline())).run())), flush=True)

"""A server of WebSockets over HTTP/2 (RFC 8441) in clear or over TLS, for tests/websocket_upstream.rs: h2 and wsproto, none of ours.

    websocket_server.py PORT [SETTING] [CHAIN KEY]

SETTING is the value of ENABLE_CONNECT_PROTOCOL, `1` if it is not given, `none` for a server that does not send it. What an
extended CONNECT is answered is for its path to say; what is no extended CONNECT gets a page that tells what was asked.
Each line of output tells of something that has happened.
"""

import asyncio
import json
import ssl
import sys

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

CONNECT = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL


def tell(*words):
    print(*words, flush=True)


class Stream:
    """One WebSocket, or what stands in its place."""

    def __init__(self, server, stream_id, path):
        self.server, self.stream_id, self.path = server, stream_id, path
        self.socket = Connection(ConnectionType.SERVER)
        self.pending = bytearray()
        self.ends = False
        self.is_held = path == "/deaf"
        self.held = 0

    def say(self, data, ends=False):
        self.pending += data
        self.ends |= ends
        self.go_on()

    def go_on(self):
        """As the other side's windows allow."""
        http = self.server.http
        try:
            while self.pending:
                room = min(http.local_flow_control_window(self.stream_id), http.max_outbound_frame_size)
                if room <= 0:
                    return
                http.send_data(self.stream_id, bytes(self.pending[:room]))
                del self.pending[:room]
            if self.ends:
                self.ends = False
                http.end_stream(self.stream_id)
        except (h2.exceptions.StreamClosedError, h2.exceptions.ProtocolError):
            self.pending.clear()

    def take(self, data, flow_controlled):
        if self.is_held:
            self.held += len(data)
            return
        self.server.http.acknowledge_received_data(flow_controlled, self.stream_id)
        if self.path.startswith("/raw"):
            return self.say(data)
        self.socket.receive_data(data)
        for event in self.socket.events():
            if isinstance(event, (TextMessage, BytesMessage)):
                self.say(self.socket.send(type(event)(data=event.data, message_finished=event.message_finished)))
            elif isinstance(event, Ping):
                self.say(self.socket.send(event.response()))
            elif isinstance(event, CloseConnection):
                self.say(self.socket.send(event.response()), ends=True)


class Server(asyncio.Protocol):
    setting = 1

    def connection_made(self, transport):
        tell("connection")
        self.transport = transport
        self.streams = {}
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        # Before the first frame: the library has no other way to begin with settings of one's own.
        values = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100}
        if Server.setting is not None:
            values[CONNECT] = Server.setting
        self.http.local_settings = h2.settings.Settings(client=False, initial_values=values)
        self.http.initiate_connection()
        self.flush()

    def connection_lost(self, error):
        tell("lost")

    def flush(self):
        self.transport.write(self.http.data_to_send())

    def data_received(self, data):
        try:
            events = self.http.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            tell("error", repr(error))
            self.flush()
            return self.transport.close()
        for event in events:
            self.take(event)
        self.flush()

    def take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.RequestReceived):
            self.answer(event)
        elif isinstance(event, h2.events.WindowUpdated):
            for stream in list(self.streams.values()):
                stream.go_on()
        elif stream is None:
            return
        elif isinstance(event, h2.events.DataReceived):
            stream.take(event.data, event.flow_controlled_length)
        elif isinstance(event, h2.events.StreamEnded):
            tell("end", stream.path)
            stream.say(b"bye" if stream.path.startswith("/raw") else b"", ends=stream.path != "/open")
        elif isinstance(event, h2.events.StreamReset):
            tell("reset", stream.path, int(event.error_code))
            del self.streams[event.stream_id]

    def answer(self, event):
        fields = dict(event.headers)
        path, stream_id = fields[":path"], event.stream_id
        tell("asked", json.dumps(event.headers))
        if fields[":method"] != "CONNECT":
            self.http.send_headers(stream_id, [(":status", "200"), ("content-type", "text/plain")])
            return self.http.send_data(stream_id, f"page for {fields[':method']} {path}".encode(), end_stream=True)
        if path == "/forbidden":
            self.http.send_headers(stream_id, [(":status", "403"), ("x-why", "so")])
            return self.http.send_data(stream_id, b"no", end_stream=True)
        if path == "/refused":
            return self.http.reset_stream(stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
        if path == "/silent":
            return None
        stream = self.streams[stream_id] = Stream(self, stream_id, path)
        head = [(":status", "200"), ("x-server", "one")]
        if "sec-websocket-protocol" in fields:
            head.append(("sec-websocket-protocol", fields["sec-websocket-protocol"].split(",")[0]))
        self.http.send_headers(stream_id, head)
        if path.startswith("/raw"):
            stream.say(b"hello ")
        if path == "/much":
            stream.say(bytes(64 << 20))
        if path == "/reset":
            # At once, nobody would know that there was an answer.
            asyncio.get_running_loop().call_later(0.2, self.reset, stream_id)
        if path == "/trailers":
            self.http.send_headers(stream_id, [("x-sum", "1")], end_stream=True)
        return None


    def reset(self, stream_id):
        self.http.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
        self.flush()


async def main():
    port, *rest = sys.argv[1:]
    if rest:
        setting = rest.pop(0)
        Server.setting = None if setting == "none" else int(setting)
    context = None
    if rest:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*rest)
        context.set_alpn_protocols(["h2"])
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", int(port), ssl=context)
    tell("ready")
    await server.serve_forever()


asyncio.run(main())

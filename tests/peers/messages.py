"""WebSocket messages (RFC 6455) over whatever carries bytes, on wsproto: for http2.py and http3.py."""

import os

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

SIZES = [0, 1, 125, 126, 65535, 65536, 3_000_000]


async def talk(send, receive):
    """To a server that sends each message back: of all sizes, many small ones at once, a ping, and the end."""
    socket = Connection(ConnectionType.CLIENT)

    async def events():
        while True:
            data = await receive()
            assert data, "the tunnel ended"
            socket.receive_data(data)
            for event in socket.events():
                yield event

    coming = events()

    async def message():
        parts = []
        while True:
            event = await anext(coming)
            if isinstance(event, Ping):
                await send(socket.send(event.response()))
                continue
            assert isinstance(event, (TextMessage, BytesMessage)), event
            parts.append(event.data)
            if event.message_finished:
                return type(event.data)().join(parts) if isinstance(event, TextMessage) else b"".join(map(bytes, parts))

    for size in SIZES:
        for kind, data in ((TextMessage, "x" * size), (BytesMessage, os.urandom(size))):
            await send(socket.send(kind(data=data)))
            assert await message() == data, size
    for n in range(500):
        await send(socket.send(TextMessage(data=str(n))))
    for n in range(500):
        assert await message() == str(n), n
    await send(socket.send(Ping(payload=b"there?")))
    event = await anext(coming)
    assert isinstance(event, Pong) and bytes(event.payload) == b"there?", event
    await send(socket.send(CloseConnection(code=1000)))
    event = await anext(coming)
    assert isinstance(event, CloseConnection) and event.code == 1000, event

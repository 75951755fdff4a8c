"""The application of tests/real_servers.rs for servers of WSGI, such as gunicorn: `wsgi_app:application`."""

import hashlib
import os
import time
from urllib.parse import parse_qsl


def pattern(length):
    """The same bytes as `support::pattern`: the highest byte of a 64-bit product."""
    return bytes((at * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 56 for at in range(length))


def pieces(environ):
    """The content, whichever way it is framed."""
    while piece := environ["wsgi.input"].read(65536):
        yield piece


def echo(environ, start, query):
    content = b"".join(pieces(environ))
    framing = "chunked" if environ.get("HTTP_TRANSFER_ENCODING") else environ.get("CONTENT_LENGTH") or "none"
    start("200 OK", [
        ("X-Method", environ["REQUEST_METHOD"]),
        ("X-Query", "?" + environ["QUERY_STRING"] if environ["QUERY_STRING"] else ""),
        ("X-Framing", framing),
        ("Content-Length", str(len(content))),
    ])
    return [content]


def fields(environ, start, query):
    start("200 OK", [])
    named = ((key[5:].replace("_", "-").lower(), value) for key, value in environ.items() if key.startswith("HTTP_"))
    return ["".join(f"{name}: {value}\n" for name, value in named).encode()]


def status(environ, start, query):
    start(query["code"] + " Said", [("X-Said", "so")])
    return []


def big(environ, start, query):
    content = pattern(int(query["bytes"]))
    start("200 OK", [("Content-Length", str(len(content)))])
    return [content]


def digest(environ, start, query):
    digest, length = hashlib.sha256(), 0
    for piece in pieces(environ):
        digest.update(piece)
        length += len(piece)
    start("200 OK", [])
    return [f"{length} {digest.hexdigest()}".encode()]


def stream(environ, start, query):
    start("200 OK", [])
    for at in range(int(query["pieces"])):
        if at:
            time.sleep(int(query["pause"]) / 1000)
        yield f"piece {at}\n".encode()


def slow(environ, start, query):
    time.sleep(int(query["ms"]) / 1000)
    start("200 OK", [])
    return [b"late"]


def ledger(environ, start, query):
    """Writes its number to the file LEDGER of the environment before it rests and answers with it."""
    file = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, f"{query['id']}\n".encode())
    os.close(file)
    time.sleep(int(query["ms"]) / 1000)
    start("200 OK", [("Content-Length", str(len(query["id"])))])
    return [query["id"].encode()]


PAGES = {
    "/echo": echo,
    "/fields": fields,
    "/status": status,
    "/big": big,
    "/digest": digest,
    "/stream": stream,
    "/slow": slow,
    "/ledger": ledger,
}


def application(environ, start):
    page = PAGES.get(environ["PATH_INFO"])
    if page is None:
        start("404 Not Found", [])
        return [b"no such page"]
    return page(environ, start, dict(parse_qsl(environ["QUERY_STRING"])))

"""An application of WSGI for a server of uwsgi or SCGI, which tells what it was told.

/echo answers with the body, /hash with its length and SHA-256, /table with the variables as JSON, /slow in pieces, /big with
30 MB, /short with less than its Content-Length, /none with 204, /fails not at all. /hash makes the file that its query names
when it has read 1 MiB.
"""

import hashlib
import json
import sys
import time


def application(environ, start_response):
    path = environ["PATH_INFO"]
    read = environ["wsgi.input"].read
    if path == "/echo":
        body = read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Method", environ["REQUEST_METHOD"])])
        return [body]
    if path == "/hash":
        digest, left = hashlib.sha256(), int(environ.get("CONTENT_LENGTH") or 0)
        total = left
        while left > 0:
            piece = read(min(left, 65536))
            if not piece:
                break
            digest.update(piece)
            left -= len(piece)
            if environ.get("QUERY_STRING") and total - left >= 1 << 20:
                open(environ["QUERY_STRING"], "a").close()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{total - left} {digest.hexdigest()}".encode()]
    if path == "/table":
        table = {name: value for name, value in environ.items() if isinstance(value, str)}
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(table).encode()]
    if path == "/slow":
        start_response("200 OK", [("Content-Type", "text/plain")])

        def pieces():
            for number in range(3):
                yield f"part {number}\n".encode()
                time.sleep(0.5)

        return pieces()
    if path == "/big":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (bytes([65 + number % 26]) * 100_000 for number in range(300))
    if path == "/short":
        start_response("200 OK", [("Content-Length", "1000")])
        return [b"x" * 400]
    if path == "/none":
        start_response("204 No Content", [])
        return []
    if path == "/fails":
        print("it fails on purpose", file=sys.stderr)
        raise RuntimeError("on purpose")
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [path.encode()]

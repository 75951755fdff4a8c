"""A server of gRPC for the tests: grpcio with handlers that take and give plain bytes, so that no generated code is needed.

Usage: grpc_server.py [PORT]. Says `port N` when it listens, `cancelled` for each call that its client gave up, and
`peer ADDRESS` for each call to Peer. Ends with its standard input.
"""

import sys
import threading
import time
from concurrent import futures

import grpc

lock = threading.Lock()


def say(line):
    with lock:
        print(line, flush=True)


def echo_metadata(context):
    given = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-echo")]
    if given:
        context.send_initial_metadata([(key.replace("echo", "echo-head"), value) for key, value in given])
        context.set_trailing_metadata([(key.replace("echo", "echo-trailer"), value) for key, value in given])


def unary(request, context):
    echo_metadata(context)
    return b"echo:" + request


def server_stream(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def client_stream(requests, context):
    count = size = 0
    for request in requests:
        count, size = count + 1, size + len(request)
    return b"%d messages, %d bytes" % (count, size)


def bidi(requests, context):
    for request in requests:
        yield b"echo:" + request


def fail(request, context):
    code, text = request.decode().split(" ", 1)
    context.abort(next(known for known in grpc.StatusCode if known.value[0] == int(code)), text)


def fail_late(request, context):
    yield b"first"
    context.abort(grpc.StatusCode.DATA_LOSS, "late")


def big(request, context):
    return b"x" * int(request)


def wait(request, context):
    """Answers nothing until the client gives up, or for 30 s."""
    gone = threading.Event()
    # Told from the callback: of a call that has been given up already, this generator is not asked for more.
    context.add_callback(lambda: (gone.set(), say("cancelled")))
    yield b"begun"
    gone.wait(30)


def peer(request, context):
    say("peer " + context.peer())
    return context.peer().encode()


def slow(request, context):
    time.sleep(float(request))
    return b"slept"


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    "Big": grpc.unary_unary_rpc_method_handler(big),
    "Wait": grpc.unary_stream_rpc_method_handler(wait),
    "Peer": grpc.unary_unary_rpc_method_handler(peer),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
}


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", METHODS),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    say(f"port {port}")
    sys.stdin.read()
    server.stop(0)


main()

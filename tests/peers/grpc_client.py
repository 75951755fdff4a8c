"""A client of gRPC for the tests: makes calls of every kind to a server and prints what came of each, one line a call.

Usage: grpc_client.py ADDRESS [CA_FILE] CASE…, where CASE is the name of a function below, or `all`.
"""

import sys
import threading
import time

import grpc

DEADLINE = 20


class Calls:
    def __init__(self, channel):
        self.unary = lambda method: channel.unary_unary("/test.Echo/" + method)
        self.server_stream = lambda method: channel.unary_stream("/test.Echo/" + method)
        self.client_stream = lambda method: channel.stream_unary("/test.Echo/" + method)
        self.both = lambda method: channel.stream_stream("/test.Echo/" + method)


def unary(calls):
    return calls.unary("Unary")(b"hello", timeout=DEADLINE)


def empty(calls):
    return calls.unary("Unary")(b"", timeout=DEADLINE)


def metadata(calls):
    sent = [("x-echo-a", "one"), ("x-echo-b-bin", b"\0\xff")]
    answer, call = calls.unary("Unary").with_call(b"m", timeout=DEADLINE, metadata=sent)
    pick = lambda given: sorted((key, value) for key, value in given if key.startswith("x-echo"))
    return answer, pick(call.initial_metadata()), pick(call.trailing_metadata())


def server_stream(calls):
    return list(calls.server_stream("ServerStream")(b"5", timeout=DEADLINE))


def many_messages(calls):
    return len(list(calls.server_stream("ServerStream")(b"20000", timeout=DEADLINE)))


def client_stream(calls):
    return calls.client_stream("ClientStream")(iter([b"one", b"two", b"three"]), timeout=DEADLINE)


def large_upload(calls):
    return calls.client_stream("ClientStream")((b"y" * 100_000 for _ in range(100)), timeout=DEADLINE)


def bidi(calls):
    """Each message is sent only when the answer to the one before has come."""
    turn, seen = threading.Semaphore(1), []

    def requests():
        for number in range(5):
            assert turn.acquire(timeout=DEADLINE)
            yield b"%d" % number

    for answer in calls.both("Bidi")(requests(), timeout=DEADLINE):
        seen.append(answer)
        turn.release()
    return seen


def large_bidi(calls):
    total = sum(len(answer) for answer in calls.both("Bidi")((b"z" * 50_000 for _ in range(100)), timeout=DEADLINE))
    return total


def error(calls):
    return calls.unary("Fail")(b"9 not like that: 100% \xc3\xa4", timeout=DEADLINE)


def late_error(calls):
    seen = []
    try:
        for answer in calls.server_stream("FailLate")(b"", timeout=DEADLINE):
            seen.append(answer)
    except grpc.RpcError as error:
        return seen, error.code().name, error.details()


def unknown_method(calls):
    return calls.unary("Nothing")(b"", timeout=DEADLINE)


def big(calls):
    return len(calls.unary("Big")(b"8000000", timeout=DEADLINE))


def big_both(calls):
    return len(calls.unary("Unary")(b"b" * 3_000_000, timeout=DEADLINE))


def deadline(calls):
    return calls.unary("Slow")(b"5", timeout=0.5)


def cancel(calls):
    call = calls.server_stream("Wait")(b"", timeout=DEADLINE)
    first = next(call)
    call.cancel()
    try:
        next(call)
    except grpc.RpcError as error:
        return first, error.code().name


def cancel_upload(calls):
    def requests():
        yield b"one"
        time.sleep(1)
        yield b"two"

    call = calls.both("Bidi")(requests(), timeout=DEADLINE)
    first = next(call)
    call.cancel()
    return first


def peer(calls):
    return calls.unary("Peer")(b"", timeout=DEADLINE)


def peers(calls):
    """Calls at the same time: over how many connections they came."""
    futures = [calls.unary("Peer").future(b"", timeout=DEADLINE) for _ in range(50)]
    return len({future.result() for future in futures})


def at_once(calls):
    futures = [calls.unary("Slow").future(b"0.2", timeout=DEADLINE) for _ in range(30)]
    return {future.result() for future in futures}


def quiet(calls):
    """A dialogue with pauses of both sides."""

    def requests():
        yield b"one"
        time.sleep(2.5)
        yield b"two"

    return list(calls.both("Bidi")(requests(), timeout=DEADLINE))


def quiet_upload(calls):
    """The same before there is an answer."""

    def requests():
        yield b"one"
        time.sleep(2.5)
        yield b"two"

    return calls.client_stream("ClientStream")(requests(), timeout=DEADLINE)


def counted(calls):
    """What comes of calls at the same time, and of how many."""
    futures = [calls.unary("Slow").future(b"0.5", timeout=DEADLINE) for _ in range(30)]
    outcomes = [future.code().name for future in futures]
    return sorted((outcome, outcomes.count(outcome)) for outcome in set(outcomes))


ALL = [
    unary, empty, metadata, server_stream, many_messages, client_stream, large_upload, bidi, large_bidi, error, late_error,
    unknown_method, big, big_both, deadline, cancel,
]


def main():
    address, *cases = sys.argv[1:]
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
    if cases and cases[0].endswith(".pem"):
        with open(cases.pop(0), "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        options.append(("grpc.ssl_target_name_override", "localhost"))
        channel = grpc.secure_channel(address, credentials, options)
    else:
        channel = grpc.insecure_channel(address, options)
    calls = Calls(channel)
    chosen = ALL if cases == ["all"] else [globals()[case] for case in cases]
    for case in chosen:
        try:
            outcome = repr(case(calls))
        except grpc.RpcError as failure:
            outcome = f"{failure.code().name} {failure.details()!r}"
        print(f"{case.__name__}: {outcome}", flush=True)


main()

"""The application of tests/processes*.rs: an HTTP server that is started by ours, and misbehaves on demand.

`process_app.py fd` serves on the socket it is given (LISTEN_FDS), `process_app.py socket PATH` and `process_app.py port N` bind
one themselves. What else it does is told by its environment:

FAIL      write a line to standard error and exit with 3
START_MS  take so long to start
STUBBORN  ignore SIGTERM
SPAWN     start two children, one of them in a session of its own
EDITION   what `/edition` answers
READY     `/ready` answers 503 until this file is there
LEDGER    the file in which `/ledger/NUMBER.MS` writes its number before it rests for MS and answers with it
"""

import os
import signal
import socket
import socketserver
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler

LEAKED = []

# What it was started with: the folder itself is closed when its list is there.
STARTED_WITH = [int(name) for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)]

APART = "start_new_session=True, stdout=subprocess.DEVNULL"

HELPER = f"""
import subprocess
child = subprocess.Popen(["sleep", "1000"], {APART}, env={{}})
print(child.pid, flush=True)
child.wait()
"""

HELPERS = f"""
import subprocess, sys
child = subprocess.Popen(["sleep", "1000"], {APART})
helper = subprocess.Popen([sys.executable, "-c", {HELPER!r}], start_new_session=True, stdout=subprocess.PIPE, text=True)
print(child.pid, helper.pid, helper.stdout.readline().strip())
"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name, _, value = self.path.strip("/").partition("/")
        answer = getattr(self, "on_" + name, None)
        self.answer(200, "here") if name == "" else self.answer(404, "no") if answer is None else answer(value)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_OPTIONS(self):
        self.answer(200, "")

    def answer(self, status, text):
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        # All at once: one that is killed has answered, or it has not.
        self._headers_buffer.append(b"\r\n" + content)
        self.flush_headers()

    def on_pid(self, _):
        self.answer(200, str(os.getpid()))

    def on_processes(self, _):
        """Those that it sees."""
        self.answer(200, " ".join(name for name in os.listdir("/proc") if name.isdigit()))

    def on_mounts(self, _):
        self.answer(200, open("/proc/self/mountinfo").read())

    def on_edition(self, _):
        self.answer(200, os.environ.get("EDITION", "none"))

    def on_env(self, name):
        self.answer(200, os.environ.get(name, "(none)"))

    def on_names(self, _):
        self.answer(200, " ".join(sorted(os.environ)))

    def on_where(self, _):
        limit = __import__("resource").getrlimit(__import__("resource").RLIMIT_NOFILE)
        self.answer(200, f"{os.getcwd()} {os.getuid()} {os.getgid()} {limit[0]} {sorted(STARTED_WITH)}")

    def on_limits(self, _):
        get = __import__("resource").getrlimit
        names = ("RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_AS")
        limits = [str(number) for name in names for number in get(getattr(__import__("resource"), name))]
        self.answer(200, " ".join([str(os.getuid()), str(os.getgid()), *limits]))

    def on_fork(self, count):
        children = []
        try:
            for _ in range(int(count)):
                children.append(subprocess.Popen(["sleep", "100"]))
        except OSError:
            pass
        for child in children:
            child.kill()
            child.wait()
        self.answer(200, str(len(children)))

    def on_ready(self, _):
        self.answer(200 if os.path.exists(os.environ["READY"]) else 503, "")

    def on_slow(self, ms):
        time.sleep(int(ms) / 1000)
        self.answer(200, "slow")

    def on_ledger(self, what):
        number, ms = what.split(".")
        ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(ledger, f"{number}\n".encode())
        os.close(ledger)
        time.sleep(int(ms) / 1000)
        self.answer(200, number)

    def on_leak(self, mib):
        LEAKED.append(b"x" * (int(mib) << 20))
        self.answer(200, "leaked")

    def on_leak_child(self, mib):
        """A child that holds so much and rests; the answer is its number."""
        program = f"import time; leaked = b'x' * ({int(mib)} << 20); print('here', flush=True); time.sleep(1000)"
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        self.answer(200, str(child.pid))

    def on_spawn(self, _):
        """Three in sessions of their own: the parent of two ends at once, and the third, a child of one of them, has no environment."""
        answer = subprocess.run([sys.executable, "-c", HELPERS], stdout=subprocess.PIPE, text=True)
        self.answer(200, answer.stdout.strip())

    def on_say(self, text):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        self.answer(200, "said")

    def on_complain(self, line):
        """These bytes, written in hexadecimal, are a line of standard error."""
        sys.stderr.buffer.write(bytes.fromhex(line) + b"\n")
        sys.stderr.buffer.flush()
        self.answer(200, "said")

    def on_flood(self, lines):
        sys.stderr.write("too much\n" * int(lines))
        sys.stderr.flush()
        self.answer(200, "said")

    def on_die(self, _):
        os.kill(os.getpid(), signal.SIGKILL)

    def address_string(self):
        return "-"

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, how, where):
        self.address_family = socket.AF_INET if how == "port" else socket.AF_UNIX
        super().__init__(("127.0.0.1", int(where)) if how == "port" else where, Handler, bind_and_activate=False)
        if how == "fd":
            assert os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["LISTEN_FDS"] == "1"
            self.socket.close()
            self.socket = socket.socket(fileno=3)
        else:
            self.server_bind()
            self.server_activate()

    def handle_error(self, request, client_address):
        """A client that has left is no error."""

    def get_request(self):
        connection, _ = super().get_request()
        return connection, ("-", 0)


def main():
    if "FAIL" in os.environ:
        sys.exit(print("I cannot start", file=sys.stderr) or 3)
    if "STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(int(os.environ.get("START_MS", 0)) / 1000)
    if "SPAWN" in os.environ:
        children = [subprocess.Popen(["sleep", "1000"], start_new_session=apart) for apart in (False, True)]
        print("children", *(child.pid for child in children), flush=True)
    Server(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "").serve_forever()


main()

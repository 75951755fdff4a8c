"""hatop on a pseudo terminal, as somebody at the keyboard uses it: `hatop.py SOCKET SERVER`.

It looks for the server's line, takes the server out with F10, and waits on its standard input for what to do next:
`enable` (F9), `weight` (F7, one more), `quit` (q). Each step that was done is a line on standard output.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

# As `xterm` has them in terminfo.
DOWN = "\x1bOB"
F7, F9, F10 = "\x1b[18~", "\x1b[20~", "\x1b[21~"
PATIENCE_SECONDS = 30


class Terminal:
    def __init__(self, command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", LINES="40", COLUMNS="120")
            os.execv(command[0], command)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.shown = ""

    def look(self, seconds):
        """Takes what is drawn within so many seconds; False: the program has ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:
                    return False
                if not data:
                    return False
                self.shown += data.decode(errors="replace")
        return True

    def wait_for(self, text):
        end = time.monotonic() + PATIENCE_SECONDS
        while text not in self.shown:
            if not self.look(0.1) or time.monotonic() > end:
                sys.exit(f"hatop has not shown {text!r}:\n{self.shown!r}")

    def press(self, keys):
        self.shown = ""
        os.write(self.fd, keys.encode())
        self.look(0.3)


def say(text):
    print(text, flush=True)


def main():
    socket, server = sys.argv[1:]
    # Debian's own Python has the module it needs.
    hatop = Terminal(["/usr/bin/python3", "/usr/bin/hatop", "-s", socket, "-i", "1"])
    # Its columns are narrow: of a name the end is shown.
    for text in ("FRONTEND", "BACKEND", server[-10:]):
        hatop.wait_for(text)
    say("shown")
    # In its corner it tells where the cursor is: numbers of the proxy and of the server.
    for _ in range(10):
        hatop.press(DOWN)
        if "[#3/#1]" in hatop.shown:
            break
    else:
        sys.exit("hatop's cursor does not come to the first server")
    hatop.press(F10)
    hatop.wait_for("MAINT")
    say("disabled")
    steps = {"enable": (F9, "enabled"), "weight": (F7, "weighed")}
    for line in sys.stdin:
        if line.strip() == "quit":
            hatop.press("q")
            break
        keys, done = steps[line.strip()]
        hatop.press(keys)
        say(done)
    while hatop.look(0.2):
        pass
    _, status = os.waitpid(hatop.pid, 0)
    if status != 0:
        sys.exit(f"hatop has failed: {hatop.shown!r}")
    say("ended")


main()

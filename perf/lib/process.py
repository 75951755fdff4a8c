"""Child processes: started on a core, waited for, watched, and stopped by their id, whatever happens to us."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 5.0
READY_SECONDS = 15.0
CPUCLOCK_SCHED = 2  # <linux/posix-timers.h>: time on a core, all threads, those that ended included


class Failed(Exception):
    """A row cannot be measured, or what was measured must not be believed."""


class Stage(contextlib.AbstractContextManager):
    """A temporary folder and the processes that live in it. Leaving it stops them all and removes the folder."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="one-server-perf-"))
        self.folder.chmod(0o755)  # a server that gives up its rights must still reach the files
        self.processes = []

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, command, core, environment=None, stop_seconds=STOP_SECONDS):
        process = Process(name, [str(word) for word in command], core, self.folder, environment or {}, stop_seconds)
        self.processes.append(process)
        return process

    def stop(self, process):
        process.stop()
        self.processes.remove(process)


class Process:
    """One program we started, with the children it made."""

    def __init__(self, name, command, core, folder, environment, stop_seconds=STOP_SECONDS):
        self.name, self.command, self.core, self.stop_seconds = name, command, core, stop_seconds
        self.log = folder / f"{name}-{time.monotonic_ns()}.log"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for us; we stop our children ourselves
                preexec_fn=lambda: prepare_child(core),
            )

    @property
    def pid(self):
        return self.child.pid

    def tree(self):
        """Process ids of the program and everything below it."""
        parents = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError, ValueError):
                    stat = Path(entry.path, "stat").read_text()
                    parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
        tree = [self.pid]
        for pid in tree:  # grows while we walk it
            tree.extend(child for child, parent in parents.items() if parent == pid)
        return tree

    def cpu_seconds(self):
        """Time on a core of the whole tree so far, in nanosecond steps (`clock_getcpuclockid(3)`)."""
        return sum(map(clock_seconds, self.tree()))

    def own_cpu_seconds(self):
        """The same of those alone that run its own program, and not one that it has started."""
        own = program_of(self.pid)
        return sum(clock_seconds(pid) for pid in self.tree() if program_of(pid) == own)

    def memory_bytes(self):
        """(RSS, PSS) of the whole tree, from smaps_rollup."""
        rss = pss = 0
        for pid in self.tree():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                label, _, rest = line.partition(":")
                if label == "Rss":
                    rss += int(rest.split()[0]) * 1024
                elif label == "Pss":
                    pss += int(rest.split()[0]) * 1024
        return rss, pss

    def alive(self):
        return self.child.poll() is None

    def log_tail(self, lines=15):
        text = self.log.read_text(errors="replace").strip() if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:]) or "(it printed nothing)"

    def wait_ready(self, probe, seconds=READY_SECONDS):
        """Until `probe()` returns without an OSError. Failed: the program ended, or never answered."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return probe()
            except OSError as error:
                if not self.alive():
                    raise Failed(f"{self.name} ended with status {self.child.returncode}:\n{self.log_tail()}") from None
                if time.monotonic() > deadline:
                    raise Failed(f"{self.name} did not answer in {seconds:.0f} s ({error}):\n{self.log_tail()}") from None
                time.sleep(0.02)

    def stop(self):
        """SIGTERM, and after a while SIGKILL to what is left of the tree; never by name."""
        if not self.alive():
            return
        tree = self.tree()
        self.child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(self.stop_seconds)
        if self.alive():
            self.child.kill()
            self.child.wait()
        for pid in tree[1:]:
            kill_orphan(pid, session=self.pid)


def clock_seconds(pid):
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


def program_of(pid):
    """Path of what the process runs; None: it is gone, or somebody else's."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None


def kill_orphan(pid, session):
    """Ends a process that outlived its parent, and waits until it is gone. The session proves that it is ours."""
    with contextlib.suppress(ProcessLookupError):
        if os.getsid(pid) != session:
            return
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + STOP_SECONDS
        while os.getsid(pid) == session and not is_zombie(pid) and time.monotonic() < deadline:
            time.sleep(0.01)


def is_zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def prepare_child(core):
    """Between fork and exec: one core, and the end of this program is the end of its children."""
    os.sched_setaffinity(0, {core})
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def free_port(kind=socket.SOCK_STREAM):
    """A loopback port nobody listens on."""
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def core_seconds(core):
    """(time `core` was not idle since boot, for whatever reason; the part of it in interrupts). 10 ms steps."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
            tick = 1 / os.sysconf("SC_CLK_TCK")
            return (user + nice + system + irq + softirq + steal) * tick, (irq + softirq) * tick
    raise Failed(f"there is no core {core} in /proc/stat")

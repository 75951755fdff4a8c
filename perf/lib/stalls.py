"""How long the machine stands still although somebody wants to run: what no server can be faster than.

A virtual machine gets less than its cores promise when all of them are busy at once. A loop that does nothing but read the
clock, on the server's core and on the load's at the same time, sees that as gaps.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

GAP_MS = 0.5  # shorter ones are interrupts
SECONDS = 3
PATIENCE = 10


@dataclass(frozen=True)
class Stalls:
    """Of one core that was busy for `seconds`: how often, for how long in all, and at most, it stood still."""

    seconds: float
    gaps_ms: tuple

    @property
    def share(self):
        return sum(self.gaps_ms) / 1000 / self.seconds

    def text(self):
        if not self.gaps_ms:
            return f"the machine: both cores ran for {self.seconds:.0f} s without a pause of over {GAP_MS} ms"
        return (f"the machine: with both cores busy, and nothing but a loop on them, the server's stood still "
                f"{len(self.gaps_ms) / self.seconds:.0f} times a second for over {GAP_MS} ms, up to {max(self.gaps_ms):.1f} ms, "
                f"{self.share:.1%} of the time")


def gaps(clock, seconds):
    """Milliseconds between two readings of `clock` (nanoseconds) that are further apart than GAP_MS."""
    found, last = [], clock()
    end = last + int(seconds * 1e9)
    while last < end:
        now = clock()
        if now - last > GAP_MS * 1e6:
            found.append((now - last) / 1e6)
        last = now
    return found


def measure(server_core, load_core, seconds=SECONDS):
    """Both cores busy; what the server's saw."""
    loops = [subprocess.Popen([sys.executable, "-B", __file__, str(core), str(seconds)], stdout=subprocess.PIPE, text=True)
             for core in (server_core, load_core)]
    try:
        said = [loop.communicate(timeout=seconds + PATIENCE)[0] for loop in loops]
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    return Stalls(seconds, tuple(json.loads(said[0])))


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    print(json.dumps(gaps(time.perf_counter_ns, float(sys.argv[2]))))

"""What a person waits for, measured in a real terminal (a pty): run by hand, no test.

    python tests/benchmarks/bench_workbench.py [--workspace DIR] [--latents 65536] [--presses 200]

Prints: seconds to the first frame; for keys that move in the table, the time from the write of the key to the first
painted byte and to the last (the pictures); megabytes of the process, and how they grow over 1,000 latents.
"""

import argparse
import contextlib
import fcntl
import os
import pty
import select
import statistics
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

QUIET = 0.12  # seconds without a byte after which everything is painted


class Screen:
    """``saetui`` in a pty of ``columns`` x ``rows``; output is thrown away, but for when it came."""

    def __init__(self, arguments: list[str], columns: int, rows: int, **environment: str):
        self.begun = time.perf_counter()
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", PYTHONPATH=paths, **environment)
            os.execv(sys.executable, [sys.executable, "-m", "saetui", *arguments])
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.bytes = 0
        self.text = b""

    def read(self, limit: float) -> bytes:
        """What comes within ``limit`` seconds; answers the probe's last question, as a terminal would."""
        ready, _, _ = select.select([self.file], [], [], limit)
        if not ready:
            return b""
        data = os.read(self.file, 1 << 16)
        if b"\x1b[c" in data:
            os.write(self.file, b"\x1b[?62;c")
        self.bytes += len(data)
        return data

    def until(self, wanted: bytes, limit: float = 20.0) -> float:
        """Seconds from the start until ``wanted`` has been painted."""
        seen, deadline = b"", time.perf_counter() + limit
        while wanted not in seen:
            seen = (seen + self.read(0.05))[-(1 << 18) :]
            if time.perf_counter() > deadline:
                raise TimeoutError(f"no {wanted!r} in {seen[-2000:]!r}")
        return time.perf_counter() - self.begun

    def settle(self, quiet: float = QUIET, limit: float = 3.0) -> None:
        """Read until it is quiet, or for ``limit`` seconds: a running job repaints its line again and again."""
        deadline = time.perf_counter() + limit
        while self.read(quiet) and time.perf_counter() < deadline:
            pass

    def press(self, key: bytes) -> tuple[float, float]:
        """Seconds from the key to the first painted byte, and to the last before it is quiet."""
        begun = time.perf_counter()
        os.write(self.file, key)
        first = last = None
        while data := self.read(QUIET if first else 2.0):
            last = time.perf_counter() - begun
            first = first or last
            del data
        return first or float("nan"), last or float("nan")

    @property
    def megabytes(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def close(self) -> None:
        os.write(self.file, b"q")
        with contextlib.suppress(OSError):  # raised when the other side is gone
            while True:
                self.read(0.1)
        os.close(self.file)
        os.waitpid(self.pid, 0)


def spread(name: str, values: list[float]) -> str:
    ordered = sorted(values)
    p95 = ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)]
    median, longest = statistics.median(ordered), ordered[-1]
    return f"{name:<36} median {1e3 * median:6.1f} ms   p95 {1e3 * p95:6.1f} ms   max {1e3 * longest:6.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--latents", type=int, default=65_536)
    parser.add_argument("--presses", type=int, default=200)
    parser.add_argument("--size", default="160x50")
    chosen = parser.parse_args()
    columns, rows = map(int, chosen.size.split("x"))
    with tempfile.TemporaryDirectory() as scratch:
        place = chosen.workspace
        if place is None:
            from tests.support.synthetic import write_synthetic

            place = write_synthetic(Path(scratch) / "synthetic", chosen.latents)
        starts, fulls = [], []
        for _ in range(5):
            screen = Screen([str(place)], columns, rows, XDG_STATE_HOME=f"{scratch}/state")
            starts.append(screen.until(b"NEURONS"))
            fulls.append(screen.until(b"beat theirs"))
            screen.settle()
            screen.close()
        print(spread("start to the first frame", starts))
        print(spread("start to the table of latents", fulls))
        screen = Screen([str(place)], columns, rows, XDG_STATE_HOME=f"{scratch}/state")
        screen.until(b"beat theirs")
        screen.settle(0.5)
        at_first = screen.megabytes
        for keys, name in (("j", "down a row"), ("\x04", "half a page"), ("Gg", "from end to end")):
            presses = chosen.presses if keys == "j" else chosen.presses // 4
            found = [screen.press(keys[i % len(keys)].encode()) for i in range(presses)]
            print(spread(f"{name}: first change", [first for first, _ in found]))
            print(spread(f"{name}: pictures too", [last for _, last in found]))
        before, painted = screen.megabytes, screen.bytes
        for _ in range(1000):
            os.write(screen.file, b"j")
            screen.read(0.02)
        screen.settle(0.5, limit=60)  # the keys were sent faster than they are painted
        after = screen.megabytes
        print(f"memory {at_first:.0f} MB, {before:.0f} MB after the keys, {after:.0f} MB after 1,000 latents more")
        print(f"{(screen.bytes - painted) / 1000 / 1e3:.1f} kB painted a latent")
        screen.close()


if __name__ == "__main__":
    main()

"""How fast parts of ``torch.save`` become a store, beside a plain copy of them: turn by turn in one run.

    python -m tests.benchmarks.bench_import [GB] [FOLDER]

Both begin with nothing in memory, where root runs this, and end with everything on the disk. The copy says what the
disk gives at that moment; the import is the whole command, start of Python and torch included, in a process of its own,
whose peak of memory is told.
"""

import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

WIDTH, ROWS = 1024, 5000
"""Of a part: 20 MB of float32."""
TURNS = 3
COMMAND = ("--name", "a", "--model", "hf:x/y", "--hook", "layer:22", "--tokens", "random:2")


def main(gigabytes: float, home: Path) -> None:
    parts = home / "parts"
    parts.mkdir()
    count = round(gigabytes * 1e9 / (WIDTH * ROWS * 4))
    for number in range(count):
        torch.save(torch.randn(ROWS, WIDTH), parts / f"part{number}.pt")
    bytes_ = sum(one.stat().st_size for one in parts.iterdir())
    ratios = []
    for _ in range(TURNS):
        copied = _seconds(lambda: _copy(parts, home / "copy"))
        brought = _seconds(lambda: _bring(parts, home / "workspace"))
        ratios.append(copied / brought)
        print(f"copy {bytes_ / copied / 1e6:6.0f} MB/s   import {bytes_ / brought / 1e6:6.0f} MB/s   {ratios[-1]:.0%}")
        for made in ("copy", "workspace"):
            shutil.rmtree(home / made)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    print(f"import at {statistics.median(ratios):.0%} of the copy's rate (median of {TURNS}), peak {peak:.0f} MB")


def _copy(parts: Path, to: Path) -> None:
    subprocess.run(["cp", "-R", str(parts), str(to)], check=True)
    os.sync()


def _bring(parts: Path, workspace: Path) -> None:
    command = [sys.executable, "-m", "saetui", "import", str(parts), "--workspace", str(workspace), *COMMAND]
    subprocess.run(command, check=True, capture_output=True)
    os.sync()


def _forget() -> None:
    """Let neither find the parts in memory, where the machine lets us: there are more than it has, mostly."""
    os.sync()
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3")


def _seconds(work: Callable[[], None]) -> float:
    _forget()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as home:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0, Path(home))

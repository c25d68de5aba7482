"""How much memory a process can still have."""

import contextlib
import re
from pathlib import Path


def free_memory(system: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that can be had of the machine, and within the control group ``group``; None where it does not tell."""
    found = []
    with contextlib.suppress(OSError):
        if told := re.search(r"^MemAvailable:\s+(\d+) kB", system.read_text(), re.MULTILINE):
            found.append(int(told[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):  # "max": no limit
        used = int((group / "memory.current").read_text())
        cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        found.append(int((group / "memory.max").read_text()) - used + (int(cached[1]) if cached else 0))
    return min(found, default=None)

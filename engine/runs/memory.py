"""Memory that this process and its accelerator use. Imports no torch: it asks one that is there already."""

import contextlib
import os
import re
import resource
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from engine.errors import UserError
from engine.numbers import size
from engine.records import seldom

SMALLEST = 3 * 2**29  # bytes that a process may have, with which torch cannot be loaded
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class GpuMemory:
    device: str
    """Its name."""
    used: int
    """Bytes, those of other processes included."""
    total: int


@dataclass(frozen=True)
class Memory:
    rss: int
    """Bytes this process holds (without /proc, as on macOS: the most it ever held)."""
    gpu: GpuMemory | None = seldom()
    """Only once CUDA is in use."""


def memory() -> Memory:
    """What this process uses now."""
    return Memory(_rss(), _gpu())


def load_greedy() -> None:
    """Load OpenBLAS while there is room, where the process may have only so much memory: refused some, it asks again
    for ever. UserError where there is no room for it."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed == resource.RLIM_INFINITY:
        return
    if allowed < SMALLEST:
        raise UserError(
            f"The limit on memory (ulimit -v) is {size(allowed)}, less than the libraries take: allow 4 GB, or "
            "8 GB with CUDA."
        )
    import_module("scipy.linalg")


def memory_kills(
    group: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup"), system: Path = Path("/proc/vmstat")
) -> int | None:
    """How many processes the system has killed for lack of memory so far; None where it does not tell.

    Counted in this control group (memory.events of cgroup v2, memory.oom_control of v1), else in the whole system.
    """
    places = [system]
    with contextlib.suppress(OSError):
        for line in reversed(group.read_text().splitlines()):
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                places.insert(0, groups / "memory" / path.lstrip("/") / "memory.oom_control")
            elif not controllers:
                places.insert(0, groups / path.lstrip("/") / "memory.events")
    for place in places:
        with contextlib.suppress(OSError):
            if found := re.search(r"^oom_kill (\d+)$", place.read_text(), re.MULTILINE):
                return int(found[1])
    return None


def killed(before: int | None) -> str:
    """Why a process was killed by SIGKILL, in words: what is known. ``before``: memory_kills when it was started."""
    now = memory_kills()
    if now is None or before is None:
        return "killed by SIGKILL, perhaps for memory: the system does not say"
    return "killed by the system, as memory was full" if now > before else "killed by SIGKILL, though not for memory"


def lost(before: int | None) -> str:
    """How a process ended that nobody waited for, in words: what can be known later. ``before``: as for ``killed``."""
    now = memory_kills()
    if now is None or before is None or now < before:  # the system does not say, or has been started anew
        return "ended from outside, by hand or for want of memory"
    if now == before:
        return "ended from outside, though not for want of memory"
    return "ended from outside, perhaps for want of memory: since it began the system has ended others for that"


def _rss() -> int:
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024  # bytes there, kibibytes elsewhere


def _gpu() -> GpuMemory | None:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return None
    try:
        free, total = cuda.mem_get_info()
        return GpuMemory(cuda.get_device_name(), total - free, total)
    except RuntimeError:  # the work itself will say what is wrong with the device
        return None

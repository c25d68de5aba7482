"""Memory that this process and its accelerator use. Imports no torch: it asks one that is there already."""

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.records import seldom

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

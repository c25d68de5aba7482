"""Memory that this process and its accelerator use. Imports no torch: it asks one that is there already."""

import os
import resource
import sys
from pathlib import Path
from typing import Any

_STATM = Path("/proc/self/statm")


def memory() -> dict[str, Any]:
    """``rss``: bytes this process holds (without /proc, as on macOS: the most it ever held).

    ``gpu``, only once CUDA is in use: ``device`` (its name), ``used`` and ``total`` bytes, other processes included.
    """
    return {"rss": _rss(), **_gpu()}


def _rss() -> int:
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024  # bytes there, kibibytes elsewhere


def _gpu() -> dict[str, Any]:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return {}
    try:
        free, total = cuda.mem_get_info()
        return {"gpu": {"device": cuda.get_device_name(), "used": total - free, "total": total}}
    except RuntimeError:  # the work itself will say what is wrong with the device
        return {}

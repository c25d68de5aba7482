"""Shows and commands. Never imports torch, transformers or open_clip: all compute happens in ``engine`` workers."""

from engine import __version__

__all__ = ["__version__"]

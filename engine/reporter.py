"""What long work says of itself, and how it hears that it should stop."""

import contextlib
from typing import Any


class Reporter:
    """What long work says about itself. This base says nothing: the default for library use."""

    def progress(self, done: int, total: int, unit: str, **metrics: Any) -> None:
        """``done`` of ``total`` units of the present stage, with measurements worth showing."""

    def event(self, kind: str, **fields: Any) -> None:
        """Anything else for the log: ``stage`` (name), ``warning`` (message), ``metrics`` (step, ...), ``token``."""

    def check(self) -> None:
        """Called at points from which the work can continue: waits while paused, raises Stopped when asked to stop."""

    def loading(self, what: str, size: int) -> contextlib.AbstractContextManager[None]:
        """Around the loading of ``what``, whose files have ``size`` bytes (0: not known)."""
        return contextlib.nullcontext()

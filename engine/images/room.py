"""Room in memory for decoded pictures: threads that read ahead take it before they decode, and give it back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """``size`` bytes, shared by threads. What is larger than all of it waits until it is alone."""

    def __init__(self, size: int):
        self.size = size
        self._taken = 0
        self._freed = threading.Condition()

    @contextmanager
    def taken(self, wanted: int) -> Iterator[None]:
        """Wait until ``wanted`` bytes are free, and hold them. A thread that holds some asks for no more."""
        with self._freed:
            self._freed.wait_for(lambda: not self._taken or self._taken + wanted <= self.size)
            self._taken += wanted
        try:
            yield
        finally:
            with self._freed:
                self._taken -= wanted
                self._freed.notify_all()

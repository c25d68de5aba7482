"""What the work on one request of the model server says. Imports no torch."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from engine.reporter import Event, Intervened, Reporter, StageBegan, Token, Warned
from engine.server.protocol import Loading, ServerEvent

TICK = 0.5  # seconds between two signs of life while something is loaded


class RequestReporter(Reporter):
    """Passes events on to ``tell``; ``check`` raises Stopped once the request has been cancelled."""

    def __init__(self, tell: Callable[[ServerEvent], None], check: Callable[[], None]):
        self.tell, self._check = tell, check

    def event(self, event: Event) -> None:
        if isinstance(event, StageBegan | Warned | Intervened | Token):
            self.tell(event)

    def check(self) -> None:
        self._check()

    @contextlib.contextmanager
    def loading(self, what: str, size: int) -> Iterator[None]:
        """Events ``Loading`` while the block runs; the libraries that load tell nothing of how far they are."""
        self.check()
        started, over = time.monotonic(), threading.Event()

        def tick() -> None:
            while True:
                self.tell(Loading(what, round(time.monotonic() - started, 1), size))
                if over.wait(TICK):
                    return

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            over.set()
            ticker.join()

"""What Python does of its own accord, done when nobody waits: collecting garbage, and changing threads."""

import gc
import sys
import time

IDLE = 2.0  # seconds without a key after which a pause is not felt
_DUE = 3  # middling collections since the last full one: a thousand latents, a few megabytes


class GcTuning:
    """Textual's lines refer to themselves, so those that lived for a while go only when all is looked through.

    Of a large file's rows and everything drawn that takes a quarter of a second in which no key is answered. So what
    is there to stay is taken out of sight, the collector looks less often, and it looks at all when it is quiet.
    """

    def __init__(self) -> None:
        self._last_key = time.monotonic()

    def begin(self) -> None:
        sys.setswitchinterval(0.001)  # keys wait for the thread that draws pictures; five milliseconds are many turns
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)

    def settle(self, replaced: bool) -> None:
        """Much has come to stay; ``replaced`` says that as much may have gone."""
        if replaced:
            gc.unfreeze()
            gc.collect()
        gc.freeze()

    def key_pressed(self) -> None:
        self._last_key = time.monotonic()

    def look(self) -> None:
        """Collect all that is due if no key has come for a while. Called now and then."""
        if time.monotonic() - self._last_key > IDLE and gc.get_count()[2] >= _DUE:
            gc.collect()

"""Garbage collection and thread switches, timed so that no key waits for them."""

import gc
import sys
import time

IDLE = 2.0  # seconds without a key after which nobody notices a pause
_FULL_COLLECTION_AFTER = 3  # collections of generation 1 since the last full one: a thousand latents, some megabytes


class GcTuning:
    """Keeps full garbage collections out of the user's way.

    Textual's strips are in reference cycles, so old ones are freed only by a full collection. Over the rows of a large
    file and all that is drawn, that takes a quarter of a second, during which no key is answered. So long-lived objects
    are frozen (hidden from the collector), it runs less often, and full collections run while the user is idle.
    """

    def __init__(self) -> None:
        self.last_key = time.monotonic()

    def start(self) -> None:
        sys.setswitchinterval(0.001)  # a key may wait for several turns of the drawing thread, 5 ms each by default
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)

    def freeze(self, replaced: bool) -> None:
        """Freeze objects that were just loaded; ``replaced``: first free those that they replace."""
        if replaced:
            gc.unfreeze()
            gc.collect()
        gc.freeze()

    def key_pressed(self) -> None:
        self.last_key = time.monotonic()

    def collect_if_idle(self) -> None:
        """Run a full collection if one is due and no key has come for ``IDLE`` seconds. Call it regularly."""
        if time.monotonic() - self.last_key > IDLE and gc.get_count()[2] >= _FULL_COLLECTION_AFTER:
            gc.collect()

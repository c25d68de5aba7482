"""Garbage that refers to itself is collected when nobody waits for a key."""

import gc
import weakref

import pytest

from saetui import gc_tuning as calm
from saetui.gc_tuning import GcTuning


class Knot:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector():
    threshold = gc.get_threshold()
    yield GcTuning()
    gc.unfreeze()
    gc.set_threshold(*threshold)


def old_knot() -> weakref.ref[Knot]:
    """A knot that was alive when the young were looked through, and again, and is not now."""
    knot = Knot()
    gc.collect(0)
    gc.collect(1)
    return weakref.ref(knot)


def grow_due() -> None:
    for _ in range(calm._DUE):
        gc.collect(1)


def test_old_garbage_goes_when_no_key_has_come_for_a_while(collector, monkeypatch):
    gc.collect()
    knot = old_knot()
    grow_due()
    collector.key_pressed()
    collector.look()
    assert knot() is not None, "someone is typing"
    monkeypatch.setattr(calm, "IDLE", 0.0)
    collector.look()
    assert knot() is None


def test_nothing_is_done_that_is_not_due(collector, monkeypatch):
    monkeypatch.setattr(calm, "IDLE", 0.0)
    gc.collect()
    knot = old_knot()
    collector.look()
    assert knot() is not None


def test_what_was_replaced_goes_though_it_was_put_out_of_sight(collector):
    collector.begin()
    knot = Knot()
    seen = weakref.ref(knot)
    collector.settle(replaced=False)
    del knot
    gc.collect()
    assert seen() is not None, "out of the collector's sight"
    collector.settle(replaced=True)
    assert seen() is None

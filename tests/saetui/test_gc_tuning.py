"""Reference cycles are collected while no key is pressed."""

import gc
import weakref

import pytest

from saetui import gc_tuning
from saetui.gc_tuning import GcTuning


class Cycle:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector():
    threshold = gc.get_threshold()
    yield GcTuning()
    gc.unfreeze()
    gc.set_threshold(*threshold)


def old_cycle() -> weakref.ref[Cycle]:
    """A cycle that survived collections of both young generations and is unreachable now."""
    cycle = Cycle()
    gc.collect(0)
    gc.collect(1)
    return weakref.ref(cycle)


def make_due() -> None:
    for _ in range(gc_tuning._FULL_COLLECTION_AFTER):
        gc.collect(1)


def test_old_garbage_is_collected_when_no_key_has_come_for_a_while(collector, monkeypatch):
    gc.collect()
    cycle = old_cycle()
    make_due()
    collector.key_pressed()
    collector.collect_if_idle()
    assert cycle() is not None, "a key has just come"
    monkeypatch.setattr(gc_tuning, "IDLE", 0.0)
    collector.collect_if_idle()
    assert cycle() is None


def test_nothing_is_done_that_is_not_due(collector, monkeypatch):
    monkeypatch.setattr(gc_tuning, "IDLE", 0.0)
    gc.collect()
    cycle = old_cycle()
    collector.collect_if_idle()
    assert cycle() is not None


def test_what_was_replaced_is_collected_though_it_was_frozen(collector):
    collector.start()
    cycle = Cycle()
    seen = weakref.ref(cycle)
    collector.freeze(replaced=False)
    del cycle
    gc.collect()
    assert seen() is not None, "frozen"
    collector.freeze(replaced=True)
    assert seen() is None

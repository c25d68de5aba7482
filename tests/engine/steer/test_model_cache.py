import gc
import os
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.reporter import Reporter
from engine.sae.model import SAE
from engine.steer.model_cache import ModelCache, Recent
from tests.support.tiny_llava import random_sae, save_llava

CPU = torch.device("cpu")


class Listener(Reporter):
    def __init__(self):
        self.loads = []

    def loading(self, what, size):
        self.loads.append((what, size))
        return super().loading(what, size)


@given(st.integers(1, 4), st.lists(st.integers(0, 6), max_size=30))
def test_recent_keeps_what_was_used_last(limit, uses):
    recent, made, frees = Recent(limit, lambda: frees.append(1)), [], []
    expected, dropped = [], 0  # least recently used first
    for key in uses:
        before = len(made)
        assert recent.get(key, lambda key=key: made.append(key) or str(key)) == str(key)
        assert (len(made) > before) == (key not in expected)
        expected = [other for other in expected if other != key]
        dropped += len(expected) == limit
        expected = [*expected, key][-limit:]
        assert recent.values() == [str(key) for key in expected]
    assert len(frees) == dropped


def test_what_fails_to_load_is_not_kept():
    recent = Recent(1)
    with pytest.raises(KeyError):
        recent.get("a", lambda: {}["a"])
    assert recent.get("a", lambda: 1) == 1


def test_two_saes_are_kept_and_changed_files_are_loaded_again(tmp_path):
    listener, loaded = Listener(), ModelCache()
    for seed, name in enumerate("abc"):
        random_sae(seed=seed).save(tmp_path / name)

    def load(name):
        return loaded.sae(tmp_path / name, CPU, listener)

    first = load("a")
    assert load("a") is first
    assert listener.loads == [("the SAE a", (tmp_path / "a/sae.safetensors").stat().st_size)]
    load("b")
    assert load("a") is first, "two are kept"
    load("c")
    assert load("a") is first, "the least recently used one was dropped"
    assert len(listener.loads) == 3
    random_sae(seed=9).save(tmp_path / "a")
    second = load("a")
    assert second is not first and second.sha256 != first.sha256
    torch.testing.assert_close(second.sae.W_dec, SAE.load(tmp_path / "a").W_dec)


def test_one_model_at_a_time_and_its_memory_is_free_before_the_next(tmp_path):
    listener, loaded = Listener(), ModelCache()
    folder = str(save_llava(tmp_path / "llava"))
    first = loaded.vlm(folder, CPU, "auto", listener)
    assert loaded.vlm(folder, CPU, "auto", listener) is first
    assert loaded.encoder(folder, CPU, listener) is loaded.encoder(folder, CPU, listener)
    gone, first = weakref.ref(first), None
    os.utime(tmp_path / "llava/model.safetensors")
    loaded.vlm(folder, CPU, "auto", listener)
    assert gone() is None
    assert [what for what, _ in listener.loads] == [
        f"the model {folder}",
        f"the encoder {folder}",
        f"the model {folder}",
    ]
    loaded.clear()
    gc.collect()
    assert not loaded.vlms.values() and not loaded.encoders.values()

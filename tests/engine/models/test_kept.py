"""Models that stay loaded from one piece of work to the next."""

import gc
import os
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.models import kept, load_encoder
from engine.models.kept import Recent, forget_models, give_back, models_kept
from engine.models.vlm import load_vlm
from tests.support.checkpoints import build, save


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


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """More encoders than are kept."""
    root = tmp_path_factory.mktemp("models")
    return [str(save(build("dinov2"), root / str(number))) for number in range(kept.MOST + 1)]


def test_a_model_is_loaded_once_for_all_that_is_done(models: list[str]) -> None:
    assert load_encoder(models[0]) is not load_encoder(models[0]), "outside every use has its own"
    with models_kept():
        one = load_encoder(models[0])
        with models_kept():
            assert load_encoder(models[0]) is one
        assert load_encoder(models[0]) is one, "what is done within is part of it"
        assert load_encoder(models[0], dtype=torch.bfloat16) is not one
        assert load_vlm("demo") is load_vlm("demo") is not load_encoder("demo")
        gone, one = weakref.ref(one), None
    gc.collect()
    assert gone() is None


def test_files_that_changed_are_loaded_again(models: list[str]) -> None:
    with models_kept():
        one = load_encoder(models[0])
        os.utime(Path(models[0]) / "model.safetensors")
        assert load_encoder(models[0]) is not one


def test_only_so_many_are_kept(models: list[str]) -> None:
    with models_kept():
        first, second = load_encoder(models[0]), load_encoder(models[1])
        for other in models[2:]:
            assert load_encoder(models[1]) is second
            load_encoder(other)
        assert load_encoder(models[1]) is second and load_encoder(models[0]) is not first


def test_no_more_than_is_free_beside_them_is_kept(models: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    one = sum(weights.nbytes for weights in load_encoder(models[0]).model.parameters())
    room = 4 * one

    def free_memory(of: torch.device) -> int:
        return room - sum(kept._held(some) for some in [kept._KEPT.get()] if some is not None)

    monkeypatch.setattr(kept, "free_memory", free_memory)
    with models_kept():
        loaded = [load_encoder(spec) for spec in models[:3]]
        assert [load_encoder(spec) is was for spec, was in zip(models[1:3], loaded[1:], strict=True)] == [True, True]
        assert load_encoder(models[0]) is not loaded[0], "the third took its room"


def test_where_memory_is_short_none_is_kept(models: list[str]) -> None:
    assert not forget_models()
    with models_kept():
        one = load_encoder(models[0])
        give_back(torch.device("cpu"))
        assert load_encoder(models[0]) is not one
        assert forget_models() and not forget_models()

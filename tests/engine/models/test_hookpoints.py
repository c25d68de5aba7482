"""Hook points and token policies are text that means one thing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.activations.forward import drawn
from engine.errors import UserError
from engine.models import HookPoint, TokenPolicy
from engine.models.hookpoints import KINDS


@pytest.mark.parametrize("text", ["layer:0", *(kind.form.replace("N", "22") for kind in KINDS.values())])
def test_hook_points_round_trip(text: str) -> None:
    assert str(HookPoint.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "layer", "layer:-1", "layer:x", "nowhere:3", "last:0", "layer:1 ", f"layer:{'9' * 5000}"]
)
def test_other_hook_points_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"layer:N, mlp:N.* or last"):
        HookPoint.parse(text)


@pytest.mark.parametrize("text", ["cls", "mean", "all", "patches", "random:2"])
def test_policies_round_trip(text: str) -> None:
    assert str(TokenPolicy.parse(text)) == text


@pytest.mark.parametrize("text", ["", "random", "random:0", "random:-1", "first", "cls ", "random:" + "9" * 5000])
def test_other_policies_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="random:K"):
        TokenPolicy.parse(text)


@settings(max_examples=40)
@given(tokens=st.integers(1, 600), seed=st.integers(0, 2**31), image=st.integers(0, 2**31), data=st.data())
def test_a_draw_is_distinct_positions_fixed_by_seed_and_image(
    tokens: int, seed: int, image: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, min(tokens, 16)))
    chosen = drawn(tokens, count, seed, image)
    assert len(set(chosen.tolist())) == count and chosen.min() >= 0 and chosen.max() < tokens
    assert np.array_equal(chosen, drawn(tokens, count, seed, image))


def test_draws_are_even_over_positions_and_differ_between_images() -> None:
    draws = [tuple(drawn(17, 2, 0, image)) for image in range(4000)]
    counts = np.bincount(np.concatenate(draws), minlength=17)
    expected = 8000 / 17
    assert ((counts - expected) ** 2 / expected).sum() < 40  # chi-square, 16 degrees: p = .001 at 39.3
    assert len(set(draws)) > 100


def test_a_hook_point_says_where_it_is() -> None:
    assert HookPoint.parse("mlp:3").says == "what the MLP of block 3 puts out, counted from 0"
    assert [str(HookPoint(name)) for name, kind in KINDS.items() if kind.pooled] == ["last"]

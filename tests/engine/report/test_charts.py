"""Charts show what was measured, whatever that is."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.numbers import typed
from engine.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, distribution, training_curve

numbers = st.floats(-1e12, 1e12).map(lambda value: float(f"{value:.6g}"))


def inside(chart: Chart) -> bool:
    """Whether all of it is in the picture."""
    places = [(mark.x, mark.y) for mark in chart.marks]
    places += [(tick.at, TOP) for tick in chart.x] + [(LEFT, tick.at) for tick in chart.y]
    return all(LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1 and TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1 for x, y in places)


@given(st.lists(numbers, min_size=1, max_size=40))
def test_curves_stay_in_their_picture(values):
    chart = training_curve("FVE", "fve", "n", {"fve": [(step, value) for step, value in enumerate(values)]})
    assert chart is not None and inside(chart) and len(chart.marks) == len(values)
    assert chart.y and all("nan" not in curve.path for curve in chart.curves)


@given(st.lists(st.one_of(numbers, st.just(math.nan)), max_size=60), st.booleans())
def test_a_distribution_counts_every_value_once(values, logarithmic):
    known = [one for one in values if one == one and (one > 0 or not logarithmic)]
    chart = distribution("MS", "ms", "n", "MS", {"latents": np.array(values)}, logarithmic=logarithmic)
    if not known:
        assert chart is None
        return
    assert chart is not None and inside(chart)
    counts = [re.fullmatch(r".*: latents ([\d,]+)", mark.told) for mark in chart.marks]
    assert sum(int(found[1].replace(",", "")) for found in counts if found) == len(known)


def test_a_control_shares_the_bins_of_what_it_controls():
    chart = distribution("MS", "ms", "n", "MS", {"latents": np.array([0.1, 0.9]), "matched": np.array([0.1, 0.1])})
    assert chart is not None and [curve.style for curve in chart.curves] == ["latents", "control"]
    assert "latents 1, matched 2" in chart.marks[0].told and "latents 1, matched 0" in chart.marks[-1].told


def test_axes_begin_at_nothing_unless_something_is_below():
    level = training_curve("L0", "l0", "n", {"L0": [(1, 8.01), (2, 8.02)]})
    below = training_curve("FVE", "fve", "n", {"FVE": [(1, -3.0), (2, 0.5)]}, whole=True)
    assert level is not None and level.y[0].text == "0"
    assert below is not None and typed(below.y[0].text, float) < 0


def test_what_was_not_measured_has_no_chart():
    assert training_curve("MS", "ms", "n", {"MS": []}) is None
    assert training_curve("MS", "ms", "n", {"MS": [(1, math.nan)]}) is None
    assert distribution("MS", "ms", "n", "MS", {"latents": np.full(4, np.nan)}) is None


@pytest.mark.parametrize("points", [1, 199, 201, 4000])
def test_long_curves_are_thinned_to_their_end(points):
    chart = training_curve("loss", "loss", "n", {"loss": [(step, 1.0) for step in range(points)]})
    assert chart is not None and len(chart.marks) <= 201 and f"step {points - 1:,}:" in chart.marks[-1].told

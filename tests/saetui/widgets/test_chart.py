"""The chart: its dots against a naive drawing, its numbers, and what it paints."""

import asyncio
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from saetui.widgets.chart import (
    Chart,
    Frame,
    Series,
    distinct,
    dots,
    frame,
    log_ticks,
    plot,
    tick_text,
    ticks,
)

BITS = {(0, 0): 1, (1, 0): 2, (2, 0): 4, (0, 1): 8, (1, 1): 16, (2, 1): 32, (3, 0): 64, (3, 1): 128}


def line(*y: float, name: str = "a", **more) -> Series:
    return Series(name, np.arange(len(y), dtype=float), np.array(y, float), **more)


def naive_dots(series: Series, view: Frame, columns: int, rows: int) -> set[tuple[int, int]]:
    """Every segment between neighbours that were both measured, dot by dot."""

    def place(x: float, y: float) -> tuple[int, int]:
        column = math.floor((x - view.left) / (view.right - view.left) * (columns - 1) + 0.5)
        row = math.floor((view.top - y) / (view.top - view.bottom) * (rows - 1) + 0.5)
        return min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)

    found, before = set(), None
    for x, y in zip(series.x.tolist(), series.y.tolist(), strict=True):
        if not math.isfinite(y):
            before = None
            continue
        here = place(x, y)
        found.add(here)
        if before:
            down, right = here[0] - before[0], here[1] - before[1]
            length = max(abs(down), abs(right))
            for i in range(length + 1):
                share = i / max(length, 1)
                found.add((before[0] + math.floor(share * down + 0.5), before[1] + math.floor(share * right + 0.5)))
        before = here
    return found


values = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan), st.integers(-3, 3).map(float)), max_size=60)
sizes = st.tuples(st.integers(1, 30), st.integers(1, 12))


@example([5e-324, 0.0], (3, 2))
@example([1e-310] * 2, (3, 2))
@given(values, sizes)
def test_dots_are_those_of_drawing_every_segment(y, size):
    one, (width, height) = line(*y), size
    view = frame([one])
    if view is None:
        assert not any(map(math.isfinite, y))
        return
    grid = dots(one, view, 2 * width, 4 * height)
    assert set(zip(*map(np.ndarray.tolist, np.nonzero(grid)), strict=True)) == naive_dots(
        one, view, 2 * width, 4 * height
    )


@given(st.lists(values, min_size=1, max_size=6), sizes)
def test_braille_joins_the_dots_of_all_and_the_first_colours(many, size):
    width, height = size
    series = [line(*y, look=i) for i, y in enumerate(many)]
    view = frame(series)
    if view is None:
        return
    rows, owner = plot(series, view, width, height)
    found = [naive_dots(one, view, 2 * width, 4 * height) for one in series]
    for r in range(height):
        for c in range(width):
            inside = [{(y % 4, x % 2) for y, x in lit if (y // 4, x // 2) == (r, c)} for lit in found]
            bits = sum(BITS[dot] for dot in set().union(*inside))
            assert rows[r][c] == (chr(0x2800 + bits) if bits else " ")
            assert owner[r, c] == next((i for i, lit in enumerate(inside) if lit), -1)


@given(values, sizes)
def test_marks_stand_where_a_coarse_drawing_has_dots(y, size):
    one, (width, height) = line(*y, look=2), size
    view = frame([one])
    if view is None:
        return
    rows, _ = plot([one], view, width, height, marks=True)
    lit = naive_dots(one, view, width, height)
    assert all((rows[r][c] == "x") == ((r, c) in lit) for r in range(height) for c in range(width))


def test_gaps_are_not_bridged():
    one = line(0, 0, math.nan, 0, 0)
    rows, _ = plot([one], frame([one]), 20, 1)
    assert " " in rows[0].strip()
    assert " " not in plot([line(0, 0, 0, 0, 0)], frame([one]), 20, 1)[0][0]


def test_a_dotted_line_has_holes_but_never_vanishes():
    solid, dotted = line(*range(50)), line(*range(50), dotted=True)
    view = frame([solid])
    whole, part = dots(solid, view, 60, 40), dots(dotted, view, 60, 40)
    assert 0 < part.sum() < whole.sum() / 2 and not (part & ~whole).any()
    for columns in range(1, 12):
        lonely = Series("m", np.array([1.0]), np.array([3.0]), dotted=True)
        assert dots(lonely, Frame(0, 2, 0, 4), columns, 8).sum() == 1


def test_zoom_cuts_lines_at_the_edges():
    one = line(0, 10)  # measured at 0 and 1 only
    view = frame([one], x=(0.4, 0.6))
    assert view is not None and view.bottom <= 4 < 6 <= view.top
    lit = dots(one, view, 40, 40)
    assert lit.any(axis=0).all()
    assert frame([one], x=(2, 3)) is None


def test_a_constant_and_a_single_measurement_have_room_around_them():
    for one in (line(5, 5, 5), line(5), line(0.0), line(1.0, 1.0 + 1e-15)):
        view = frame([one])
        assert view is not None and view.bottom < one.y.min() <= one.y.max() < view.top and view.left < view.right
        assert dots(one, view, 20, 20).any()


def test_logarithms_leave_out_what_has_none():
    one = line(100, 0, -1, 1)
    view = frame([one], log=True)
    assert (view.bottom, view.top) == (0, 2)
    assert dots(one, view, 41, 21).sum() == 2
    assert frame([line(0, -1)], log=True) is None


def test_numbers_that_would_overflow_are_gaps():
    one = line(1, 1e300, math.inf, -math.inf, 2)
    view = frame([one])
    assert (view.bottom, view.top) == (1, 2)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(1, 12))
def test_ticks_are_few_round_and_inside(low, span, most):
    high = low + span
    if high - low < 1e-9 * max(abs(low), abs(high)):
        return
    found = [value for value, _ in ticks(low, high, most)]
    assert len(found) <= most
    slack = (high - low) * 1e-6
    assert all(low - slack <= value <= high + slack for value in found)
    if len(found) > 1:
        step = found[1] - found[0]
        leading = step / 10 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(leading - m) for m in (1, 2, 5)) < 1e-3


@given(st.floats(-12, 6), st.floats(0.01, 30), st.integers(2, 8))
def test_logarithmic_ticks_are_few_and_inside(low, span, most):
    found = log_ticks(low, low + span, most)
    assert len(found) <= most
    assert all(low - 1e-6 <= place <= low + span + 1e-6 for place, _ in found)


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (0.25, 0.05, "0.25"),
        (40_000, 20_000, "40k"),
        (1_500_000, 500_000, "1.5M"),
        (1e-7, 1e-7, "1e-7"),
        (0, 5, "0"),
        (-3, 1, "-3"),
        (3e15, 1e15, "3e15"),
        (1.5e-5, 5e-6, "1.5e-5"),
        (0.50000002, 1e-8, "0.50000002"),
    ],
)
def test_axis_numbers_are_short(value, step, text):
    assert tick_text(value, step) == text


def test_limits_stay_while_values_come_in():
    noisy = [0.7 + 0.001 * i for i in range(20)]
    seen = {(v.bottom, v.top) for n in range(15, 20) if (v := frame([line(0.5, *noisy[:n])]))}
    assert len(seen) <= 2


def test_names_lose_what_all_of_them_begin_with():
    assert distinct(["clip-x8-k20", "clip-x8-k40"]) == ["k20", "k40"]
    assert distinct(["clip"]) == ["clip"]
    assert distinct(["clip-", "clip-a"]) == ["clip-", "a"]


class Shown(App):
    """A chart, and which of its regions were asked to be painted."""

    def __init__(self, colours="truecolor", ascii=False):
        super().__init__()
        self.colours, self.ascii = colours, ascii
        self.chart = Chart("loss")

    def compose(self) -> ComposeResult:
        yield self.chart

    @property
    def text(self) -> str:
        return "\n".join(self.chart.render_line(y).text for y in range(self.chart.size.height))


def shown(scenario, size=(40, 10), **options) -> None:
    async def run() -> None:
        app = Shown(**options)
        async with app.run_test(size=size) as pilot:
            await scenario(app, pilot)

    asyncio.run(run())


def test_an_empty_chart_says_so():
    async def scenario(app, pilot):
        app.chart.show([])
        assert "loss" in app.text and "no measurements yet" in app.text
        app.chart.show([line(1, 2)], x=(5, 6))
        assert "no measurements here" in app.text

    shown(scenario)


def test_the_newest_value_and_the_axes_are_printed():
    async def scenario(app, pilot):
        app.chart.show([Series("a", np.linspace(0, 40_000, 50), np.linspace(1, 0.125, 50))])
        first, *_, last = app.text.splitlines()
        assert "0.125" in first
        assert "0" in last and "40k" in last
        assert any(line.startswith("1.0") for line in app.text.splitlines())

    shown(scenario)


def test_several_series_are_named_and_in_mono_have_marks_of_their_own():
    both = [line(0, 1, name="run-x4", look=0), line(1, 0, name="run-x8", look=1)]

    async def colours(app, pilot):
        app.chart.show(both)
        assert "x4 1" in app.text and "x8 0" in app.text and "run-" not in app.text
        assert any(0x2800 <= ord(c) < 0x2900 for c in app.text)
        kinds = {s.style.color for y in range(2, 9) for s in app.chart.render_line(y) if s.text.strip()}
        assert len(kinds) >= 3  # the axis and both lines

    async def mono(app, pilot):
        app.chart.show(both)
        assert "* x4" in app.text and "+ x8" in app.text
        assert "*" in app.text.split("\n", 1)[1] and "+" in app.text.split("\n", 1)[1]
        app.chart.show(both[:1])
        assert any(0x2800 <= ord(c) < 0x2900 for c in app.text)  # nothing to tell apart

    async def ascii(app, pilot):
        app.chart.show([line(0, 1, 4), line(0, 1, 2, dotted=True)])
        assert app.text.isascii() and "." in app.text

    shown(colours)
    shown(mono, colours="mono")
    shown(ascii, ascii=True)


def test_only_what_changed_is_painted():
    async def scenario(app, pilot):
        x = np.arange(0, 50.0)
        app.chart.show([Series("a", x[:40], x[:40])], x=(0, 100))
        await pilot.pause()
        painted = []
        plain = app.chart.refresh
        app.chart.refresh = lambda *regions, **more: painted.append(regions) or plain(*regions, **more)
        app.chart.show([Series("a", x[:40], x[:40])], x=(0, 100))
        assert painted == []
        app.chart.show([Series("a", x[:41], x[:41])], x=(0, 100))
        cells = sum(region.area for regions in painted for region in regions)
        assert 0 < cells <= 20

    shown(scenario)


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(1, 20))
def test_every_size_is_drawn(width, height):
    async def scenario(app, pilot):
        app.chart.show([line(1, 2, 3, name=f"name-{i}" * 4, look=i) for i in range(6)])
        assert all(len(row) == width for row in app.text.splitlines())

    shown(scenario, size=(width, height))


def test_names_with_wide_or_control_characters_keep_the_grid():
    async def scenario(app, pilot):
        app.chart.show([line(1, 2, name="漢字\x1b[31m"), line(2, 1, name="b")])
        assert "\x1b" not in app.text and all(len(row) == 40 for row in app.text.splitlines())

    shown(scenario)


@given(st.floats(-1e15, 1e15), st.floats(1e-12, 1e12), st.integers(2, 9))
def test_the_numbers_on_an_axis_are_apart_and_where_they_stand(low, span, most):
    found = ticks(low, low + span, most)
    texts = [text for _, text in found]
    assert len(set(texts)) == len(texts) or span < abs(low) * 1e-9
    for value, text in found:
        letter = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1.0)
        said = float(text.rstrip("kMG")) * letter
        assert abs(said - value) <= span / most + 1e-9 * abs(value)

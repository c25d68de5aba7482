"""Mode Train on real trainings: what is seen, what each key does, and what happens to files that go wrong."""

import asyncio
import json
import shutil
from typing import Any

import pytest
from textual.widgets import Static

from engine.files import write_json, write_text
from engine.neurons.asked import task_of
from engine.runs.run import Run, runs
from engine.settings import to_mapping
from saetui.modes.train.train_forms import PlanForm
from saetui.modes.train.watch import TrainWatch, lines_of, tail
from saetui.widgets.chart import Chart
from saetui.widgets.dialogs import Pick
from saetui.widgets.form import Form
from tests.support.pilots import rows, screen_text, until
from tests.support.training_screen import MIDDLE, NARROW, choose, drive
from tests.support.trainings import chosen


def charts(pane: Any) -> list[str]:
    return [chart.id for chart in pane.query(Chart) if chart.display]


def chart_text(pane: Any, name: str) -> str:
    chart = pane.query_one(f"#{name}", Chart)
    return "\n".join(chart.render_line(y).text for y in range(chart.size.height))


def pictured(pane: Any) -> bool:
    """Whether forming latents are shown, each picture of them drawn."""
    return bool(pane.gallery.tiles) and pane.gallery._drawn(pane.gallery.tiles)


def test_trainings_are_rows_with_their_measurements(place):
    async def scenario(pilot, pane):
        whole = json.loads((place.sae("whole") / "training.json").read_text())["result"]
        line = next(text for text in rows(pane.table) if "whole" in text)
        assert line.startswith("✓") and f"{whole['fve']:.3f}".removeprefix("0") in line and f"{whole['l0']:.1f}" in line
        assert next(text for text in rows(pane.table) if "half" in text).startswith("■")
        await choose(pilot, pane, "whole")
        assert charts(pane) == ["loss", "fve", "dead", "ms", "l0", "rate"]
        assert f"{whole['l0']:.1f}" in chart_text(pane, "l0")
        assert "Not scored yet: s scores its latents." in screen_text(pilot)
        assert "measured if embeddings are given" in chart_text(pane, "ms")

    drive(place, scenario)


def test_charts_are_as_many_as_there_is_room_for(place):
    async def middle(pilot, pane):
        assert 2 <= len(charts(pane)) <= 6

    async def narrow(pilot, pane):
        await choose(pilot, pane, "whole")
        assert "left" in screen_text(pilot) and not pane.query_one("#right").display
        await pilot.press("enter")
        assert pane.query_one("#right").display and not pane.query_one("#list").display
        assert "loss" in screen_text(pilot) and "whole" in screen_text(pilot)
        await pilot.press("escape")
        assert pane.query_one("#list").display and pane.focused is pane.table

    drive(place, middle, MIDDLE)
    drive(place, narrow, NARROW)
    drive(place, lambda pilot, pane: pilot.pause(), (20, 5))


def test_fve_without_outliers_is_dotted_beside_fve(place):
    path = place.sae("whole") / "training.json"
    training = json.loads(path.read_text())
    for measured in (*training["history"], training["result"]):
        measured |= {"outliers": 0.001, "fve_without_outliers": measured["fve"] - 0.11}
    write_json(path, training)

    async def scenario(pilot, pane):
        await choose(pilot, pane, "whole")
        await until(pilot, lambda: "whole without" in chart_text(pane, "fve"))
        assert "without outliers, 0.10% of the rows" in screen_text(pilot)

    drive(place, scenario)


def test_one_chart_takes_all_the_room_and_gives_it_back(place):
    async def scenario(pilot, pane):
        await pilot.press("v")
        assert charts(pane) == ["loss"]
        await pilot.press("v")
        assert charts(pane) == ["fve"]
        await pilot.press("escape")
        assert len(charts(pane)) == 6
        await pilot.press("L")
        assert "loss (log)" in screen_text(pilot)

    drive(place, scenario)


def test_zoom_and_pan_move_all_charts_together(place):
    async def scenario(pilot, pane):
        await choose(pilot, pane, "whole")
        whole = pane.charts.whole
        assert whole == (0, 30) and pane.charts.span is None
        await pilot.press("plus", "plus")
        left, right = pane.charts.span
        assert right == 30 and right - left == pytest.approx(7.5)
        await pilot.press("h")
        assert pane.charts.span == pytest.approx((left - 7.5 / 4, right - 7.5 / 4))
        await pilot.press("l", "l", "l")
        assert pane.charts.span == pytest.approx((22.5, 30))
        await pilot.press("minus")
        assert pane.charts.span == pytest.approx((15, 30))
        await pilot.press("0")
        assert pane.charts.span is None

    drive(place, scenario)


def test_overlaid_trainings_are_drawn_together_and_remembered(place):
    async def scenario(pilot, pane):
        await choose(pilot, pane, "half")
        await pilot.press("space")
        await choose(pilot, pane, "whole")
        names = [curves.name for curves in pane.charts.curves]
        assert names == ["whole", "half"] and len({curves.look for curves in pane.charts.curves}) == 2
        assert "whole" in chart_text(pane, "loss") and "half" in chart_text(pane, "loss")
        await pilot.press("L")

    async def again(pilot, pane):
        await until(pilot, lambda: pane.selected and pane.selected.name == "whole")
        assert list(pane.trainings.overlaid) == ["half"] and pane.charts.logarithmic
        await choose(pilot, pane, "half")
        await pilot.press("space")
        assert not pane.trainings.overlaid

    drive(place, scenario)
    drive(place, again)


def test_trainings_are_sorted_and_the_selected_one_stays(place):
    async def scenario(pilot, pane):
        await choose(pilot, pane, "whole")
        await pilot.press("o")
        assert isinstance(pilot.app.screen, Pick)
        await pilot.press("j", "enter")
        assert [row.name for row in pane.trainings.rows] == ["half", "whole"] and pane.selected.name == "whole"
        assert "training▴" in screen_text(pilot)
        await pilot.press("colon", *"sort fve", "enter")
        assert pane.trainings.sort == "fve"

    drive(place, scenario)


def test_the_log_is_read_in_place(place):
    async def scenario(pilot, pane):
        await choose(pilot, pane, "whole")
        await pilot.press("e")
        await until(pilot, lambda: "measured  step 30" in screen_text(pilot))
        assert "loss" not in screen_text(pilot)
        await pilot.press("escape")
        assert "loss" in screen_text(pilot)

    drive(place, scenario)


def test_latents_are_shown_while_they_form(place):
    async def scenario(pilot, pane):
        await choose(pilot, pane, "half")
        await pilot.press("f")
        assert not pane.query_one("#forming").display
        await choose(pilot, pane, "whole")
        await until(pilot, lambda: pane.query_one("#forming").display)
        await until(pilot, lambda: pictured(pane))
        assert "#100  9.0" in screen_text(pilot) and "8 latents forming, step 30" in screen_text(pilot)
        strip = pane.gallery.size.height
        await pilot.press("F")
        await until(pilot, lambda: "#106  9.0" in screen_text(pilot))
        await pilot.press("m")
        assert pane.gallery.show_heat
        await until(pilot, lambda: pictured(pane))
        await pilot.press("f")
        await pilot.pause()
        assert pane.gallery.size.height > strip
        await pilot.press("escape")
        await pilot.pause()
        assert pane.gallery.size.height == strip

    drive(place, scenario)


def test_a_training_from_the_form_is_watched_paused_stopped_and_resumed(place):
    async def scenario(pilot, pane):
        await pilot.press("n")
        assert isinstance(pilot.app.screen, Form)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: pane.selected and pane.selected.name == "a-sae")
        try:
            await until(pilot, lambda: len(pane.trainings.seen.lines["a-sae"].get("loss", ((),))[0]) > 2, 30)
            await until(pilot, lambda: "memory" in str(pane.query_one("#now", Static).render()))
            assert pane.selected.state == "running" and "tokens/s" in screen_text(pilot)
            for wish, state in (("p", "paused"), ("p", "running"), ("x", "stopped")):
                await pilot.press(wish)
                await until(pilot, lambda state=state: pane.selected.state == state)
            await pilot.press("p")
            assert any("is not being trained" in note.message for note in pilot.app._notifications)
            await pilot.press("r")
            await until(pilot, lambda: pane.selected.state == "running", 30)
        finally:
            for run in runs(place):
                run.control("stop")
        await until(pilot, lambda: pane.selected.state == "stopped", 60)  # a run that loads libraries hears it late

    drive(place, scenario)


def test_a_clone_has_a_free_name_and_the_same_settings(place):
    async def scenario(pilot, pane):
        await choose(pilot, pane, "whole")
        await pilot.press("c")
        form = pilot.app.screen
        assert isinstance(form, Form)
        assert form.values() == to_mapping(chosen(name="whole-2"))

    drive(place, scenario)


def test_a_plan_is_checked_and_told_before_it_starts(place):
    plan = place.root / "plan.toml"
    write_text(plan, '[[train]]\nactivations = "$on"\nname = "planned"\nsteps = 20\ndevice = "cpu"\n[inputs.on]\n')

    async def scenario(pilot, pane):
        before = len(runs(place))
        await pilot.press("P")
        form = pilot.app.screen
        assert isinstance(form, PlanForm)
        form.editor("plan").value = "missing.toml"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "There is no plan" in screen_text(pilot))
        assert form.wrong == "plan" and len(runs(place)) == before
        await pilot.press("escape", "colon", *"plan plan.toml", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, PlanForm))
        pilot.app.screen.editor("input").value = "on=a"
        await until(pilot, lambda: "1  1,280 rows" in screen_text(pilot))
        assert "1 stage: 0 there, 1 to do" in screen_text(pilot) and len(runs(place)) == before
        await pilot.press("ctrl+s")
        await until(pilot, lambda: pane.selected and pane.selected.name == "planned", 30)
        await until(pilot, lambda: pane.selected.state == "done", 30)

    drive(place, scenario)


def test_scores_are_asked_for_when_a_training_is_done(place):
    async def scenario(pilot, pane):
        await choose(pilot, pane, "half")
        await pilot.press("s")
        assert any("half is stopped" in note.message for note in pilot.app._notifications)
        await choose(pilot, pane, "whole")
        await until(pilot, lambda: pane.trainings.seen.preview)
        await pilot.press("s")
        form = pilot.app.screen
        assert isinstance(form, Form)
        values = form.values()
        assert (values["sae"], values["embed_with"]) == (["whole"], ["demo:encoder"])
        assert task_of(values) == ("score", values | {"sae": "whole", "embed_with": "demo:encoder"})
        assert values["images"].endswith("pictures")
        form.editor("embed_with").value = "demo:encoder, demo"
        assert task_of(form.values()) == ("scores", values | {"embed_with": ["demo:encoder", "demo"]})
        await pilot.press("escape")
        (place.root / "neurons").mkdir()
        place.neurons("whole", "pictures").touch()
        await until(pilot, lambda: "Not scored yet" not in screen_text(pilot))

    drive(place, scenario)


def test_measurements_are_copied(place, tmp_path):
    async def scenario(pilot, pane):
        await choose(pilot, pane, "whole")
        await pilot.press("y")
        copied = json.loads((tmp_path / "state" / "saetui" / "copied.txt").read_text())
        assert copied["name"] == "whole" and len(copied["history"]) == 3

    drive(place, scenario)


def test_without_trainings_it_says_how_to_begin(place):
    shutil.rmtree(place.root / "saes")
    shutil.rmtree(place.root / "runs")

    async def stores(pilot, pane):
        assert "n starts one" in screen_text(pilot)
        for pressed in ("p", "x", "r", "c", "s", "space", "y", "v", "f", "F", "m", "e", "plus", "minus", "h", "escape"):
            await pilot.press(pressed)
        assert pilot.app.screen is pane

    async def nothing(pilot, pane):
        assert "No activations to train on yet" in screen_text(pilot)
        await pilot.press("n")
        assert pilot.app.screen is pane

    drive(place, stores)
    shutil.rmtree(place.root / "activations")
    drive(place, nothing, NARROW)


def test_files_that_are_damaged_or_gone_are_sentences(place):
    async def scenario(pilot, pane):
        await choose(pilot, pane, "whole")
        write_text(place.sae("whole") / "preview.json", "{")
        write_text(place.sae("whole") / "training.json", "{")
        await until(pilot, lambda: pane.selected.state == "damaged" and not pane.query_one("#forming").display)
        assert "is damaged" in str(pane.query_one("#now", Static).render())
        shutil.rmtree(place.root / "saes")
        shutil.rmtree(place.root / "runs")
        await until(pilot, lambda: pane.table.rows == 0 and "n starts one" in screen_text(pilot))

    drive(place, scenario)


def test_names_from_files_are_shown_literally(place):
    shutil.move(place.sae("whole"), place.root / "saes" / "[red]\x1b[31mx")

    async def scenario(pilot, pane):
        assert any("[red]" in text for text in screen_text(pilot).splitlines()) and "\x1b" not in screen_text(pilot)

    drive(place, scenario)


def test_nothing_is_posted_or_painted_while_nothing_changes(place):
    async def scenario(pilot, pane):
        await choose(pilot, pane, "whole")
        await until(pilot, lambda: pictured(pane))
        await asyncio.sleep(1.2)
        seen, painted = pane.trainings.seen, []
        plain = pilot.app._display
        pilot.app._display = lambda screen, what: painted.append(what) or plain(screen, what)
        await asyncio.sleep(1.5)
        assert pane.trainings.seen is seen
        assert [what for what in painted if what is not None] == []

    drive(place, scenario)


def test_files_are_left_alone_while_another_mode_is_shown(place):
    async def scenario(pilot, pane):
        looks = []
        plain = pane.watcher.look
        pane.watcher.look = lambda always=False: looks.append(always) or plain(always)
        await until(pilot, lambda: looks)
        await pilot.press("5")
        await asyncio.sleep(0.7)
        looks.clear()
        await asyncio.sleep(1.2)
        assert looks == []
        await pilot.press("2")
        await until(pilot, lambda: looks)

    drive(place, scenario)


def test_a_look_is_none_while_all_is_as_it_was(place):
    watch = TrainWatch(place)
    watch.selected = "whole"
    first = watch.look()
    assert first is not None and first.preview is not None and {row.name for row in first.rows} == {"whole", "half"}
    assert watch.look() is None and watch.look(always=True) is not None
    watch.with_log = True
    assert watch.look().log[-1].startswith(tuple("0123456789"))


def test_another_trainings_preview_is_another_though_all_its_numbers_are_the_same(place):
    folder = place.sae("half")
    shutil.copy(place.sae("whole") / "preview.json", folder / "preview.json")
    watch = TrainWatch(place)
    watch.selected = "whole"
    first = watch.look().preview
    watch.selected = "half"
    seen = watch.look()
    assert seen is not None and seen.preview is not None and seen.preview is not first


def test_a_long_log_is_read_piece_by_piece(place):
    run = next(run for run in runs(place) if run.command.settings["name"] == "half")
    begun = '{"seq": 1, "time": 0, "kind": "stage", "name": "train"}'
    event = '{"seq": %d, "time": 0, "kind": "progress", "done": %d, "total": 99999, "unit": "steps", "loss": 0.5}'
    write_text(run.path / "events.jsonl", "\n".join([begun, *(event % (n, n) for n in range(1, 60_000)), ""]))
    watch = TrainWatch(place)
    watch.look()
    assert watch.more
    while watch.more:
        seen = watch.look(always=True)
    assert next(row for row in seen.rows if row.name == "half").loss[-1] == (59_999, 0.5)


def test_lines_are_the_measurements_over_their_steps(place):
    row = next(row for row in TrainWatch(place).look().rows if row.name == "whole")
    lines = lines_of(row)
    for name in ("fve", "l0", "dead"):
        expected = [(one.step, getattr(one, name)) for one in row.history]
        assert list(zip(*(values.tolist() for values in lines[name]), strict=True)) == expected
    assert list(zip(*(values.tolist() for values in lines["loss"]), strict=True)) == row.loss
    assert lines["rate"][1].tolist() == [pace * 64 for _, pace in row.pace]
    assert "ms" not in lines  # there were no embeddings


def test_the_end_of_a_log_is_in_words(tmp_path):
    lines = [
        '{"seq": 1, "time": 0, "kind": "stage", "name": "train"}',
        '{"seq": 2, "time": 0, "kind": "progress", "done": 1, "total": 2, "unit": "steps"}',
        '{"seq": 3, "time": 0, "kind": "metrics", "step": 5, "fve": 0.5, "l0": 8, "dead": null}',
        '{"seq": 4, "time": 0, "kind": "failed", "error": "it is full", "mistake": true}',
        '{"seq": 5, "time": 0, "ki',
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    (tmp_path / "log.txt").write_bytes(b"printed \xff\n")
    found = tail(Run(tmp_path))
    assert [line[10:] for line in found[:-1]] == [
        "stage  train",
        "measured  step 5  FVE .50  L0 8.0  dead –",
        "failed  it is full",
    ]
    assert found[-1] == "printed �"
    assert tail(Run(tmp_path / "gone")) == ()

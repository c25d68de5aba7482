"""The tour of the README, key by key as it stands there, on the demo's workspace."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from engine.runs.run import Run
from engine.workspace import Workspace
from saetui.app import Workbench
from tests.support.pilots import screen_text, until

README = (Path(__file__).parents[2] / "README.md").read_text()
NAMES = {"/": "slash", "*": "asterisk", "esc": "escape", " ": "space"}
PATIENCE = 120  # seconds until a model has been loaded and has answered


def steps() -> list[list[str]]:
    """The keys of each step."""
    tour = README[README.index("### Three minutes") : README.index("### Keys")]
    return [keys(step) for step in re.split(r"^\d\. ", tour, flags=re.MULTILINE)[1:]]


def keys(step: str) -> list[str]:
    pressed: list[str] = []
    for typed, words in re.findall(r"(type )?`([^`]+)`", step):
        if not words.startswith("saetui"):
            pressed += [NAMES.get(key, key) for key in (words if typed else [words])]
    return pressed


@pytest.fixture
def study(demo, tmp_path, monkeypatch):
    """The demo's workspace, to be written in; what is large is shared."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    large = ("images", "activations")
    place = Path(shutil.copytree(demo, tmp_path / "study", ignore=shutil.ignore_patterns(*large)))
    for name in large:
        (place / name).symlink_to(demo / name)
    return Workspace(place)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_every_step_does_what_it_says(study, size):
    first, find, label, steer, sweep, trees, train, leave = steps()
    assert (first, leave) == ([], ["q"])

    async def tour() -> None:
        app = Workbench(study)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: "beaten by" in screen_text(pilot))
            pane = app.screen

            await pilot.press(*find[:-1])
            await until(pilot, lambda: "heat" in screen_text(pilot))
            assert pane.view.display and pane.view.gallery.show_heat and "cup" in screen_text(pilot).splitlines()[1]
            await pilot.press(find[-1])
            assert pane.table.display and pane.table.cursor == 0 and pane.filter.value == "cup"

            await pilot.press(*label)
            latent, labels = pane.latent, pane.scores.labels
            assert labels.text(latent) == "any cup" and labels.marked(latent)

            await pilot.press(*steer)
            await until(pilot, lambda: app.current_mode == "steer" and app.screen.setup.rack)
            await until(pilot, lambda: "cup" in app.screen.answers.texts.get("steered", ""), PATIENCE)
            (slot,) = app.screen.setup.rack
            assert (slot.latent, slot.times, slot.name) == (latent, 2.0, "any cup")

            await pilot.press(sweep[0])
            await until(pilot, lambda: app.screen.dose.points, PATIENCE)
            await pilot.press(sweep[1])
            assert app.screen.dose.display and not app.screen.conversation.sweeping, "it stopped where it was"
            await pilot.press(sweep[2])
            assert not app.screen.dose.display
            await pilot.press(*sweep[3:])
            await until(pilot, lambda: list((study.root / "recipes").glob("any-cup*.toml")))

            await pilot.press(trees[0])
            await until(pilot, lambda: app.current_mode == "hierarchy" and app.screen.trees)
            await pilot.press(*trees[1:])
            await until(pilot, lambda: app.current_mode == "neurons" and pane.listed.title)
            assert "all images ›" in pane.listed.title and 0 < len(pane.latents) < pane.scores.neurons.w

            await pilot.press(train[0])
            await until(pilot, lambda: app.current_mode == "train" and app.screen.trainings.rows)
            await pilot.press(*train[1:-4])
            await until(pilot, lambda: any(run.live for run in app.runs))
            started = next(run.id for run in app.runs if run.live)
            try:
                await until(pilot, lambda: app.screen.selected and app.screen.selected.name == "demo-2")
                await pilot.press(*train[-4:-1])
                assert app.screen.charts.display, "of the clone, beside the list or in its place"
                if size == (80, 24):
                    await until(pilot, lambda: app.screen.selected.loss, PATIENCE)
                await pilot.press(train[-1])
                assert app.screen.table.display
            finally:
                Run(study.runs / started).control("stop")
            await until(pilot, lambda: not any(run.live for run in app.runs), PATIENCE)
            await pilot.press(*leave)

        again = Workbench(study)
        async with again.run_test(size=size) as pilot:
            assert again.current_mode == "train"
            await pilot.press("3")
            await until(pilot, lambda: again.screen.scores)
            assert again.screen.filter.value == "cup"

    asyncio.run(tour())

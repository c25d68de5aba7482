"""What all modes share: bars, help, palette, command line, keys, jobs, state, the first screen."""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest
from rich.segment import Segment
from textual.app import App
from textual.strip import Strip
from textual.widgets import Input, Static

from engine.errors import UserError
from engine.runs.run import ENDED, Run, runs
from engine.workspace import MARKER, Workspace
from saetui.app import Workbench
from saetui.modes.mode import Mode
from saetui.preferences import config_path, read_preferences
from saetui.services import Reopen
from saetui.session import Session, first_mode
from saetui.widgets.bars import KeyBar, TopBar
from saetui.widgets.dialogs import Ask, Help
from saetui.widgets.runs_drawer import RunsDrawer
from saetui.widgets.table import Table
from tests.support.pilots import screen_text, until


def scenario(test, place, size=(120, 34), **options):
    """Run the coroutine ``test(app, pilot)`` in a workbench on ``place``."""

    async def run():
        app = Workbench(Workspace(place), **options)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await test(app, pilot)
        return app

    return asyncio.run(run())


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / MARKER).write_text("# empty\n")
    return folder


def text_of(widget):
    rendered = widget.render()
    return getattr(rendered, "plain", str(rendered))


def test_the_digits_switch_modes_and_the_bar_says_where_one_is(place):
    async def test(app, pilot):
        for key, title in zip("12345", ("DATA", "TRAIN", "NEURONS", "STEER", "HIERARCHY"), strict=True):
            await pilot.press(key)
            bar = text_of(app.screen.query_one(TopBar))
            assert title in bar and "study" in bar
            assert title.lower() == app.screen.MODE

    scenario(test, place)


@pytest.mark.parametrize("mode", ["data", "train", "neurons", "steer", "hierarchy"])
def test_runs_may_change_while_a_mode_is_being_made(place, mode):
    async def test(app, pilot):
        shown = app.switch_mode(mode)
        app._runs_seen([])
        await shown
        assert mode == app.screen.MODE

    scenario(test, place, mode="steer" if mode == "data" else "data")


@pytest.mark.parametrize("columns", [20, 40, 80, 160])
def test_the_bars_keep_to_their_line(place, columns):
    async def test(app, pilot):
        for bar in (TopBar, KeyBar):
            line = text_of(app.screen.query_one(bar))
            assert "\n" not in line
        assert "help" in text_of(app.screen.query_one(KeyBar))

    scenario(test, place, size=(columns, 24))


@pytest.mark.parametrize("ascii", (False, True))
@pytest.mark.parametrize("colours", ("truecolor", "256", "mono"))
def test_what_filters_made_of_a_line_is_found_again(place, colours, ascii):
    async def test(app, pilot):
        app.colours, app.ascii = colours, ascii
        line = Strip([Segment("a line")])
        filtered = []
        for _ in range(2):
            painted = line
            for each in app.get_line_filters():
                painted = painted.apply_filter(each, app.screen.styles.background)
            filtered.append(painted)
        assert filtered[0] is filtered[1] is not line

    scenario(test, place)


def test_help_lists_every_active_action_with_its_keys(place):
    async def test(app, pilot):
        await pilot.press("1")
        expected = {a.binding.id for a in app.screen.active_bindings.values() if a.binding.id}
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        shown = text_of(app.screen.query_one(Static))
        assert expected and all(id in shown for id in expected)
        await pilot.press("escape")
        assert isinstance(app.screen, Mode)
        await pilot.press("f1")
        assert isinstance(app.screen, Help)
        for key in ("j", "k", "ctrl+d", "ctrl+u"):
            await pilot.press(key)
        await pilot.press("q")
        assert isinstance(app.screen, Mode), "q closes help, not the workbench"

    scenario(test, place)


def test_the_command_line_runs_actions_by_their_ids_and_knows_its_mistakes(place):
    async def test(app, pilot):
        await pilot.press("1", "colon")
        assert isinstance(app.screen, Ask)
        await pilot.press(*"app.steer", "enter")
        await pilot.pause()
        assert app.screen.MODE == "steer"
        await pilot.press("colon", *"nonsense", "enter")
        await pilot.pause()
        assert any("nonsense" in toast.message for toast in app._notifications)
        await pilot.press("colon", *"app.d")
        assert app.screen.query_one(Input).value == "app.d"
        await pilot.press("escape")
        assert app.screen.MODE == "steer"

    scenario(test, place)


def test_the_palette_finds_actions(place):
    async def test(app, pilot):
        await pilot.press("1", "ctrl+p")
        await pilot.press(*"hierarchy")
        for _ in range(40):
            await pilot.pause(0.05)
            if app.screen.query("OptionList") and app.screen.query_one("OptionList").option_count:
                break
        await pilot.press("enter")
        for _ in range(40):
            await pilot.pause(0.05)
            if getattr(app.screen, "MODE", "") == "hierarchy":
                break
        assert app.screen.MODE == "hierarchy"

    scenario(test, place)


def test_keys_can_be_remapped_in_the_config_file(place, monkeypatch):
    config_path().parent.mkdir(parents=True)
    config_path().write_text('theme = "paper"\n[keys]\n"app.steer" = "f4,S"\n')
    chosen = read_preferences()
    assert chosen.theme == "paper"

    async def test(app, pilot):
        assert app.theme == "paper"
        await pilot.press("1", "4")
        assert app.screen.MODE == "data", "the old key does nothing"
        await pilot.press("S")
        assert app.screen.MODE == "steer"
        await pilot.press("question_mark")
        assert "f4" in text_of(app.screen.query_one(Static)).lower()

    scenario(test, place, preferences=chosen)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('colour = "red"\n', ["colour", "colours"]),
        ('theme = "pink"\n', ["theme", "graphite"]),
        ("keys = 3\n", ["[keys]"]),
        ("[keys]\n4 = 4\n", ["[keys]"]),
        ("theme =", ["not valid TOML"]),
    ],
)
def test_a_bad_config_file_is_one_sentence(text, words):
    config_path().parent.mkdir(parents=True)
    config_path().write_text(text)
    with pytest.raises(UserError) as error:
        read_preferences()
    assert all(word in str(error.value) for word in words)


def test_flags_come_before_the_file():
    config_path().parent.mkdir(parents=True)
    config_path().write_text('theme = "paper"\ncolours = "256"\n')
    chosen = read_preferences(theme="graphite", colours=None)
    assert (chosen.theme, chosen.colours) == ("graphite", "256")


def test_f9_turns_the_theme(place):
    async def test(app, pilot):
        await pilot.press("f9")
        assert app.theme == "paper"
        await pilot.press("f9")
        assert app.theme == "graphite"

    scenario(test, place)


def test_where_one_was_is_kept_when_the_app_is_gone(place):
    async def first(app, pilot):
        await pilot.press("4")
        app.remember("steer", prompt="what")
        await pilot.pause(0.5)
        assert Session(place).get("steer")["prompt"] == "what", "written while the app lives"

    async def second(app, pilot):
        assert app.screen.MODE == "steer" and app.session.get("steer")["prompt"] == "what"

    scenario(first, place)
    scenario(second, place)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 1, "panes": {"app": 3}}', '{"version": 99}'])
def test_a_damaged_state_is_an_empty_one(place, damage):
    state = Session(place)
    state.path.parent.mkdir(parents=True, exist_ok=True)
    state.path.write_text(damage)
    assert Session(place).get("app") == {}


def test_a_state_that_cannot_be_written_is_no_reason_to_end(place, tmp_path):
    (tmp_path / "state").write_text("a file where a directory is needed")
    state = Session(place)
    assert state.set("app", mode="data") and not state.set("app", mode="data")
    state.save()
    assert not state.path.exists()


def make_run(place, task="train", name="x8", state="running", **status):
    run = Run.create(Workspace(place), task, {"name": name}, [task])
    (run.path / "status.json").write_text(json.dumps({"state": state, "started": time.time(), **status}))
    return run


def test_the_top_bar_shows_a_live_job_and_the_drawer_stops_it(place):
    run = make_run(place, progress={"done": 43, "total": 100, "unit": "steps"}, stage="train")
    held = run.hold()

    async def test(app, pilot):
        await pilot.press("1")
        await until(pilot, lambda: "train x8 43%" in text_of(app.screen.query_one(TopBar)))
        await pilot.press("J")
        assert isinstance(app.screen, RunsDrawer)
        table = app.screen.query_one(Table)
        await until(pilot, lambda: table.rows == 1)
        assert app.screen._cells(0)[1] == run.id
        await pilot.press("p")
        assert (run.path / "control").read_text() == "pause"
        await pilot.press("x")
        assert (run.path / "control").read_text() == "stop"
        held.close()
        (run.path / "status.json").write_text(
            json.dumps({"state": "failed", "error": "the disk is full", "started": 1})
        )
        await until(pilot, lambda: app.screen.runs[0].state == "failed")
        assert "the disk is full" in app.screen._cells(0)
        await pilot.press("x")
        assert any("ended already" in toast.message for toast in app._notifications)
        assert any("the disk is full" in toast.message for toast in app._notifications), "told when it happened"
        await pilot.press("escape")
        assert isinstance(app.screen, Mode)

    scenario(test, place)


def test_the_drawer_starts_a_stopped_run_again(place):
    run = make_run(place, task="doctor", name="", state="stopped")
    (run.path / "command.json").write_text(
        json.dumps({"task": "ms", "settings": {}, "workspace": str(place), "cwd": str(place), "argv": []})
    )

    async def test(app, pilot):
        await pilot.press("1", "J")
        await until(pilot, lambda: app.screen.query_one(Table).rows == 1)
        await pilot.press("r")
        await until(pilot, lambda: run.status.state != "stopped")
        await until(pilot, lambda: run.status.state in ENDED, 60)

    scenario(test, place)


def test_runs_may_be_damaged_and_vanish(place):
    good = make_run(place, name="good", state="done")
    bad = make_run(place, name="bad", state="done")
    (bad.path / "status.json").write_text("{")
    (bad.path / "command.json").write_text("[]")

    async def test(app, pilot):
        await pilot.press("1")
        await until(pilot, lambda: {job.id: job.state for job in app.runs} == {good.id: "done", bad.id: "damaged"})
        for path in sorted(place.joinpath("runs").rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        await until(pilot, lambda: app.runs == [])

    scenario(test, place)


def test_markup_in_names_is_shown_as_it_is(place):
    make_run(place, name="[red]x[/]", state="failed", error="[bold]no[/bold] \x1b[31mred")

    async def test(app, pilot):
        await pilot.press("1", "J")
        await until(pilot, lambda: app.screen.query_one(Table).rows == 1)
        line = "".join(s.text for y in range(4) for s in app.screen.query_one(Table).render_line(y))
        assert "[red]x[/]" in line and "\x1b" not in line

    scenario(test, place)


def test_the_first_screen_offers_three_ways(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def test(app, pilot):
        shown = text_of(app.screen.query_one("#choices", Static))
        assert all(words in shown for words in ("demo", "folder of images", "workspace"))
        await pilot.press("2")
        assert app.screen.MODE == "start", "there are no modes yet"
        await pilot.press("i", *"nowhere", "enter")
        assert "There is nothing at nowhere" in screen_text(pilot), "and the question stays"
        (tmp_path / "pictures").mkdir()
        await pilot.press("escape", "i", *str(tmp_path / "pictures"), "enter")
        await pilot.pause()

    app = scenario(test, tmp_path / "new")
    assert app.return_value == Reopen(Workspace(tmp_path / "new"), "data")
    assert Workspace(tmp_path / "new").defaults() == {"images": str(tmp_path / "pictures")}


@pytest.mark.parametrize("typed", ["shards/*.tar", "shards/{000..002}.tar"])
def test_the_first_screen_takes_what_means_several_sources(tmp_path, monkeypatch, typed):
    (tmp_path / "shards").mkdir()
    for n in range(3):
        (tmp_path / f"shards/{n:03}.tar").write_bytes(bytes(10240))
    monkeypatch.chdir(tmp_path)

    async def test(app, pilot):
        await pilot.press("i", *typed, "enter")
        await pilot.pause()

    assert scenario(test, tmp_path / "new").return_value == Reopen(Workspace(tmp_path / "new"), "data")
    assert Workspace(tmp_path / "new").defaults() == {"images": str(tmp_path / typed)}


def test_the_first_screen_opens_a_workspace(tmp_path):
    (tmp_path / "other").mkdir()

    async def test(app, pilot):
        await pilot.press("o", *str(tmp_path / "other"), "enter")
        await pilot.pause()

    assert scenario(test, tmp_path / "new").return_value == Reopen(Workspace(tmp_path / "other"), "")
    assert (tmp_path / "other" / MARKER).is_file()


def test_the_first_screen_starts_the_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def test(app, pilot):
        await pilot.press("d")
        await pilot.pause()

    app = scenario(test, tmp_path / "new")
    assert app.return_value == Reopen(Workspace(tmp_path / "saetui-demo"), "train")
    (run,) = runs(Workspace(tmp_path / "saetui-demo"))
    assert run.command.task == "demo"
    run.control("stop")
    deadline = time.monotonic() + 60
    while run.status.state not in ENDED and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.status.state == "stopped"


def test_it_opens_where_there_is_something_to_see(tmp_path):
    place = Workspace(tmp_path)
    assert first_mode(place, "") == "data" and first_mode(place, "steer") == "steer"
    (tmp_path / "saes" / "a").mkdir(parents=True)
    assert first_mode(place, "") == "train"
    (tmp_path / "neurons").mkdir()
    (tmp_path / "neurons" / "a--b.h5").touch()
    assert first_mode(place, "nonsense") == "neurons"


def test_a_bug_in_saetui_is_a_sentence_and_a_file(place, tmp_path):
    async def test(app, pilot):
        app.call_later(lambda: 1 / 0)
        await pilot.pause(0.2)
        test.sentence = app._exit_renderables[0].plain

    with pytest.raises(ZeroDivisionError):
        scenario(test, place)
    assert "division by zero" in test.sentence and "\n" not in test.sentence
    assert "ZeroDivisionError" in (tmp_path / "state" / "saetui" / "defect.txt").read_text()


def test_what_is_copied_is_in_a_file_too(place):
    async def test(app, pilot):
        app.copy("three answers", "what was answered")
        await pilot.pause()

    scenario(test, place)
    assert (Path(os.environ["XDG_STATE_HOME"]) / "saetui" / "copied.txt").read_text() == "three answers"


@pytest.mark.parametrize("size", [(20, 5), (10, 2), (80, 24), (300, 90)])
def test_every_mode_stands_any_size(place, size):
    async def test(app, pilot):
        for key in "12345":
            await pilot.press(key)
            await pilot.pause()
        await pilot.resize_terminal(*reversed(size))
        await pilot.pause()
        await pilot.press("question_mark")
        await pilot.pause()
        assert app.is_running

    scenario(test, place, size=size)


@pytest.mark.parametrize("sentences", [1, 2, 5])
def test_of_many_sentences_the_last_two_are_shown(workspace: Workspace, sentences: int) -> None:
    async def scenario() -> list[str]:
        app = Workbench(workspace)
        async with app.run_test() as pilot:
            app.clear_notifications()
            for number in range(sentences):
                app.say(f"sentence {number}")
            await pilot.pause()
            return [toast.message for toast in app._notifications]

    assert asyncio.run(scenario()) == [f"sentence {number}" for number in range(sentences)][-2:]


def test_a_narrow_bar_keeps_how_long_is_left() -> None:
    async def scenario() -> str:
        bar, app = TopBar(), App[None]()
        async with app.run_test(size=(80, 24)) as pilot:
            await app.mount(bar)
            bar.run = "● train demo-2 11% 0:25 left"
            await pilot.pause()
            return bar.render().plain

    shown = asyncio.run(scenario())
    assert len(shown) < 80 and "● train" in shown and shown.endswith("0:25 left")

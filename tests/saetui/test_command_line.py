"""What is typed after ``:``: words that one knows from elsewhere, arguments that are checked, lines that are kept."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from engine.workspace import Workspace
from saetui.preferences import state_folder
from saetui.widgets.dialogs import Ask
from saetui.widgets.table import Table
from tests.support.pilots import until
from tests.support.study import Answered, remember_answers, write_study


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("commands")
    with contextlib.chdir(folder):
        yield write_study(folder)


def scenario(place: Workspace, mode: str, act: Callable[[Any, Pilot[Any]], Any], size=(100, 30)) -> Any:
    async def run() -> Any:
        app = Answered(place, mode=mode)
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            await until(pilot, lambda: mode == "steer" or any(table.rows for table in app.screen.query(Table)))
            await act(app, pilot)
        return app

    return asyncio.run(run())


async def enter(app: Any, pilot: Pilot[Any], line: str) -> str:
    """Type ``line``; what is said then."""
    app.clear_notifications()
    await pilot.press("colon")
    app.screen.query_one(Input).value = line
    await pilot.press("enter")
    await pilot.pause()
    reading = ("choose", "image", "listing", "names", "export")
    await until(pilot, lambda: all(one.is_finished for one in app.workers if one.group in reading))
    await pilot.pause()
    return " ".join(toast.message for toast in app._notifications)


@pytest.mark.parametrize("line", ["q", "q!", "quit", "wq", "x", "qa", ":q", "  q"])
def test_the_words_that_leave_elsewhere_leave_here(place, line):
    async def act(app, pilot):
        await enter(app, pilot, line)
        await pilot.pause()
        assert not app.is_running

    scenario(place, "data", act)


WRONG = {
    "neurons": ["goto", "goto abc", "goto 1.5", "goto 99999", "5 6", "sort", "sort nonsense", "look nowhere.png"],
    "train": ["plan", "plan nowhere.toml", "sort", "sort nonsense"],
    "data": ["sort", "sort nonsense"],
    "hierarchy": ["sort", "sort nonsense"],
    "steer": ["image nowhere.png", "source nowhere", "strength much", "latent", "prompt", "strength"],
}
ALWAYS = [
    *("q now", "app.help me", "open", "open nowhere", "nonsense", "export", "export x.xlsx"),
    *("0,5", "app.jobs 3"),
]


@pytest.mark.parametrize("mode", WRONG)
def test_every_wrong_argument_is_refused_in_a_sentence_with_a_way_out(place, mode):
    async def act(app, pilot):
        screen = app.screen
        for line in WRONG[mode] + (ALWAYS if mode == "data" else []):
            said = await enter(app, pilot, line)
            assert app.screen is screen and app.is_running, line
            assert said.endswith((".", "?")) and ":" in said, (line, said)
            assert "There is no command" not in said or line.split()[0] in ("nonsense", "0,5", "5"), (line, said)

    scenario(place, mode, act)


def test_a_filter_that_is_not_understood_is_said_where_it_stands(place):
    async def act(app, pilot):
        for mode in ("1", "2", "3", "5"):
            await pilot.press(mode)
            await until(pilot, lambda: any(table.rows for table in app.screen.query(Table)))
            await enter(app, pilot, "filter size>>3")
            assert app.screen.query(".-wrong FilterLine, FilterLine.-wrong"), mode
            await enter(app, pilot, "filter")

    scenario(place, "data", act)


def test_w_says_that_all_is_saved_and_a_near_miss_names_what_was_meant(place):
    async def act(app, pilot):
        assert "saved" in await enter(app, pilot, "w")
        assert "did you mean neurons.sort" in await enter(app, pilot, "neurons.sor")

    scenario(place, "neurons", act)


def test_tab_completes_words_arguments_and_paths(place):
    async def act(app, pilot):
        for typed, whole in (("go", "goto"), ("sort supp", "sort support"), ("look im", "look images/")):
            await pilot.press("colon")
            app.screen.query_one(Input).value = typed
            await pilot.pause()
            app.screen.query_one(Input).cursor_position = len(typed)
            await pilot.press("tab")
            assert app.screen.query_one(Input).value == whole
            await pilot.press("escape")

    scenario(place, "neurons", act)


def test_lines_are_kept_over_sessions_for_the_users_eyes_alone(place):
    async def first(app, pilot):
        for line in ("sort support", "goto 3", "sort support", "nonsense"):
            await enter(app, pilot, line)

    async def second(app, pilot):
        await pilot.press("colon")
        line, shown = app.screen.query_one(Input), []
        for key in ("up", "up", "up", "up", "down", "down", "down"):
            await pilot.press(key)
            shown.append(line.value)
        assert shown == ["nonsense", "sort support", "goto 3", "goto 3", "sort support", "nonsense", ""]
        await pilot.press(*"so", "up", "enter")
        await pilot.pause()
        assert app.screen.listed.sort == "support" and not isinstance(app.screen, Ask)

    scenario(place, "neurons", first)
    scenario(place, "neurons", second)
    kept = [path for path in state_folder().rglob("*") if path.is_file()]
    assert kept and all(path.stat().st_mode & 0o077 == 0 for path in kept)


@pytest.mark.parametrize(
    ("mode", "focus"),
    [("neurons", "#latents"), ("train", "#trainings"), ("data", "#stores"), ("hierarchy", "#taxa"), ("steer", "#rack")],
)
def test_ctrl_e_exports_the_filtered_table(place, mode, focus, tmp_path):
    """Each row of the table that is listed, with numbers as they are."""
    out = tmp_path / "out.csv"

    async def act(app, pilot):
        table = app.screen.query_one(focus, Table)
        table.focus()
        if mode == "neurons":
            await enter(app, pilot, "filter ms>.2")
            table.focus()
        if mode == "steer":
            app.screen.rack.find("5")
            await until(pilot, lambda: table.rows)
        await pilot.press("ctrl+e")
        assert isinstance(app.screen, Ask)
        app.screen.query_one(Input).value = str(out)
        await pilot.press("enter")
        await until(pilot, out.is_file)
        lines = out.read_text().splitlines()
        assert len(lines) == table.rows + 1
        out.write_text("mine")
        assert await enter(app, pilot, f"export {out}") == ""
        await pilot.press("enter")  # what stands first keeps it
        await pilot.pause()
        assert out.read_text() == "mine"
        await enter(app, pilot, f"w {out}")
        await pilot.press("j", "enter")
        await until(pilot, lambda: out.read_text() != "mine")
        assert out.read_text().splitlines() == lines

    scenario(place, mode, act)
    os.unlink(out)


def test_a_table_is_exported_exactly_as_csv_and_json(place, tmp_path):
    import json

    async def act(app, pilot):
        out = tmp_path / "new" / "a.json"
        await enter(app, pilot, f"export {out}")
        await until(pilot, out.is_file)
        await until(pilot, lambda: any("that was not there" in note.message for note in app._notifications))
        rows = json.loads(out.read_text())
        assert [row["latent"] for row in rows] == app.screen.latents
        ms = app.screen.scores.neurons.ms
        assert all(row["ms"] == float(ms[row["latent"]]) for row in rows if row["ms"] is not None)
        assert {"label", "names", "class", "marked", "matched", "support"} <= set(rows[0])

    scenario(place, "neurons", act)


def test_names_of_files_without_a_folder_are_told_in_full(place):
    async def act(app, pilot):
        await enter(app, pilot, "export here.csv")
        file = place.root.absolute() / "here.csv"
        await until(pilot, file.is_file)
        await until(pilot, lambda: any(str(file) in t.message for t in app._notifications))

    scenario(place, "data", act)


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        ("neurons", "latent"),
        ("train", "settings and measurements of"),
        ("data", "study/activations/"),
        ("hierarchy", "the numbers of"),
        ("steer", "the setup with its three answers"),
    ],
)
def test_y_copies_for_the_terminal_and_says_what(place, mode, what):
    async def act(app, pilot):
        await pilot.press("y")
        await pilot.pause()
        (said,) = (toast.message for toast in app._notifications if "Copied" in toast.message)
        assert what in said
        copied = state_folder() / "copied.txt"
        assert copied.read_text() == app.clipboard != ""
        assert copied.stat().st_mode & 0o077 == 0

    scenario(place, mode, act)


@pytest.mark.parametrize(
    ("mode", "keys", "copied"),
    [
        (
            "train",
            ["J"],
            ["20250101-120000-score", "narrow is not trained yet: resume it.", "runs/20250101-120000-score"],
        ),
        ("train", ["o"], ["the newest first"]),
        ("train", ["e"], ["all is well"]),
        (
            "neurons",
            ["c", "enter"],
            ["synthetic latent", "\nsynthetic latent", "of the top images in common (Jaccard)"],
        ),
        ("neurons", ["I"], ["synthetic latent 5: any pencil", "fires 8.5 on "]),
        ("neurons", ["o"], ["best"]),
        ("steer", ["e"], ["pencil-2x", "Describe this image."]),
        ("steer", ["r", "v"], ["prompt: ", "steered: a striped green pencil on a black background"]),
    ],
)
def test_y_copies_in_dialogs_and_panes_too(place, mode, keys, copied):
    """What one may want elsewhere: a run with what went wrong and where it lies, a latent, an answer, a log."""
    remember_answers(place)

    async def act(app, pilot):
        await until(pilot, lambda: app.runs and any(table.rows for table in app.screen.query(Table)))  # the rack's, too
        for key in keys:
            await pilot.press(key)
            await until(pilot, lambda: all(w.is_finished or w.group in ("runs", "trainings") for w in app.workers))
        await pilot.pause(0.5)
        await pilot.press("y")
        await pilot.pause()
        for words in copied:
            assert words in app.clipboard, app.clipboard

    scenario(place, mode, act)

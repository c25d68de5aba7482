"""What commands print: headed and aligned, in the room that there is; into a pipe whole, and without escapes."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from typer.testing import CliRunner

from engine.files import write_json
from engine.runs.run import Run
from engine.workspace import Workspace
from saetui.cli import show, work
from saetui.cli.app import app
from saetui.cli.show import _facts
from tests.support.shell import in_terminal, saetui

OLD = Path(__file__).parents[2] / "old_workspace"
COMMANDS = {
    "jobs": ["jobs"],
    "plan": ["run", "paper-demo", "--dry-run"],
    "run": ["show", "runs/20260101"],
    "sae": ["show", "saes/matryoshka"],
    "scores": ["show", "neurons/matryoshka--images.h5"],
    "steerability": ["show", "steerability/jump--old", "--explain"],
    "neurons": ["neurons", "matryoshka"],
    "config": ["config"],
    "doctor": ["doctor"],
}


@pytest.fixture(params=COMMANDS)
def command(request):
    given = COMMANDS[request.param]
    if request.param == "run":
        given = ["show", f"runs/{max(path.name for path in (OLD / 'runs').iterdir())}"]
    return given


def test_it_fits_a_terminal_of_80_columns_and_goes_into_a_pipe_whole(command):
    shown, piped = in_terminal(*command, cwd=OLD), saetui(*command, cwd=OLD)
    assert shown.code == 0
    long = [line for line in shown.out.replace("\r", "").split("\n") if cell_len(line) > 80]
    assert [line for line in long if not re.search(r"\S{50,}$", line)] == [], "a path may be longer"
    assert "\x1b" not in piped.stdout and "…" not in "".join(re.findall(r"(?m)^made from.*|^path.*", piped.stdout))
    for text in (shown.out, piped.stdout):
        assert not re.search(r"\d\.\d{10}|\b\d{16}", text), "no more digits than a person reads"
        assert not re.search(r"\b1[67]\d{8}\b", text), "no seconds since 1970"
        assert not re.search(r"[0-9a-f]{40}", text), "no hash in full"


@given(
    st.lists(st.lists(st.text("abc 1é日", max_size=30), min_size=3, max_size=3), min_size=1, max_size=5),
    st.integers(40, 120),
)
def test_columns_stand_below_their_heads_at_every_width(rows, width):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "screen_width", lambda: width)
        head, *lines = work.columns(("one", "two", "three"), rows, right={1}, cut=2)
    assert len(lines) == len(rows)
    assert all(cell_len(line) <= max(width, 30 + 30 + 4 + work.NARROWEST + 40) for line in lines)
    starts = head.index("three")
    for line, row in zip(lines, rows, strict=True):
        cells = list(line)
        assert line.startswith(row[0].rstrip()[:1]) and len(cells) <= max(width, starts + 60)


@given(st.text("abcdefgh  ", max_size=200), st.integers(30, 90))
def test_what_is_wrapped_loses_no_word_and_hangs_below_its_text(text, width):
    line = f"label  {text}".rstrip()
    parts = work.wrapped(line, width)
    assert " ".join(parts).split() == line.split()
    if len(line) > width:
        assert all(part.startswith("       ") for part in parts[1:])
        assert all(len(part) <= width or " " not in part.strip() for part in parts)


def test_runs_stand_under_a_head_with_when_they_began_and_how_long_they_took():
    head, *lines = saetui("jobs", cwd=OLD).stdout.splitlines()
    assert head.split() == ["run", "makes", "state", "began", "took", "done"]
    for line in lines:
        assert line[head.index("state") - 1] == " " != line[head.index("state")]
    assert any(re.search(r"\d+:\d\d", line[head.index("began") + 14 :]) for line in lines)


def test_a_text_of_several_lines_stands_in_its_own_column(monkeypatch):
    monkeypatch.setattr(work, "screen_width", lambda: 80)
    made = [{"kind": "sae", "sha256": "b4db5e6ac2a6" + "0" * 52}, {"kind": "images"}]
    shown = _facts({"prompt": "What is\nthis\t?", "latent": ["68=2x"], "made_from": made})
    assert shown[:3] == ["prompt        What is", "              this    ?", "latent        68=2x"]
    assert shown[3:5] == ["made_from     kind    sha256", "              sae     b4db5e6ac2a6"]


def test_a_run_that_died_fits_a_pipe_of_80_columns_and_goes_into_others_in_a_line(tmp_path):
    run = Run.create(Workspace(tmp_path), "doctor", {}, ["doctor", "a" * 30])
    write_json(run.path / "status.json", {"state": "running", "started": 1.0})
    listed = {
        width: CliRunner(env={"COLUMNS": width}).invoke(app, ["jobs", "--workspace", str(tmp_path)]).stdout
        for width in ("80", "")
    }
    head, told, *why = listed["80"].splitlines()
    assert "died" in told and why and all(cell_len(line) <= 80 for line in (head, told, *why))
    assert len(listed[""].splitlines()) == 2
    assert " ".join(part.strip() for part in why) in listed[""]


@given(st.lists(st.tuples(*[st.text("ab1", min_size=1, max_size=26)] * 5), min_size=1, max_size=12))
def test_a_table_wider_than_the_screen_goes_on_below_with_its_rows_numbered(rows):
    names = ("one", "two", "three", "four", "five")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "screen_width", lambda: 60)
        patch.setattr(show, "screen_width", lambda: 60)
        lines = _facts({"groups": [dict(zip(names, row, strict=True)) for row in rows]})
    assert all(cell_len(line) <= 60 for line in lines)
    parts = len(lines) // (1 + len(rows))
    assert parts * (1 + len(rows)) == len(lines)
    for number, row in enumerate(rows):
        of_it = [lines[part * (1 + len(rows)) + 1 + number][14:].split() for part in range(parts)]
        assert all(cells[0] == str(number) for cells in of_it) or parts == 1
        assert [cell for cells in of_it for cell in (cells[1:] if parts > 1 else cells)] == list(row)

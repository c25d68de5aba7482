"""saetui report: the answers that the workbench has kept go with it, unless they are not wanted."""

import pytest

from engine.config import ReportSettings
from engine.report.results import Reported
from saetui.cli.report import show, with_answers
from saetui.session import Session

ASKED = ReportSettings(sae="s")


@pytest.fixture
def kept(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = Session(workspace.root).answers
    path.parent.mkdir(parents=True)
    return path


def test_the_workbenchs_answers_are_taken_where_there_are_some(workspace, kept):
    assert with_answers(ASKED, workspace).answers == ""
    kept.write_text("")
    assert with_answers(ASKED, workspace).answers == str(kept)


def test_other_answers_or_none_can_be_asked_for(workspace, kept):
    kept.write_text("")
    assert with_answers(ReportSettings(sae="s", answers="mine.jsonl"), workspace).answers == "mine.jsonl"
    assert with_answers(ReportSettings(sae="s", answers="none"), workspace).answers == ""


def test_what_was_cut_off_and_what_is_missing_is_told(capsys):
    show(
        Reported(
            path="r.html", bytes=2_520_000, latents=2000, found=65_536, pictures=1, answers=0, missing=("No tree.",)
        )
    )
    assert capsys.readouterr().out.splitlines() == [
        "r.html",
        "2.52 MB: 2,000 latents of 65,536 (--top 0 shows all), 1 picture, 0 steered answers",
        "No tree.",
    ]

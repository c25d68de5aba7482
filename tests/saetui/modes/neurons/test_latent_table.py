"""The list of latents and its columns, without a screen."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from engine.neurons.quantities import QUANTITIES, Quantity, Shown
from engine.neurons.results import ScoredImage
from engine.server.protocol import Done, Failed, Loading, RankedLatents
from engine.workspace import Workspace
from saetui.cli.app import app
from saetui.formatting import number, percent
from saetui.modes.neurons.latent_list import LatentList
from saetui.modes.neurons.latent_table import ALL, BESIDE, LatentTable, cells, columns, known
from saetui.modes.neurons.text_search import TextSearch
from saetui.scores import Scores
from saetui.widgets.table import Column
from tests.support.scores import SUMMARY, write_scores

MS = np.array([0.1, 0.5, np.nan, 0.3])
W = len(MS)


@pytest.fixture
def scores(workspace: Workspace) -> Scores:
    path = workspace.neurons("s", "val")
    arrays = {"ms": MS, "low": MS - 0.02, "high": MS + 0.06, "matched": MS / 2, "support": np.array([5, 1234, 0, 2])}
    write_scores(path, W, **arrays, image_frequency=np.array([0.05, 0.123, 0, 0.02]))
    return Scores.open(path, workspace)


def test_columns_are_those_that_are_declared(scores: Scores) -> None:
    assert [column.title for column in columns(known(scores, ALL))] == ["MS", "±", "raw", "gain", "n", "freq"]
    assert [column.title for column in columns(known(scores, BESIDE))] == ["MS", "raw"]
    assert cells(scores, 1, known(scores, ALL)) == [".50", ".04", ".25", ".25", "1,234", "12.3%"]
    assert cells(scores, 2, BESIDE) == ["–", "–"]
    assert all(len(shown.title) <= shown.width for one in QUANTITIES for shown in (one.column, one.printed) if shown)


def test_the_list_answers_the_filter_then_a_question_then_the_filter_again(scores: Scores) -> None:
    listed = LatentList()
    listed.filter(scores, "ms>.2 ms>")
    assert listed.latents == [] and listed.mistake.startswith("a number is missing after ms>")
    listed.filter(scores, "ms>.2")
    assert listed.latents == [1, 3] and not listed.mistake
    ms = SUMMARY.ms
    head = f"s · 2 of 4 latents, {SUMMARY.alive} alive · best first\nMS {number(ms.sae.mean)}, n {ms.sae.latents} · "
    assert listed.head(scores).startswith(head)
    assert f"beaten by {percent(ms.matched.share_beaten)} · pairs {number(ms.baseline)}" in listed.head(scores)
    listed.ranked({"cosine": {3: 0.9, 0: 0.4}}, "nearest to 'x'")
    assert listed.latents == [3, 0] and "nearest to 'x': esc lists all" in listed.head(scores)
    listed.only([2], "of a node")
    assert listed.latents == [2] and not listed.matches and "s · of a node\n" in listed.head(scores)
    listed.sort, listed.descending = "support", False
    listed.filter(scores, "")
    assert listed.latents == [2, 3, 0, 1] and "4 latents" in listed.head(scores)
    assert (listed.place(0), listed.place(99)) == (2, 0)


def test_a_name_begins_with_the_word_that_was_found(scores: Scores) -> None:
    labels = scores.labels
    assert scores.name(0) == scores.name(0, first="") and scores.name(0, first="cup").startswith("cup")
    labels.set(0, "a label")
    assert scores.name(0, first="cup") == "a label"


def test_ranked_lists_say_how_well_each_latent_answers(scores: Scores) -> None:
    listed = LatentList()
    table = LatentTable(listed)
    listed.ranked({"cofire": {1: 0.12345}, "cosine": {0: 0.1, 1: -0.25}}, "related to x")
    table.show_list(scores)
    assert [column.title for column in table.columns] == ["#", "cofire", "cosine", "MS", "raw", "", "names"]
    scores.labels.set(1, text="a pen", marked=True)
    assert table._cells_of(0) == ["1", ".123", "-.250", ".50", ".25", "★", "a pen"]
    assert table._cells_of(1)[:3] == ["0", "–", ".100"], "what is not measured is not of another measure"


def test_the_head_has_intervals_and_says_first_that_crops_were_scored(workspace: Workspace) -> None:
    ms = replace(
        SUMMARY.ms,
        sae=replace(SUMMARY.ms.sae, mean=0.231, low=0.2, high=0.26),
        matched=replace(SUMMARY.ms.matched, mean=0.18, low=0.15, high=0.23),
    )
    path = write_scores(workspace.neurons("s", "val"), 3, replace(SUMMARY, ms=ms, patches=12))
    scores = Scores.open(path, workspace)
    listed = LatentList()
    listed.filter(scores, "")
    line = listed.head(scores).splitlines()[1]
    assert line.startswith(f"crops: MS .23 ±.03, n {ms.sae.latents} · matched raw .18 ±.04, beaten by ")


def test_the_commonest_class_stands_with_its_share(workspace: Workspace) -> None:
    images = [ScoredImage("a.png", "Smileys/face-smiling", (), ""), ScoredImage("b.png", None, (), "")]
    images += [ScoredImage("c.png", "flag", (), "")]
    arrays = {"class_image": np.array([0, -1, 2]), "class_share": np.array([0.875, np.nan, 1])}
    path = write_scores(workspace.neurons("s", "val"), 3, images=images, **arrays)
    scores = Scores.open(path, workspace)
    table = LatentTable(LatentList())
    table.listed.sort = "class_share"
    table.listed.filter(scores, "")
    table.show_list(scores)
    place = [column.title for column in table.columns].index("class")
    assert [table._cells_of(row)[place] for row in range(3)] == ["100% flag", " 88% face-smiling", "–"]
    printed = CliRunner(env={"COLUMNS": "120"}).invoke(app, ["neurons", str(path)]).stdout.splitlines()
    assert [line[59:73] for line in printed[4:]] == [
        "class         ",
        " 88% fa…miling",
        "–             ",
        "100% flag     ",
    ]


def test_columns_of_what_these_scores_lack_are_left_out(workspace: Workspace) -> None:
    name = Quantity("name", "a word", optional=True, derived=lambda of: np.array(of("called"), object))
    number = Quantity("number", "a number", derived=lambda of: of("called"))
    asked = [(name, Shown("name", 6, "text")), (number, Shown("number", 6, "value"))]
    scores = Scores.open(write_scores(workspace.neurons("s", "val"), 2), workspace)
    scores.neurons.__dict__["called"] = np.array([np.nan, np.nan])
    assert [column.title for column in columns(known(scores, asked))] == ["number"]
    named = Scores.open(write_scores(workspace.neurons("t", "val"), 2), workspace)
    named.neurons.__dict__["called"] = ["bird", np.nan]
    assert columns(known(named, asked))[0] == Column("name", 6, "left", ends=True, spare=True)
    assert [cells(named, latent, asked[:1]) for latent in (0, 1)] == [["bird"], ["–"]]


def test_a_search_by_text_tells_how_it_goes_and_what_it_found(scores: Scores) -> None:
    said: list[object] = []
    search = TextSearch(scores, "a hat", said.append, lambda found, title: said.append((found, title)), said.append)
    search.heard(Loading("demo", 0.0, 0))
    search.heard(Done(RankedLatents(((3, 0.5), (1, 0.25)))))
    search.heard(Failed("No text tower."))
    assert said == [
        "ranking by 'a hat': loading demo · 0:00 · esc cancels",
        ({3: 0.5, 1: 0.25}, "nearest to 'a hat'"),
        "No text tower.",
    ]


def test_neighbours_without_room_are_not_said_to_be_none(scores: Scores) -> None:
    assert scores.listed([(1, 0.5)], room=3) == "…" and scores.listed([], room=30) == "none"
    scores.labels.set(1, text="v10.5")
    assert scores.listed([(1, 10.5), (3, 0.25)], room=60) == "1 v10.5 (10.50)  3 (.25)", "names keep their digits"

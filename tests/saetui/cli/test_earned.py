"""An SAE beside what it is held against, as commands print it: 80 columns, all of it in JSON."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from engine.metrics.results import Interval
from engine.neurons.results import Beside, LatentSpread, Scored, ScoredAll
from engine.workspace import Workspace
from saetui.cli import main, scores, work
from saetui.cli.stages import show_score, show_scores
from tests.support.scores import SUMMARY
from tests.support.twins import MS, make, probed, scored


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make(workspace := Workspace(tmp_path_factory.mktemp("earned") / "w"))
    scored(workspace, "m", MS)
    scored(workspace, "q", MS - 0.1)
    scored(workspace, "d2", MS / 3)
    probed(workspace, "m", 0.0)
    probed(workspace, "q", -0.125)
    return workspace.root


def told(place: Path, capsys: pytest.CaptureFixture[str], *asked: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["show", *asked, "--workspace", str(place)])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_the_list_tells_the_best_twin_and_the_best_directions(place, capsys):
    lines = {line.split()[1]: line for line in told(place, capsys).splitlines()}
    assert re.search(
        r"\(matched neurons .20, frozen decoder .26 \[.20 .32\], k-means .12 \[.10 .14\]\)", lines["m--test"]
    )
    assert "(soft decoder ." in lines["m"] and ", PCA ." in lines["m"] and "FVE ." in lines["m"]
    assert "decoder" not in lines["q"] and "frozen decoder .38" in lines["m--t"]
    listed = {(one["kind"], one["name"]): one for one in json.loads(told(place, capsys, "--json"))["artefacts"]}
    beside = listed["neurons", "m--test"]["beside"]
    assert [(one["sae"], one["twin"], one["score"]["n"]) for one in beside] == [("q", True, 31), ("d2", False, 31)]
    assert listed["activations", "a"]["beside"] == [] and len(listed["sae", "m"]["beside"]) == 3


def test_show_tells_all_with_intervals_and_what_is_ahead(place, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = told(place, capsys, "m")
    section = out[out.index("held-out rows") :]
    assert max(map(len, section.splitlines())) <= 80
    for line in (
        "frozen decoder       .261 [.204",
        "matched raw neurons",
        "shuffled labels",
        "MS on test, 3 images by demo",
    ):
        assert line in section
    assert "saetui baseline" not in section, "nothing is missing"
    found = json.loads(told(place, capsys, "m", "--json"))["beside"]
    (ms,), (auroc,) = found["ms"], found["auroc"]
    assert ms["rows"][1]["ahead"]["mean"] == pytest.approx(0.1) and auroc["rows"][1]["ahead"]["n"] == 2
    explained = told(place, capsys, "m", "--explain")
    assert "beside.ms" in explained and "Welch" in explained and "beside.held_out.fve" in explained


def test_what_there_is_not_is_said(place, capsys):
    out = told(place, capsys, "o")
    assert "frozen encoder" in out and "There is no" not in out
    (place / "saes/z").rename(place / "saes/.z")
    assert "--frozen decoder and another --name" in told(place, capsys, "o")
    assert "There is no" not in told(place, capsys, "q"), "a control has none itself"


TWIN = Beside(control="frozen decoder", sae="f", twin=True, score=Interval(31, 0.25, 0.2, 0.3))


def test_scores_tell_their_twins(capsys):
    twins = (
        replace(TWIN, ahead=Interval(31, 0.125, 0.0625, 0.1875)),
        Beside(control="PCA", sae="p", score=replace(TWIN.score, mean=0.375), ahead=None),
    )
    one = Scored(**vars(SUMMARY), path="neurons/s--val.h5", twins=twins)
    show_score(one)
    assert "frozen decoder       .250   f, 31 latents: this SAE is ahead by .125 [" in capsys.readouterr().out
    found = replace(one, ms=replace(one.ms, sae=replace(one.ms.sae, low=0.34375, high=0.4375, latents=812)))
    show_scores(ScoredAll((found, replace(found, twins=(), made=False))))
    head, first, second, over, ours, _, *rest = capsys.readouterr().out.splitlines()[2:]
    place = head.index("twin")
    assert first[place : place + 4] == ".250" and second[place : place + 4].strip() == ""
    assert over.startswith("over latents  ") and ours.split()[:4] == ["s", "812", ".344", ".438"]
    assert "twin: the best" in rest[1] and rest[2] == "scored already: s"


@pytest.mark.parametrize("judges", [("demo",), ("demo:encoder", "hf:facebook/dinov2-with-registers-giant")])
def test_scores_of_any_size_fit_80_columns(judges, monkeypatch):
    spread = LatentSpread(-0.125, 0.987, -0.5, 65_536, low=-0.25, high=-0.0625)
    matched = replace(SUMMARY.ms.matched, latents=65_536, low=-0.25, high=-0.125, share_low=0.99, share_high=1.0)
    summary = replace(SUMMARY, sae="last-matryoshka-x4-k20-s0", alive=65_536)
    found = Scored(**vars(summary), path="n.h5", twins=(TWIN,))
    found = replace(found, ms=replace(found.ms, sae=spread, matched=matched))
    monkeypatch.setattr(work, "screen_width", lambda: 80)
    told = scores.lines(ScoredAll(tuple(replace(found, embed_with=judge) for judge in judges)))
    tables = [line for line in told if "  " in line]
    assert len(tables) == 2 * (1 + len(judges)) and max(map(len, tables)) <= 80, "\n".join(tables)

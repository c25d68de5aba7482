"""What commands print of results, in lines of 80."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engine.metrics.results import Interval
from engine.sae.stability_file import read_stability
from engine.steer.fidelity.file import write_fidelity
from engine.workspace import Workspace
from saetui.cli import main
from saetui.cli.stages import show_stability
from tests.support.reports import fidelity_of

OLD = Path(__file__).parents[2] / "old_workspace"


def test_a_stability_fits_a_line_whatever_its_names_and_numbers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = read_stability(OLD / "stability/old.json")
    of = Interval(131_072, 0.512, 0.49, 0.53)
    pair = replace(
        found.pairs[0],
        **{"first": f"layer11-{'x' * 40}-s0", "second": f"layer11-{'x' * 40}-s1", "exact": False},
        **{name: of for name in ("there", "back", "matched")},
    )
    show_stability(replace(found, pairs=(pair, pair)))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert len([line for line in lines if re.search(r"s[01]  +131,072  .512 ± .018", line)]) == 4


def test_an_sae_is_told_by_all_that_was_measured_of_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    work = Workspace(Path(shutil.copytree(OLD, tmp_path / "study")))
    write_fidelity(fidelity_of(work, "jump"), work)

    def told(*asked: str) -> str:
        with pytest.raises(SystemExit):
            main(["show", *asked, "--workspace", str(work.root)])
        return capsys.readouterr().out

    out = told("saes/jump")
    section = out[out.index("Fidelity: ") :].splitlines()
    assert max(map(len, section)) <= 80
    (accuracy,) = [line for line in section if line.startswith("zero-shot")]
    assert re.sub(" +", " ", accuracy) == "zero-shot accuracy .90 [.80 1.00] 30 .90 [.80 1.00] .25 [.15 .35]"
    for kind, name in (("fidelity", "jump--old"), ("steerability", "jump--old"), ("stability", "old")):
        assert f"saetui show {kind}/{name} says more" in section
    found = json.loads(told("saes/jump", "--json"))["measured"]
    assert [one["kind"] for one in found] == ["fidelity", "steerability", "stability"]
    assert found[0]["figures"][0]["beside"]["n"] == 30 and "measured" not in json.loads(told("stability/old", "--json"))
    explained = told("saes/jump", "--explain")
    assert "measured.fidelity.zero-shot accuracy" in explained and "measured.steerability.one word" in explained
    line = told().split("\nfidelity ")[1]
    assert "(untouched .90 [.80 1.00], mean in place .25" in " ".join(line.split()), "the list has the untouched model"

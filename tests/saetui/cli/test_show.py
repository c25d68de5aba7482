"""What commands print of results, in lines of 80."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from engine.metrics.results import Interval
from engine.sae.stability_file import read_stability
from saetui.cli.stages import show_stability

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

"""The parts of the page that say what a model does with the SAE in it: fidelity and steerability."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest

from engine.config import ReportSettings
from engine.files import read_json
from engine.report.report import report
from engine.report.uses import uses_of
from engine.steer.fidelity.file import write_fidelity
from engine.workspace import Workspace
from tests.support.reports import fidelity_of

OLD = Path(__file__).parents[2] / "old_workspace"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    without_answers = shutil.ignore_patterns("runs")
    work = Workspace(Path(shutil.copytree(OLD, tmp_path_factory.mktemp("uses") / "study", ignore=without_answers)))
    write_fidelity(fidelity_of(work, "jump"), work)
    return work


def page(place: Workspace, sae: str = "jump") -> tuple[tuple[str, ...], str]:
    made = report(ReportSettings(sae=sae, top=2, pictures=1, replace=True), place)
    return made.missing, Path(made.path).read_text(encoding="utf-8")


def tables(text: str) -> dict[str, dict[str, list[str]]]:
    """Of each table by its caption: what stands in the cells of a row, by its name."""
    found = {}
    for caption, body in re.findall(r"<caption>(.*?)</caption>(.*?)</table>", text, re.DOTALL):
        rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", body, re.DOTALL)
        plain = {name: re.findall(r"<td.*?>(.*?)</td>", rest, re.DOTALL) for name, rest in rows}
        found[html.unescape(re.sub("<.*?>", "", caption))] = {
            name: [re.sub("<.*?>", "", cell).strip() for cell in cells] for name, cells in plain.items()
        }
    return found


def test_fidelity_and_steerability_stand_there_with_their_controls(place):
    missing, text = page(place)
    found = tables(text)
    encoder = found["demo, patches at layer:2: 30 images of pictures · fidelity/jump--old.json"]
    assert encoder["right class"] == [
        "30", "90.0% [80.0 100.0]", "90.0% [80.0 100.0]", "25.0% [15.0 35.0]", "100.0% [90.0 110.0]",
    ]  # fmt: skip
    assert encoder["cosine of the embedding"][1:4] == [".900 [.800 1.000]", ".900 [.800 1.000]", ".250 [.150 .350]"]
    said = read_json(place.root / "steerability/jump--old/scores.json")
    (word,) = [rows for caption, rows in found.items() if caption.startswith("One word") and "plain image" in caption]
    assert len(word) >= len(said["word"]["conditions"]) > 3
    for one, (n, score, ahead) in zip(said["word"]["conditions"], word.values(), strict=False):
        assert int(n) == one["score"]["n"]
        assert float(score.split(" [")[0]) == pytest.approx(one["score"]["mean"], abs=6e-4)
        assert (ahead == "") == (one["condition"] == "steered")
    assert 'href="#fidelity"' in text and 'href="#steering"' in text
    assert not any("fidelity" in one or "are no steered" in one for one in missing)
    assert any("no steered answer in full: saetui steer jump" in one for one in missing)


def test_every_number_there_has_its_own_explanation(place):
    _, text = page(place)
    told = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    explained = told["explained"]
    for part in ("fidelity", "steering"):
        section = re.search(rf'<section id="{part}".*?</section>', text, re.DOTALL)[0]
        keys = set(re.findall(r'data-k="(.*?)"', section))
        assert keys and all(explained[key]["formula"] and explained[key]["n"] for key in keys)
        assert len(re.findall("data-k=", section)) == len(re.findall("data-n=", section)), "each says its own n"
    assert explained["right_class"]["source"] == "fidelity/jump--old.json"
    assert explained["one_word"]["source"] == "steerability/jump--old/scores.json"


def test_what_is_of_other_weights_is_not_there(place):
    missing, text = page(place, "matryoshka")
    assert 'id="fidelity"' not in text and "scores.json" not in text
    assert any(one.startswith("There is no fidelity: saetui fidelity matryoshka") for one in missing)
    assert uses_of("0" * 64, place).told == {}

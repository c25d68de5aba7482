"""The part of the page that holds an SAE against its twins, directions, raw neurons and shuffled labels."""

import html
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.config import ReportSettings
from engine.report.report import report
from engine.workspace import Workspace
from tests.support.twins import MS, make, probed, scored


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    make(workspace := Workspace(tmp_path_factory.mktemp("earned") / "w"))
    return workspace


def section(place: Workspace, sae: str = "m") -> str:
    text = Path(report(ReportSettings(sae=sae, replace=True), place).path).read_text()
    found = re.search(r'<section id="earned".*?</section>', text, re.DOTALL)
    return html.unescape(found[0]) if found else ""


def cells(page: str) -> dict[str, list[str]]:
    """Of each row by its name, what stands in it."""
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", page, re.DOTALL)
    plain = [(re.sub("<.*?>", "", name), re.findall(r"<td.*?>(.*?)</td>", rest, re.DOTALL)) for name, rest in rows]
    return {name.strip(): [re.sub(r"\s*<.*?>\s*", "", cell) for cell in rest] for name, rest in plain}


def test_an_sae_stands_beside_all_that_it_is_held_against(place: Workspace) -> None:
    unscored = cells(section(place))
    assert list(unscored) == ["this SAE", "soft decoder c", "frozen decoder q", "PCA d1"]
    assert all(len(row) == 2 for row in unscored.values()), "no columns of what was not measured"
    scored(place, "m", MS)
    scored(place, "q", MS - 0.1)
    probed(place, "m", 0.0)
    page = section(place)
    found = cells(page)
    assert found["this SAE"][2].startswith(f"{np.nanmean(MS):.3f}".lstrip("0") + " [") and found["this SAE"][3] == ""
    assert found["frozen decoder q"][3].startswith(".100 [") and found["frozen decoder q"][4:] == ["", ""]
    assert found["PCA d1"][2:] == ["", "", "", ""], "not scored"
    assert list(found)[-3:] == ["matched raw neurons", "random directions", "shuffled labels"]
    assert "MS on test: 3 images, by demo:encoder; AUROC in m--t: 24 images" in page
    assert 'data-k="twin_ms" data-n="31 latents"' in page and 'data-k="twin_auroc" data-n="2 concepts"' in page


def test_what_there_is_not_is_said_and_a_control_is_told_of_none(place: Workspace) -> None:
    for name in ("z", "d1", "d2"):
        shutil.rmtree(place.sae(name))
    page = section(place, "o")
    assert "--frozen decoder and another --name" in page and "saetui baseline a --of pca --k 3" in page
    assert "There is no" not in section(place, "c")

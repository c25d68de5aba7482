"""The page about an SAE: what it holds, what it says is missing, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import ReportSettings
from engine.errors import UserError
from engine.neurons.file import Neurons
from engine.neurons.labels import Labels
from engine.report import pictures
from engine.report.report import report
from engine.workspace import Workspace
from tests.support.reports import HOSTILE, SHOWN, W, write_reported
from tests.support.scores import as_crops, changing
from tests.support.synthetic import IMAGES, NAME

ASKED = ReportSettings(sae=NAME)


class Read(HTMLParser):
    """Tags, texts, and the data of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._in = ""
        self.data: dict[str, Any] = {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._in = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in == "script" and data.startswith("{"):
            self.data = json.loads(data)
        elif not self._in:
            self.texts.append(data)

    @property
    def ids(self):
        return {attributes["id"] for _, attributes in self.tags if "id" in attributes}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_reported(tmp_path_factory.mktemp("made") / "study")


@pytest.fixture
def place(made, tmp_path):
    """A workspace of this test's own; the pictures are shared."""
    folder = tmp_path / "study"
    shutil.copytree(made.root, folder, ignore=shutil.ignore_patterns("images"))
    (folder / "images").symlink_to(made.root / "images")
    return Workspace(folder)


def page(place, **asked):
    result = report(replace(ASKED, replace=True, **asked), place)
    return result, Read(Path(result.path).read_text(encoding="utf-8"))


def test_every_part_is_there_and_whole(place):
    result, read = page(place)
    parts = {"summary", "training", "scores", "latents", "hierarchy", "steering", "labels", "provenance"}
    assert parts <= read.ids
    assert (result.latents, result.found, result.answers) == (W, W, 1)
    assert result.pictures == len(read.data["pictures"]) > 20
    said = " ".join(read.texts)
    assert HOSTILE in said and "SAE attached, nothing changed" in said and "matched raw neurons" in said
    assert {one["n"] for one in read.data["latents"]} == set(range(W))


def test_latents_come_in_the_order_and_with_the_values_of_the_list(place):
    _, read = page(place, filter="support>10", sort="gain")
    with Neurons.open(place.neurons(NAME, IMAGES)) as neurons:
        assert [one["n"] for one in read.data["latents"]] == neurons.order("gain", "support>10")
        for row in read.data["latents"]:
            kept = dict(zip(read.data["fields"], row["v"], strict=True))
            assert kept["ms"] == pytest.approx(neurons.ms[row["n"]]) and kept["support"] == neurons.support[row["n"]]
            assert len(row["p"]) + row["o"] == min(len(neurons.top(row["n"])), ASKED.pictures)


def test_no_score_stands_without_its_control(place):
    _, read = page(place)
    assert [one["field"] for one in read.data["values"]][:3] == ["ms", "matched", "gain"]
    told = [attributes["data-k"] for _, attributes in read.tags if attributes.get("data-k")]
    assert told.count("group_ms") == told.count("group_matched") > 2
    assert told.count("ms_mean") == told.count("matched_mean") == 1


def test_means_of_groups_say_over_how_many_latents_they_are(place):
    """As many as have a score, and for the control as many as have both: fewer than the group has latents."""
    result, _ = page(place)
    text = Path(result.path).read_text(encoding="utf-8")
    table = text[text.index("Matryoshka groups, the coarsest first") :]
    rows = re.findall(r"<tr><th scope=.row.>(\d+)</th>(.*?)</tr>", table[: table.index("</table>")], re.DOTALL)
    with Neurons.open(place.neurons(NAME, IMAGES)) as neurons:
        group, ms, matched = np.asarray(neurons.group), np.asarray(neurons.ms), np.asarray(neurons.matched)
    fewer = []
    for number, row in rows:
        these = group == int(number)
        scored, both = (np.isfinite(one[these]).sum() for one in (ms, ms + matched))
        shown = [int(n) for n in re.findall(r'<span class="of">n (\d+)</span>', row)]
        assert shown[:3] == [scored, both, both]
        fewer.append(scored < these.sum())
    assert len(rows) > 1 and any(fewer)


def test_every_number_of_the_page_is_explained(place):
    _, read = page(place)
    explained = read.data["explained"]
    told = {attributes["data-k"] for _, attributes in read.tags if attributes.get("data-k")}
    told |= {one["field"] for one in read.data["values"]} | {"activation", "strongest"}
    assert told <= set(explained)
    assert all(explained[key]["formula"] and explained[key]["n"] and explained[key]["source"] for key in told)


def test_nothing_in_it_leads_out_of_it(place):
    _, read = page(place)
    places = [a[key] for _, a in read.tags for key in ("src", "href", "action", "srcset", "poster") if a.get(key)]
    assert places and all(one.startswith(("#", "data:image/webp;base64,")) for one in places)
    policy = next(a["content"] for _, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    assert not any(key.startswith("on") or key == "style" for _, a in read.tags for key in a)


def test_only_the_marked_and_only_the_labelled(place):
    assert [one["n"] for one in page(place, only="marked")[1].data["latents"]] in ([5, 9], [9, 5])
    assert [one["n"] for one in page(place, only="labelled")[1].data["latents"]] == [5]
    assert [one["n"] for one in page(place, only="marked", filter="NOT labelled")[1].data["latents"]] == [9]


def test_the_first_of_many_are_said_to_be_so(place):
    result, read = page(place, top=10)
    assert (result.latents, result.found, len(read.data["latents"])) == (10, W, 10)
    assert any(f"The first 10 latents of {W}" in " ".join(text.split()) for text in read.texts)


def test_pictures_without_room_are_said(place, monkeypatch):
    monkeypatch.setattr("engine.report.report.Album", partial(pictures.Album, limit=1))
    monkeypatch.setattr(pictures, "_TOGETHER", 4)
    result, read = page(place)
    assert result.pictures == 4
    assert any("more were left out to keep the file small" in text for text in read.texts)
    assert sum(row["o"] for row in read.data["latents"]) > 0


def test_the_same_workspace_gives_the_same_bytes(place):
    first = Path(page(place)[0].path).read_bytes()
    assert Path(page(place)[0].path).read_bytes() == first


def test_a_file_that_is_there_is_not_overwritten_unasked(place):
    report(ASKED, place)
    with pytest.raises(UserError, match="is there already: give another --out, or --replace it"):
        report(ASKED, place)
    other = place.root / "notes.txt"
    other.write_text("mine")
    with pytest.raises(UserError, match="is no report"):
        report(replace(ASKED, out=str(other), replace=True), place)
    assert other.read_text() == "mine"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"filter": "ms>>3"}, "is no number after ms>"),
        ({"filter": "nope>3"}, "Latents have no 'nope'"),
        ({"filter": "zzzz"}, "The filter 'zzzz' finds no latent"),
        ({"sort": "nope"}, "cannot be sorted by 'nope'"),
        ({"sae": "nope"}, "No SAE named 'nope'"),
        ({"on": "nope"}, "was not scored as 'nope'"),
        ({"pictures": 1000}, "give 0 to 64"),
        ({"top": -1}, "top is -1"),
        ({"answers": "/nowhere/kept.jsonl"}, "There is no file of answers"),
    ],
)
def test_what_is_refused_writes_nothing(place, asked, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        report(replace(ASKED, **asked), place)
    assert not list(place.root.glob("*.html"))


def test_marks_that_nobody_made_are_refused(place):
    Labels.open(place.labels(NAME)).set(5, text="", marked=False)
    place.labels(NAME).unlink()
    with pytest.raises(UserError, match="is marked: e and"):
        report(replace(ASKED, only="marked"), place)


def test_an_sae_without_scores_has_its_settings_and_curves(place):
    place.neurons(NAME, IMAGES).unlink()
    result, read = page(place)
    assert {"training", "provenance", "steering"} <= read.ids and not {"latents", "scores", "q"} & read.ids
    assert (result.latents, result.pictures) == (0, 0)
    assert any("There are no scores" in one and "saetui score" in one for one in result.missing)


def test_scores_without_their_sae_are_enough(place):
    shutil.rmtree(place.sae(NAME))
    result, read = page(place)
    assert result.latents == W and "training" not in read.ids
    assert any(one.startswith("The SAE: There is no folder") for one in result.missing)


def test_scores_of_other_weights_are_not_mixed_in(place):
    weights = place.sae(NAME) / "sae.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    result, _ = page(place)
    assert result.latents == 0 and any("other weights than it has now" in one for one in result.missing)


def test_an_sae_scored_twice_must_be_told_on_what(place):
    shutil.copy(place.neurons(NAME, IMAGES), place.neurons(NAME, "again"))
    with pytest.raises(UserError, match=r"several image sets \(again, drawn\): choose one with --on"):
        report(ASKED, place)
    assert page(place, on="again")[0].latents == W


def test_an_imported_sae_tells_where_it_came_from(place):
    (place.sae(NAME) / "training.json").unlink()
    config = place.sae(NAME) / "config.json"
    said = json.loads(config.read_text())
    said.pop("content_sha256")
    origin = {"format": "saelens", "said": {"release": f"r {HOSTILE}"}, "notes": ["its bias is folded in"]}
    config.write_text(json.dumps(said | {"origin": origin}))
    result, read = page(place)
    assert any("There are no training curves" in one for one in result.missing)
    assert {"Imported from another tool ", "saelens", f"r {HOSTILE}", "its bias is folded in"} <= set(read.texts)


def test_images_that_are_gone_are_said_and_the_rest_is_there(place):
    (place.root / "images").unlink()
    result, read = page(place)
    assert result.pictures == 0 and result.latents == W
    assert any("cannot be shown" in one for one in result.missing)
    assert all(row["p"] == [] for row in read.data["latents"])


def test_scores_without_maps_and_classes_say_so(place):
    with changing(place.neurons(NAME, IMAGES)) as file:
        del file["latents/maps"]
        texts = {"images/label": [b""] * SHOWN, "images/taxonomy": [b"[]"] * SHOWN}
        for name, values in texts.items():
            file[name][:] = values
    result, read = page(place)
    assert any("no heat maps" in one for one in result.missing) and any("no tree" in one for one in result.missing)
    assert "heat" not in read.ids and read.data["grid"] == []


def test_scores_of_patches_say_so_and_mark_the_crops(place):
    _, before = page(place)
    assert all(len(one) == 5 for row in before.data["latents"] for one in row["p"])
    as_crops(place.neurons(NAME, IMAGES), crops=4, side=0.5)
    _, read = page(place)
    said = " ".join(read.texts)
    assert "patches, each judged by the crop around it" in said and "patches that fire it" in said
    assert "patches" in {one["title"] for one in read.data["values"]} - {one["title"] for one in before.data["values"]}
    told = read.data["explained"]
    assert "patches, of which {support} fire it" in told["ms"]["n"] and told["frequency"]["n"].endswith("images")
    with Neurons.open(place.neurons(NAME, IMAGES)) as neurons:
        for row in read.data["latents"]:
            frames = neurons.frames(row["n"])
            for (*_, crop), (left, top, right, bottom) in zip(row["p"], frames, strict=False):
                percent = [100 * one for one in (left, top, right - left, bottom - top)]
                assert crop == pytest.approx(percent, abs=0.01)


def test_damaged_scores_are_refused_in_a_sentence(place):
    path = place.neurons(NAME, IMAGES)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="is damaged"):
        report(ASKED, place)


def test_it_costs_no_torch():
    code = "import sys, engine.report.report; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"

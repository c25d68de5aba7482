"""concepts from images to the file, on a real encoder: planted latents are found, and controls are at chance."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from engine.config import ConceptsSettings
from engine.errors import UserError
from engine.files import read_json
from engine.images import open_images
from engine.models import HookPoint, load_encoder
from engine.models.encoder import VisionEncoder
from engine.neurons.concept_results import ConceptsTested, read_concepts
from engine.neurons.concepts import measure_concepts
from engine.places import located
from engine.records import from_json
from engine.runs.tasks import TASKS
from engine.sae.config import SAEConfig
from engine.sae.model import SAE
from engine.workspace import Workspace
from tests.support.checkpoints import build, discerning, save

COLOURS = {
    "warm/red": (210, 40, 40),
    "warm/orange": (220, 130, 30),
    "cold/blue": (30, 60, 210),
    "cold/green": (40, 180, 60),
}
W, EACH = 32, 24


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images of one colour each, and an SAE whose latent 0 is the direction from the other colours to red."""
    import transformers

    root = tmp_path_factory.mktemp("concepts")
    rng = np.random.default_rng(0)
    lines = []
    for kind, colour in COLOURS.items():
        (root / "images" / kind).mkdir(parents=True)
        for i in range(EACH):
            picture = np.clip(np.array(colour) + rng.integers(-30, 30, (36, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(root / "images" / kind / f"{i:02d}.png")
            lines.append(json.dumps({"path": f"{kind}/{i:02d}.png", "even": i % 2 == 0}))
    (root / "images/cold/blue/broken.png").write_bytes(b"no picture")
    (root / "more.jsonl").write_text("\n".join(lines))
    options = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    save(discerning(build("dinov2")), root / "dino", transformers.BitImageProcessor(**options))
    encoder = load_encoder(str(root / "dino"), "cpu")
    hook = HookPoint.parse("last")
    means = {}
    for kind in COLOURS:
        pictures = [Image.open(root / "images" / kind / f"{i:02d}.png").convert("RGB") for i in range(4)]
        with torch.inference_mode():
            means[kind] = encoder.activations(encoder.preprocess(pictures), [hook])[hook][:, 0].mean(0)
    d = len(means["warm/red"])
    torch.manual_seed(0)
    sae = SAE(SAEConfig(arch="relu", d=d, w=W, k=4, model=str(root / "dino"), hook="last", tokens="all"))
    with torch.no_grad():
        sae.W_enc.normal_(std=0.01)
        away = means["warm/red"] - torch.stack([means[kind] for kind in COLOURS if kind != "warm/red"]).mean(0)
        sae.W_enc[:, 0] = away
        middle = torch.stack([mean @ away for kind, mean in means.items() if kind != "warm/red"]).max()
        sae.b_enc[0] = -(middle + means["warm/red"] @ away) / 2
        sae.W_dec.normal_()
        sae.save(root / "work/saes/S")
    return root


def ask(place, **more):
    given = {"sae": "S", "images": str(place / "images"), "device": "cpu", "workers": 2, "batch_size": 16} | more
    return ConceptsSettings(**given)


@pytest.fixture(scope="module")
def tested(place):
    return measure_concepts(ask(place, labels=str(place / "more.jsonl")), Workspace(place / "work"))


def test_the_planted_latent_is_found(tested):
    by_name = {one.concept: one for one in tested.tests}
    assert set(by_name) == {*(f"class={kind}" for kind in COLOURS), "warm", "cold", "even"}
    red = by_name["class=warm/red"]
    assert red.latent == 0 and red.auroc.mean > 0.95 and red.images == EACH and red.probes["1"] > 0.95
    assert red.auroc.low <= red.auroc.mean <= red.auroc.high
    assert tested.images == EACH * len(COLOURS) and tested.left_out == 0


def test_controls_stand_beside_and_chance_is_chance(tested):
    even = next(one for one in tested.tests if one.concept == "even")
    assert even.auroc.mean == pytest.approx(0.5, abs=0.25)  # 48 images
    assert tested.shuffled.auroc.mean == pytest.approx(0.5, abs=0.2)  # seven concepts of 48 images, in clusters
    assert tested.latents.auroc.mean > tested.shuffled.auroc.mean + 0.2
    assert tested.matched.auroc.mean is not None and tested.random.auroc.mean is not None
    assert tested.latents.covered >= 1 / 7 and tested.shuffled.covered == 0


def test_the_file_says_it_all(tested, place):
    path = place / "work/concepts/S--images.json"
    assert str(path) == tested.path
    kept = read_json(path)
    assert kept.pop("version") == 2
    assert kept["path"] == "concepts/S--images.json"
    again = located(from_json(ConceptsTested, kept, "The file"), place / "work")
    assert again.path == tested.path and again.tests == tested.tests and again.latents == tested.latents
    assert {one.kind for one in again.origin.made_from} == {"sae", "model", "images", "labels"}


def test_an_image_whose_activations_are_not_finite_is_named(place, monkeypatch):
    forward = VisionEncoder.activations

    def broken(self, *given):
        found = forward(self, *given)
        for values in found.values():
            values[2:3] = torch.nan
        return found

    monkeypatch.setattr(VisionEncoder, "activations", broken)
    third = open_images(place / "images").entries[2].path
    with pytest.raises(UserError, match=rf"{third} .*not finite.*leave the image out"):
        measure_concepts(ask(place, name="broken"), Workspace(place / "work"))


def test_intervals_of_older_files_and_runs_are_read(tested, place, tmp_path):
    def older(value, name=""):
        if not isinstance(value, dict):
            return [older(one) for one in value] if isinstance(value, list) else value
        if set(value) == {"n", "mean", "low", "high"}:
            return {"value": value["mean"], "low": value["low"], "high": value["high"]}
        return {key: older(one, key) for key, one in value.items()}

    told = read_json(place / "work/concepts/S--images.json")
    before = older(told) | {"version": 1}
    assert '"mean"' not in json.dumps(before) and json.dumps(before).count('"value"') == 3 * 4 + len(tested.tests)
    (path := tmp_path / "concepts/S--images.json").parent.mkdir()
    path.write_text(json.dumps({name: one for name, one in before.items() if name != "content_sha256"}))
    found = read_concepts(path)
    assert (found.tests, found.latents, found.shuffled) == (tested.tests, tested.latents, tested.shuffled)
    assert {one.auroc.n for one in found.tests} == {tested.images} and found.latents.ap.n == tested.concepts
    assert TASKS["concepts"].read(before).matched == tested.matched


def test_the_same_again(tested, place):
    again = measure_concepts(ask(place, labels=str(place / "more.jsonl"), name="again"), Workspace(place / "work"))
    assert again.tests == tested.tests and again.matched == tested.matched and again.random == tested.random
    kept = measure_concepts(ask(place, labels=str(place / "more.jsonl"), name="again"), Workspace(place / "work"))
    assert again.made and not kept.made and kept.tests == again.tests


def test_the_same_under_the_same_name_is_there_and_others_are_refused(tested, place):
    given = {"labels": str(place / "more.jsonl")}
    written = (place / "work/concepts/S--images.json").stat().st_mtime_ns
    assert measure_concepts(ask(place, **given, batch_size=9), Workspace(place / "work")).tests == tested.tests
    assert (place / "work/concepts/S--images.json").stat().st_mtime_ns == written
    for other in ({}, given | {"seed": 1}, given | {"limit": 90}):
        with pytest.raises(UserError, match="give another --name"):
            measure_concepts(ask(place, **other), Workspace(place / "work"))


def test_images_without_classes_are_refused(place, tmp_path):
    for i in range(3):
        Image.new("RGB", (36, 36), (i, 0, 0)).save(tmp_path / f"{i}.png")
    with pytest.raises(UserError, match="no concept with 5 images in each half"):
        measure_concepts(ask(place, images=str(tmp_path), name="bare"), Workspace(place / "work"))

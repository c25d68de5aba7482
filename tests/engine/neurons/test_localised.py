"""Localisation of an SAE's latents, from masks and boxes to the file, against the definition written out."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from engine.config import ScoreSettings
from engine.errors import UserError
from engine.images import open_images
from engine.images.objects import open_objects
from engine.metrics.localisation import COVERED
from engine.models import load_encoder
from engine.models.encoder import VisionEncoder
from engine.neurons.file import Neurons
from engine.neurons.localised import Covers, localised
from engine.neurons.score import score
from engine.reporter import Reporter
from engine.workspace import Workspace
from tests.support.checkpoints import build, discerning, save
from tests.support.scoring import random_sae

N, SIDE = 24, 36


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pictures of noise, of 36 pixels, in each of which kind 1 or 2 lies somewhere; the CLIP sees the middle 32."""
    root = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    rows = ["path,left,top,width,height,name"]
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for i in range(N):
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(root / f"images/{i:02d}.png")
        left, top = rng.integers(0, 20, 2).tolist()
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[top : top + 12, left : left + 14] = kind = 1 + i % 2
        if i:  # of the first, nothing is known
            Image.fromarray(mask).save(root / f"masks/{i:02d}.png")
            rows.append(f"{i:02d}.png,{left},{top},14,12,{kind}")
    (root / "boxes.csv").write_text("\n".join(rows))
    save(build("clip"), root / "clip", processor("CLIPImageProcessor"))
    save(discerning(build("dinov2")), root / "dino", processor("BitImageProcessor"))
    random_sae(str(root / "clip"), root / "work/saes/S")
    return root


def processor(name):
    options = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": 32, "width": 32}}
    return getattr(transformers, name)(**options)


def ask(place: Path, **more) -> ScoreSettings:
    return ScoreSettings(
        sae="S", images=str(place / "images"), embed_with=str(place / "dino"), batch_size=8, device="cpu", **more
    )


@pytest.fixture(scope="module")
def told(place):
    result = score(ask(place, objects=str(place / "masks"), name="told"), Workspace(place / "work"))
    with Neurons.open(result.path) as neurons:
        yield result, neurons


def cover_of(place, path):
    """By definition: the middle 32 pixels, in patches, and the share of each that the mask covers, by kind."""
    file = place / "masks" / path
    if not file.is_file():
        return None
    seen = np.asarray(Image.open(file))[2:34, 2:34]
    patches = seen.reshape(4, 8, 4, 8).swapaxes(1, 2).reshape(16, 64)
    return {kind: (patches == kind).mean(1) for kind in np.unique(seen[seen > 0]).tolist()}


def expected(place, neurons, latent):
    shown = [(one.path, heat.ravel()) for one, heat in zip(neurons.top(latent), neurons.maps(latent), strict=False)]
    known = [(cover, heat) for path, heat in shown if (cover := cover_of(place, path)) is not None and heat.any()]
    if not known:
        return None
    kinds = [kind for cover, _ in known for kind in cover]
    if kinds.count(1) == kinds.count(2):
        kind = min((1, 2), key=lambda one: np.mean([cover[one].sum() for cover, _ in known if one in cover]))
    else:
        kind = max((1, 2), key=kinds.count)
    peak, mass, chance_peak, chance_mass = [], [], [], []
    for cover, heat in known:
        on = cover.get(kind, np.zeros(16))
        best = np.flatnonzero(heat == heat.max())
        peak.append(np.mean(on[best] > COVERED))
        mass.append((heat.astype(float) * on).sum() / heat.astype(float).sum())
        chance_peak.append(np.mean(on > COVERED))
        chance_mass.append(on.mean())
    return [np.mean(each) for each in (peak, mass, chance_peak, chance_mass)]


def test_localisation_equals_its_definition(place, told):
    result, neurons = told
    found = np.stack([neurons.peak, neurons.mass, neurons.chance_peak, neurons.chance_mass], 1)
    wanted = [expected(place, neurons, latent) for latent in range(neurons.w)]
    assert sum(one is not None for one in wanted) > 20 and any(one is None for one in wanted)
    for latent, one in enumerate(wanted):
        np.testing.assert_allclose(found[latent], [np.nan] * 4 if one is None else one, rtol=1e-3, atol=1e-4)
    means = np.nanmean(found, axis=0)
    assert list(vars(result.localisation).values()) == pytest.approx(means.tolist())
    assert neurons.order("peak", "peak>=0")[0] == np.nanargmax(neurons.peak)


def test_boxes_and_masks_of_the_same_objects_say_the_same(place, told):
    boxes = score(ask(place, objects=str(place / "boxes.csv"), name="boxes"), Workspace(place / "work"))
    assert vars(boxes.localisation) == pytest.approx(vars(told[0].localisation))


def test_scores_without_objects_have_none_and_get_them_when_asked(place, tmp_path):
    work = Path(shutil.copytree(place / "work", tmp_path / "work"))
    plain = score(ask(place, name="plain"), Workspace(work))
    with Neurons.open(plain.path) as neurons:
        assert plain.localisation is None and np.isnan(neurons.peak).all() and neurons.complete
    again = score(ask(place, name="plain", objects=str(place / "masks")), Workspace(work))
    assert again.made and again.localisation is not None and again.ms == plain.ms
    assert not score(ask(place, name="plain", objects=str(place / "masks")), Workspace(work)).made
    assert not score(ask(place, name="plain"), Workspace(work)).made
    with pytest.raises(UserError, match=r"the objects .*masks, not .*boxes.csv"):
        score(ask(place, name="plain", objects=str(place / "boxes.csv")), Workspace(work))


def test_objects_of_other_pictures_are_refused_and_nothing_is_written(place, tmp_path):
    (tmp_path / "masks").mkdir()
    Image.new("L", (SIDE, SIDE), 1).save(tmp_path / "masks/other.png")
    with pytest.raises(UserError, match=r"says nothing of the images, as of 00\.png"):
        score(ask(place, objects=str(tmp_path / "masks"), name="other"), Workspace(place / "work"))
    assert not (place / "work/neurons/S--other.h5").exists()


class Padding(VisionEncoder):
    """What an encoder's preprocessing may do: scale, put on a grey square, normalise channel by channel."""

    grid, patch_size = (4, 4), (8, 8)

    def __init__(self):
        """Without a model."""

    def preprocess(self, images):
        (image,) = images
        page = Image.new("RGB", (32, 32), (128, 128, 128))
        page.paste(image.resize((32, 16)), (0, 8))
        array = torch.from_numpy(np.asarray(page).copy()).permute(2, 0, 1).float() / 255
        return {"pixel_values": ((array - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / 0.27)[None]}

    def embed_text(self, texts):
        raise AssertionError

    _forward = embed_text


def test_padding_is_no_object_and_scaling_is_followed():
    mask = Image.new("L", (64, 32))
    mask.paste(255, (0, 0, 32, 32))
    found = Covers(Padding()).of(mask).reshape(4, 4)
    np.testing.assert_allclose(found, [[0] * 4, [1, 1, 0, 0], [1, 1, 0, 0], [0] * 4], atol=0.05)


def test_nothing_fires_nothing_is_asked(place):
    dead = np.full((3, 2), -1, np.int32)
    encoder = load_encoder(str(place / "clip"))
    images, objects = open_images(place / "images"), open_objects(str(place / "masks"))
    made = localised(encoder, images, [], dead, np.zeros((3, 2, 4, 4), np.float16), objects, Reporter())
    assert all(np.isnan(values).all() and len(values) == 3 for values in made.values())

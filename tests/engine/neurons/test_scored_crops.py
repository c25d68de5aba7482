"""Scores of patches, each judged by the crop around it, against their definitions; and of Matryoshka groups."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.activations.store import Store
from engine.artefacts.entries import StoreEntry
from engine.artefacts.relink import relink
from engine.config import RelinkSettings
from engine.errors import Stopped, UserError
from engine.images import open_images
from engine.models import HookPoint, load_encoder
from engine.neurons.asked import check_score
from engine.neurons.cropping import Cropping
from engine.neurons.crops import AsSeen
from engine.neurons.file import Neurons
from engine.neurons.score import score
from engine.reporter import Reporter
from engine.runs.expected import unseen
from engine.sae.model import SAE
from engine.workspace import Workspace
from tests.engine.metrics.test_parts import pair_by_pair
from tests.support.scoring import HOOK, N, W, ask, random_sae

CROPS, SIDE, SEED = 3, 0.5, 4


@pytest.fixture(scope="module")
def cropped(place):
    asked = ask(place, pooling="crop", crops=CROPS, crop_side=SIDE, seed=SEED, name="crops")
    result = score(asked, Workspace(place / "work"))
    with Neurons.open(result.path) as neurons:
        yield result, neurons, asked


def by_hand(place: Path):
    """Latents and embeddings of the patches that are scored, and their images, one after the other."""
    images = open_images(place / "images")
    clip, dino, sae = (
        load_encoder(str(place / "clip")),
        load_encoder(str(place / "dino")),
        SAE.load(place / "work/saes/S"),
    )
    z, E, image = [], [], []
    for number, entry in enumerate(images.entries):
        if entry.path == "animal/dog/05b.png":
            continue
        inputs = clip.preprocess([images.load(number)])
        with torch.inference_mode():
            x = clip.activations(inputs, [HookPoint.parse(HOOK)])[HookPoint.parse(HOOK)][0, 1:]
            latents = sae.encode(x).numpy()
        mean, std = (torch.tensor(clip.preprocessing[name])[:, None, None] for name in ("image_mean", "image_std"))
        pixels = (inputs["pixel_values"][0] * std + mean).mul(255).round().byte().permute(1, 2, 0).numpy()
        drawn = np.random.default_rng([SEED, number]).choice(16, CROPS, replace=False)
        for patch in sorted(drawn.tolist()):
            top, left = (min(max(8 * at + 4 - 8, 0), 16) for at in divmod(patch, 4))
            crop = Image.fromarray(pixels[top : top + 16, left : left + 16])
            with torch.inference_mode():
                E.append(
                    dino.activations(dino.preprocess([crop]), [HookPoint("last")])[HookPoint("last")][0, 0].numpy()
                )
            z.append(latents[patch])
            image.append(number)
    return np.array(z), np.array(E), np.array(image)


def test_patches_are_scored_by_their_definition_beside_as_many_raw_ones(place, cropped):
    result, neurons, _ = cropped
    z, E, image = by_hand(place)
    assert (result.pooling, result.tokens, result.images, result.patches) == ("crop", "patches", N, CROPS * N)
    np.testing.assert_array_equal(neurons.support, (z > z.min(axis=0)).sum(axis=0))
    expected = [pair_by_pair(column, E, image) if (column > 0).sum() > 1 else np.nan for column in z.T.astype(float)]
    np.testing.assert_allclose(neurons.ms, expected, rtol=1e-3, atol=1e-3)
    known = ~np.isnan(neurons.low)
    assert known.sum() > W / 2 and (neurons.low[known] <= neurons.ms[known]).all()
    both = ~np.isnan(neurons.ms) & ~np.isnan(neurons.matched)
    assert result.ms.matched.latents == both.sum() > W / 2
    baseline = pair_by_pair(np.append(np.ones(len(image)), 0.0), np.vstack([E, E[:1]]), np.append(image, -1))
    assert result.ms.baseline == pytest.approx(baseline, abs=1e-3)


def test_top_images_are_those_of_whole_images(scored, cropped):
    _, whole, _ = scored
    result, neurons, _ = cropped
    for name in ("top_images", "top_activations", "image_frequency", "token_frequency", "distinct"):
        np.testing.assert_array_equal(getattr(neurons, name), getattr(whole, name), err_msg=name)
    np.testing.assert_array_equal(neurons.maps(0), whole.maps(0))
    judged = [one for one in neurons.provenance.made_from if one.kind == "embeddings"]
    assert len(judged) == 2 and "-crops-" in judged[1].name and len(result.ms.groups) == 2


def test_other_crops_are_refused_and_the_same_are_not_scored_again(place, cropped):
    _, _, asked = cropped
    work = Workspace(place / "work")
    assert not score(asked, work).made
    for changed, says in (({"crops": 2}, "crops 3, not 2"), ({"crop_side": 0.3}, "crop side 0.5, not 0.3")):
        with pytest.raises(UserError, match=says):
            score(ask(place, **{**vars(asked), **changed}), work)


def test_stopping_keeps_the_crops_that_were_judged(place):
    work = Workspace(place / "work")
    asked = ask(place, pooling="crop", crops=2, name="stopped")

    class Stopping(Reporter):
        stages: list[str] = []

        def event(self, event):
            self.stages += [event.name] if hasattr(event, "name") else []

        def check(self):
            if self.stages[-1] == "encoding":
                raise Stopped()

    before = set((place / "work/embeddings").iterdir())
    with pytest.raises(Stopped, match="what the judge saw is kept"):
        score(asked, work, Stopping())
    (made,) = set((place / "work/embeddings").iterdir()) - before
    assert Store.open(made).rows == 2 * N
    assert score(asked, work).patches == 2 * N and len(set((place / "work/embeddings").iterdir()) - before) == 1


def test_a_store_of_crops_is_known_as_one_and_follows_its_pictures(place, cropped, tmp_path):
    root = tmp_path / "there"
    shutil.copytree(place, root)
    (place / "images").rename(root / "elsewhere")
    try:
        with pytest.raises(UserError, match=r"is missing|is another image"):
            relink(RelinkSettings(old=str(place / "images"), new=str(root / "images/animal")), Workspace(root / "work"))
        moved = relink(RelinkSettings(old=str(place / "images"), new=str(root / "elsewhere")), Workspace(root / "work"))
    finally:
        (root / "elsewhere").rename(place / "images")
    assert any("-crops-" in one.file for one in moved.files)
    with Neurons.open(cropped[0].path) as neurons:
        (name,) = (one.name for one in neurons.provenance.made_from if "-crops-" in one.name)
    entry = StoreEntry.read(place / "work/embeddings" / name)
    assert (entry.pictures, entry.of_images) == (N + 1, CROPS * (N + 1)) and entry.manifest.command == ""
    assert entry.so_far == f"{CROPS * (N + 1)} of {CROPS * (N + 1)} crops"
    work, encoder = Workspace(place / "work"), str(place / "clip")
    asked = ask(place, pooling="crop", crops=CROPS, crop_side=SIDE, seed=SEED)
    assert unseen([asked], "white", N + 1, work) == []
    assert unseen([replace(asked, crops=5, embed_with=encoder)], "white", N + 1, work) == [
        (encoder, N + 1),
        (encoder, 5 * (N + 1)),
    ]


def test_an_sae_without_patches_and_an_encoder_without_a_grid_are_refused(place, monkeypatch):
    work = Workspace(place / "work")
    random_sae(str(place / "clip"), place / "work/saes/C", tokens="cls")
    with pytest.raises(UserError, match="C has no patches, but one token an image: use --pooling max"):
        check_score(ask(place, sae="C", pooling="crop"), work)
    with pytest.raises(UserError, match="C has no patches"):
        score(ask(place, sae="C", pooling="crop"), work)
    monkeypatch.setattr("engine.models.encoder.VisionEncoder.grid", None)
    with pytest.raises(UserError, match=r"no fixed grid of patches.*use --pooling max or mean"):
        score(ask(place, pooling="crop", name="none"), work)


def test_patches_are_drawn_alike_and_crops_hold_theirs():
    cropping = Cropping(2, 0.3, 0)
    drawn = np.concatenate([cropping.patches(image, (3, 4)) for image in range(3000)])
    counts = np.bincount(drawn, minlength=12)
    assert counts.sum() == 6000 and abs(counts - 500).max() < 5 * np.sqrt(500)
    assert Cropping(99, 0.3, 0).patches(7, (3, 4)).tolist() == list(range(12))
    for side, patch in itertools.product((0.0, 0.3, 1.0), range(12)):
        left, top, right, bottom = Cropping(2, side, 0).box(patch, (3, 4), (8, 10))
        row, column = divmod(patch, 4)
        assert right - left == bottom - top == max(10, round(side * 24))
        assert 0 <= left <= 10 * column and 10 * (column + 1) <= right <= 40
        assert 0 <= top <= 8 * row and 8 * (row + 1) <= bottom <= 24


def test_the_crop_around_the_strongest_patch_is_that_which_the_judge_would_see():
    cropping, grid = Cropping(2, 0.4, 0), (3, 4)
    maps = np.zeros((14, *grid))
    for patch in range(12):
        maps[patch][divmod(patch, 4)] = 1 + patch
    maps[12, 0, 1], maps[13] = np.nan, np.nan
    maps[12, 2, 3] = 0.1
    *found, strange, nothing = cropping.around_strongest(maps)
    assert strange == found[11] and nothing is None
    for patch, frame in enumerate(found):
        box = cropping.box(patch, grid, (50, 50))
        np.testing.assert_allclose(np.array(frame) * [200, 150, 200, 150], box, atol=0.6)


def test_top_images_of_crops_have_frames_and_those_of_images_none(scored, cropped):
    _, whole, _ = scored
    _, neurons, asked = cropped
    assert whole.frames(0) == []
    cropping, fired = Cropping(asked.crops, asked.crop_side, asked.seed), 0
    for latent in range(W):
        shown = [one for one in neurons.frames(latent) if one is not None]
        maps = neurons.maps(latent)[: len(neurons.top(latent))]
        assert shown == [cropping.frame(int(one.argmax()), neurons.grid) for one in maps]
        fired += len(shown)
    assert fired > W


def test_a_picture_is_cut_as_the_encoder_sees_it(place):
    clip = load_encoder(str(place / "clip"))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    np.testing.assert_array_equal(np.array(AsSeen(clip).picture(noise)), np.array(noise))


def test_each_group_is_scored_beside_its_control(scored):
    result, neurons, _ = scored
    ms = result.ms
    assert ms.sae.std == pytest.approx(np.nanstd(neurons.ms, ddof=1))
    assert ms.sae.latents == sum(group.ms.n for group in ms.groups)
    assert ms.sae.low < ms.sae.mean < ms.sae.high and ms.matched.low < ms.matched.mean < ms.matched.high
    for group, latents in zip(ms.groups, (slice(0, 12), slice(12, W)), strict=True):
        found, matched = neurons.ms[latents], neurons.matched[latents]
        both = ~np.isnan(found) & ~np.isnan(matched)
        assert group.latents == len(found) and group.ms.mean == pytest.approx(np.nanmean(found))
        assert group.std == pytest.approx(np.nanstd(found, ddof=1)) and group.ms.low < group.ms.mean < group.ms.high
        assert group.matched.mean == pytest.approx(matched[both].mean()) and group.matched.n == both.sum()
        assert group.beaten.mean == pytest.approx((found[both] > matched[both]).mean())

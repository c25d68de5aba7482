"""score() from images to the file, on real checkpoints of real classes, against the definitions."""

import json
import os
import re
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.activations.store import Store
from engine.config import MsSettings
from engine.errors import Stopped, UserError
from engine.files import read_json, write_json
from engine.images import BrokenImage, Images, open_images
from engine.metrics.firing import BINS
from engine.metrics.matched_neurons import matched_ms
from engine.metrics.monosemanticity import monosemanticity
from engine.models import HookPoint, load_encoder
from engine.neurons import seen as module
from engine.neurons.file import Neurons
from engine.neurons.matrix_scores import ms_files
from engine.neurons.names import directions, rank_text
from engine.neurons.results import Related, Scored
from engine.neurons.score import score
from engine.records import from_json, to_json
from engine.reporter import Reporter
from engine.sae.model import SAE
from engine.workspace import Workspace
from tests.support.scoring import HOOK, KINDS, PER_KIND, WORDS, Listener, N, W, ask, random_sae


@pytest.fixture(scope="module")
def truth(place):
    """Everything score should find, from all images at once: tokens, latents, embeddings."""
    images = open_images(place / "images")
    pictures = [images.load(i) for i in range(len(images)) if images.entries[i].path != "animal/dog/05b.png"]
    clip, dino = load_encoder(str(place / "clip")), load_encoder(str(place / "dino"))
    with torch.inference_mode():
        x = clip.activations(clip.preprocess(pictures), [HookPoint.parse(HOOK)])[HookPoint.parse(HOOK)]
        E = dino.activations(dino.preprocess(pictures), [HookPoint("last")])[HookPoint("last")][:, 0]
        z = SAE.load(place / "work/saes/S").encode(x)
    return x.numpy(), z.numpy(), E.numpy()


def test_the_trial_is_a_fair_one(truth):
    _, z, E = truth
    unit = E / np.linalg.norm(E, axis=1, keepdims=True)
    assert (unit @ unit.T).std() > 0.1
    share = (z > 0).mean()
    assert 0.02 < share < 0.5 and z.shape == (N, 17, W)


def test_scores_equal_their_definitions(scored, truth):
    result, neurons, _ = scored
    _, z, E = truth
    pooled = z[:, 1:].max(axis=1)
    expected = monosemanticity(pooled, E)
    np.testing.assert_allclose(neurons.ms, expected.ms, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(neurons.support, expected.support)
    np.testing.assert_allclose(neurons.effective_support, expected.effective_support, rtol=1e-4)
    np.testing.assert_allclose(neurons.low, expected.low, rtol=1e-3, atol=1e-4)
    assert result.ms.sae.mean == pytest.approx(expected.mean, rel=1e-4)
    assert result.ms.sae.latents == W - expected.undefined
    assert result.ms.baseline == pytest.approx(expected.baseline, rel=1e-4)
    assert result.ms.lift == pytest.approx(expected.mean - expected.baseline, rel=1e-3)
    assert result.ms.lift_latents == result.ms.sae.latents and result.ms.sae.low is not None
    assert result.ms.lift_low == pytest.approx(result.ms.sae.low - expected.baseline, rel=1e-3)
    assert result.ms.lift_low < result.ms.lift < result.ms.lift_high
    assert result.ms.median_support == np.median(expected.support[(pooled > 0).any(0)])
    assert (result.alive, result.dead) == ((pooled > 0).any(0).sum(), (~(pooled > 0).any(0)).sum())
    assert result.dead >= 1 and np.isnan(neurons.ms[5])


def test_raw_neurons_are_scored_three_ways(scored, truth):
    result, neurons, _ = scored
    x, _, E = truth
    up, down = x[:, 1:].max(axis=1), (-x[:, 1:]).max(axis=1)
    raw = monosemanticity(up, E)
    assert result.ms.raw.mean == pytest.approx(raw.mean, rel=1e-4)
    assert result.ms.raw.columns == np.isfinite(raw.ms).sum()
    both = np.maximum(np.concatenate([up, down], axis=1), 0)
    rectified = monosemanticity(both, E)
    assert result.ms.raw_relu.best == pytest.approx(rectified.best, rel=1e-4)
    assert result.ms.raw_relu.mean == pytest.approx(rectified.mean, rel=1e-4)
    assert result.ms.raw_relu.columns == np.isfinite(rectified.ms).sum()
    np.testing.assert_allclose(neurons.matched, matched_ms(up, down, E, neurons.support), rtol=1e-3, equal_nan=True)
    both_scored = ~np.isnan(neurons.ms) & ~np.isnan(neurons.matched)
    assert result.ms.matched.latents == both_scored.sum() > W / 2
    assert result.ms.matched.mean == pytest.approx(neurons.matched[both_scored].mean())
    beaten = (neurons.ms > neurons.matched)[both_scored].mean()
    assert result.ms.matched.share_beaten == pytest.approx(beaten)


def test_frequencies_and_activations(scored, truth):
    result, neurons, _ = scored
    z = truth[1][:, 1:]
    pooled = z.max(axis=1)
    np.testing.assert_allclose(neurons.token_frequency, (z > 0).mean(axis=(0, 1)))
    np.testing.assert_allclose(neurons.image_frequency, (pooled > 0).mean(axis=0))
    np.testing.assert_allclose(neurons.maximum, pooled.max(axis=0), rtol=1e-4)
    with np.errstate(invalid="ignore"):
        means = np.nan_to_num(pooled.sum(axis=0) / (pooled > 0).sum(axis=0))
    np.testing.assert_allclose(neurons.mean, means, rtol=1e-4)
    assert result.frequency.l0 == pytest.approx((z > 0).sum(axis=2).mean())
    share = (z > 0).mean(axis=(0, 1))
    assert result.frequency.dense == pytest.approx((share > 0.1).mean())
    assert result.frequency.median == pytest.approx(np.median(share[share > 0]))
    assert (result.tokens, result.pooling) == ("patches", "max")


def test_histograms_count_images_by_activation(scored):
    _, neurons, _ = scored
    assert neurons.histogram.shape == (W, BINS)
    np.testing.assert_array_equal(neurons.histogram.sum(axis=1), np.rint(neurons.image_frequency * N))
    assert (neurons.histogram[neurons.maximum > 0, -1] >= 1).all()


def test_top_images_and_their_maps(scored, truth):
    _, neurons, _ = scored
    z = truth[1][:, 1:]
    pooled = z.max(axis=1)
    for k in range(W):
        order = np.argsort(-pooled[:, k], kind="stable")[:16]
        order = order[pooled[order, k] > 0]
        assert neurons.top_images[k].tolist() == order.tolist() + [-1] * (16 - len(order))
        np.testing.assert_allclose(neurons.top_activations[k][: len(order)], pooled[order, k], rtol=1e-4)
        np.testing.assert_allclose(
            neurons.maps(k)[: len(order)], z[order, :, k].reshape(-1, 4, 4), rtol=2e-3, atol=1e-5
        )


def test_images_are_listed_without_the_broken_one(scored):
    result, neurons, listener = scored
    assert (result.images, result.broken) == (N, 1)
    assert [image.label for image in neurons.images] == [kind for kind in KINDS for _ in range(PER_KIND)]
    assert neurons.images[0].taxonomy == ("animal", "cat")
    assert all(len(image.sha256) == 64 for image in neurons.images)
    assert any("05b.png" in message for message in listener.warnings())


def test_depth_and_uniqueness_of_the_top_images(scored):
    result, neurons, _ = scored
    for k in np.flatnonzero(~np.isnan(neurons.depth)):
        paths = [neurons.images[i].taxonomy for i in neurons.top_images[k]]
        lengths = [2 if a == b else int(a[0] == b[0]) for a, b in combinations(paths, 2)]
        assert neurons.depth[k] == pytest.approx(np.mean(lengths))
    assert [group.latents for group in result.hierarchy.groups] == [12, W - 12]
    sets = [set(row[row >= 0].tolist()) for row in neurons.top_images]
    jaccard = [len(a & b) / len(a | b) for a, b in combinations(filter(None, sets), 2)]
    assert result.uniqueness.pairs == len(jaccard)
    assert result.uniqueness.above_half == sum(value > 0.5 for value in jaccard)


def test_a_table_of_parents_is_the_taxonomy_and_another_one_is_refused(scored, place, tmp_path):
    parents = tmp_path / "parents.csv"
    parents.write_text("child,parent\ncat,pet\ndog,pet\npet,living\ncar,dead\nhat,dead\n")
    again = ask(place, name="placed", taxonomy=str(parents))
    result = score(again, Workspace(place / "work"))
    with Neurons.open(result.path) as neurons:
        assert {image.taxonomy for image in neurons.images} == {
            *(("living", "pet", kind) for kind in ("cat", "dog")),
            *(("dead", kind) for kind in ("car", "hat")),
        }
        assert np.nanmax(neurons.depth) > np.nanmax(scored[1].depth)
    found = result.hierarchy
    assert found.random_low < found.expected < found.random_high
    assert all(one.random_low < found.expected < one.random_high for one in found.groups if one.depth is not None)
    assert not score(again, Workspace(place / "work")).made
    parents.write_text(parents.read_text() + "van,dead\n")
    for other in (again, replace(again, taxonomy="")):
        with pytest.raises(UserError, match="the taxonomy"):
            score(other, Workspace(place / "work"))


def test_latents_of_images_that_the_judge_finds_alike_are_counted(scored):
    """Its images of a kind are noise over one colour: copies, as the judge sees them."""
    result, neurons, _ = scored
    assert result.copies == neurons.copies.sum() > 0
    for k in np.flatnonzero(neurons.copies):
        assert 2 * neurons.distinct[k] <= (neurons.top_images[k] >= 0).sum()


def test_names_come_from_the_text_tower(scored):
    result, neurons, _ = scored
    alive = neurons.maximum > 0
    assert result.named == alive.sum()
    assert all(
        set(names) <= set(WORDS) and len(names) == 5 for names in np.array(neurons.names, object)[alive].tolist()
    )
    assert neurons.names[5] == []
    assert neurons.table(search="cat", top=3)


def test_the_summary_is_json_and_the_origin_is_told(scored, place):
    result, neurons, _ = scored
    told = json.loads(json.dumps(to_json(result), allow_nan=False))
    assert from_json(Scored, told, "it") == result
    assert Scored(**vars(neurons.summary), path=result.path) == result
    assert {"path", "made", "ms", "alive"} < set(told)
    made_from = neurons.provenance.made_from
    assert [source.kind for source in made_from] == ["sae", "model", "embeddings", "images", "vocabulary"]
    assert [len(source.sha256) for source in made_from] == [64, 129, 64, 64, 64]
    assert Path(result.path) == place / "work/neurons/S--images.h5"


def test_neighbours_are_those_of_the_decoder_and_of_the_images(scored, truth, place):
    _, z, _ = truth
    _, neurons, _ = scored
    fires = z[:, 1:].max(axis=1) > 0
    decoder = SAE.load(place / "work/saes/S").W_dec.double().numpy()
    assert neurons.neighbours(5) == Related([], [])
    for latent in set(range(W)) - {5}:
        found = neurons.neighbours(latent)
        assert len(found.near) == 8
        for other, cosine in found.near:
            lengths = np.linalg.norm(decoder[latent]) * np.linalg.norm(decoder[other])
            assert cosine == pytest.approx(decoder[latent] @ decoder[other] / lengths, abs=1e-5)
        jaccard = (fires & fires[:, [latent]]).sum(axis=0) / np.maximum((fires | fires[:, [latent]]).sum(axis=0), 1)
        jaccard[latent] = 0
        expected = [k for k in np.argsort(-jaccard, kind="stable")[:8] if jaccard[k] > 0]
        assert found.cofiring == [(k, pytest.approx(jaccard[k])) for k in expected]


def test_directions_rank_words_as_names_do(scored, place):
    _, neurons, _ = scored
    clip, images = load_encoder(str(place / "clip")), open_images(place / "images")
    pictures = [images.load(i) for i in range(len(images)) if images.entries[i].path != "animal/dog/05b.png"]
    joint = clip.activations(clip.preprocess(pictures), [HookPoint("last")])[HookPoint("last")][:, 0].numpy()
    np.testing.assert_allclose(neurons.directions, directions(neurons.top_images, joint), atol=2e-3)
    text = clip.embed_text(neurons.words).detach().numpy()
    ranked = rank_text(text, neurons.directions, neurons.word_mean)
    named = np.flatnonzero((neurons.top_images >= 0).any(axis=1))
    best = np.sort(ranked[:, named], axis=0)[::-1]
    np.testing.assert_allclose(best[0], neurons.name_scores[named, 0], atol=2e-3)


def test_again_gives_the_same_bytes_from_the_kept_embeddings(scored, place, monkeypatch):
    before = Path(scored[0].path).read_bytes()
    kept = {path: path.stat().st_mtime_ns for path in (place / "work/embeddings").rglob("shard-*.h5")}
    Path(scored[0].path).unlink()
    monkeypatch.setattr(module, "_ENCODED_BYTES", 1)  # one image at a time
    result = score(ask(place), Workspace(place / "work"))
    assert len(kept) == 1 and all(path.stat().st_mtime_ns == time for path, time in kept.items())
    with Neurons.open(result.path) as again:
        np.testing.assert_allclose(again.ms, scored[1].ms, rtol=1e-6)
        np.testing.assert_array_equal(again.top_images, scored[1].top_images)
    monkeypatch.undo()
    Path(result.path).unlink()
    assert Path(score(ask(place), Workspace(place / "work")).path).read_bytes() == before


def bitmaps(root, seed):
    """Pictures of one size in bytes, whatever they show."""
    rng = np.random.default_rng(seed)
    root.mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (36, 36, 3), dtype=np.uint8)).save(root / f"{i:02d}.bmp")
    return root


def test_embeddings_are_not_reused_for_other_pictures_of_equal_names_and_sizes(place, tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, two = bitmaps(tmp_path / "a/val", 1), bitmaps(tmp_path / "b/val", 2)
    work = Workspace(tmp_path / "work")
    shutil.copytree(place / "work/saes/S", work.sae("S"))
    for images, name in ((one, "one"), (two, "two")):
        result = score(ask(place, images=str(images), name=name), work)
        with Neurons.open(result.path) as neurons:
            source = next(one for one in neurons.provenance.made_from if one.kind == "embeddings")
        store = Store.open(work.embeddings(source.name))
        dino, pictures = load_encoder(str(place / "dino")), open_images(images)
        E = dino.activations(dino.preprocess([pictures.load(i) for i in range(12)]), [HookPoint("last")])
        np.testing.assert_allclose(store.read(0, 12), E[HookPoint("last")][:, 0].detach().numpy(), atol=1e-5)
    assert len(list((work.root / "embeddings").iterdir())) == 2
    assert not score(ask(place, images=str(one), name="one"), work).made, "nor are those of the first thrown away"


def see_through(root):
    """Pictures whose upper half is transparent, above colours."""
    rng = np.random.default_rng(0)
    root.mkdir()
    for i in range(12):
        pixels = rng.integers(0, 255, (36, 36, 4), dtype=np.uint8)
        pixels[..., 3] = np.arange(36)[:, None] // 18 * 255
        Image.fromarray(pixels).save(root / f"{i:02d}.png")
    return root


def test_encoder_and_judge_see_through_images_as_the_store_of_the_sae_did(place, tmp_path):
    images, work = see_through(tmp_path / "val"), Workspace(tmp_path / "work")
    results = {}
    for shown in ("white", "uncovered"):
        sae = SAE.load(place / "work/saes/S")
        sae.config = replace(sae.config, transparency=shown)
        sae.save(work.sae(shown))
        result = score(ask(place, sae=shown, images=str(images)), work)
        pictures = [open_images(images, transparency=shown).load(i) for i in range(12)]
        clip, dino = load_encoder(str(place / "clip")), load_encoder(str(place / "dino"))
        x = clip.activations(clip.preprocess(pictures), [HookPoint.parse(HOOK)])[HookPoint.parse(HOOK)]
        E = dino.activations(dino.preprocess(pictures), [HookPoint("last")])[HookPoint("last")][:, 0]
        with Neurons.open(result.path) as neurons:
            source = next(one for one in neurons.provenance.made_from if one.kind == "embeddings")
            np.testing.assert_allclose(neurons.maximum, sae.encode(x)[:, 1:].amax((0, 1)).detach(), rtol=1e-4)
        store = results[shown] = Store.open(work.embeddings(source.name))
        np.testing.assert_allclose(store.read(0, 12), E.detach().numpy(), atol=1e-5)
    assert {name: store.manifest.transparency for name, store in results.items()} == {n: n for n in results}


def test_a_picture_that_could_not_be_read_once_ends_no_later_score(place, tmp_path, monkeypatch):
    images, work = bitmaps(tmp_path / "val", 1), Workspace(tmp_path / "work")
    shutil.copytree(place / "work/saes/S", work.sae("S"))
    read_bytes, tries = Images.read_bytes, []

    def first_time_broken(self, index):
        tries.append(index)
        if index == 5 and tries.count(5) == broken:
            raise BrokenImage(self.entries[5].path, "Input/output error")
        return read_bytes(self, index)

    monkeypatch.setattr(Images, "read_bytes", first_time_broken)
    for broken in (2, 3):  # when the judge reads it (the first is for its hash), or after that
        tries.clear()
        with pytest.raises(UserError, match=r"05.bmp (could not be read at first, and can be|cannot be read any more)"):
            score(ask(place, images=str(images)), work)
        shutil.rmtree(work.root / "neurons", ignore_errors=True)
        assert score(ask(place, images=str(images)), work).images == 12
        shutil.rmtree(work.root / "embeddings")
        shutil.rmtree(work.root / "neurons")
        for path in images.iterdir():
            os.utime(path, ns=(1, broken))


def test_an_image_that_was_mended_is_scored_by_the_same_command(place, tmp_path):
    images, work = bitmaps(tmp_path / "val", 1), Workspace(tmp_path / "work")
    shutil.copytree(place / "work/saes/S", work.sae("S"))
    whole = (images / "05.bmp").read_bytes()
    (images / "05.bmp").write_bytes(whole[:100])
    before = score(ask(place, images=str(images)), work)
    assert (before.images, before.broken) == (11, 1)
    (images / "05.bmp").write_bytes(whole)
    after = score(ask(place, images=str(images)), work)
    assert after.made and (after.images, after.broken, after.path) == (12, 0, before.path)
    (images / "05.bmp").write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"holds scores of the images .* as it was then: give another --name"):
        score(ask(place, images=str(images)), work)


def test_a_judge_that_was_changed_judges_anew_under_another_name(place, tmp_path):
    images, work, judge = bitmaps(tmp_path / "val", 1), Workspace(tmp_path / "work"), tmp_path / "judge"
    shutil.copytree(place / "work/saes/S", work.sae("S"))
    shutil.copytree(place / "dino", judge)
    asked = {"images": str(images), "embed_with": str(judge)}
    kept = [score(ask(place, **asked, name="first"), work)]
    for number, (file, field, value) in enumerate(
        [("config.json", "hidden_act", "relu"), ("preprocessor_config.json", "image_mean", [0.1, 0.1, 0.1])]
    ):
        write_json(judge / file, read_json(judge / file) | {field: value})
        with pytest.raises(UserError, match=r"holds scores of the judge .*judge as it was then: give another --name"):
            score(ask(place, **asked, name="first"), work)
        kept.append(score(ask(place, **asked, name=f"changed-{number}"), work))
    assert len({one.ms.baseline for one in kept}) == len(list((work.root / "embeddings").iterdir())) == 3


def test_other_scores_are_refused_before_the_judge_sees_an_image(scored, place):
    embeddings = place / "work/embeddings"
    before = sorted(embeddings.iterdir())
    for changed in ({"limit": 9}, {"embed_with": "demo:encoder"}, {"pooling": "mean", "batch_size": 5}):
        with pytest.raises(UserError, match="give another --name"):
            score(ask(place, **changed), Workspace(place / "work"))
    assert sorted(embeddings.iterdir()) == before


def test_what_is_left_out_is_in_the_summary(place, tmp_path):
    images, work = bitmaps(tmp_path / "val", 1), Workspace(tmp_path / "work")
    shutil.copytree(place / "work/saes/S", work.sae("S"))
    (images / "x.heic").write_bytes(b"x")
    listener = Listener()
    result = score(ask(place, images=str(images)), work, listener)
    assert (
        result.left_out == {"HEIC": 1} and f"Left out of {images}: 1 HEIC, which are not read." in listener.warnings()
    )


def test_what_is_scored_already_is_not_scored_again(scored, place):
    path = Path(scored[0].path)
    before = path.stat().st_mtime_ns
    assert score(ask(place), Workspace(place / "work")) == replace(scored[0], made=False)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes()[:1000])
    assert score(ask(place), Workspace(place / "work")) == scored[0], "a damaged file is made anew"
    assert path.stat().st_mtime_ns != before


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_other_poolings(place, truth, pooling):
    _, z, E = truth
    pooled = z[:, 1:].mean(axis=1) if pooling == "mean" else z[:, 0]
    result = score(ask(place, pooling=pooling, name=pooling), Workspace(place / "work"))
    with Neurons.open(result.path) as neurons:
        np.testing.assert_allclose(neurons.maximum, pooled.max(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(neurons.ms, monosemanticity(pooled, E).ms, rtol=1e-3, atol=1e-5)
        assert (neurons.grid is None) == (pooling == "cls")


@torch.no_grad()
def test_an_sae_on_pooled_outputs_of_an_encoder_without_words(place):
    random_sae(str(place / "dino"), place / "work/saes/pooled", hook="last", tokens="pooled", threshold=3.0)
    listener = Listener()
    result = score(ask(place, sae="pooled"), Workspace(place / "work"), listener)
    assert (result.tokens, result.pooling, result.named) == ("pooled", "none", 0)
    assert result.ms.sae.latents > 0
    assert any("no text tower" in message for message in listener.warnings())
    assert any("judges its own latents" in message for message in listener.warnings())
    with Neurons.open(result.path) as neurons:
        assert neurons.grid is None and neurons.names == [[]] * W


@torch.no_grad()
def test_an_sae_on_the_mean_reads_the_mean(place, truth):
    x, _, E = truth
    sae = random_sae(str(place / "clip"), place / "work/saes/mean", tokens="mean")
    result = score(ask(place, sae="mean"), Workspace(place / "work"))
    with Neurons.open(result.path) as neurons:
        expected = sae.encode(torch.from_numpy(x[:, 1:].mean(axis=1))).numpy()
        np.testing.assert_allclose(neurons.maximum, expected.max(axis=0), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(neurons.ms, monosemanticity(expected, E).ms, rtol=1e-3, atol=1e-4)


class Stopping(Reporter):
    def progress(self, done, total, unit, **metrics):
        self.now = unit == "images" and done > 20

    def check(self):
        if getattr(self, "now", False):
            raise Stopped


def test_stopping_leaves_what_was_there(scored, place):
    before = Path(scored[0].path).read_bytes()
    with pytest.raises(Stopped):
        score(ask(place, name="stopped"), Workspace(place / "work"), Stopping())
    assert Path(scored[0].path).read_bytes() == before and not (place / "work/neurons/S--stopped.h5").exists()
    assert not list((place / "work/neurons").glob(".*"))


@torch.no_grad()
def test_mistakes_are_named(place):
    work = Workspace(place / "work")
    random_sae(str(place / "clip"), place / "work/saes/wide", d=33)
    with pytest.raises(UserError, match=r"33 wide.*has 32 at layer:1"):
        score(ask(place, sae="wide"), work)
    with pytest.raises(UserError, match="No SAE named 'T'"):
        score(ask(place, sae="T"), work)
    with pytest.raises(UserError, match="nowhere"):
        score(ask(place, images="nowhere"), work)
    with pytest.raises(UserError, match="nobody"):
        score(ask(place, embed_with="nobody"), work)
    with pytest.raises(UserError, match="--top is 1"):
        score(ask(place, top=1), work)
    random_sae("", place / "work/saes/orphan")
    with pytest.raises(UserError, match="orphan does not say which encoder"):
        score(ask(place, sae="orphan"), work)


def test_ms_reads_stores_by_name_and_by_path(scored, place):
    (store,) = (place / "work/embeddings").glob("dino--*")
    E = Store.open(store).read(0, N)
    result = ms_files(MsSettings(activations=str(store), embeddings=store.name), Workspace(place / "work"))
    np.testing.assert_allclose(result.ms, monosemanticity(E, E).ms)
    assert len(result.ms) == 32


def other_images(place: Path) -> Path:
    """Equally named pictures of other content and size in a folder of the same name."""
    for kind, colour in KINDS.items():
        (place / "other/images" / kind).mkdir(parents=True, exist_ok=True)
        for i in range(2):
            Image.new("RGB", (36 + i, 36), colour).save(place / "other/images" / kind / f"{i:02d}.png")
    return place / "other/images"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"pooling": "mean"}, "holds scores of pooling max, not mean: give another --name"),
        ({"limit": 9}, r"the images .*/images, not .*/images \(the first 9\)"),
        ({"embed_with": "demo:encoder"}, "the judge .*/dino, not demo:encoder"),
        ({"images": "other"}, "the images .*/images, not .*/other/images"),
        ({"sae": "elsewhere"}, "the SAE {place}/{workspace}/saes/S, not {place}/elsewhere/S"),
        ({"vocabulary": ""}, "the words .*/words.txt, not built-in"),
    ],
    ids=["pooling", "limit", "judge", "images", "sae", "words"],
)
def test_other_scores_are_not_replaced_by_those_of_the_same_name(scored, place, changed, says):
    if "images" in changed:
        changed = {"images": str(other_images(place))}
    if "sae" in changed:
        changed = {"sae": str(place / "elsewhere/S")}
        with torch.no_grad():
            random_sae(str(place / "clip"), place / "elsewhere/S", threshold=1.0)
    before = Path(scored[0].path).read_bytes()
    with pytest.raises(UserError, match=says.format(place=re.escape(str(place)), workspace="work")):
        score(ask(place, **changed), Workspace(place / "work"))
    assert Path(scored[0].path).read_bytes() == before


def test_how_it_is_computed_makes_no_other_scores(scored, place):
    assert not score(ask(place, workers=1, images=f"{place}/./images"), Workspace(place / "work")).made


def test_classes_of_the_images_are_kept_of_latents_and_name_them(place, tmp_path):
    images = tmp_path / "flags"
    for n, kind in enumerate(("banner/qux-flag", "banner/qux-sign")):
        (images / kind).mkdir(parents=True)
        for number, colour in enumerate(KINDS.values()):
            shade = tuple((value + 20 * n) % 256 for value in colour)
            Image.new("RGB", (36, 36), shade).save(images / kind / f"{number}.png")
    sae = str(place / "work/saes/S")
    result = score(ask(place, sae=sae, images=str(images), vocabulary=""), Workspace(tmp_path / "work"))
    with Neurons.open(result.path) as neurons:
        assert neurons.complete
        latent = int(np.nanargmax(neurons.class_share))
        labels = [one.label for one in neurons.top(latent)]
        assert neurons.class_share[latent] == labels.count(neurons.class_of(latent)) / len(labels)
        assert neurons.class_of(latent).startswith("banner/qux-")
        found = neurons.order(search="flag")
        assert found and {neurons.class_of(n) for n in found} == {"banner/qux-flag"}

"""The latents shown while a training goes on: which they are, and what is shown of them."""

import errno
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.activations.loader import Loader
from engine.activations.store import Store
from engine.errors import Stopped, UserError
from engine.files import read_json, write_json
from engine.sae.forming import Forming
from engine.sae.held_out import HeldOut
from engine.sae.model import SAE
from engine.sae.preview import FormingLatent, Preview, TopImage, keep, read_preview, write_preview
from engine.sae.train import train
from engine.workspace import Workspace
from tests.support.stores import write_store
from tests.support.trainings import Recorder, activations, chosen


def stored(workspace: Workspace, tokens: int, policy: str = "all", grid: list[int] | None = None) -> Store:
    """400 images in /pictures, ``tokens`` of each."""
    path = workspace.activations("a")
    write_store(path, activations(images=400, tokens=tokens)[0], tokens)
    source = {"spec": "/pictures", "images": 400}
    manifest = read_json(path / "manifest.json")
    write_json(path / "manifest.json", manifest | {"tokens": policy, "grid": grid, "source": source})
    return Store.open(path)


def by_hand(store: Store, sae: SAE, images: np.ndarray, tokens: int, skip: int) -> tuple[np.ndarray, np.ndarray]:
    """Every held-out image on its own: (images, w) pooled, and (images, patches, w)."""
    spans = [(tokens * i, tokens * i + tokens) for i in images.tolist()]
    a = torch.stack([sae.encode(torch.from_numpy(store.read(*span))) for span in spans])
    return a.amax(1).numpy(), a[:, skip:].numpy()


@pytest.mark.parametrize(("tokens", "policy", "skip"), [(4, "patches", 0), (6, "all", 2), (3, "random:3", None)])
def test_the_preview_shows_the_top_held_out_images(workspace, tokens, policy, skip):
    store = stored(workspace, tokens, policy, [2, 2])
    train(chosen(holdout=0.5, arch="batchtopk", k=1, expansion=4.0), workspace)
    preview = read_preview(workspace.sae("s"))
    assert (preview.step, preview.store, preview.source) == (30, "a", "/pictures")
    sae, images = SAE.load(workspace.sae("s")), Loader(store, 64, 0, 0.5).held_out.images
    pooled, patches = by_hand(store, sae, images, tokens, skip or 0)
    fires = (pooled > 0).sum(0)
    eligible = np.flatnonzero((fires >= 8) & (fires <= 0.2 * len(images)))
    assert preview.grid == (None if skip is None else (2, 2))
    shown = [one.latent for one in preview.latents]
    assert len(shown) == min(16, len(eligible)) > 2 and set(shown) <= set(eligible.tolist())
    for one in preview.latents:
        order = np.argsort(-pooled[:, one.latent], kind="stable")[:8]
        assert one.frequency == fires[one.latent] / len(images)
        assert [image.path for image in one.images] == [f"{images[n]}.png" for n in order]
        np.testing.assert_allclose([i.activation for i in one.images], pooled[order, one.latent], rtol=1e-5)
        for n, image in zip(order, one.images, strict=True):
            if skip is None:
                assert image.map is None
            else:
                assert image.map.shape == (2, 2)
                expected = patches[n, :, one.latent].reshape(2, 2)
                np.testing.assert_allclose(image.map, expected, atol=image.activation / 500)


def test_a_measurement_in_pieces_sees_the_same(workspace):
    """Whatever the size of the batches in which the images come."""
    store = stored(workspace, 4, "patches", [2, 2])
    train(chosen(holdout=0.5), workspace)
    sae = SAE.load(workspace.sae("s"))
    seen = []
    for size in (4, 7, 64, 10_000):
        held_out = HeldOut.of(Loader(store, size, 0, 0.5), "", workspace)
        forming = Forming(held_out, sae.config.w, 0)
        held_out.measure(sae, forming.see)
        seen.append(
            [(one.latent, one.frequency, [i.path for i in one.images]) for one in forming.preview(sae, 1).latents]
        )
    assert seen[0] and seen.count(seen[0]) == len(seen)


@pytest.mark.parametrize("tokens", [4, 1])
def test_where_no_latent_is_worth_showing_none_is(workspace, tokens):
    """relu fires on nearly every image at first; and one row an image is no grid, whatever the manifest says."""
    stored(workspace, tokens, "all", [2, 2])
    train(chosen(holdout=0.5, arch="relu", l1=0.0, steps=1), workspace)
    preview = read_preview(workspace.sae("s"))
    assert preview.latents == () and preview.grid == ((2, 2) if tokens == 4 else None)


def test_few_held_out_images_show_what_fires_on_a_tenth(workspace):
    write_store(workspace.activations("a"), activations()[0], tokens=4)
    train(chosen(), workspace)  # 30 held-out images
    preview = read_preview(workspace.sae("s"))
    assert preview.latents and all(0.1 <= one.frequency <= 0.2 for one in preview.latents)
    assert preview.grid is None and preview.source == ""


def test_latents_shown_before_stay_after_an_interruption(workspace, monkeypatch):
    stored(workspace, 4)
    with pytest.raises(Stopped):
        train(chosen(holdout=0.5), workspace, Recorder(stop_at=20))
    before = read_preview(workspace.sae("s"))
    kept: list[list[int]] = []
    monkeypatch.setattr(Forming, "show", lambda self, latents: kept.append(latents))
    train(chosen(holdout=0.5), workspace)
    assert before.step == 20 and kept == [[one.latent for one in before.latents]]
    path = workspace.sae("s") / "preview.json"
    assert read_preview(workspace.sae("s")).step == 30 and path.stat().st_size < 20_000


def test_a_preview_that_cannot_be_written_ends_nothing(workspace):
    stored(workspace, 4)
    path = workspace.sae("s") / "preview.json"

    class Blocking(Recorder):
        def event(self, event):  # once it has begun: a file cannot replace a directory
            path.mkdir(parents=True, exist_ok=True)
            super().event(event)

    reporter = Blocking()
    assert train(chosen(), workspace, reporter).steps == 30
    assert [w["message"].partition(" is not")[0] for w in reporter.of("warning")] == [
        "The preview of step 10", "The preview of step 20", "The preview of step 30",
    ]  # fmt: skip
    assert not list(workspace.sae("s").glob(".preview*"))


def test_a_last_preview_that_was_not_written_at_first_is_written_at_the_end(workspace, monkeypatch):
    """Else that of an earlier step stays for good, as a finished training is not gone through again."""
    stored(workspace, 4)
    failed = []

    def failing(folder, preview):
        if preview.step == 30 and not failed:
            failed.append(preview.step)
            raise OSError(errno.ENOSPC, "No space left on device")
        write_preview(folder, preview)

    monkeypatch.setattr("engine.sae.train.write_preview", failing)
    train(chosen(), workspace)
    assert failed and read_preview(workspace.sae("s")).step == 30


latents = st.integers(0, 11)


@settings(max_examples=300)
@given(st.lists(latents, unique=True, max_size=5), st.sets(latents), st.permutations(range(12)), st.integers(1, 5))
def test_latents_keep_their_places(shown, eligible, order, count):
    shown = shown[:count]
    now = keep(shown, eligible, order, count)
    assert len(now) == len(set(now)) == min(count, len(eligible)) and set(now) <= eligible
    assert set(shown) & eligible <= set(now)
    if len(now) == count:
        assert all(now[place] == latent for place, latent in enumerate(shown) if latent in eligible)
    fresh = [latent for latent in order if latent in eligible and latent not in shown]
    assert set(now) - set(shown) == set(fresh[: len(set(now) - set(shown))])
    assert keep(now, eligible, order[::-1], count) == now


def test_what_is_written_is_read(tmp_path):
    map = np.array([[0.0, 2.0, 1.0], [0.5, 0.0, 0.25]], np.float32)
    image = TopImage("ä/\x1b[2J.png", 2.0, map)
    preview = Preview(7, "a", "/p", (2, 3), (FormingLatent(3, 0.25, (image,)), FormingLatent(1, 0.5, ())))
    write_preview(tmp_path, preview)
    found = read_preview(tmp_path)
    np.testing.assert_allclose(found.latents[0].images[0].map, map, atol=2 / 500)
    assert found.latents[0].images[0].path == image.path
    assert [(latent.latent, latent.frequency, len(latent.images)) for latent in found.latents] == [
        (3, 0.25, 1),
        (1, 0.5, 0),
    ]
    assert (found.step, found.store, found.source, found.grid) == (7, "a", "/p", (2, 3))


def test_damaged_previews_are_named(tmp_path):
    assert read_preview(tmp_path) is None
    image = TopImage("p", 1.0, np.ones((1, 1)))
    write_preview(tmp_path, Preview(7, "a", "/p", (1, 1), (FormingLatent(3, 0.2, (image,)),)))
    path = tmp_path / "preview.json"
    good = json.loads(path.read_text())
    bad_map = json.loads(path.read_text())
    bad_map["latents"][0]["images"][0]["map"] = "AAAA"
    no_step = {key: value for key, value in good.items() if key != "step"}
    for damage in ({**good, "grid": [2, 2]}, bad_map, {**good, "latents": None}, no_step):
        path.write_text(json.dumps(damage))
        with pytest.raises(UserError, match=r"preview.json is damaged"):
            read_preview(tmp_path)
    write_json(path, {**good, "version": 2})
    with pytest.raises(UserError, match="upgrade"):
        read_preview(tmp_path)
    path.write_text("[]")
    with pytest.raises(UserError, match="no preview"):
        read_preview(tmp_path)


def test_the_reader_costs_no_torch():
    script = "import sys, engine.sae.preview; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )

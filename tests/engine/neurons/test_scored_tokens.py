"""Scores through encoders that have registers, padding, or other rows than columns of patches: of the patches alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from engine.config import ScoreSettings
from engine.metrics.matched_neurons import matched_ms, rectified_ms
from engine.metrics.monosemanticity import monosemanticity
from engine.neurons.file import Neurons
from engine.neurons.score import score
from engine.sae.config import SAEConfig
from engine.sae.model import SAE
from engine.workspace import Workspace
from tests.support.checkpoints import build, discerning, save
from tests.support.families import ENCODERS, OBLONG

W, IMAGES = 40, 13
ODD = {"registers": (OBLONG, (4, 6)), "padding": (ENCODERS["SigLIP2 NaFlex"], None)}


@torch.no_grad()
def random_sae(model: str) -> SAE:
    sae = SAE(SAEConfig(arch="batchtopk", d=32, w=W, k=4, model=model, hook="layer:1", tokens="patches"))
    generator = torch.Generator().manual_seed(0)
    for name, std in (("W_enc", 1.0), ("b_enc", 0.3), ("W_dec", 1.0)):
        sae.get_parameter(name).normal_(std=std, generator=generator)
    assert sae.threshold is not None
    sae.threshold.fill_(4.0)
    return sae


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Of several shapes and colours, in a folder."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(IMAGES):
        shape = ((20, 60), (60, 20), (40, 40))[i % 3]
        pixels = rng.integers(0, 200, 3) + rng.integers(0, 55, (*shape, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02d}.png")
    return folder


@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("kind", ODD)
def test_scores_are_of_the_patches_alone(kind, pooling, pictures, tmp_path):
    encoder, grid = ODD[kind]
    model = encoder.save(tmp_path / "encoder")
    judge = save(discerning(build("dinov2")), tmp_path / "judge")
    (tmp_path / "words.txt").write_text("cat")
    work = Workspace(tmp_path / "work")
    sae = random_sae(str(model))
    sae.save(work.sae("S"))
    asked = ScoreSettings(
        sae="S", images=str(pictures), embed_with=str(judge), vocabulary=str(tmp_path / "words.txt"), batch_size=5,
        workers=2, device="cpu", pooling=pooling, top=4, seed=3, min_support=6,
    )  # fmt: skip
    result = score(asked, work)

    images = [Image.open(path) for path in sorted(pictures.iterdir())]
    x = [encoder.seen(model, image).rows("layer", "patches", None) for image in images]
    z = [sae.encode(one) for one in x]
    E = np.concatenate([ENCODERS["DINOv2"].seen(judge, image).last.numpy() for image in images])

    def pooled(tokens):
        return torch.stack([one.amax(0) if pooling == "max" else one.mean(0) for one in tokens]).numpy()

    codes, up, down = pooled(z), pooled(x), pooled([-one for one in x])
    fires = torch.cat(z) > 0
    assert 0.02 < fires.float().mean() < 0.5
    own = monosemanticity(codes, E, 6)
    assert np.nanstd(own.ms) > 0.02 and own.undefined > monosemanticity(codes, E).undefined
    with Neurons.open(result.path) as neurons:
        np.testing.assert_allclose(neurons.token_frequency, fires.float().mean(0), rtol=1e-5)
        np.testing.assert_allclose(neurons.maximum, codes.max(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(neurons.ms, own.ms, rtol=1e-3, atol=1e-4)
        matched = matched_ms(up, down, E, own.support, 6, seed=3)
        np.testing.assert_allclose(neurons.matched, matched, rtol=1e-3, atol=1e-4)
        assert neurons.grid == grid and neurons.top_images.shape == (W, 4)
        for latent in range(W if grid else 0):
            for place, top in enumerate(neurons.top(latent)):
                expected = z[top.image][:, latent].reshape(grid)
                np.testing.assert_allclose(neurons.maps(latent)[place], expected, rtol=2e-3, atol=1e-3)
    fired = own.support[fires.any(0).numpy()]
    assert result.dead == W - len(fired)
    assert result.ms.median_support == np.median(fired)
    assert result.frequency.l0 == pytest.approx(float(fires.sum(1).float().mean()))
    assert result.ms.raw.mean == pytest.approx(monosemanticity(up, E, 6).mean, rel=1e-3)
    assert result.ms.raw_relu.mean == pytest.approx(rectified_ms(up, down, E, 6).mean, rel=1e-3)

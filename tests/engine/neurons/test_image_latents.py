"""Grids that differ from image to image, and limits; the model server's tests hold values to the definition."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from engine.models import HookPoint, load_encoder
from engine.neurons.image_latents import IN_IMAGE, IN_PATCH, image_latents
from tests.support.checkpoints import build, pictures, save
from tests.support.families import OBLONG
from tests.support.tiny_llava import LATENTS, picture, random_sae
from tests.support.vlms import save_vlm


def test_each_image_has_its_own_grid(tmp_path):
    """SigLIP2 keeps proportions: what is padding fires nothing."""
    processor = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    encoder = load_encoder(str(save(build("siglip2"), tmp_path / "siglip2", processor)))
    sae = random_sae(hook="layer:1")
    sae.config = replace(sae.config, tokens="patches")
    for size in ((20, 60), (60, 20), (40, 40)):
        (image,) = pictures(1, size)
        inputs = encoder.preprocess([image])
        rows, columns = inputs["spatial_shapes"][0].tolist()
        with torch.inference_mode():
            x = encoder.activations(inputs, [HookPoint("layer", 1)])[HookPoint("layer", 1)][0, : rows * columns]
            z = sae.encode(x)
        seen = image_latents(encoder, sae, image)
        assert seen.grid == (rows, columns) and len(seen.patches) == rows * columns < 17
        assert [found[0][0] for found in seen.patches] == z.argmax(1).tolist()
        assert seen.image[0][0] == int(z.amax(0).argmax())


def test_no_more_latents_than_fit_a_screen(tmp_path):
    encoder = load_encoder(str(save(build("clip-vision"), tmp_path / "clip", transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}))))  # fmt: skip
    sae = random_sae(hook="layer:1", w=500, arch="relu")
    seen = image_latents(encoder, sae, pictures(1)[0])
    assert len(seen.image) == IN_IMAGE
    assert {len(found) for found in seen.patches} == {IN_PATCH}
    assert all(value > 0 for found in (seen.image, *seen.patches) for _, value in found)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_patches_stand_row_by_row_without_registers_and_latents_by_their_share_of_the_maximum(tmp_path, pooling):
    folder, image = OBLONG.save(tmp_path / "dinov2"), pictures(1)[0]
    sae, maximum = random_sae(hook="layer:1"), np.linspace(8, 0, LATENTS)
    sae.config = replace(sae.config, tokens="patches")
    z = sae.encode(OBLONG.seen(folder, image).rows("layer", "patches", None)).numpy()
    scale = np.where(maximum > 0, maximum, 1)

    def strongest(values):
        order = np.argsort(-values / scale, kind="stable")
        return [(k, pytest.approx(float(values[k]), rel=1e-4)) for k in order.tolist() if values[k] > 0]

    seen = image_latents(load_encoder(str(folder)), sae, image, pooling, maximum)
    assert seen.grid == (4, 6)
    assert list(seen.image) == strongest(z.max(0) if pooling == "max" else z.mean(0))[:IN_IMAGE]
    assert [list(found) for found in seen.patches] == [strongest(row)[:IN_PATCH] for row in z]


def test_of_several_tiles_each_has_a_class_token_that_is_no_patch(tmp_path):
    encoder, image = load_encoder(str(save_vlm("InternVL", tmp_path / "internvl"))), picture().resize((90, 30))
    hook, inputs = HookPoint("layer", 1), encoder.preprocess([image])
    x, tiles = encoder.activations(inputs, [hook], 1)[hook][0], len(inputs["pixel_values"])
    sae = random_sae(hook="layer:1", d=x.shape[1], arch="relu")
    z = sae.encode(x).unflatten(0, (tiles, -1)).detach()
    expected = z[:, 1:].mean((0, 1))
    assert tiles > 1
    seen = image_latents(encoder, sae, image, "mean")
    assert dict(seen.image) == {k: pytest.approx(v, rel=1e-4) for k, v in enumerate(expected.tolist()) if v > 0}

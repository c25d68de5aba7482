"""The controls of steering, token by token against the formulas."""

import pytest
import torch

from engine.steer.controls import Added, along, mean_patches
from engine.steer.generate import answers
from engine.steer.interventions import Intervention
from tests.support.tiny_llava import picture, random_sae

CLAMP = Intervention(latents=((5, 3.0),))


@pytest.mark.parametrize("keep_error", [False, True])
def test_another_direction_moves_every_token_as_far(keep_error):
    sae, patches = random_sae(), torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    sae.W_dec[5] *= 1.7
    clamp = Intervention(latents=((5, 3.0),), keep_error=keep_error)
    control = clamp.control().apply(sae, patches)
    moved = clamp.apply(sae, patches) - control
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    other = along(sae, clamp, direction).apply(sae, patches) - control
    assert other.norm(dim=1).tolist() == pytest.approx(moved.norm(dim=1).tolist(), rel=1e-4)
    unit = direction / direction.norm()
    for token in range(16):
        a = sae.encode(patches[token])
        expected = (3.0 - a[5]) * sae.W_dec[5].norm() * unit
        assert other[token].tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_its_own_direction_is_the_latents_own_change():
    sae, patches = random_sae(), torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    own = along(sae, CLAMP, 9 * sae.W_dec[5]).apply(sae, patches)
    assert own.flatten().tolist() == pytest.approx(CLAMP.apply(sae, patches).flatten().tolist(), abs=1e-4)


def test_a_vector_is_added_to_every_token_without_the_sae():
    sae, patches = random_sae(), torch.randn(16, 32).half()
    vector = torch.randn(32)
    found = Added(vector=vector).apply(sae, patches)
    assert found.dtype == patches.dtype
    assert found.float().flatten().tolist() == pytest.approx((patches.float() + vector).flatten().tolist(), abs=1e-2)


def test_they_are_interventions_like_others_in_a_batch(vlm):
    """Row by row: what each gives alone, it gives beside others."""
    sae = random_sae()
    vector = 4 * torch.randn(32, generator=torch.Generator().manual_seed(2))
    each = [None, CLAMP, along(sae, CLAMP, torch.randn(32)), Added(vector=vector), Added(vector=-vector)]
    images = [picture(0)] * len(each)
    together = answers(vlm, images, "what is it", 6, sae=sae, interventions=each)
    alone = [answers(vlm, [picture(0)], "what is it", 6, sae=sae, interventions=[one])[0] for one in each]
    assert together == alone and len(set(together)) > 2


def test_mean_activations_are_those_of_the_patches_that_the_model_sees(vlm):
    images = [picture(seed) for seed in range(5)]
    found = list(mean_patches(vlm, "layer:2", images, batch_size=2))
    for image, mean in zip(images, found, strict=True):
        seen = []
        handle = vlm.site("layer:2").register_forward_hook(lambda module, args, output, seen=seen: seen.append(output))
        answers(vlm, [image], "what is it", 1)
        handle.remove()
        hidden = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
        patches = hidden[0, vlm.n_prefix :]
        assert mean.tolist() == pytest.approx((sum(patches) / len(patches)).tolist(), abs=1e-4)

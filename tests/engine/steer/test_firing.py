"""What a model sees through an SAE, against the activations that a whole answer passes through."""

import statistics
from dataclasses import replace

import pytest

from engine.steer.firing import fired, given_back
from engine.steer.generate import answer
from engine.steer.results import Fired
from tests.support.tiny_llava import exact_sae, picture, random_sae


def test_maps_are_what_the_model_sees_when_it_answers(vlm):
    sae, image = random_sae(), picture(3)
    z = sae.encode(vlm_patches(vlm, sae, image))
    found = fired(vlm, sae, image, (5, 9))
    assert found.grid[0] * found.grid[1] == len(z) == vlm.n_patches
    for latent, values in found.maps:
        assert values == pytest.approx(z[:, latent].tolist(), rel=1e-3)
    assert [latent for latent, _ in found.maps] == [5, 9]


def test_patches_in_no_square_have_no_places(vlm):
    oblong = replace(vlm, n_prefix=vlm.n_prefix + 1)
    assert isinstance(fired(vlm, random_sae(), picture(0), (5,)), Fired)
    assert fired(oblong, random_sae(), picture(0), (5,)) is None


def test_the_share_that_is_given_back_is_its_formula(vlm):
    sae, image = random_sae(), picture(3)
    x = vlm_patches(vlm, sae, image)
    shares = [1 - float((one - sae.decode(sae.encode(one[None]))[0]).norm() / one.norm()) ** 2 for one in x]
    assert given_back(vlm, sae, image) == pytest.approx(statistics.median_low(shares), rel=1e-4)
    assert given_back(vlm, exact_sae(), image) == pytest.approx(1, abs=1e-5)


def vlm_patches(vlm, sae, image):
    seen = []
    handle = vlm.site(sae.config.hook).register_forward_hook(
        lambda module, args, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    answer(vlm, image, "what is it", 1)
    handle.remove()
    return seen[0][0, vlm.n_prefix :].float()

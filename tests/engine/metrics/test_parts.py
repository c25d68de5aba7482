"""MS of parts of images against its definition, pair by pair, and its interval against the jackknife and the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from engine.errors import UserError
from engine.metrics.matched_neurons import matched_ms, rectified_ms
from engine.metrics.monosemanticity import monosemanticity
from engine.metrics.parts import ms_of_units
from tests.engine.metrics.test_intervals import SHAPES, D


def pair_by_pair(a, E, image, normalise=True):
    """MS of one column by its definition."""
    if a.max() == a.min():
        return np.nan
    a, E = (a - a.min()) / (a.max() - a.min()) if normalise else a, E / np.linalg.norm(E, axis=1, keepdims=True)
    above = below = 0.0
    for u in range(len(a)):
        for v in range(u + 1, len(a)):
            if image[u] != image[v]:
                above += a[u] * a[v] * (E[u] @ E[v])
                below += a[u] * a[v]
    return above / below if below else np.nan


@st.composite
def units(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = np.repeat(np.arange(draw(st.integers(2, 6))) * 3, 1)
    image = np.repeat(image, rng.integers(1, 4, len(image)))
    A = rng.exponential(size=(len(image), 5)) * (rng.random((len(image), 5)) < draw(st.sampled_from([0.3, 0.7, 1.0])))
    A[:, 1] *= 10.0 ** rng.integers(-6, 7, len(image))  # lopsided
    A[:, 2] -= 0.5  # signed
    return A, rng.normal(size=(len(image), 4)), image


@given(units())
def test_scores_are_those_of_the_definition(given):
    A, E, image = given
    expected = [pair_by_pair(column, E, image) for column in A.T]
    for matrix, interval in ((A, True), (A, False), (sparse.csr_array(A), True), (sparse.csr_array(A), False)):
        found = ms_of_units(matrix, E, image, interval=interval)
        np.testing.assert_allclose(found.ms, expected, rtol=1e-9, atol=1e-12)
        shifted = A - np.minimum(A.min(axis=0), A.max(axis=0))
        np.testing.assert_array_equal(found.support, (shifted > 0).sum(axis=0))
    everywhere = np.append(np.ones(len(image)), 0.0)  # a column that fires on all alike
    above = pair_by_pair(everywhere, np.vstack([E, E[:1]]), np.append(image, -1))
    assert found.baseline == pytest.approx(above)


@given(units())
def test_of_one_part_an_image_it_is_the_ms_of_images(given):
    A, E, _ = given
    A = np.abs(A)
    A[0] = 0
    found, expected = ms_of_units(A, E, np.arange(len(A))), monosemanticity(A, E)
    for name in ("ms", "support", "effective_support", "low", "high", "baseline"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-9, err_msg=name)


@given(units())
def test_patches_judged_by_their_whole_image_are_the_images_with_pooled_activations(given):
    A, E, image = given
    A = np.abs(A)
    A[0] = 0  # so that the least value is 0 of patches and of images alike
    nothing, numbers = np.zeros((1, 5)), np.unique(image)
    pooled = np.vstack([*(A[image == one].sum(axis=0) for one in numbers), nothing])
    A, image = np.vstack([A, nothing]), np.append(image, numbers[-1] + 1)
    whole = np.vstack([E, E[:1]])[: len(pooled)]
    found = ms_of_units(A, whole[np.unique(image, return_inverse=True)[1]], image)
    np.testing.assert_allclose(found.ms, monosemanticity(pooled, whole).ms, rtol=1e-9, atol=1e-12)


def test_the_interval_is_the_jackknife_over_images(monkeypatch):
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(12), 3)
    A, E = rng.exponential(size=(36, 3)) * (rng.random((36, 3)) < 0.6), rng.normal(size=(36, 5))
    A[:3], A[-1] = 0, 0  # an image on which nothing fires, and a part
    A[:, 1] *= np.repeat(rng.lognormal(0, 3, 12), 3)
    seen = {}
    monkeypatch.setattr("engine.metrics.intervals.paired", lambda *given: np.zeros(3))
    monkeypatch.setattr(
        "engine.metrics.intervals.interval", lambda *given: seen.update(zip("mvse", given, strict=True)) or given[:2]
    )
    ms_of_units(A, E, image)
    for k, column in enumerate(A.T):
        scaled, nowhere = column / column.max(), np.vstack([E, E[:1]])
        of = np.append(image, -1)  # a part on which nothing fires, so that the normalisation holds
        kept = [of != i for i in range(12)]
        whole = [pair_by_pair(np.append(scaled, 0)[some], nowhere[some], of[some], normalise=False) for some in kept]
        variance = 11 / 12 * ((np.array(whole) - np.mean(whole)) ** 2).sum()
        of_images = np.bincount(image, scaled)
        assert seen["v"][k] == pytest.approx(variance, rel=1e-8)
        assert seen["s"][k] == (of_images > 0).sum()
        assert seen["e"][k] == pytest.approx(of_images.sum() ** 2 / (of_images**2).sum())


PARTS = 4


def covered(shape, images, repeats, alike=0.8, seed=0):
    """Share of the samples whose interval holds the population MS; many latents with images of their own in one call.

    The parts of an image are of its class, their embeddings as far from its centre, in directions that share ``alike``
    of their squared length; the activations are the image's times a draw each, and a third are 0. Then E a e is that of
    images, but for one factor, and so is the population MS.
    """
    rng, held = np.random.default_rng(seed), []
    together = max(1, min(repeats, 20_000 // images))
    for _ in range(-(-repeats // together)):
        n = images * together
        kind = rng.choice(len(shape.p), n, p=shape.p)
        a = np.repeat(shape.draw(rng, n) * shape.scales[kind], PARTS)
        a *= rng.uniform(0.5, 1.5, len(a)) * (rng.random(len(a)) < 2 / 3)
        cosine, centre = (np.repeat(one, PARTS, axis=0) for one in (shape.cosines(rng, n), np.eye(D)[kind]))
        v = np.sqrt(alike) * np.repeat(rng.normal(size=(n, D)), PARTS, axis=0)
        v += np.sqrt(1 - alike) * rng.normal(size=(len(a), D))
        v *= centre == 0
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        E = cosine[:, None] * centre + np.sqrt(1 - cosine**2)[:, None] * v
        A = sparse.csc_array(
            (a, np.arange(n * PARTS), np.arange(together + 1) * images * PARTS), (n * PARTS + 1, together)
        )
        found = ms_of_units(A, np.vstack([E, np.eye(D)[:1]]), np.append(np.repeat(np.arange(n), PARTS), n))
        held.append((found.low <= shape.population) & (shape.population <= found.high))
    return np.concatenate(held).mean()


@pytest.mark.parametrize("shape", ["clustered", "nearly equal"])
def test_the_interval_holds_the_population_value(shape):
    assert 0.925 <= covered(SHAPES[shape], 20, 500) <= 0.985  # of 500 samples, 95 % is .95 -/+ .02


@pytest.mark.slow
@pytest.mark.parametrize("images", [7, 20, 50, 100, 200, 500, 1000])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_interval_covers_at_every_support(shape, images):
    share = covered(SHAPES[shape], images, 3000 if images <= 50 else 1000)
    print(f"{shape:>20} {images:5} {share:.3f}")
    assert (0.875 if shape == "one in twenty apart" and images >= 20 else 0.925) <= share <= 0.985


def test_matched_neurons_fire_on_as_many_parts_and_are_scored_so():
    rng = np.random.default_rng(3)
    image = np.repeat(np.arange(15), 4)
    up, E = rng.normal(size=(60, 6)).astype(np.float32), rng.normal(size=(60, 5))
    support = np.array([0, 2, 9, 30, 60])
    found = matched_ms(up, -up, E, support, image=image)
    draws = np.random.default_rng(0).integers(0, 12, (5, 8))[:, 0]
    for k in (1, 2, 3):
        v = (up[:, draws[k]] if draws[k] < 6 else -up[:, draws[k] - 6]).astype(np.float64)
        a = np.maximum(v - np.sort(v)[-support[k] - 1], 0)
        assert (a > 0).sum() == support[k]
        np.testing.assert_allclose(found[k], pair_by_pair(a, E, image))
    assert np.isnan(found[[0, 4]]).all()
    halves = np.maximum(np.hstack([up, -up]), 0)
    np.testing.assert_allclose(
        rectified_ms(up, -up, E, image=image).ms, [pair_by_pair(column, E, image) for column in halves.T.astype(float)]
    )


def test_mistakes_are_named():
    one = np.ones((4, 1))
    with pytest.raises(UserError, match="4 rows, the embeddings 3 and the images 4"):
        ms_of_units(one, np.ones((3, 2)), np.arange(4))
    with pytest.raises(UserError, match="give parts of two or more"):
        ms_of_units(one, np.ones((4, 2)), np.zeros(4, int))
    with pytest.raises(ValueError, match="stand together"):
        ms_of_units(one, np.ones((4, 2)), np.array([0, 1, 0, 1]))

from itertools import combinations
from statistics import multimode

import numpy as np
import pytest

from engine.metrics.hierarchy import depths, expected_depth, group_of, hierarchy, random_depths
from engine.metrics.results import GroupDepth, Trend


def common_prefix(one, other):
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length


def lengths_over_pairs(images, paths):
    return [common_prefix(paths[a], paths[b]) for a, b in combinations(images, 2)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def paths(rng):
    """Uneven depths, names that recur under different parents, and images without a taxonomy."""
    return [tuple(rng.choice(["a", "b"], rng.integers(0, 5))) for _ in range(60)]


@pytest.fixture
def top_images(rng):
    top = np.stack([rng.choice(60, 16, replace=False) for _ in range(40)])
    top[[3, 20], -2:] = -1
    top[7] = -1
    return top


def test_depth_equals_the_mean_over_pairs(top_images, paths):
    mean, mode = depths(top_images, paths)
    for k, images in enumerate(top_images):
        if (images < 0).any():
            assert np.isnan(mean[k]) and mode[k] == -1
        else:
            lengths = lengths_over_pairs(images, paths)
            assert len(lengths) == 120
            assert mean[k] == pytest.approx(np.mean(lengths), rel=1e-12)
            assert mode[k] == min(multimode(lengths))


def test_expected_depth_is_the_mean_over_all_pairs_of_images(paths):
    assert expected_depth(paths) == pytest.approx(np.mean(lengths_over_pairs(range(60), paths)), rel=1e-12)
    assert np.isnan(expected_depth(paths[:1]))
    assert expected_depth([(), ()]) == 0


def test_groups_count_latents_cumulatively():
    assert group_of((2, 3, 6), 6).tolist() == [0, 0, 1, 2, 2, 2]
    assert group_of((), 4).tolist() == [0, 0, 0, 0]


def test_groups_are_averaged_each_way(top_images, paths):
    ms = np.linspace(0, 1, 40)
    ms[5] = np.nan
    result = hierarchy(top_images, paths, (10, 40), ms)
    mean, _ = depths(top_images, paths)
    first, second = result.groups
    scored = mean[:10][~np.isnan(mean[:10])]
    assert (first.latents, first.left_out) == (10, 2)
    assert (second.latents, second.left_out) == (30, 1)
    assert first.depth == pytest.approx(scored.mean())
    assert first.rounded == pytest.approx(np.mean([round(depth) for depth in scored]))
    assert first.mode == min(multimode(round(depth) for depth in scored))
    assert first.ms == pytest.approx(np.nanmean(ms[:10]))
    assert result.expected == expected_depth(paths)


def test_the_trend_over_groups_is_found_and_its_absence_too(rng):
    paths = [(str(i // 16), str(i // 4), str(i)) for i in range(64)]
    coarse = np.stack([rng.choice(64, 4, replace=False) for _ in range(20)])
    fine = np.stack([np.arange(4) + 4 * k for k in rng.integers(0, 16, 20)])
    rising = hierarchy(np.concatenate([coarse, fine]), paths, (20, 40)).trend
    assert rising.rho > 0.7 and rising.p < 1e-4
    assert abs(hierarchy(np.concatenate([coarse, coarse]), paths, (20, 40)).trend.rho) < 1e-9
    assert hierarchy(coarse, paths).trend == Trend(None, None)
    two = hierarchy(np.stack([coarse[0], fine[0]]), paths, (1, 2)).trend
    assert (two.rho, two.p) == (pytest.approx(1), None)


def test_nothing_to_average_gives_none(paths):
    result = hierarchy(np.full((4, 16), -1), paths, (2, 4), np.full(4, np.nan))
    assert result.groups[0] == GroupDepth(2, 2, None, None, None, None, ms_latents=0)


def test_random_sets_are_as_deep_as_all_sets_are(rng):
    """All sets of three of eight images, one by one."""
    paths = [("a", "b"), ("a", "b", "c"), ("a", "c"), ("a",), ("d", "b"), ("d", "b"), (), ("d",)]
    every = [np.mean(lengths_over_pairs(images, paths)) for images in combinations(range(8), 3)]
    found = random_depths(paths, 3)
    assert found.mean() == pytest.approx(np.mean(every), abs=0.03) == pytest.approx(expected_depth(paths), abs=0.03)
    assert found.std() == pytest.approx(np.std(every), abs=0.03)
    np.testing.assert_array_equal(found, random_depths(paths, 3))
    assert len(random_depths(paths, 9)) == len(random_depths(paths, 1)) == 0


def test_random_latents_lie_within_what_chance_gives_and_real_ones_beyond(rng):
    paths = [(str(i // 40), str(i // 10), str(i)) for i in range(160)]
    inside = [0, 0]
    for repeat in range(60):
        top = np.stack([rng.choice(160, 6, replace=False) for _ in range(30)])
        found = hierarchy(top, paths, seed=repeat)
        group = found.groups[0]
        inside[0] += group.random_low <= group.depth <= group.random_high
        inside[1] += group.low <= found.expected <= group.high
    assert inside[0] >= 52 and inside[1] >= 52  # 57 of 60 are expected
    alike = np.stack([rng.choice(10, 6, replace=False) + 10 * k for k in rng.integers(0, 16, 30)])
    found = hierarchy(alike, paths)
    assert found.groups[0].depth == 2 > found.random_high > found.expected > found.random_low
    assert found.groups[0].random_high - found.expected == pytest.approx(
        1.96 * random_depths(paths, 6).std() / 30**0.5, rel=0.01
    )

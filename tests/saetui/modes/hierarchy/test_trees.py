"""The trees of a neurons file against counting by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from engine.metrics.results import Trend
from engine.neurons.file import Neurons
from saetui.modes.hierarchy.trees import chart, read, title_of, trend_in_words
from saetui.widgets.tree_table import Branch
from tests.support.synthetic import write_synthetic


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_synthetic(tmp_path_factory.mktemp("synthetic"), 400, 700)
    return next((root / "neurons").glob("*.h5"))


def mean(values: np.ndarray, latents: list[int]) -> str:
    known = [float(values[latent]) for latent in latents if values[latent] == values[latent]]
    return f"{sum(known) / len(known):.2f}".replace("0.", ".", 1) if known else "–"


def every(branches: list[Branch]) -> list[Branch]:
    return [one for branch in branches for one in (branch, *every(branch.children))]


def test_groups_hold_their_latents_by_depth(scores: Path) -> None:
    found, neurons = read(scores), Neurons.open(scores)
    assert [branch.cells[0] for branch in found.by_group] == ["group 0", "group 1", "group 2"]
    for number, branch in enumerate(found.by_group):
        latents = [latent for latent in range(neurons.w) if neurons.group[latent] == number]
        assert branch.latents() == latents and branch.count == len(latents)
        both = [(neurons.ms[one], neurons.matched[one]) for one in latents]
        both = [(ms, matched) for ms, matched in both if ms == ms and matched == matched]
        assert (*branch.cells[1:4], *map(str.strip, branch.cells[5:])) == (
            f"{len(latents):,}", mean(neurons.depth, latents), mean(neurons.ms, latents),
            f"{sum(neurons.ms[one] == neurons.ms[one] for one in latents):,}",
            mean(np.array([matched for _, matched in both]), list(range(len(both)))),
            f"{100 * sum(ms > matched for ms, matched in both) / len(both):.0f}%",
        )  # fmt: skip
        assert branch.values["n_matched"] == len(both), "which the filter line knows: there is no room for a column"
        known = neurons.ms[latents][~np.isnan(neurons.ms[latents])]
        ends = stats.t.interval(0.95, len(known) - 1, known.mean(), stats.sem(known))
        assert branch.values["half_width"] == pytest.approx((ends[1] - ends[0]) / 2)
        assert branch.values["std"] == pytest.approx(known.std(ddof=1))
        for child in branch.children:
            wanted = child.place[-1]
            depth = [f"depth {round(d)}" if d == d else "none" for d in neurons.depth[latents].tolist()]
            assert child.latents() == [latent for latent, one in zip(latents, depth, strict=True) if one == wanted]
        assert sum(child.count for child in branch.children) == branch.count


def test_taxa_hold_the_latents_below_them(scores: Path) -> None:
    found, neurons = read(scores), Neurons.open(scores)
    (root,) = found.by_taxon
    paths = [image.taxonomy for image in neurons.images]
    for branch in every([root]):
        taxon = branch.place[1:]
        below = []
        for latent in range(neurons.w):
            shown = [paths[image] for image in neurons.top_images[latent] if image >= 0]
            if shown and sum(path[: len(taxon)] == taxon for path in shown) >= 0.8 * len(shown) - 1e-9:
                below.append(latent)
        assert branch.latents() == below and branch.count == len(below)
        images = sum(path[: len(taxon)] == taxon for path in paths)
        assert branch.cells[1:3] == (f"{images:,}", f"{len(below):,}")
        n = f"{sum(neurons.ms[one] == neurons.ms[one] for one in below):,}"
        assert branch.cells[4:] == (mean(neurons.ms, below), n, mean(neurons.matched, below))
    assert title_of(root.children[0]) == f"{root.children[0].count} latents of all images › {root.children[0].place[1]}"


def test_the_chart_draws_depth_and_chance_to_one_scale(scores: Path) -> None:
    found = read(scores)
    for width in (10, 37, 80):
        lines = chart(found, width)
        assert len(lines) == len(found.groups) and all(len(bar) == width for _, bar, _ in lines)
        deepest = max(group.depth or 0.0 for group in found.groups)
        for group, (name, bar, numbers) in zip(found.groups, lines, strict=True):
            assert name.split() == ["group", str(group.number), f"{group.latents:,}"]
            assert group.depth is not None and group.expected is not None
            assert abs((len(bar.rstrip(" ┊")) - 1) - group.depth / deepest * (width - 1)) <= 1
            assert abs(bar.index("┊") - group.expected / deepest * (width - 1)) <= 0.5
            assert (f"{group.left_out:,} left out" in numbers) == bool(group.left_out)


@pytest.mark.parametrize(
    ("rho", "p", "words"),
    [
        (0.21, 1e-9, "deeper in later groups: Spearman's ρ .21, p < .001"),
        (-0.2, 0.01, "shallower in later groups: Spearman's ρ -.20, p = .01"),
        (-0.001, 0.47, "no trend over the groups: Spearman's ρ .00, p = .47"),
        (None, None, "too few depths to tell whether they rise from group to group"),
    ],
)
def test_the_trend_in_words(rho: float | None, p: float | None, words: str, scores: Path) -> None:
    assert trend_in_words(dataclasses.replace(read(scores), trend=Trend(rho, p))) == words

"""Figures show the numbers of the results, and are written as asked or refused in a sentence."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from engine.config import FigureSettings, StabilitySettings, SteerabilitySettings
from engine.errors import UserError
from engine.metrics.results import Interval
from engine.neurons.file import Neurons
from engine.report.figures.chosen import MOST
from engine.report.figures.dose import called, dose_figure
from engine.report.figures.figure import check_figure, draw_figure
from engine.report.figures.reconstruction import Reconstruction, reconstruction_of
from engine.report.figures.scores import hierarchy_figure, ms_figure, top_images_figure
from engine.report.figures.stability import read_pairs, stability_figure
from engine.report.figures.style import COLOURS, legend, look, note, panels
from engine.report.figures.trained import reconstruction_figure
from engine.reporter import Reporter
from engine.sae.config import DirectionsMeasured, SAEConfig, read_config, write_config
from engine.sae.model import SAE
from engine.sae.results import HeldOutMeasurement
from engine.sae.stability import stability
from engine.steer.results import Dose, DosePoint, Measured, OneWord, Steerability, SteeredLatent
from engine.workspace import Provenance, Workspace
from saetui.cli.app import app
from tests.support.reports import write_reported
from tests.support.scores import as_crops, changing
from tests.support.synthetic import IMAGES, NAME

MAGIC = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_reported(tmp_path_factory.mktemp("figures") / "workspace")


@pytest.fixture
def neurons(place):
    with look(), Neurons.open(place.neurons(NAME, IMAGES)) as found:
        yield found


def lines(figure: Figure, panel: int) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in figure.axes[panel].lines}


def test_ms_and_its_control_are_of_the_same_latents_each_sorted(neurons):
    figure = ms_figure([neurons], 6.75)
    pairs = [(a, b) for a, b in zip(neurons.ms.tolist(), neurons.matched.tolist(), strict=True) if a == a and b == b]
    ranked, gained = lines(figure, 0), lines(figure, 1)
    assert ranked[NAME].tolist() == sorted((a for a, _ in pairs), reverse=True)
    assert ranked[f"{NAME}: matched raw neurons"].tolist() == sorted((b for _, b in pairs), reverse=True)
    assert gained[NAME].tolist() == sorted((a - b for a, b in pairs), reverse=True)
    assert set(ranked["raw neurons, mean"]) == {neurons.summary.ms.raw.mean}
    assert set(ranked["all pairs of images"]) == {neurons.summary.ms.baseline}
    assert f"{len(pairs)} latents" in figure._supxlabel.get_text()


def test_depth_by_group_is_the_mean_over_its_latents_beside_random_images(neurons):
    figure = hierarchy_figure([neurons], 6.75)
    group, depth = neurons.group.tolist(), neurons.depth.tolist()
    by_group = {g: [d for h, d in zip(group, depth, strict=True) if h == g and d == d] for g in sorted(set(group))}
    means = [sum(some) / len(some) for some in by_group.values() if some]
    drawn = next(one for one in figure.axes[0].containers)
    assert drawn.lines[0].get_ydata().tolist() == pytest.approx(means)
    bars = [abs(end[1][1] - end[0][1]) / 2 for end in drawn.lines[2][0].get_segments()]
    errors = [
        1.96 * np.std(some, ddof=1) / len(some) ** 0.5 if len(some) > 1 else np.nan
        for some in by_group.values()
        if some
    ]
    assert bars == pytest.approx(errors, abs=1e-9, nan_ok=True)
    assert all(axes.get_xlim() == (-0.5, len(by_group) - 0.5) for axes in figure.axes), (
        "one group alone has whole ticks"
    )
    assert set(lines(figure, 0)[f"{NAME}: random images"]) == {neurons.summary.hierarchy.expected}


def test_top_images_stand_in_their_order_with_a_frame_around_the_strongest_patch(neurons):
    figure = top_images_figure(neurons, [5, 9], 4, 6.75, Reporter())
    rows = [figure.axes[start : start + 5] for start in (0, 5)]
    for latent, (told, *pictures) in zip((5, 9), rows, strict=True):
        text = told.texts[0].get_text()
        assert text.startswith(f"{latent}  ") and "matched" in text and f"{int(neurons.support[latent])} image" in text
        shown = sum(bool(axes.images) for axes in pictures)
        assert shown == min(4, len(neurons.top(latent))) > 0
        if (maps := neurons.maps(latent)) is not None:
            for axes, map in zip(pictures[:shown], maps, strict=False):
                (frame,) = axes.patches
                row, column = np.unravel_index(map.argmax(), map.shape)
                height, width = axes.images[0].get_array().shape[:2]
                assert frame.get_xy() == (column * width / map.shape[1] - 0.5, row * height / map.shape[0] - 0.5)


def test_top_images_of_crops_have_a_frame_around_the_crop(place, tmp_path):
    (tmp_path / "images").symlink_to(place.root / "images")
    (path := tmp_path / "neurons" / f"{NAME}--crops.h5").parent.mkdir()
    shutil.copy(place.neurons(NAME, IMAGES), path)
    as_crops(path)
    with look(), Neurons.open(path) as neurons:
        figure = top_images_figure(neurons, [5], 4, 6.75, Reporter())
        told, *pictures = figure.axes
        assert f"{int(neurons.support[5]):,} patch" in told.texts[0].get_text()
        shown = [axes for axes in pictures if axes.images]
        assert len(shown) == min(4, len(neurons.top(5))) > 0
        for axes, (left, top, right, bottom) in zip(shown, neurons.frames(5), strict=False):
            (frame,) = axes.patches
            height, width = axes.images[0].get_array().shape[:2]
            assert frame.get_xy() == pytest.approx((left * width - 0.5, top * height - 0.5))
            size = frame.get_width() / width, frame.get_height() / height
            assert size == pytest.approx((right - left, bottom - top))


def measured(arch, k, control="", at="last, cls", w=16):
    name = f"{control or arch}-{k}"
    return Reconstruction(name, arch, w, at, control, rows=50, fve=0.5 + k / 50, l0=k, dead=0.1)


def marks(figure):
    """Mark and colour of each point of the first panel, and of each entry of the legend."""
    shown = [(one.get_marker(), one.get_color(), one.get_label(), len(one.get_xdata())) for one in figure.axes[0].lines]
    points = [(mark, colour) for mark, colour, _, number in shown if number]
    return points, {label: (mark, colour) for mark, colour, label, number in shown if not number}


def test_reconstruction_has_a_mark_for_each_sae_and_controls_have_their_own():
    of = [measured(arch, k) for arch in ("topk", "relu") for k in (8, 2, 4)]
    of += [measured("topk", 3, "frozen decoder"), measured("topk", 4, "k-means")]
    with look():
        figure = reconstruction_figure(of, 6.75)
    drawn = sorted((*one.get_xdata(), *one.get_ydata()) for one in figure.axes[0].lines if len(one.get_xdata()))
    assert drawn == sorted((one.l0, one.fve) for one in of)
    points, entries = marks(figure)
    assert set(entries) == {"topk", "relu", "control: frozen decoder", "control: k-means"}
    assert len(set(entries.values())) == 4 and set(points) == set(entries.values())
    assert points.count(entries["topk"]) == points.count(entries["relu"]) == 3
    assert {one.get_text() for one in figure.axes[0].texts} == {one.name for one in of}
    assert "last, cls: 6 SAEs and 2 controls on 50 held-out rows each" in figure._supxlabel.get_text()


def test_reconstruction_tells_hook_points_apart():
    of = [measured("topk", 2), measured("topk", 2, at="layer:2, cls"), measured("topk", 3, "PCA", at="layer:2, cls")]
    with look():
        figure = reconstruction_figure(of, 6.75)
    points, entries = marks(figure)
    last, layer = entries["last, cls"][1], entries["layer:2, cls"][1]
    trained, pca = entries["topk"][0], entries["control: PCA"][0]
    assert last != layer and trained != pca
    assert sorted(points) == sorted([(trained, last), (trained, layer), (pca, layer)])
    assert "layer:2, cls: 1 SAE and 1 control on 50" in figure._supxlabel.get_text()


def with_copy(place, name, deep=True, **config):
    """Another SAE like ``NAME``, scored on the same images; not ``deep``: on images without a taxonomy."""
    shutil.copytree(place.sae(NAME), place.sae(name), ignore=shutil.ignore_patterns("training.json"))
    write_config(place.sae(name), replace(read_config(place.sae(name)), **config))
    shutil.copy(place.neurons(NAME, IMAGES), path := place.neurons(name, IMAGES))
    with changing(path) as file:
        summary = json.loads(file["summary"][()]) | {"sae": name}
        if not deep:
            summary["hierarchy"] = None
        del file["summary"]
        file["summary"] = json.dumps(summary)
    return name


@pytest.fixture
def several(place, tmp_path):
    """A workspace of our own, with an SAE beside ``NAME``, one without depths, and two controls."""
    shutil.copytree(place.root, tmp_path / "several")
    here = Workspace(tmp_path / "several")
    held_out = HeldOutMeasurement(rows=100, fve=0.1, l0=3.5, dead=0.8)
    with_copy(here, "other")
    with_copy(here, "flat", deep=False)
    with_copy(here, "twin", frozen="decoder")
    with_copy(here, "kmeans", directions="kmeans", measured=DirectionsMeasured(seed=0, holdout=0.05, held_out=held_out))
    return here


def drawn(place, kind, *sae, **asked):
    settings = FigureSettings(kind=kind, sae=sae, out=str(place.root / "x.svg"), replace=True, **asked)
    check_figure(settings, place)
    return set(draw_figure(settings, place).of)


def test_without_names_controls_and_what_lacks_what_is_drawn_are_left_out(several):
    assert drawn(several, "ms") == {NAME, "other", "flat"}
    assert drawn(several, "hierarchy") == {NAME, "other"}
    assert drawn(several, "ms", "twin", NAME) == {NAME, "twin"}, "unless they are named"
    assert drawn(several, "hierarchy", "flat", NAME) == {NAME}
    assert "Without depths: flat." in (several.root / "x.svg").read_text()
    with pytest.raises(UserError, match=r"flat--drawn.h5 has no depths"):
        drawn(several, "hierarchy", "flat")
    for name in (NAME, "other", "flat"):
        shutil.rmtree(several.sae(name))
    with pytest.raises(
        UserError, match=r"There are no SAEs|No SAE of this workspace but controls has scores|There are controls alone"
    ):
        drawn(several, "ms")


def test_no_more_are_drawn_unasked_than_can_be_told_apart(several):
    for number in range(4):
        with_copy(several, f"more{number}")
    with pytest.raises(UserError, match=r"There are 6 SAEs to draw \(.*, and a figure of hierarchy can show 5: name"):
        drawn(several, "hierarchy")
    assert len(drawn(several, "ms")) == 7 == MOST["ms"] == len(COLOURS)
    with_copy(several, "more")
    with pytest.raises(UserError, match=r"There are 8 SAEs .*, and a figure of ms can show 7: name some"):
        check_figure(FigureSettings(kind="ms", out="x.svg"), several)


def test_one_is_chosen_of_several_image_sets(several):
    shutil.copy(several.neurons("other", IMAGES), several.neurons("other", "more"))
    with pytest.raises(UserError, match=r'other is scored on several image sets .*: choose one with --on="'):
        drawn(several, "ms")
    assert drawn(several, "ms", on="more") == {"other"}


def test_directions_are_drawn_by_what_was_measured_when_they_were_made(several):
    assert drawn(several, "reconstruction", "kmeans", NAME) == {"kmeans", NAME}
    assert reconstruction_of(several.sae("kmeans")).fve == 0.1
    with pytest.raises(UserError, match="twin has no held-out measurements"):
        drawn(several, "reconstruction", "twin")


def test_random_images_are_one_line_where_it_is_the_same(several):
    with (
        look(),
        Neurons.open(several.neurons(NAME, IMAGES)) as one,
        Neurons.open(several.neurons("other", IMAGES)) as b,
    ):
        figure = hierarchy_figure([one, b], 6.75)
    of_random = [line for line in figure.axes[0].lines if "random images" in str(line.get_label())]
    assert [set(line.get_ydata()) for line in of_random] == [{one.summary.hierarchy.expected}]


@pytest.mark.parametrize("width", [3.25, 6.75])
def test_many_long_names_leave_the_panels_their_room(width):
    with look():
        figure, (panel, _) = panels(width, 2)
        height = panel.get_window_extent().height
        for number in range(14):
            panel.plot([0, 1], [0, 1], label=f"an-sae-of-a-long-name-from-a-plan-{number}: matched raw neurons")
        legend(figure)
        note(figure, "an-sae-of-a-long-name-from-a-plan: 51 latents, 600 images; " * 14)
        figure.draw_without_rendering()
        (above,) = figure.legends
        box, page = above.get_window_extent(), figure.bbox
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and box.y1 <= page.y1 and box.y0 >= panel.get_window_extent().y1
        assert figure._supxlabel.get_window_extent().y1 < min(one.get_window_extent().y0 for one in figure.axes)
        assert panel.get_window_extent().height > height / 2


def test_stability_is_drawn_by_rank_beside_random_directions(tmp_path):
    place = Workspace(tmp_path)
    for seed in (0, 1):
        sae = SAE(SAEConfig(arch="topk", d=6, w=5, k=1))
        sae.W_dec.copy_(torch.randn(5, 6, generator=torch.Generator().manual_seed(seed)))
        sae.save(place.sae(f"s{seed}"))
    stability(StabilitySettings(saes=("s0", "s1"), name="two", device="cpu"), place)
    said = json.loads((tmp_path / "stability/two.json").read_text())["latents"][0]
    with look():
        figure = stability_figure(read_pairs(tmp_path / "stability/two.json"), 6.75)
    near = lines(figure, 0)
    assert near["s0, s1"].tolist() == sorted(said["there"]["cosine"] + said["back"]["cosine"], reverse=True)
    assert len(near["s0, s1: random directions"]) == 10
    assert lines(figure, 1)["s0, s1"].tolist() == sorted(said["matched"]["cosine"], reverse=True)
    out = tmp_path / "x.svg"
    assert draw_figure(FigureSettings(kind="stability", out=str(out)), place).of == ("two",)
    with pytest.raises(UserError, match="no result three of saetui stability: there is two"):
        draw_figure(FigureSettings(kind="stability", sae=("three",), out=str(tmp_path / "y.svg")), place)


def dosed(latent, maximum, concepts, damages):
    """An SAE whose latent was tried at half and at twice its maximum."""
    controls = (DosePoint("untouched", None, 0.0, 0.0), DosePoint("attached", None, 0.1, 0.02))
    steered = (
        DosePoint("steered", times * maximum, concept, damage)
        for times, concept, damage in zip((0.5, 2.0), concepts, damages, strict=True)
    )
    return Dose(latent, (*controls, *steered), 2 * maximum, concepts[-1] - 0.1)


@pytest.fixture
def dose():
    return Steerability(
        path="x", sae="s", vlm="demo", images="val", drawn_from=2, groups=(), word=None, word_on_pictures=None,
        latents=tuple(SteeredLatent(n, 0, "cup", "name", top, 2 * top) for n, top in ((3, 4.0), (5, 10.0))),
        texts=(), prompts=(), judges=(), agreement=(), settings=SteerabilitySettings(sae="s", vlm="demo"),
        doses=(dosed(3, 4.0, (0.2, 0.6), (0.1, 0.5)), dosed(5, 10.0, (0.4, 0.8), (0.3, 0.9))),
        provenance=Provenance(()),
    )  # fmt: skip


def test_doses_are_means_over_latents_in_multiples_of_their_maxima(dose):
    with look():
        figure = dose_figure([dose], 6.75)
    for panel, values, attached in ((0, ((0.2, 0.4), (0.6, 0.8)), 0.1), (1, ((0.1, 0.3), (0.5, 0.9)), 0.02)):
        drawn = {str(one.get_label()): one for one in figure.axes[panel].lines}
        assert drawn["s in demo"].get_xdata().tolist() == [0.5, 2.0]
        assert drawn["s in demo"].get_ydata() == pytest.approx([np.mean(some) for some in values])
        assert list(drawn["SAE attached"].get_ydata()) == pytest.approx([attached] * 2)
        (band,) = figure.axes[panel].collections
        ends = {(x, round(y, 6)) for x, y in band.get_paths()[0].vertices.tolist()}
        for x, some in zip((0.5, 2.0), values, strict=True):  # mean -/+ t s / sqrt(n)
            half = 12.7062047 * np.std(some, ddof=1) / 2**0.5
            assert ends >= {(x, round(np.mean(some) + side * half, 6)) for side in (-1, 1)}
        assert not figure.axes[panel].containers


def test_doses_stand_beside_random_latents_and_directions_where_these_were_tried(dose):
    word = OneWord(
        "What?", 1,
        (Measured("steered", Interval(2, 0.7, 0.6, 0.8)), Measured("random_latent", Interval(2, 0.15, 0.1, 0.25)),
         Measured("random_direction", Interval(2, 0.0, None, None))),
        None, None,
    )  # fmt: skip
    with look():
        figure = dose_figure([replace(dose, word=word)], 6.75)
    latent, direction = (one for one in figure.axes[0].containers if isinstance(one, ErrorbarContainer))
    assert latent.get_label() == "s: random latent, n 2" and direction.get_label().startswith("s: random direction")
    assert (*latent.lines[0].get_xdata(), *latent.lines[0].get_ydata()) == (2.0, 0.15), "twice the maximum"
    assert latent.lines[2][0].get_segments()[0][:, 1].tolist() == pytest.approx([0.1, 0.25])
    assert list(direction.lines[0].get_ydata()) == [0.0]
    assert not figure.axes[1].containers, "their damage was not measured"


def test_results_of_one_sae_are_told_apart(dose):
    there = [replace(dose, path=f"steerability/{name}/scores.json") for name in ("s--demo", "s--again")]
    assert called(there) == ["s--demo", "s--again"] and called([dose]) == ["s"]
    with look():
        figure = dose_figure(there, 6.75)
    assert {"s--demo in demo", "s--again in demo"} <= set(lines(figure, 0))


def test_results_without_doses_are_refused(dose):
    with look(), pytest.raises(UserError, match="no doses: run saetui steerability with --part dose"):
        dose_figure([replace(dose, doses=())], 6.75)


def test_there_is_nothing_to_draw_of_what_was_not_measured(place, tmp_path):
    for kind, says in (("dose", "run saetui steerability SAE"), ("stability", "run it on two SAEs")):
        with pytest.raises(UserError, match=says):
            draw_figure(FigureSettings(kind=kind, out=str(tmp_path / "x.svg")), place)


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_the_same_results_are_drawn_to_the_same_bytes(place, tmp_path, ending):
    drawn = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.{ending}"
        result = draw_figure(FigureSettings(kind="ms", sae=(NAME,), width=3.25, out=str(out)), place)
        assert (result.path, result.of) == (str(out), (NAME,))
        drawn.append(out.read_bytes())
    assert drawn[0] == drawn[1] and drawn[0].startswith(MAGIC[ending])
    if ending == "png":
        assert Image.open(tmp_path / "a.png").width == pytest.approx(3.25 * 300, abs=1)


@pytest.mark.parametrize("kind", ["ms", "reconstruction", "hierarchy", "top-images"])
def test_each_is_drawn_by_the_command_from_all_that_is_there(place, tmp_path, kind):
    out = tmp_path / "x.svg"
    done = CliRunner().invoke(app, ["figure", kind, "--out", str(out), "--workspace", str(place.root), "--json"])
    assert json.loads(done.stdout) == {"path": str(out), "of": [NAME]}
    assert out.read_bytes().startswith(MAGIC["svg"])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"sae": ("gone",)}, "gone"),
        ({"out": "x.jpg"}, "ends in .jpg: give an --out in .svg, .pdf, .png"),
        ({"kind": "top-images", "latent": (999,)}, "no latent 999: this SAE has latents 0 to 63"),
        ({"on": "other"}, "not scored as 'other'"),
        ({"width": 0.1}, "give 2 to 20"),
    ],
)
def test_what_cannot_be_drawn_is_refused(place, tmp_path, monkeypatch, asked, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says):
        draw_figure(FigureSettings(**{"kind": "ms", "sae": (NAME,), "out": "x.svg", **asked}), place)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_replaced_only_where_that_was_asked_for(place, tmp_path):
    out = tmp_path / "x.svg"
    out.write_text("mine")
    with pytest.raises(UserError, match="is there already: give another --out, or --replace it"):
        draw_figure(FigureSettings(kind="ms", out=str(out)), place)
    assert out.read_text() == "mine"
    draw_figure(FigureSettings(kind="ms", out=str(out), replace=True), place)
    assert out.read_bytes().startswith(MAGIC["svg"])


def test_a_workspace_without_results_says_what_makes_them(tmp_path):
    empty = Workspace(tmp_path)
    for kind in ("ms", "reconstruction"):
        with pytest.raises(UserError, match="saetui train"):
            draw_figure(FigureSettings(kind=kind, out=str(tmp_path / "x.svg")), empty)

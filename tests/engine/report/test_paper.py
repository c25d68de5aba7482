"""Ours beside the published tables: each cell is the mean of what fits it, and nothing is guessed."""

import json
import shutil
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from engine.config import PaperSettings, SteerabilitySettings, TrainSettings
from engine.errors import UserError
from engine.files import file_sha256, write_json
from engine.metrics.results import AgainstMatched, GroupDepth, GroupMS, Hierarchy, Interval, Overlap, Trend
from engine.neurons.results import LatentSpread, MSSummary, RawMS
from engine.records import to_json
from engine.report.paper.beside import beside_paper
from engine.report.paper.published import published
from engine.report.results import PaperCell
from engine.runs.run import Run
from engine.sae.config import SAEConfig
from engine.sae.model import SAE
from engine.sae.results import FinalMeasurement
from engine.sae.state import Finished, Split, identity, write_training
from engine.steer.results import Measured, OneWord, Steerability, Texts
from engine.steer.steerability.file import FORMAT, SCORES, VERSION
from engine.workspace import Provenance, Source, Workspace
from saetui.cli.app import app
from saetui.cli.report import _row
from tests.support.scores import SUMMARY, made_from, write_scores

MODEL = "openai/clip-vit-large-patch14-336"
DEPTHS = Hierarchy(tuple(GroupDepth(10, n, 2.5 + n / 4, 2.0 + n, 2, 0.1 * n) for n in range(5)), 1.25, Trend(0.3, 0.01))
GROUPS = tuple(
    GroupMS(10, Interval(8, n / 10, n / 20, n / 5), 0.1, Interval(7, n / 30, None, None), None, Interval(7, 1, 0.5, 1))
    for n in range(1, 6)
)


def trained(
    place,
    name,
    *,
    arch="matryoshka-batchtopk",
    hook="last",
    expansion=1,
    k=20,
    fve_batch=None,
    frozen="none",
    tokens="cls",
    **scores,
):
    """An SAE of 8 wide activations with a training, and scores where ``scores`` say something of them."""
    config = SAEConfig(arch=arch, d=8, w=8 * expansion, k=k, hook=hook, model=MODEL, tokens=tokens, frozen=frozen)
    SAE(config).save(place.sae(name))
    result = FinalMeasurement(
        name=name, arch=arch, d=8, w=8 * expansion, k=k, steps=5, rows=77, fve=0.5, fve_batch=fve_batch, l0=float(k)
    )
    asked = TrainSettings(activations="gone", name=name, arch=arch, expansion=expansion, k=k, steps=5, frozen=frozen)
    done = Finished(
        identity=identity(asked, hook),
        settings=asked,
        schedule={},
        rows=Split(9, 1),
        images=Split(9, 1),
        history=(),
        result=result,
    )
    write_training(place.sae(name), done)
    if scores:
        said = replace(SUMMARY, sae=name, model=MODEL, hook=hook, embed_with="facebook/dinov2-base", images=50_000)
        of_sae = made_from(name, file_sha256(place.sae(name) / "sae.safetensors"))
        seen = (Source(kind, "val", "", kind[0] * 64) for kind in ("images", "embeddings"))
        origin = replace(of_sae, made_from=(*of_sae.made_from, *seen))
        write_scores(place.neurons(name, "val"), 8 * expansion, replace(said, **scores), origin)


def ms(mean, best, matched):
    return MSSummary(
        LatentSpread(mean, best, 0.0, 6, low=mean - 0.02, high=mean + 0.03),
        RawMS(0.0141, 0.1, 0.0, columns=8), RawMS(0.1, 0.2, 0.0),
        AgainstMatched(matched, 0.75, 6), 0.01, mean - 0.01, 4.0
    )  # fmt: skip


@pytest.fixture
def place(tmp_path):
    made = Workspace(tmp_path)
    (tmp_path / "workspace.toml").write_text("")
    trained(made, "a", fve_batch=0.7, ms=ms(0.2, 0.8, 0.15))
    trained(made, "b", fve_batch=0.6, ms=ms(0.1, 0.9, 0.05))
    trained(made, "deep", expansion=2, ms=replace(ms(0.3, 0.9, 0.1), groups=GROUPS), hierarchy=DEPTHS)
    trained(made, "wide", expansion=16, fve_batch=0.8, ms=ms(0.3, 0.9, 0.1), uniqueness=Overlap(100, 4950, 99, 0))
    trained(made, "early", hook="layer:11", arch="batchtopk", expansion=4, fve_batch=0.5)
    trained(made, "sparse", k=10, fve_batch=0.44)
    trained(made, "twin", fve_batch=0.1, frozen="decoder", ms=ms(0.9, 0.9, 0.9))
    trained(made, "crops", fve_batch=0.65, ms=ms(0.9, 0.9, 0.9), patches=9)  # the paper's are of images
    trained(made, "odd", expansion=3, fve_batch=0.44, ms=ms(0.9, 0.9, 0.9))
    return made


def cells(place, **asked):
    """By table, row and column."""
    found = beside_paper(PaperSettings(**asked), place)
    return {
        (table.title, row, column): cell
        for table in found.tables
        for row, some in table.rows
        for column, cell in zip(table.columns, some, strict=True)
    }


def test_every_cell_that_was_published_is_there_as_published(place):
    found = cells(place)
    assert len(found) == 6 * 5 * 6 + 2 * 4 + 1 + 2 * 5 + 2 + 2 * 4 + 2 * 3 * 2
    assert found["Best MS, Matryoshka", "22", "16"].published == 1.0
    assert found["R2, BatchTopK", "last", "64"].published == 0.791
    assert {len(values) == len(table.columns) for table in published().table for values in table.rows.values()} == {
        True
    }


def test_ours_is_the_mean_of_the_saes_of_a_cell_beside_their_control(place):
    found = cells(place)
    mean = found["Mean MS, Matryoshka", "last", "1"]
    assert (mean.ours, mean.difference, mean.control) == pytest.approx((0.15, 0.15 - 0.16, 0.1))
    assert (mean.n, mean.saes) == ("12 latents", ("a", "b"))
    assert (mean.low, mean.high) == pytest.approx((0.15 - 0.02 * 2**0.5 / 2, 0.15 + 0.03 * 2**0.5 / 2))
    alone = found["Mean MS, Matryoshka", "last", "2"]
    assert (alone.ours, alone.low, alone.high) == pytest.approx((0.3, 0.28, 0.33))
    assert found["Best MS, Matryoshka", "last", "1"].ours == pytest.approx(0.85)
    assert found["R2, Matryoshka", "last", "1"].ours == pytest.approx(0.65)
    k = "Latents per token (K), Matryoshka of the last layer, expansion 1"
    assert found[k, "R2", "10"].ours == 0.44 and found[k, "R2", "20"].ours == pytest.approx(0.65)
    assert found["R2, BatchTopK", "11", "4"].ours == 0.5
    depth = "Hierarchy on iNaturalist 2021, Matryoshka of the last layer, expansion 2"
    assert [found[depth, "depth, rounded", str(g)].ours for g in range(5)] == [2, 3, 4, 5, 6]
    assert found[depth, "depth, rounded", "2"].control == 1.25 and found[depth, "depth, rounded", "2"].n == "8 latents"
    of = found[depth, "mean MS of the group", "1"]
    assert (of.ours, of.low, of.high, of.control, of.n) == pytest.approx((0.2, 0.1, 0.4, 2 / 30, "8 latents"))
    unique = "Uniqueness of top images, Matryoshka of the last layer, expansion 16"
    assert found[unique, "share of pairs that share a top image", "pairs"].ours == pytest.approx(99 / 4950)
    raw = found["Raw neurons of the last layer, without an SAE", "mean MS of raw neurons", "neurons"]
    assert raw.ours == pytest.approx(0.0141) and raw.published == 0.0135
    assert raw.n == "8 neurons", "over which the mean is, not the images"


def test_an_image_set_is_chosen_where_there_are_several_and_others_stay(place):
    """As of the paper's plan: the hierarchy's SAE is scored on other images than those that two judges see."""

    def alone(**asked):
        found = cells(place, **asked)
        raw = found.pop(("Raw neurons of the last layer, without an SAE", "mean MS of raw neurons", "neurons"))
        return found, raw.saes

    whole, of_raw = alone()
    shutil.copy(place.neurons("a", "val"), place.neurons("a", "other"))
    place.neurons("deep", "val").rename(place.neurons("deep", "inat"))
    with pytest.raises(UserError, match="a is scored on several image sets"):
        cells(place)
    asked, of_asked = alone(on="val")
    assert asked == whole and set(of_raw) - set(of_asked) == {"deep"}, "which stays where no other is"
    trained(place, "of-inat", expansion=16, fve_batch=0.2, ms=ms(0.9, 0.9, 0.9))
    place.neurons("of-inat", "val").rename(place.neurons("of-inat", "inat"))
    trained(place, "steered", expansion=16, tokens="patches", fve_batch=0.2, ms=ms(0.9, 0.9, 0.9))
    assert alone(on="val") == (whole, of_asked), "of a cell those of these images and of CLS"
    with pytest.raises(UserError, match="No SAE was scored as 'nowhere': give one of inat, other, val"):
        cells(place, on="nowhere")


def test_the_best_frozen_twin_stands_in_the_cells_that_it_is_of(place):
    trained(place, "encoder", fve_batch=0.3, frozen="encoder", ms=ms(0.05, 0.95, 0.9))
    found = cells(place)
    assert found["R2, Matryoshka", "last", "1"].twin == 0.3
    assert (found["Mean MS, Matryoshka", "last", "1"].twin, found["Best MS, Matryoshka", "last", "1"].twin) == (
        0.9,
        0.95,
    )
    k = "Latents per token (K), Matryoshka of the last layer, expansion 1"
    assert found[k, "R2", "20"].twin == 0.3 and found[k, "R2", "10"].twin is None, "sparse has none"
    lines = [line[1:3] for line in _row("last", (found["Mean MS, Matryoshka", "last", "1"],))]
    assert ("twin", ".90") in lines
    trained(place, "c", ms=ms(0.3, 0.9, 0.1), embed_with="other", pooling="mean")
    assert cells(place)["Mean MS, Matryoshka", "last", "1"].twin is None, "one of three has none that was scored alike"


def test_what_there_is_not_stays_empty(place):
    found = cells(place)
    ours = {key for key, cell in found.items() if cell.ours is not None}
    assert ("Mean MS, Matryoshka", "22", "4") not in ours and ("R2, BatchTopK", "last", "1") not in ours
    assert ("Mean MS, BatchTopK", "11", "4") not in ours, "it was trained, and not scored"
    assert all(cell.difference is None and cell.saes == () for cell in found.values() if cell.ours is None)
    named = {name for cell in found.values() if cell.published != 0.0135 for name in cell.saes}
    assert not named & {"odd", "twin"}


def test_what_is_another_thing_than_the_published_is_said(place, tmp_path):
    same = beside_paper(PaperSettings(), place).tables
    assert all(note.startswith(("K is", "At K = 20")) or not table.notes for table in same for note in table.notes)
    other = replace(SUMMARY, sae="b", model=MODEL, hook="last", images=300)
    origin = made_from("b", file_sha256(place.sae("b") / "sae.safetensors"))
    write_scores(place.neurons("b", "val"), 8, other, origin)
    notes = " ".join(note for table in beside_paper(PaperSettings(), place).tables for note in table.notes)
    assert "The judge is demo:encoder, not DINOv2 ViT-B" in notes and "The images are 300, not 50,000." in notes


def test_a_plan_says_what_stands_for_the_published_layers_and_k(place, tmp_path):
    plan = tmp_path / "small.toml"
    plan.write_text('[paper.layers]\n22 = "layer:11"\n[paper.k]\n20 = 10\n')
    trained(place, "mid", hook="layer:11", k=10, expansion=8, fve_batch=0.3)
    found = cells(place, plan=str(plan))
    assert found["R2, Matryoshka", "22", "8"].saes == ("mid",)
    assert found["R2, Matryoshka", "last", "1"].saes == ("sparse",)
    tables = beside_paper(PaperSettings(plan=str(plan)), place).tables
    notes = next(table.notes for table in tables if table.title == "R2, Matryoshka")
    assert "K is 10 for 20." in notes and "Layers are layer:11 for 22." in notes
    plan.write_text('[paper.k]\n20 = "few"\n')
    with pytest.raises(UserError, match=r"\[paper\] is not as"):
        cells(place, plan=str(plan))


def test_the_plan_that_was_run_last_says_it_where_none_is_named(place, tmp_path):
    assert beside_paper(PaperSettings(), place).plan == ""
    row = "R2, BatchTopK", "22", "4"
    plans = [tmp_path / "first.toml", tmp_path / "second.toml", tmp_path / "other.toml"]
    for plan, said in zip(plans, ('[paper.layers]\n22 = "layer:11"\n', "[paper]\n", "[[draw]]\n"), strict=True):
        plan.write_text(said)
    Run.create(place, "run", {"plan": str(tmp_path / "first.toml")}, ["run"])
    Run.create(place, "run", {"plan": str(tmp_path / "other.toml")}, ["run"])
    Run.create(place, "score", {"sae": "a"}, ["score"])
    assert beside_paper(PaperSettings(), place).plan == str(plans[0])
    assert cells(place)[row].ours == 0.5
    Run.create(place, "run", {"plan": str(tmp_path / "second.toml")}, ["run"])
    assert cells(place)[row].ours is None, "the same ones"
    plans[1].unlink()
    assert cells(place)[row].ours == 0.5
    Run.create(place, "run", {"plan": "paper-demo"}, ["run"])
    assert beside_paper(PaperSettings(), place).plan == "paper-demo", "one that saetui brings"
    Run.create(place, "run", {"plan": "paper"}, ["run"])
    assert cells(place)[row].ours is None, "of the paper's own model the layers are the published ones"


def steered(place, sae, vlm="llava-hf/llava-1.5-7b-hf", word=0.3, shares=(0.5, 0.8, 0.4), n=6, name="vlm"):
    """Steering scores of ``sae``: a steered model, and the SAE attached, which has a tenth of it."""

    def measured(score):
        return (
            Measured("untouched", Interval(n, 0.0, -0.1, 0.1)),
            Measured("attached", Interval(n, score / 10, 0.0, 0.1)),
            Measured("steered", Interval(n, score, score - 0.1, score + 0.2)),
        )

    words = OneWord("?", 1, measured(word), None, Interval(n, 0.1, 0.05, 0.15))
    texts = Texts("insertion", "clip", *map(measured, shares), 0)
    result = Steerability(
        path="x", sae=sae, vlm=vlm, images="val", drawn_from=6, latents=(), groups=(), word=words,
        word_on_pictures=None, texts=(texts, replace(texts, judge="second", done=measured(0.9))), prompts=(), judges=(),
        agreement=(), doses=(), settings=SteerabilitySettings(sae=sae, vlm=vlm), provenance=Provenance(()),
    )  # fmt: skip
    folder = place.steerability(sae, name)
    folder.mkdir(parents=True)
    write_json(folder / SCORES, {"format": FORMAT, "version": VERSION, **to_json(result)})


def test_steering_stands_beside_the_published_with_control_interval_and_n(place):
    trained(place, "read", hook="layer:22", expansion=8)
    steered(place, "read")
    steered(place, "a", word=0.9)  # of another layer: its cells are none of the paper's
    found = cells(place)
    plain, inserted = "Steering: the one word, of a plain image", "Steering: insertion"
    cell = found[plain, "cosine", "steered"]
    assert (cell.published, cell.ours, cell.difference, cell.control) == pytest.approx((0.259, 0.3, 0.3 - 0.259, 0.03))
    assert (cell.low, cell.high) == pytest.approx((0.2, 0.5)) and (cell.n, cell.saes) == ("6 latents", ("read",))
    assert found[plain, "cosine", "untouched"].control is None
    assert found[plain, "cosine", "random label"].ours == 0.1 and found[plain, "cosine", "true label"].ours is None
    rows = ("concept appeared", "prompt followed", "both")
    assert [found[inserted, row, "steered"].ours for row in rows] == [0.5, 0.8, 0.4], "of the first judge"
    assert [found[inserted, row, "diffmean"].published for row in rows] == [0.531, 0.662, 0.358]
    assert found[inserted, "both", "diffmean"].ours is None
    assert found["Steering: suppression", "both", "steered"].n == ""


def test_steering_of_several_saes_is_their_mean(place):
    for name, vlm, word in (("r1", "demo", 0.2), ("r2", "demo", 0.4)):
        trained(place, name, hook="layer:22")
        steered(place, name, vlm, word)
    tables = {table.title: table for table in beside_paper(PaperSettings(), place).tables}
    cell = tables["Steering: the one word, of a plain image"].rows[0][1][1]
    assert (cell.ours, cell.low, cell.high) == pytest.approx((0.3, 0.3 - 0.1 * 2**0.5 / 2, 0.3 + 0.2 * 2**0.5 / 2))
    assert (cell.n, cell.saes) == ("12 latents", ("r1", "r2"))
    notes = tables["Steering: insertion"].notes
    assert "The model steered is demo, not LLaVA-1.5." in notes and "Judged by clip" in notes[1]
    assert tables["Steering: suppression"].notes == ()


def test_of_several_steering_results_of_an_sae_that_of_the_most_latents_counts(place):
    trained(place, "read", hook="layer:22")
    steered(place, "read", word=0.9, n=2, name="try")
    steered(place, "read", word=0.3, n=24, name="whole")
    steered(place, "read", word=0.8, n=3, name="z")
    cell = cells(place)["Steering: the one word, of a plain image", "cosine", "steered"]
    assert (cell.ours, cell.n, cell.saes) == (0.3, "24 latents", ("read",))


def test_scores_of_crops_leave_no_choice_of_image_sets(place):
    whole = cells(place)
    said = replace(SUMMARY, sae="a", ms=ms(0.9, 0.9, 0.9), patches=9)
    write_scores(place.neurons("a", "in-crops"), 8, said, made_from("a", "0" * 64))
    assert cells(place) == whole
    assert (
        beside_paper(PaperSettings(), place).tables[0].notes
        == beside_paper(PaperSettings(on="val"), place).tables[0].notes
    )


def test_a_plan_without_the_table_is_refused_and_what_is_none_of_the_papers_is_told(place, tmp_path):
    (tmp_path / "other.toml").write_text("[[draw]]\n")
    with pytest.raises(UserError, match=r"other.toml has no table \[paper\].*as paper-demo has, or leave --plan out"):
        cells(place, plan=str(tmp_path / "other.toml"))
    shutil.rmtree(place.root / "saes")
    run = CliRunner().invoke(app, ["report", "--paper", "--workspace", str(place.root)])
    assert "No cell is ours" in run.stdout and "--plan FILE" in " ".join(run.stdout.split())


def test_notes_are_of_what_the_table_tells(place):
    trained(place, "judged", expansion=4, fve_batch=0.5, ms=ms(0.2, 0.8, 0.1), embed_with="demo", images=9)
    notes = {table.title: " ".join(table.notes) for table in beside_paper(PaperSettings(), place).tables}
    assert "judge" in notes["Mean MS, Matryoshka"] and "The images are 9" in notes["Mean MS, Matryoshka"]
    assert notes["R2, Matryoshka"] == "", "neither a judge nor scored images have a part in it"


def test_the_command_prints_ours_the_difference_and_the_control(place):
    run = CliRunner().invoke(app, ["report", "--paper", "--workspace", str(place.root)])
    assert "Steering: insertion" in run.stdout and "a caption that says x16 is not of these values" in run.stdout
    assert "Mean MS, Matryoshka" in run.stdout and "published" in run.stdout and "control" in run.stdout
    said = CliRunner().invoke(app, ["report", "--paper", "--json", "--workspace", str(place.root)])
    assert len(json.loads(said.stdout)["tables"]) == len(published().table) + 4
    wrong = CliRunner().invoke(app, ["report", "a", "--paper", "--out", "x", "--workspace", str(place.root)])
    assert wrong.exit_code != 0 and "leave out --out, SAE" in str(wrong.exception)
    row = ("", [PaperCell(0.8), PaperCell(1.0, ours=0.936), PaperCell(0.7)])
    assert list(_row(*row)) == [("", "published", ".80", "1.00", ".70"), ("", "ours", "", ".94", "")]
    assert [line[2:] for line in _row("", [PaperCell(0.752), PaperCell(0.74)])] == [(".752", ".740")]
    assert [line[2:] for line in _row("", [PaperCell(2.7e-07)])] == [(".00000027",)]
    several = [PaperCell(0.8, 0.9, n="9 latents", saes=("a", "b")), PaperCell(0.8), PaperCell(0.8, 0.7, n="7 rows")]
    assert list(_row("", several))[-2:] == [("", "n, latents, rows", "9", "", "7"), ("", "SAEs", "2", "", "")]

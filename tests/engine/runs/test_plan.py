"""What is no plan is refused in a sentence, before anything starts; stages share what they can."""

import dataclasses
import json
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from engine import models
from engine.config import PlanSettings
from engine.errors import UserError
from engine.neurons import score, seen
from engine.places import split
from engine.runs.expected_plan import expected_plan
from engine.runs.plan import DRAWN, check_plan, check_stages, makes, plan_path, read_plan, run_plan, shipped, told_of
from engine.runs.tasks import TASKS
from engine.workspace import image_set_of
from saetui.cli.app import app
from saetui.cli.stages import show_plan
from tests.support.extractions import saved_model, write_pictures
from tests.support.scores import changing
from tests.support.stores import write_store
from tests.support.synthetic import IMAGES, NAME, write_synthetic
from tests.support.trainings import Recorder


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ("train = 3", r"train is 3: write its settings under \[\[train\]\]"),
        ("train = [1, 2]", r"write its settings under \[\[train\]\]"),
        ("[[trein]]\nk = 3", "a table 'trein'"),
        ("", "has no stages"),
    ],
)
def test_what_is_no_plan_is_refused(plan, says, workspace, tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(plan)
    with pytest.raises(UserError, match=says):
        read_plan(path, workspace)


TRAIN = """
[[train]]
activations = "a"
name = "clip-x{expansion}"
expansion = [4, 8]
"""


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('[[score]]\nsae = "*-x"\nimages = "i"\nembed_with = "demo"', r"called '\*-x': it makes clip-x4, clip-x8"),
        (
            '[[score]]\nsae = "clip-x16"\nimages = "i"\nembed_with = "demo"',
            r"score\]\]: No SAE named 'clip-x16'.*: the plan makes clip-x4, ",
        ),
        ('[[score]]\nsae = "*"\nimages = ["a/val", "b/val"]\nembed_with = "demo"', r"clip-x4--val.h5 twice"),
        ('[[fidelity]]\nsae = ["*", "x"]\nimages = "i"', r"fidelity\]\]: No SAE named 'x'"),
        ('[[fidelity]]\nsae = "*"\nimages = "a/i"\n[[fidelity]]\nsae = "*"\nimages = "b/i"', r"--i.json twice"),
        ('[[steer]]\nrecipe = "hat"', "There is no recipe hat"),
        ('[[train]]\nactivations = "b"\nname = "c"', "No activations named 'b'"),
        ('[[baseline]]\nactivations = "a"\nof = "pca"\nname = "clip-x4"', "makes 'clip-x4' twice"),
        ('[[baseline]]\nactivations = "b"\nof = "pca"\nname = "c"', r"baseline\]\]: No activations named 'b'"),
        ('[[concepts]]\nsae = "*"\nimages = ["a/i", "b/i"]', r"clip-x4--i.json twice: .*\{pooling\}, into its name"),
        ('[[stability]]\nsaes = "*-x4"', r"stability\]\]: Two or more SAEs are compared"),
        ('[[stability]]\nsaes = ["*", "x"]', r"stability\]\]: No SAE named 'x'"),
        ('[[agreement]]\nfolder = "no"', r"agreement\]\]: no has no pairs.csv"),
        ('[[import]]\nsource = "no"\nname = "c"', r"import\]\]: no does not exist"),
        ('[[figure]]\nkind = "ms"\nsae = "*"', r"nothing that it scores is called '\*': it scores none"),
        (
            '[[concepts]]\nsae = "x"\nimages = "i"',
            r"concepts\]\]: No SAE named 'x'.*: the plan makes clip-x4, ",
        ),
        ('[[figure]]\nkind = "ms"\nsae = "clip-x4"', r"figure\]\]: clip-x4 has no scores to draw"),
        ('[[figure]]\nkind = "ms"\nsae = "x"', r"figure\]\]: No SAE named 'x'.*: the plan makes clip-x4, "),
        ('[[figure]]\nkind = "stability"\nsae = "x"', r"figure\]\]: There is no result x of saetui stability"),
        ('[[figure]]\nkind = ["ms", "dose"]\nout = "figures/f.svg"', r"f.svg twice: .*\{kind\}, into its out"),
        ('[[figure]]\nkind = "ms"\nout = "f.svg"', r"figure\]\]: out is f.svg: a plan draws into figures/"),
        ('[[figure]]\nkind = "ms"\nout = "figures/f.txt"', r"figure\]\]: figures/f.txt ends in .txt: give an out in"),
    ],
)
def test_what_would_fail_in_the_end_is_refused_in_the_beginning(more, says, workspace, tmp_path):
    write_store(workspace.activations("a"), np.ones((4, 8), np.float32))
    path = tmp_path / "plan.toml"
    path.write_text(TRAIN + more)
    with pytest.raises(UserError, match=says):
        run_plan(PlanSettings(plan=str(path)), workspace)


def test_stars_mean_some_of_the_saes_and_paths_are_from_the_workspace(workspace, tmp_path, monkeypatch):
    (workspace.root / "activations/a").mkdir(parents=True)
    path = tmp_path / "plan.toml"
    path.write_text(TRAIN + '[[score]]\nsae = "*-x8"\nimages = "val"\nembed_with = "./judge"')
    monkeypatch.chdir("/")
    *_, scored = stages = read_plan(path, workspace)
    check_plan(stages, workspace, path)
    asked = scored.settings
    assert (asked.sae, asked.images) == ("clip-x8", str(workspace.root / "val"))
    assert asked.embed_with == str(workspace.root / "judge")


def test_the_fidelity_of_all_saes_is_one_stage(workspace, tmp_path):
    (workspace.root / "activations/a").mkdir(parents=True)
    path = tmp_path / "plan.toml"
    path.write_text(TRAIN + '[[fidelity]]\nsae = "*"\nimages = "val"\n[[fidelity]]\nsae = "*-x4"\nimages = "i"')
    *_, both, one = stages = read_plan(path, workspace)
    check_plan(stages, workspace, path)
    assert both.settings.sae == ("clip-x4", "clip-x8") and one.settings.sae == ("clip-x4",)
    assert (both.name, one.name) == ("clip-x4 and 1 more", "clip-x4")


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ("", ["val-dino", "val-demo-encoder"]),
        ('name = "v"', ["v-dino", "v-demo-encoder"]),
        ('name = "{embed_with}"', ["dino", "demo-encoder"]),
        ('name = "{limit}"\nlimit = [10, 20]', ["10-dino", "20-dino", "10-demo-encoder", "20-demo-encoder"]),
    ],
)
def test_judges_of_one_table_are_named_as_score_names_them(more, names, workspace, tmp_path):
    (workspace.root / "activations/a").mkdir(parents=True)
    path = tmp_path / "plan.toml"
    path.write_text(f'{TRAIN}[[score]]\nsae = "*-x8"\nimages = "val"\nembed_with = ["./dino", "demo:encoder"]\n{more}')
    stages = read_plan(path, workspace)
    check_plan(stages, workspace, path)
    assert [one.settings.name for one in stages if one.task == "score"] == names


def test_several_judges_of_the_workspace_are_as_several_of_the_table(workspace, tmp_path):
    (workspace.root / "activations/a").mkdir(parents=True)
    path, marker = tmp_path / "plan.toml", workspace.root / "workspace.toml"
    judges, table = 'embed_with = ["./dino", "demo:encoder"]\n', f'{TRAIN}[[score]]\nsae = "*-x8"\nimages = "val"\n'
    path.write_text(table + judges)
    in_table = read_plan(path, workspace)
    marker.write_text(judges)
    path.write_text(table)
    assert read_plan(path, workspace) == in_table
    assert [one.settings.embed_with for one in in_table[-2:]] == [str(workspace.root / "dino"), "demo:encoder"]
    path.write_text(table + 'embed_with = "demo"')
    assert read_plan(path, workspace)[-1].settings.embed_with == "demo", "the table goes before the workspace"
    for wrong, says in (
        ("[]", "names none: give one or more"),
        ("[3]", "embed_with is 3: it must be text"),
        ('["demo", ""]', "embed_with is empty: give a name or a path"),
    ):
        marker.write_text(f"embed_with = {wrong}\n")
        path.write_text(table)
        with pytest.raises(UserError, match=rf"workspace.toml: .*{says}"):
            read_plan(path, workspace)


def test_a_figure_is_of_what_the_plan_makes_for_it(workspace, tmp_path):
    (workspace.root / "activations/a").mkdir(parents=True)
    path = tmp_path / "plan.toml"
    more = """
    [[score]]
    sae = "*-x8"
    images = "val"
    embed_with = "demo"
    [[baseline]]
    activations = "a"
    of = "pca"
    name = "pca"
    [[stability]]
    saes = ["clip-*", "*-x4"]
    name = "sizes"
    [[steerability]]
    sae = "pca"
    vlm = "demo"
    [[figure]]
    kind = ["ms", "hierarchy", "reconstruction", "stability", "dose"]
    sae = "*"
    """
    path.write_text(TRAIN + more)
    stages = read_plan(path, workspace)
    check_plan(stages, workspace, path)
    drawn = {one.settings.kind: one.settings for one in stages if one.task == "figure"}
    assert {kind: one.sae for kind, one in drawn.items()} == {
        **dict.fromkeys(("ms", "hierarchy"), ("clip-x8",)),
        "reconstruction": ("clip-x4", "clip-x8", "pca"),
        "stability": ("sizes",),
        "dose": ("pca",),
    }
    assert drawn["ms"].out == str(workspace.root / "figures/ms.svg") and drawn["ms"].replace
    assert [one.settings.saes for one in stages if one.task == "stability"] == [("clip-x4", "clip-x8")]


def test_a_figure_of_scores_by_several_judges_is_refused_before_there_are_any(workspace, tmp_path):
    write_store(workspace.activations("a"), np.ones((4, 8), np.float32))
    path = tmp_path / "plan.toml"
    scores = '[[score]]\nsae = "*"\nimages = "i/val"\nembed_with = ["demo", "hf:judge"]\n'
    for named in ("", 'sae = "*"\n'):
        path.write_text(f'{TRAIN}{scores}[[figure]]\nkind = "ms"\n{named}')
        stages = read_plan(path, workspace)
        first = min(image_set_of(Path(name)) for one in stages for of, name in makes(one, workspace) if of == "neurons")
        with pytest.raises(UserError, match=rf'figure\]\]: .*clip-x[48] is scored on .*: choose one with on="{first}"'):
            check_figures(stages, workspace, path)
        path.write_text(f'{TRAIN}{scores}[[figure]]\nkind = "ms"\non = "{first}"\n{named}')
        check_figures(read_plan(path, workspace), workspace, path)


def test_a_figure_of_a_plan_leaves_controls_out_and_is_of_no_more_than_it_can_show(workspace, tmp_path):
    write_store(workspace.activations("a"), np.ones((4, 8), np.float32))
    path = tmp_path / "plan.toml"
    train = '[[train]]\nactivations = "a"\nname = "{frozen}-{seed}"\nseed = %s\nfrozen = ["none", "decoder"]\n'
    rest = '[[score]]\nsae = "*"\nimages = "val"\nembed_with = "demo"\n[[figure]]\nkind = "ms"\n'
    path.write_text(train % list(range(7)) + rest)
    check_figures(read_plan(path, workspace), workspace, path)
    path.write_text(train % list(range(8)) + rest)
    with pytest.raises(UserError, match=r"figure\]\]: .*There are 8 SAEs to draw \(none-0, .*: name some"):
        check_figures(read_plan(path, workspace), workspace, path)


def check_figures(stages, workspace, path):
    """As check_stages, of figures alone: what they read is not there."""
    made = set()
    for stage in stages:
        if stage.task == "figure":
            with told_of(stage, path, workspace):
                TASKS["figure"].refuse(stage.settings, workspace, made)
        made |= makes(stage, workspace)


def test_a_figure_that_fails_when_it_is_drawn_names_its_table(workspace, tmp_path):
    write_synthetic(workspace.root, w=16, images=12, top=4)
    with changing(workspace.neurons(NAME, IMAGES)) as file:
        summary = json.loads(file["summary"][()]) | {"hierarchy": None}
        del file["summary"]
        file["summary"] = json.dumps(summary)
    path = tmp_path / "plan.toml"
    path.write_text('[[figure]]\nkind = "hierarchy"\n')
    with pytest.raises(UserError, match=r"plan.toml \[\[figure\]\]: .* has no depths"):
        run_plan(PlanSettings(plan=str(path)), workspace)


def test_defaults_of_the_workspace_are_not_those_of_what_has_its_own(workspace, tmp_path):
    workspace.root.mkdir(exist_ok=True)
    (workspace.root / "workspace.toml").write_text('arch = "relu"\nexpansion = 3.0\nk = 5\n')
    path = tmp_path / "plan.toml"
    path.write_text('[[baseline]]\nactivations = "a"\nof = "pca"\nname = "b"')
    (stage,) = read_plan(path, workspace)
    assert (stage.settings.arch, stage.settings.expansion, stage.settings.k) == ("batchtopk", 0.0, 5)


PLAN = """
[[extract]]
model = "{root}/model"
images = "{root}/images"
at = ["layer:0"]
tokens = "patches"
name = "A"

[[train]]
activations = "A"
name = "s{{seed}}"
arch = "topk"
expansion = 2
k = 3
seed = [0, 1]
steps = 5
batch_size = 16

[[score]]
sae = "*"
images = "{root}/images"
embed_with = "{root}/model"
pooling = ["max", "mean"]
name = "{{pooling}}"
vocabulary = "{root}/words.txt"

[[baseline]]
activations = "A"
of = "random"
expansion = 2
k = 3
name = "random"

[[concepts]]
sae = ["s0", "rand*"]
images = "{root}/images"
min_images = 2

[[stability]]
saes = "s*"
name = "seeds"

[[figure]]
kind = ["ms", "reconstruction", "stability"]
sae = "s*"
on = "max"
"""


def test_the_stages_of_a_plan_share_a_model_and_its_scores_a_pass(workspace, tmp_path, monkeypatch, capsys):
    saved_model(tmp_path / "model")
    write_pictures(tmp_path / "images", 12)
    (tmp_path / "words.txt").write_text("cat\ndog")
    (tmp_path / "images" / "classes.txt").write_text("ape monkey")
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.format(root=tmp_path))
    loads, passes, load, see = [], [], models._local, seen.look
    monkeypatch.setattr(models, "_local", lambda *given: loads.append(given[1]) or load(*given))
    monkeypatch.setattr(score, "look", lambda readers, *given: passes.append(len(readers)) or see(readers, *given))
    asked = PlanSettings(plan=str(path))
    (expected,) = expected_plan(asked, workspace).passes
    recorder = Recorder()
    done = run_plan(asked, workspace, recorder)
    told = [one["message"] for one in recorder.of("warning") if "it does not name 1 folder of images" in one["message"]]
    assert len(told) == 1 and "add those, or" in told[0], "once, however many stages read the images"
    assert [(one.stage, one.name) for one in done.stages] == [
        *(("extract", "A"), ("train", "s0"), ("train", "s1"), ("baseline", "random")),
        *(("score", name) for name in ("s0", "s0", "s1", "s1", "random", "random")),
        *(("concepts", "s0"), ("concepts", "random"), ("stability", "seeds")),
        *(("figure", name) for name in ("ms", "reconstruction", "stability")),
    ]
    assert all(one.result.get("made", True) for one in done.stages)
    assert len(loads) == 1 and passes == [expected.scorings] == [6]
    figures = [workspace.root / "figures" / f"{name}.svg" for name in ("ms", "reconstruction", "stability")]
    drawn = [file.read_bytes() for file in figures]
    there = expected_plan(asked, workspace)
    assert [one.state for one in there.stages] == ["there"] * 13 + ["to do"] * 3, "figures are drawn anew"
    assert (there.left, there.seconds, there.untimed) == (0, 0, 3)
    again = run_plan(asked, workspace)
    assert not any(one.result["made"] for one in again.stages[1:13]) and passes == [6]
    assert drawn == [file.read_bytes() for file in figures]
    show_plan(again)
    shown = capsys.readouterr().out
    for says in (
        r"baseline  random +was there already: FVE ",
        r"concepts  random +was there already: AUROC \S+ \(.* to .*\) of 2 concepts, matched raw neurons ",
        r"stability  seeds +was there already: matched \S+ ± \S+, random directions \S+, \d+ latents",
        r"figure  ms +made: .*figures/ms.svg",
        r"16 stages: 3 done now, 13 there already",
    ):
        assert re.search(says, shown), shown

    together = {file.name: file.read_bytes() for file in (workspace.root / "neurons").iterdir()}
    shutil.rmtree(workspace.root / "neurons")
    for stage in read_plan(path, workspace):
        if stage.task == "score":
            score.score(stage.settings, workspace)
    assert {file.name: file.read_bytes() for file in (workspace.root / "neurons").iterdir()} == together


INPUTS = """
[inputs.data]
about = "images to train on."
[inputs.size]
about = "expansion"
default = "4"
[[train]]
activations = "$data"
name = "of-{activations}"
"""


def test_inputs_stand_where_the_plan_names_them(workspace, tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(INPUTS)
    (stage,) = read_plan(path, workspace, ["data=rows"])
    assert (stage.settings.activations, stage.settings.name) == ("rows", "of-rows")


def test_what_the_workspace_says_wrong_is_said_of_it(workspace, tmp_path):
    path, marker = tmp_path / "plan.toml", workspace.root / "workspace.toml"
    workspace.root.mkdir()
    path.write_text('[[draw]]\nimages = "i"\n[[extract]]\nimages = "i"\nname = "a"\ntokens = "cls"\n')
    marker.write_text('model = "nope"\n')
    with pytest.raises(UserError, match=r"workspace.toml: model: No model at nope: "):
        check_stages(read_plan(path, workspace), workspace, path)
    path.write_text(path.read_text() + 'model = "none"\n')
    with pytest.raises(UserError, match=r"plan.toml \[\[extract\]\]: No model at none: "):
        check_stages(read_plan(path, workspace), workspace, path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((), "(?s)needs an input, given by --input NAME=VALUE:\n  data: images to train on\n.*\n  size=4: expansion$"),
        (("data",), "--input data is not NAME=VALUE"),
        (("data=",), "--input data= is not NAME=VALUE"),
        (("data=a", "other=b"), "has no input other: its inputs are data, size"),
    ],
)
def test_inputs_that_lack_or_that_a_plan_does_not_know_are_told(given, says, workspace, tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(INPUTS)
    with pytest.raises(UserError, match=says):
        read_plan(path, workspace, given)


@pytest.mark.parametrize("plan", ["paper", "paper-released"])
def test_all_inputs_of_a_plan_are_told_on_a_narrow_screen(plan, workspace):
    declared = tomllib.loads(shipped()[plan].read_text())["inputs"]
    with pytest.raises(UserError, match=" needs ") as refused:
        read_plan(shipped()[plan], workspace, ["val=./val"])
    said = str(refused.value)
    lines, text = said.splitlines()[1:], " ".join(said.split())
    assert max(map(len, lines)) <= 80
    for name, one in declared.items():
        value = "./val" if name == "val" else one.get("default")
        assert f" {name}={value}: {one['about']}" in text if value else f" {name}: {one['about']}" in text
    assert len([line for line in lines if line.startswith("  ") and line[2] != " "]) == len(declared)


def test_a_command_without_inputs_calls_them_by_their_flag(tmp_path):
    refused = CliRunner().invoke(app, ["run", "paper", "--dry-run", "--workspace", str(tmp_path)])
    assert "paper.toml needs 3 inputs, given by --input NAME=VALUE:\n  train: images" in str(refused.exception)


def test_a_name_that_is_no_input_is_told(workspace, tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(TRAIN.replace('"a"', '"$rows"'))
    with pytest.raises(UserError, match="has no input 'rows': declare it as"):
        read_plan(path, workspace)


BROUGHT = {"paper", "paper-demo", "paper-encoders", "paper-released"}


def test_the_plans_that_are_brought_are_found_by_name_and_a_file_goes_first(workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan_path("paper") == shipped()["paper"] and set(shipped()) == BROUGHT
    (tmp_path / "paper").write_text("mine")
    assert plan_path("paper").read_text() == "mine"
    assert plan_path("papers").name == "papers"
    with pytest.raises(UserError, match="or one of paper, paper-demo, paper-encoders, paper-released"):
        read_plan(plan_path("papers"), workspace)


def test_the_plan_of_the_paper_is_its_experiments(workspace):
    stages = read_plan(shipped()["paper"], workspace, ["train=/t", "val=/v", "inat=/i"])
    asked = [stage.settings for stage in stages]
    trained = [one for stage, one in zip(stages, asked, strict=True) if stage.task == "train"]
    grid = {(one.activations, one.arch, one.expansion) for one in trained if one.k == 20}
    assert len(grid) == 60 + 1 + 2 and sorted({one.k for one in trained}) == [1, 10, 20, 50]
    made = {one.name for one in trained if one.activations.startswith("imagenet")} | {
        *("imagenet-pca", "imagenet-kmeans", "imagenet-random")
    }
    scored = [one for stage, one in zip(stages, asked, strict=True) if stage.task == "score"]
    judges = {(one.name, one.embed_with) for one in scored}
    assert ("imagenet-dinov2", "hf:facebook/dinov2-base") in judges and len(scored) == 2 * len(made) + 1
    assert made == {one.sae for one in scored if one.name == "imagenet-clip"} and len(made) == 60 + 3 + 1 + 3 + 3 + 3
    assert {one.images for one in scored} == {"/v", "/i"}


def test_the_plan_of_the_paper_and_the_demos_differ_by_size_models_and_data_alone(workspace):
    given = {"paper": ["train=/t", "val=/v", "inat=/i"], "paper-demo": []}
    full, demo = (read_plan(shipped()[name], workspace, inputs) for name, inputs in given.items())

    def of(stages, task, *names):
        found = [tuple(getattr(one.settings, name) for name in names) for one in stages if one.task == task]
        return sorted(set(found))

    assert {one.task for one in full} == {one.task for one in demo} - {"draw"}
    for task, *names in (
        ("train", "arch", "frozen"),
        ("baseline", "of"),
        ("figure", "kind"),
        ("stability", "seed"),
        ("fidelity", "splice"),
        ("steerability", "part", "draw", "strength", "doses"),
    ):
        assert of(full, task, *names) == of(demo, task, *names), task
    for stages in (full, demo):
        twins = [one.settings for one in stages if one.task == "train" and one.settings.frozen != "none"]
        trained = {dataclasses.replace(one.settings, name="") for one in stages if one.task == "train"}
        assert len(twins) == 3 and {dataclasses.replace(one, frozen="none", name="") for one in twins} < trained
        compared = [one.settings.saes for one in stages if one.task == "stability"]
        assert [len(saes) for saes in compared] == [2, 2]
        assert len([one for one in stages if one.task == "concepts"]) == 2 + 3 + 3
        (spliced,) = [one.settings.sae for one in stages if one.task == "fidelity"]
        (steered,) = [one.settings.sae for one in stages if one.task == "steerability"]
        assert len(spliced) == 3 and spliced[0] == steered


def test_the_plan_of_its_other_encoders_reads_each_where_it_puts_something_out(workspace, tmp_path):
    write_pictures(tmp_path / "images", 2)
    model = saved_model(tmp_path / "encoder")
    names = ("siglip", "aimv2", "webssl", "judge")
    given = [*(f"{name}={model}" for name in names), *(f"{name}={tmp_path / 'images'}" for name in ("train", "val"))]
    plan = shipped()["paper-encoders"]
    stages = read_plan(plan, workspace, [*given, "webssl-layer=layer:1"])
    check_plan(stages, workspace, plan)
    check_stages(stages, workspace, plan)
    assert {stage.name: stage.settings.at for stage in stages if stage.task == "extract"} == {
        "siglip": ("last",),
        "aimv2": ("last",),
        "webssl": ("layer:1",),
    }
    trained = {stage.name for stage in stages if stage.task == "train"}
    assert len(trained) == 3 * 2 * 2 and trained == {stage.settings.sae for stage in stages if stage.task == "score"}


def test_the_plan_for_the_demo_can_be_run_as_it_is(workspace):
    stages = read_plan(shipped()["paper-demo"], workspace)
    check_plan(stages, workspace, shipped()["paper-demo"])
    check_stages(stages, workspace, shipped()["paper-demo"])
    trained = {stage.name for stage in stages if stage.task == "train"}
    made = trained | {stage.name for stage in stages if stage.task == "baseline"}
    assert len(trained) == 1 + 5 * 2 * 2 + 3 + 2 + 3 + 1 + 2 and len(made) == len(trained) + 3
    assert made == {stage.name for stage in stages if stage.task == "score"}
    twins = [stage.settings for stage in stages if stage.task == "train" and stage.settings.frozen != "none"]
    of = {dataclasses.replace(one, frozen="none", name="paper-last-batchtopk-x4-k4-s0") for one in twins}
    assert len(twins) == 3 and of < {stage.settings for stage in stages if stage.task == "train"}
    assert {stage.settings.kind for stage in stages if stage.task == "figure"} == set(DRAWN)
    (spliced,) = [stage.settings.sae for stage in stages if stage.task == "fidelity"]
    assert len(spliced) == 3 and {"paper-patches", *spliced} <= trained


def test_inputs_are_places(tmp_path):
    for text, inside in (
        ("data=/photos/cats", "/photos/cats"),
        ("data=./cats", "./cats"),
        ("model=hf:openai/clip-vit-large-patch14-336", ""),
        ("model=demo", ""),
        ("model=openclip:ViT-L-14/openai", ""),
        ("size=4", ""),
    ):
        before, path, after = split(text, "input")
        assert path == inside and before + path + after == text

"""What a plan is expected to take is what earlier work took, by formulas written out here, and what it then makes."""

import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.cells import cell_len

from engine.config import PlanSettings
from engine.errors import UserError
from engine.runs.expected_plan import ExpectedPlan, expected_plan
from engine.runs.paces import Forward, paces
from engine.runs.run import Run
from engine.workspace import Workspace
from saetui.cli import work
from saetui.cli.plans import _rows as table
from saetui.cli.plans import show_expected
from tests.support.checkpoints import TEXT, VISION

OLD = Path(__file__).parents[2] / "old_workspace"
PLAN = """
[[extract]]
model = "demo"
images = "images"
at = ["layer:4", "last"]
tokens = "cls"
name = "few"

[[train]]
activations = "few-layer4"
name = "x{expansion}"
arch = "topk"
expansion = [0.0625, 0.125]
k = 2
steps = 10
batch_size = 64

[[score]]
sae = ["matryoshka", "jump", "x0.125"]
images = "images"
embed_with = "demo:encoder"

[[score]]
sae = "jump"
images = "images"
embed_with = "demo"
limit = 8
name = "eight"

[[steer]]
sae = "x0.0625"
latent = "3=0"
"""
DEMO, JUDGE = (Forward(model, "float32", "cpu") for model in ("demo", "demo:encoder"))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(Path(shutil.copytree(OLD, tmp_path_factory.mktemp("expected") / "study")))


def expected(place: Workspace, text: str = PLAN) -> ExpectedPlan:
    path = place.root / "plan.toml"
    path.write_text(text)
    return expected_plan(PlanSettings(plan=str(path)), place)


def seconds_an_image(place: Workspace, stages: dict[str, str]) -> list[float]:
    """The formula: seconds from the begin of a stage to its only progress, over images. ``stages``: of runs by task."""
    found = []
    for run in sorted((place.root / "runs").iterdir()):
        lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        for stage, progress in itertools.pairwise(lines):
            if stage.get("name") == stages.get(run.name[16:], "none") and progress["kind"] == "progress":
                found.append((progress["time"] - stage["time"]) / progress["done"])
    return found


def test_a_plan_is_expected_stage_by_stage(old: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runs.paces.may_have_gpu", lambda: False)
    found = expected(old)
    extract, *trains, whole, jump, new, eight, steer = found.stages
    images, rows, d, last = 24, 24, 192, 128
    assert (extract.state, extract.rows) == ("to do", 2 * rows)
    assert extract.bytes == extract.left == rows * (2 * d + 8) + rows * (2 * last + 8)
    pace = statistics.median(seconds_an_image(old, {"extract": "extracting", "score": "encoding"}))
    assert extract.seconds == pytest.approx(images * pace, rel=1e-3)

    w = d // 16
    assert [(one.rows, one.state) for one in trains] == [(640, "to do")] * 2
    assert trains[0].bytes == 4 * 4 * (2 * d * w + 2 * w + d) and trains[0].seconds is not None
    assert trains[1].seconds == pytest.approx(2 * trains[0].seconds), "twice the latents"

    assert [one.of_pass for one in (whole, jump, new, eight)] == [1, 1, 1, 2]
    assert whole.bytes == old.neurons("matryoshka", "images").stat().st_size, "it is there, if from an older version"
    assert new.bytes and new.left == new.bytes
    first, second = found.passes
    assert (first.encoder, first.judges, first.images) == ("demo", ("demo:encoder",), images)
    assert first.left == 0, "what the judge saw is there"
    todo = sum(one.state == "to do" for one in (whole, jump, new))
    scored = paces(old).of_scores(images)
    assert scored is not None and first.scorings == todo
    assert first.seconds == pytest.approx(images * pace + todo * scored, rel=1e-3)
    assert [one.judge for one in (whole, jump, new, eight)] == ["demo:encoder"] * 3 + ["demo"]
    assert (second.images, second.judges, second.left) == (8, ("demo",), 8 * (4 * last + 8))

    assert (steer.rows, steer.seconds) == (3, None), "no steering with such settings was done here"
    assert found.untimed == 1 and found.seconds == pytest.approx(
        sum(one.seconds or 0 for one in (extract, *trains, first, second))
    )
    assert found.left == sum(one.left or 0 for one in (*found.stages, *found.passes)) and not found.warnings


def test_what_does_not_fit_is_said(old: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(old.root)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    (warning,) = expected(old).warnings
    assert warning.endswith("and the disk has 1 kB free.")


@pytest.mark.parametrize(("steps", "told"), [(375, False), (376, True)])
def test_a_training_that_goes_very_often_over_its_rows_is_told(old: Workspace, steps: int, told: bool) -> None:
    """24 rows, in batches of 64: 1,000 times after 375 steps."""
    found = expected(old, PLAN.replace("steps = 10", f"steps = {steps}")).warnings
    says = (
        f"x0.0625 is trained on {64 * steps:,} rows from a store of 24, each row {64 * steps / 24:,.0f} times; 1 other "
        "training more than 1,000 times: give fewer steps, or extract more images."
    )
    assert list(found) == ([says] if told else [])


def test_where_nothing_was_done_times_are_not_known(tmp_path: Path) -> None:
    shutil.copytree(OLD / "images", tmp_path / "images")
    found = expected(Workspace(tmp_path), PLAN[: PLAN.index("[[score]]")])
    assert [one.seconds for one in found.stages] == [None] * 3 and (found.seconds, found.untimed) == (0, 3)
    assert all(one.bytes for one in found.stages), "sizes follow from the settings"


def test_what_is_wrong_is_said_of_the_stage(old: Workspace) -> None:
    with pytest.raises(UserError, match=r"plan.toml \[\[extract\]\]: No images"):
        (old.root / "empty").mkdir(exist_ok=True)
        expected(old, PLAN.replace('"images"', '"empty"'))


def test_it_costs_no_torch(old: Workspace) -> None:
    (old.root / "plan.toml").write_text(PLAN)
    code = (
        "import sys; from pathlib import Path; from engine.config import PlanSettings; "
        "from engine.runs.expected_plan import expected_plan; from engine.workspace import Workspace; "
        f"expected_plan(PlanSettings(plan='plan.toml'), Workspace(Path({str(old.root)!r}))); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=old.root).returncode == 0


def events(lines: Iterable[tuple[float, str, object]]) -> str:
    """A log: seconds, kind, and the name of a stage or the images that are done."""
    said = []
    for seq, (time, kind, what) in enumerate(lines, 1):
        told = {"stage": {"name": what}, "progress": {"done": what, "total": 10**6, "unit": "images"}}
        said.append(json.dumps({"seq": seq, "time": time, "kind": kind, **told.get(kind, {"result": {}})}))
    return "\n".join(said) + "\n"


@given(st.floats(0.01, 10), st.integers(0, 50), st.lists(st.integers(1, 9), min_size=2, max_size=6), st.floats(0, 100))
def test_a_pace_is_that_of_the_images_that_were_seen(
    pace: float, kept: int, batches: list[int], loading: float
) -> None:
    """However long loading took, however many were kept of an earlier try, and whichever progress was told."""
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(Path(folder))
        asked = {"model": "demo", "images": "images", "name": "few"}
        run = Run.create(place, "extract", asked, [])
        lines: list[tuple[float, str, object]] = [(0.0, "stage", "opening"), (loading, "stage", "extracting")]
        done = kept
        for batch in batches:
            done += batch
            lines.append((loading + pace * (done - kept), "progress", done))
        (run.path / "events.jsonl").write_text(events([*lines, (lines[-1][0] + 5, "stage", "after")]))
        (found,) = paces(place).image.values()
        assert found == [pytest.approx(pace, rel=1e-6)]


def test_the_stages_of_a_plan_are_told_apart(old: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runs.paces.may_have_gpu", lambda: False)
    (old.root / "plan.toml").write_text(PLAN)
    place = Workspace(old.root.parent / "alone")
    shutil.copytree(old.root, place.root, ignore=shutil.ignore_patterns("runs"))
    shutil.copytree(old.root / "saes" / "jump", place.root / "saes" / "x0.125")
    run = Run.create(place, "run", {"plan": str(place.root / "plan.toml")}, [])
    of_judge = [(11, "stage", "embedding"), (11, "stage", "extracting"), (14, "progress", 24)]
    other = [(30, "stage", "embedding"), (30, "stage", "extracting"), (34, "progress", 8)]
    log = [
        *((0, "stage", "1/8 extract few"), (1, "stage", "extracting"), (7, "progress", 24)),
        *((8, "stage", "2/8 train x0.0625"), (9, "stage", "3/8 train x0.125")),
        *((10, "stage", "4/8 score matryoshka and 3 more"), *of_judge, (15, "stage", "encoding")),
        *((21, "progress", 24), (21, "stage", "scoring a"), (23, "stage", "scoring b"), (26, "stage", "scoring c")),
        *(*other, (34, "stage", "encoding"), (36, "progress", 8), (36, "stage", "scoring d"), (37, "stage", "done")),
        *((40, "stage", "8/8 steer x0.0625"), (41, "stage", "load"), (45, "done", None)),
    ]
    killed = Run.create(place, "run", {"plan": str(place.root / "plan.toml")}, [])
    (killed.path / "events.jsonl").write_text(events([*log[-3:-1], (43, "stage", "steered")]))
    (run.path / "events.jsonl").write_text(events(log))
    found = paces(place)
    assert found.image[DEMO] == [6 / 24, 6 / 24, 4 / 8, 2 / 8], "extracted, encoded, judged, encoded"
    assert found.image[JUDGE] == [3 / 24]
    assert found.scored == [2 / 24, 3 / 24, 4 / 24, 1 / 8]
    assert [seconds for _, seconds in found.alike] == [4]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Inputs of the paper's plan: a small CLIP of as many layers, folders of classes, and iNaturalist's names."""
    root = tmp_path_factory.mktemp("inputs")
    vision = {**VISION, "num_hidden_layers": 24, "image_size": 32, "patch_size": 8}
    shape = transformers.CLIPConfig(vision_config=vision, text_config=TEXT, projection_dim=768)
    transformers.CLIPModel(shape).save_pretrained(root / "clip")
    birds = ("00001_Animalia_Chordata_Aves_Columbiformes_Columbidae_Columba_livia", "00002_Plantae_A_B_C_D_E_f")
    for folder, classes in (("train", ("n01", "n02")), ("val", ("n01", "n02", "n03")), ("inat", birds)):
        for name in classes:
            (root / folder / name).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (8, 8)).save(root / folder / name / f"{number}.png")
    models = dict.fromkeys(("model", "dinov2", "clip"), str(root / "clip"))
    return {name: str(root / name) for name in ("train", "val", "inat")} | models | {"vlm": "demo"}


def asked_of(inputs: dict[str, str]) -> PlanSettings:
    return PlanSettings(plan="paper", input=tuple(f"{name}={value}" for name, value in inputs.items()))


@pytest.mark.parametrize("fetched", [True, False])
def test_the_papers_plan_counts_rows_bytes_and_hours(
    old: Workspace,
    stand_in: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fetched: bool,
) -> None:
    """``fetched``: whether its models are there; else their sizes are known all the same."""
    monkeypatch.setattr("engine.runs.paces.may_have_gpu", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # else what was not fetched is refused
    images = {name: stand_in[name] for name in ("train", "val", "inat")}
    found = expected_plan(asked_of(stand_in if fetched else images), old)
    (imagenet, patches, inat), d = [one for one in found.stages if one.task == "extract"], 32 if fetched else 1024
    assert [(one.name, one.rows) for one in (imagenet, patches, inat)] == [
        *(("imagenet", 5 * 4), ("imagenet-patches", 2 * 4), ("inat", 4))
    ]
    assert imagenet.left == 4 * (4 * (2 * d + 8) + 2 * 768 + 8) and patches.left == 8 * (2 * d + 8)
    trained = {one.name: one for one in found.stages if one.task == "train"}
    assert len(trained) == 60 + 3 + 1 + 1 + 3 + 3 and {one.rows for one in trained.values()} == {100_000 * 4096}
    w = 64 * d
    steered = trained["imagenet-patches"]
    assert steered.left == 4 * 4 * (2 * d * w + 2 * w + d) and steered.seconds is not None and steered.seconds > 3600
    assert found.seconds >= sum(one.seconds or 0 for one in trained.values()), "as earlier trainings here took"
    scores = [one for one in found.stages if one.task == "score"]
    assert len(scores) == 2 * 73 + 1 and {one.rows for one in scores} == {6, 4} and all(one.left for one in scores)
    assert [one.images for one in found.passes] == [6, 4]
    assert found.left == sum(one.left or 0 for one in (*found.stages, *found.passes)) > 10**9
    monkeypatch.setattr(work, "screen_width", lambda: 80)
    show_expected(found)
    shown = capsys.readouterr().out.splitlines()
    assert {name for name in trained if not any(name in line.split() for line in shown)} == set(), "told in full"
    assert all(cell_len(line) <= 80 or "/" in line for line in shown), "paths are not broken"
    rows = [row for row in table(found) if row[0] == "score"]
    assert fetched or len(set(rows)) == len(rows), "two judges are two rows"


@pytest.mark.parametrize("name", ["train", "val", "inat", "model", "dinov2", "clip", "vlm"])
def test_an_input_of_the_papers_plan_that_is_not_there_is_named(
    old: Workspace, stand_in: dict[str, str], name: str
) -> None:
    with pytest.raises(UserError, match=rf"paper.toml \[\[\w+\]\]: .*no{name}"):
        expected_plan(asked_of(stand_in | {name: f"./no{name}"}), old)

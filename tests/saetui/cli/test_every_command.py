"""Every command as a person and as a machine run it: in a pipe and in a terminal, without ``--json`` and with it.

Each of the four forms has its own copy of ``tests/old_workspace``, in which all cases run, one after the other: what
a later one needs (a plan's SAE, a run under way) an earlier one has made. A new command without a case fails a test.
JSON in a terminal is a slow form: what it adds to the others is decided in one place, and takes a third longer.
"""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from rich.cells import cell_len
from typer.main import get_command

from engine.explained.fields import PLAIN
from engine.runs.run import Run, runs
from engine.workspace import Workspace
from saetui.cli.app import app
from saetui.cli.stages import MEASURES
from tests.support.shell import Done, in_pipe, in_terminal, only_progress

MADE = Path(__file__).parents[2] / "old_workspace"
HAT, WHITE = "a dotted yellow hat on a white background", "an empty white background"
COVERED = {
    "demo": "test_demo_workspace.py, which has made its workspace",
    "open": "the workbench, which has no text and no JSON: tests/session drives it in terminals",
}

PLAN = """
[[extract]]
at = "layer:4"
tokens = "patches"
limit = 4
name = "few"

[[train]]
activations = "few"
name = "x{expansion}"
arch = "topk"
expansion = [0.0625, 0.125]
k = 2
steps = 10
batch_size = 64

[[score]]
sae = "x0.125"
limit = 8
name = "eight"

[[steer]]
sae = "x0.0625"
latent = ["3=0"]
"""


class Form(NamedTuple):
    """How a command is run."""

    terminal: bool
    json: bool

    def __str__(self) -> str:
        return f"{'terminal' if self.terminal else 'pipe'}{'-json' if self.json else ''}"


FORMS = [Form(terminal, as_json) for terminal in (False, True) for as_json in (False, True)]
RARE = Form(terminal=True, json=True)


@dataclass(frozen=True)
class Case:
    command: str
    arguments: str
    """What is typed after it."""
    says: tuple[str, ...]
    """What tells a person what was done."""
    answers: Any
    """The JSON, or those keys of it that are certain."""
    before: Callable[[Path], None] = lambda place: None
    """What must be so before it can run."""


PATIENCE = 300  # seconds until a run has loaded its libraries, which nothing has read since they were installed


def until(state: str) -> Callable[[Path], None]:
    """Wait until the newest run of a workspace is in ``state``, at work and not at its first step."""

    def wait(place: Path) -> None:
        run = Run(max((place / "runs").iterdir()))
        deadline = time.monotonic() + PATIENCE
        while run.status.state != state or run.status.progress is None:
            assert time.monotonic() < deadline, run.status
            time.sleep(0.05)

    return wait


LONG = "patches --arch topk --expansion 0.0625 --k 2 --batch-size 64"
TRAIN = LONG.replace("patches", "few")  # made with the models that ship today: those of ``MADE`` were others
STORE = "--at layer:4 --tokens patches"
CASES = [
    Case("train", f"{LONG} --steps 1000000 --name long --detach", ("is running: saetui jobs follow",), {}),
    Case("jobs pause", "last", ("pauses at its next step", "saetui jobs resume"), {"task": "train"}, until("running")),
    Case("jobs resume", "last", ("is running: saetui jobs follow",), {"task": "train"}, until("paused")),
    Case("jobs stop", "last", ("continue with: saetui jobs resume",), {"state": "stopped"}, until("running")),
    Case("jobs follow", "20261126-022439", ("done", "saes/detached", "FVE -.680   L0 2.0"), {"state": "done"}),
    Case("jobs follow", "20261126-022549", ("done", "untouched", "steered", HAT), {"state": "done"}),
    Case("jobs", "", ("20261126-022513-train", "stopped", "train 45%"), None),
    Case("extract", f"{STORE} --limit 4 --name few", ("256 rows of 192 at layer:4", "4 images"), {"rows": 256}),
    Case("estimate", f"{STORE} --name all", ("24 images, 1,536 rows of 192: ", " free, about 0:"), {"rows": 1536}),
    Case(
        "train",
        f"{TRAIN} --steps 10 --name x0.0625",
        ("saes/x0.0625", "FVE", "L0 2.0", "held-out rows)"),
        {"made": True, "w": 12, "steps": 10},
    ),
    Case(
        "score",
        "x0.0625",
        ("neurons/x0.0625--images.h5", "24 images, ", " of latents beat theirs"),
        {"made": True},
    ),
    Case(
        "run",
        "plan.toml",
        (
            "train    x0.125                              to do",
            "pass 1   1 scoring by demo:encoder, of demo  to do",
            "5 stages: 2 there, 3 to do, scored in 1 pass",
            "extract  few      was there already: 4 images, 256 rows",
            "  train  x0.0625  was there already: FVE ",
            "  train  x0.125   made: FVE ",
            "  score  x0.125   made: MS ",
            "  steer  x0.0625  answered: an ",
            "5 stages: 3 done now, 2 there already",
        ),
        None,
    ),
    Case(
        "score",
        "x0.0625 x0.125 --name both --limit 8",
        ("neurons/x0.0625--both.h5", "neurons/x0.125--both.h5", "matched", "8 images; base: mean cosine of all pairs"),
        None,
    ),
    Case("steer", "x0.0625 --latent 3=0", ("untouched", "attached", "steered", WHITE), {"untouched": WHITE}),
    Case(
        "steerability",
        "jump --vlm demo --min-support 1 --count 2 --part word --part insertion --pictures 0",
        ("steerability/jump--demo/scores.json", "drawn at random", "random direction", "DiffMean", "appeared", "48.7"),
        {"made": True},
    ),
    Case("neurons", "jump --top 3", ("24 of 24 alive", "matched raw neurons .04", "purple · house"), None),
    Case("neurons", "jump --top 1 --images", ("purple · house",), None),
    Case(
        "neurons", "matryoshka --search nothing-like-it", ("No latent answers to 'nothing-like-it'",), {"latents": []}
    ),
    Case(
        "report",
        "jump --pictures 2 --answers none",
        ("report-jump.html", "24 latents, ", "There are no labels"),
        {"latents": 24, "found": 24},
    ),
    Case(
        "figure",
        "ms jump matryoshka --out two.pdf",
        ("two.pdf", "of jump, matryoshka"),
        {"of": ["jump", "matryoshka"]},
    ),
    Case("draw", "drawn --pictures 3", ("drawn: 3 pictures",), {"images": 3, "made": True}),
    Case("ms", "A.npy E.npy", ("mean ", "(mean cosine of all pairs)", "3 columns, 1 undefined"), {"undefined": 1}),
    Case(
        "concepts",
        "x0.0625 --labels images/labels.jsonl --min-images 2",
        ("concepts/x0.0625--images.json", "24 images, ", "SAE latents", "matched raw", "shuffled labels", "absorbed"),
        {"sae": "x0.0625", "images": 24},
    ),
    Case(
        "fidelity",
        "x0.0625 x0.125 --limit 8 --captions images/labels.jsonl --max-new-tokens 4 --asked 2",
        ("fidelity/x0.0625--images.json", "fidelity/x0.125--images.json", "mean in place", "image at 1", "same token"),
        {"made": True},
    ),
    Case(
        "agreement",
        "people",
        ("2 pairs of latents", "MS by dino: .500 (", "published .779, .828", ".1 to 0.2"),
        {"pairs": 2, "undecided": 0},
    ),
    Case(
        "encode",
        "jump patches --out latents.npz",
        ("latents.npz: 384 rows of 24 latents, 2,553 nonzero, L0 6.6",),
        {"rows": 384, "latents": 24, "nonzero": 2553},
    ),
    Case(
        "baseline",
        "patches --of pca --expansion 0.25 --k 4 --name components",
        ("saes/components", "FVE", "held-out rows)"),
        {"name": "components", "directions": "pca", "w": 48, "k": 4},
    ),
    Case(
        "stability",
        "jump matryoshka --alive-on patches",
        ("stability/jump--matryoshka.json", "max cosine", "jump        matryoshka  ", "random directions"),
        {},
    ),
    Case("export", "jump --to saelens --out theirs", ("theirs: cfg.json, sae_weights.safetensors, for saelens",), None),
    Case(
        "recognise",
        "theirs",
        ("theirs/sae_weights.safetensors: jumprelu of saelens, 192 -> 24 latents", "and asks nothing more"),
        {"format": "saelens", "w": 24, "questions": []},
    ),
    Case(
        "import",
        "theirs --name ours --check patches",
        ("jumprelu of saelens, 192 -> 24 latents, patches of layer:4 of demo", "384 rows of ", "FVE "),
        {"arch": "jumprelu", "w": 24, "made": True},
    ),
    Case(
        "export", "./activations/patches --to npy --out rows", ("rows: activations.npy, saetui.json,",), {"rows": 384}
    ),
    Case(
        "import",
        "rows --name brought",
        ("384 rows of 24 images, 192 wide, float16, from 1 file of npy: patches of layer:4 of demo",),
        {"rows": 384, "images": 24, "imported_now": 384},
    ),
    Case("verify", "patches", ("every byte of 1 shard is as it was written",), {"problems": []}),
    Case("show", "saes/jump", ("jumprelu", "activations", "patches", "unchanged"), {"kind": "sae", "w": 24}),
    Case(
        "show",
        "",
        ("neurons       jump--images", "concepts      jump--old", ".50 [.50", "matched neurons"),
        {},
    ),
    Case("show", "steerability/jump--old", ("random_direction", "neurons", "jump--images"), {"kind": "steerability"}),
    Case("verify", "concepts/jump--old", ("every byte of 1 file", ": unchanged"), {"changed": []}),
    Case("show", "images/025_sky_sun_striped/000009.png", (), {"kind": "picture", "width": 64, "height": 64}),
    Case(
        "relink",
        "images pictures",
        ("activations/patches/manifest.json: pictures", "files rewritten, 24 images compared"),
        {"images": 24},
        lambda place: (place / "images").rename(place / "pictures") and None,
    ),
    Case("doctor", "", ("libraries ", "terminal ", "2 embedding stores, 9 SAEs, 6 neurons files"), None),
    Case("config", "", ("workspace.toml", "workbench  value", "support    16        default"), None),
]


@pytest.fixture(scope="session")
def outcomes(request, tmp_path_factory) -> dict[Form, list[Done]]:
    """What every case left in every form; the forms at the same time, for a command keeps one core busy at most."""
    rarely = any(item.path == Path(__file__) and item.get_closest_marker("slow") for item in request.session.items)
    forms = [form for form in FORMS if rarely or form != RARE]
    with ThreadPoolExecutor(len(forms)) as pool:
        places = [tmp_path_factory.mktemp(str(form)) / "study" for form in forms]
        return dict(zip(forms, pool.map(run_all, forms, places), strict=True))


def run_all(form: Form, place: Path) -> list[Done]:
    shutil.copytree(MADE, place)
    (place / "plan.toml").write_text(PLAN)
    rng = np.random.default_rng(0)
    np.save(place / "A.npy", np.maximum(rng.normal(size=(40, 3)), 0) * [1, 1, 0])
    np.save(place / "E.npy", rng.normal(size=(40, 5)))
    (place / "people").mkdir()
    (place / "people/pairs.csv").write_text("k_x,k_y,R_user,MS_x_dino,MS_y_dino\n1,2,x,.4,.25\n1,3,y,.4,.1\n")
    try:
        return [run_one(case, form, place) for case in CASES]
    finally:
        for run in runs(Workspace(place)):  # where a case went wrong, the long one is not stopped
            if run.status.state in ("starting", "running", "paused") and run.status.pid:
                os.kill(run.status.pid, signal.SIGKILL)


def run_one(case: Case, form: Form, place: Path) -> Done:
    case.before(place)
    flags = ["--json"] * form.json + ["--explain"] * explains(case)
    run = in_terminal if form.terminal else in_pipe if form.json else in_pipe_of_80
    return run(*case.command.split(), *case.arguments.split(), *flags, cwd=place)


in_pipe_of_80 = partial(in_pipe, COLUMNS="80")  # as long as the lines of a terminal there


def commands(group: Any, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        yield f"{prefix}{name}"
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")


def explains(case: Case) -> bool:
    """Whether it is run such that it explains its numbers: all are that can."""
    command: Any = get_command(app)
    for word in case.command.split():
        command = command.commands[word]
    given = {option for one in command.params for option in one.opts}
    listing = case.command == "show" and not case.arguments
    return "--explain" in given and case.command != "report" and "--detach" not in case.arguments and not listing


def numbers(value: Any, path: str = "") -> Iterator[str]:
    """Where in JSON there are numbers: names joined by dots."""
    match value:
        case dict():
            for name, one in value.items():
                yield from numbers(one, f"{path}.{name}" if path else name)
        case list():
            for one in value:
                yield from numbers(one, path)
        case int() | float() if not isinstance(value, bool):
            yield path


ASIDE = {"explained", "expected", "settings", "provenance", "origin", "training", "chain", "command", "groups", "scale"}
"""Of JSON, beside what is plain, what says how something was made or asked for."""


def unexplained(value: dict[str, Any]) -> list[str]:
    about = value["explained"]
    tasks = {name.split(".")[1] for name in about if name.startswith("stages.")}
    figures = [(of["kind"], one["name"]) for of in value.get("measured", []) for one in of["figures"]]
    missing = [name for kind, figure in figures if (name := f"measured.{kind}.{figure}") not in about]
    for path in numbers({name: one for name, one in value.items() if name not in {*ASIDE, "measured"}}):
        known = [path, *(path.replace("stages.result", f"stages.{task}") for task in tasks)]
        told = any(one == name or one.startswith(f"{name}.") for one in known for name in about)
        if not told and not set(path.split(".")) & (set(PLAIN) | ASIDE):
            missing.append(path)
    return missing


def test_every_number_that_is_told_is_explained(outcomes):
    explaining = [number for number, case in enumerate(CASES) if explains(case)]
    told = {number: json.loads(outcomes[Form(False, True)][number].out) for number in explaining}
    told = {number: value for number, value in told.items() if "explained" in value}
    assert {CASES[number].command for number in told} >= {*MEASURES, "score", "run", "neurons", "show"}
    assert {CASES[number].arguments: missing for number in told if (missing := unexplained(told[number]))} == {}
    for number, case in ((number, CASES[number]) for number in told if "nothing" not in CASES[number].arguments):
        assert "  formula   " in outcomes[Form(False, False)][number].out, case


def test_every_command_has_a_case():
    assert set(commands(get_command(app))) == {case.command for case in CASES} | set(COVERED)


def slow(form: Form) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if form == RARE else []


COPIED = re.compile(r"\S*/\S+|saetui jobs [a-z]+ \S+$")
"""A path, or the command that goes on with a run: what is copied whole may make a line longer than a screen."""


@pytest.mark.parametrize("form", [form for form in FORMS if not form.json], ids=str)
def test_no_line_is_longer_than_a_screen_of_80_columns(outcomes, form):
    long = {
        f"{case.command} {case.arguments}": [line for line in lines if cell_len(line) > 80 and not COPIED.search(line)]
        for case, done in zip(CASES, outcomes[form], strict=True)
        if (lines := done.out.replace("\r", "").splitlines())
    }
    assert {command: lines for command, lines in long.items() if lines} == {}


def each(json: bool) -> Any:
    rows = [
        pytest.param(form, number, id=f"{case.command}-{number}-{form}".replace(" ", "-"), marks=slow(form))
        for number, case in enumerate(CASES)
        for form in FORMS
        if form.json == json
    ]
    return pytest.mark.parametrize(("form", "number"), rows)


@each(json=False)
def test_a_person_is_told_what_was_done(outcomes, form, number):
    done = outcomes[form][number]
    assert done.code == 0, done
    said = (done.out, " ".join(done.out.split()))  # a long path wraps a line within the words
    assert [words for words in CASES[number].says if not any(words in one for one in said)] == [], done.out
    assert only_progress(done.err), done.err


@each(json=True)
def test_a_machine_reads_one_value(outcomes, form, number):
    done, certain = outcomes[form][number], CASES[number].answers
    assert done.code == 0 and done.err == "", done
    value = json.loads(done.out)
    assert value
    if certain is not None:
        assert {key: value[key] for key in certain} == certain


@pytest.mark.parametrize("terminal", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_lists_are_lists_for_machines_too(outcomes, terminal):
    values = {
        (case.command, case.arguments): json.loads(done.out)
        for case, done in zip(CASES, outcomes[Form(terminal, True)], strict=True)
        if case.answers is None
    }
    assert [run["task"] for run in values["jobs", ""]][-1] == "train"
    expected, stages = (values["run", "plan.toml"][name] for name in ("expected", "stages"))
    assert [stage["name"] for stage in stages] == ["few", "x0.0625", "x0.125", "x0.125", "x0.0625"]
    assert [one["state"] for one in expected["stages"]] == ["there", "there", "to do", "to do", "to do"]
    assert [one["scorings"] for one in expected["passes"]] == [1] and expected["seconds"] > 0
    assert [row["latent"] for row in values["neurons", "jump --top 3"]["latents"]] == [13, 20, 8]
    assert values["doctor", ""]["workspace"]["saes"] == 9

"""What cannot be is refused at once, by one sentence, in forms, by commands and in plans; nothing is begun by it."""

import asyncio
import re
import shutil
import time
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from typer.testing import CliRunner

from engine.errors import UserError
from engine.files import to_toml
from engine.runs.attached import Attached
from engine.runs.plan import STAGES
from engine.runs.run import Run
from engine.runs.tasks import TASKS
from engine.workspace import Workspace
from saetui.cli.app import app
from saetui.widgets.form import Form, _shown

OLD = Path(__file__).parents[2] / "old_workspace"
PATIENCE = 0.3  # seconds of the processor that a refusal may take
BASE: dict[str, dict[str, Any]] = {
    "train": {"activations": "patches", "name": "new", "k": 4, "expansion": 0.25, "steps": 10, "device": "cpu"},
    "extract": {"model": "demo", "images": "images", "name": "new", "at": ["layer:1"]},
    "score": {"sae": "jump", "images": "images", "embed_with": "demo:encoder", "name": "new"},
    "steer": {"sae": "jump", "vlm": "demo", "latent": ["6=2"]},
    "steerability": {"sae": "jump", "vlm": "demo", "min_support": 1},
    "import": {"source": "saes", "name": "new"},
    "export": {"sae": "jump", "to": "sparsify", "out": "out"},
    "encode": {"sae": "jump", "activations": "patches", "out": "codes.npz"},
    "baseline": {"activations": "patches", "of": "pca", "name": "new", "k": 4},
    "stability": {"saes": ["jump", "matryoshka"], "name": "new"},
    "ms": {"activations": "patches", "embeddings": "demo-encoder--images-c63672d7"},
    "concepts": {"sae": "jump", "images": "images", "encoder": "demo", "name": "new"},
    "fidelity": {"sae": ["jump"], "images": "images", "encoder": "demo", "name": "new"},
    "agreement": {"folder": "people"},
    "figure": {"kind": "ms", "sae": ["jump"], "out": "new.svg"},
    "verify": {"store": "jump"},
    "relink": {"old": "images", "new": "images"},
    "demo": {},
    "run": {"plan": "plan.toml"},
}
COMMON = {"device": ["gpu", "cuda:x"], "seed": [-1, 1.5, "x"], "batch_size": [0, -3]}
"""Of whatever has such a setting."""
WRONG: dict[str, list[dict[str, Any]]] = {
    "train": [
        *({"activations": text} for text in ("nowhere", "./nowhere", "saes/jump", "a\0b")),
        *({"name": text} for text in ("a/b", "../x", ".hidden", "x" * 300, "jump", "interrupted")),
        *({"expansion": value} for value in (0, -1, 1e-9, "0,5")),
        *({"k": value} for value in (0, -1, 49, "1.5", "many")),
        *(
            {"groups": value}
            for value in ([1, 0.5], [0.5, 0.5, 1], [0.1, 0.2], [3, 9, 21, 47], [0.5, 47.5, 48], [0, 1])
        ),
        {"frozen": "all"},
        {"arch": "archetypal", "frozen": "decoder"},
        *({name: -1} for name in ("points", "delta", "mono")),
        {"mono": 0.5},
        {"mono_embeddings": "demo-encoder--images-c63672d7"},
        {"mono": 0.5, "mono_embeddings": "nowhere"},
        *({"steps": value} for value in (-1, "1.5", "1e3")),
        *({"warmup": value} for value in (-1, 20)),
        {"warmup": 200_000, "steps": 0},
        *({"decay": value} for value in (5, -0.1)),
        *({"holdout": value} for value in (1, 2, -0.1)),
        *({"max_norm": value} for value in (0.5, -1)),
        *({name: -1} for name in ("lr", "l1", "l0", "aux")),
        *({name: 0} for name in ("bandwidth", "dead_after", "eval_every", "checkpoint_every")),
        {"arch": "topk2"},
        {"matryoshka_loss": "mean"},
        {"embeddings": "nowhere"},
        {"lr": "0,002"},
    ],
    "extract": [
        *({"model": text} for text in ("nowhere/x", "./nowhere", "images", "hf:a/b/c", "openclip:ViT", "hf-hub:a/b")),
        *({"images": text} for text in ("nowhere", "s3://b", "saes", "no*thing", "images/{a,b}")),
        *({"name": text} for text in ("a/b", "../x", "patches")),
        *({"at": [text]} for text in ("head", "layer:99", "layer:-1", "last:2")),
        *({"tokens": text} for text in ("some", "random:0", "random:99")),
        *({name: text} for name, text in (("dtype", "float8"), ("precision", "int"), ("transparency", "black"))),
        *({"workers": value} for value in (0, 100_000)),
        {"for_steering": "nowhere"},
        {"for_steering": "demo", "at": ["layer:1"]},
        {"embeddings": True},
        {"shard_rows": 0},
        {"shard_rows": 8},
        {"limit": -1},
    ],
    "score": [
        *({"sae": text} for text in ("nowhere", "interrupted")),
        *({"vocabulary": text} for text in ("nowhere", "empty.txt", "images")),
        *({name: "nowhere"} for name in ("images", "embed_with", "encoder", "taxonomy")),
        *({name: value} for name, value in (("min_support", 1), ("top", 1), ("workers", 0), ("limit", -1))),
        {"name": "a/b"},
        {"pooling": "min"},
        *({name: value} for name, value in (("crops", 0), ("crop_side", 1.5))),
        {"limit": 4, "min_support": 5},
    ],
    "steer": [
        *({"latent": texts} for texts in (["x"], ["6"], ["99=1"], ["6=1", "6=2"], ["6=2y"], ["6=1,5"], [])),
        *({"image": text} for text in ("nowhere.png", "blank:nocolour", "images::nothing.png", "workspace.toml")),
        *({"tokens": text} for text in ("x", "5-3", "")),
        *({"save_recipe": text} for text in ("a/b", "hat")),
        *({name: "nowhere"} for name in ("sae", "vlm", "recipe")),
        {"max_new_tokens": 0},
        {"mode": "set"},
        {"dtype": "int8"},
    ],
    "steerability": [
        *({"latent": texts} for texts in (["x"], ["99"], ["6", "6=hat"], ["6="])),
        *({name: [text]} for name in ("part", "judge") for text in ("all", "")),
        *({name: text} for name in ("strength", "suppress_to") for text in ("much", "")),
        *({name: "nowhere"} for name in ("sae", "vlm", "on", "prompts", "compare_with", "text_model")),
        *({name: 0} for name in ("count", "few", "min_support", "max_new_tokens", "most_damage")),
        *({"judge": ["chat"], "chat_model": text} for text in ("", "nowhere", "images")),
        {"image": "nowhere.png"},
        {"name": "a/b"},
        {"save_recipes": "a/b"},
        {"pictures": -1},
        {"draw": "all"},
        {"prompts": "empty.txt"},
    ],
    "import": [
        *({"source": text} for text in ("nowhere", "hf:x", "no*thing")),
        *({"name": text} for text in ("a/b", "../x")),
        *({name: -1} for name in ("tokens_per_image", "scale", "k")),
        {"format": "onnx"},
        {"hook": "head"},
        {"tokens": "some"},
        {"images": "nowhere"},
        {"model": "a/b"},
        {"check": "nowhere"},
        {"arch": "vae"},
    ],
    "export": [
        {"sae": "nowhere"},
        {"to": "onnx"},
        {"out": "saes/x"},
        {"out": "images"},
        {"sae": "patches", "to": "saev", "hub_folder": True},
    ],
    "encode": [{"sae": "nowhere"}, {"activations": "nowhere"}, {"out": "codes.txt"}],
    "baseline": [
        {"activations": "nowhere"},
        *({"name": text} for text in ("a/b", "jump", "interrupted")),
        {"of": "ica"},
        {"arch": "relu"},
        *({"expansion": value} for value in (-1, 1e-9, 2.5)),
        *({"k": value} for value in (0, 400)),
        {"holdout": 1},
    ],
    "stability": [
        *({"saes": names} for names in (["jump"], ["jump", "jump"], ["jump", "nowhere"])),
        {"name": "a/b"},
        {"alive_on": "nowhere"},
    ],
    "ms": [{"activations": "nowhere.npy"}, {"embeddings": "nowhere"}, {"min_support": 1}],
    "concepts": [
        *({name: "nowhere"} for name in ("sae", "images", "labels", "taxonomy", "encoder")),
        *({name: value} for name, value in (("min_images", 1), ("threshold", 2), ("workers", 0), ("limit", -1))),
        {"name": "a/b"},
        {"pooling": "min"},
    ],
    "fidelity": [
        *({name: "nowhere"} for name in ("images", "encoder", "vlm", "captions")),
        *({name: value} for name, value in (("asked", -1), ("max_new_tokens", 0))),
        *({"sae": names} for names in (["nowhere"], ["jump", "jump"], ["jump", "nowhere"])),
        *({name: value} for name, value in (("workers", 0), ("limit", -1), ("splice", "mean"), ("name", "a/b"))),
        *({"template": text} for text in ("", "a photo", "{} {}")),
    ],
    "agreement": [
        *({name: "nowhere"} for name in ("folder", "embeddings", "scores")),
        {"folder": "images"},
        {"first": "x"},
    ],
    "figure": [
        *({"sae": [name], "kind": kind} for name in ("nowhere", "interrupted") for kind in ("ms", "reconstruction")),
        *({"sae": ["jump", "nowhere"], "kind": kind} for kind in ("stability", "dose", "hierarchy")),
        {"out": "x.jpg"},
        {"kind": "pie"},
        {"on": "nowhere"},
    ],
    "verify": [{"store": "nowhere"}, {"repair": True}],
    "relink": [{"new": "nowhere"}],
    "demo": [{"pictures": 0}, {"steps": 0}],
    "run": [{"plan": "nowhere.toml"}, {"plan": "images"}, {"plan": "empty.txt"}],
}
FORMS = ("train", "extract", "score", "import")
PLANS = STAGES[1:-1]
"""Pictures may be drawn anywhere, figures by a plan in one folder alone."""


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    for task, wrong in WRONG.items():
        names = typing.get_type_hints(TASKS[task].settings)
        yield from ((task, one) for one in wrong)
        yield from ((task, {name: value}) for name, values in COMMON.items() if name in names for value in values)


CASES = list(cases())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Path(shutil.copytree(OLD, tmp_path_factory.mktemp("wrong") / "study"))
    (place / "empty.txt").touch()
    (place / "people").mkdir()
    (place / "people/pairs.csv").write_text("k_x,k_y,R_user\n1,2,x\n")
    return place


@pytest.fixture(autouse=True)
def _no_process(study: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is started, and no file changes."""

    def refuse(*given: Any, **options: Any) -> None:
        raise AssertionError(f"a process was started: {given}")

    before = files(study)
    monkeypatch.chdir(study)
    monkeypatch.setattr(Attached, "end", refuse)
    monkeypatch.setattr(Run, "create", refuse)
    yield
    assert files(study) == before


def files(place: Path) -> set[Path]:
    return {path for path in place.rglob("*") if path.name not in (".lock", "plan.toml")}


def arguments(task: str, settings: dict[str, Any]) -> list[str]:
    """A command, as a person types it."""
    words = [task]
    fields = TASKS[task].settings.__dataclass_fields__
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if fields[name].metadata.get("positional"):
            words += map(str, value) if isinstance(value, list) else [str(value)]
        elif isinstance(value, bool):
            words += [flag] if value else []
        elif isinstance(value, list) and name == "groups":
            words += [flag, ",".join(map(str, value))]
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [flag, str(one)]
    return words


def by_command(task: str, settings: dict[str, Any]) -> str:
    words = tuple(arguments(task, settings))
    if words not in SAID:
        SAID[words] = str(CliRunner().invoke(app, words).exception)
    return SAID[words]


SAID: dict[tuple[str, ...], str] = {}
"""By commands that were given."""


def in_plan(task: str, settings: dict[str, Any], study: Path) -> str:
    from engine.config import PlanSettings

    (study / "plan.toml").write_text(f"[[{task}]]\n{to_toml(settings)}")
    try:
        TASKS["run"].refuse(PlanSettings(plan="plan.toml"), Workspace(study))
    except UserError as refused:
        return str(refused)
    return ""


def plain(sentence: str) -> str:
    """It without where it was typed, and with settings as forms call them."""
    sentence = sentence.replace("'", "").replace("./", "")
    sentence = re.sub(r"^(plan\.toml \[\[\w+\]\]|(?!No |There )[a-z]+): ", "", sentence)
    sentence = re.sub(r"--([a-z][a-z-]*)", lambda found: found[1], sentence)
    return re.sub(r"\b([a-z0-9]+)([-_][a-z]+)+\b", lambda found: re.sub("[-_]", " ", found[0]), sentence)


@pytest.mark.parametrize("task", WRONG)
def test_a_command_and_a_plan_refuse_it_at_once(task: str, study: Path) -> None:
    by_command(task, BASE[task] | WRONG[task][0])  # loads modules
    problems = []
    for wrong in [one for of, one in CASES if of == task]:
        settings = BASE[task] | wrong
        for _ in range(3):  # what else runs here can slow one down
            began = time.process_time()
            said = by_command(task, settings)
            if (took := time.process_time() - began) <= PATIENCE:
                break
        if not said.endswith((".", "-", "?")) or took > PATIENCE:
            problems.append((wrong, said, took))
        if task in PLANS and plain(planned := in_plan(task, settings, study)) != plain(said):
            problems.append((wrong, said, planned))
    assert not problems, "\n".join(map(str, problems))


@pytest.mark.parametrize("task", FORMS)
def test_a_form_refuses_it_at_once_by_the_same_sentence(task: str, study: Path) -> None:
    problems = []

    async def scenario() -> None:
        form = Form("It", TASKS[task].settings, BASE[task], workspace=Workspace(study), task=task)
        async with App[None]().run_test(size=(100, 60)) as pilot:
            await pilot.app.push_screen(form)
            for wrong in [one for of, one in CASES if of == task]:
                said, before = by_command(task, BASE[task] | wrong), {n: form.editor(n).value for n in wrong}
                for name, value in wrong.items():
                    form.editor(name).value = "yes" if value is True else _shown(value)
                began = time.process_time()
                form.action_submit()
                took, sentence = time.process_time() - began, str(form.note.content)
                await pilot.pause()
                stays = pilot.app.screen is form and form.wrong in wrong and form.focused is form.editor(form.wrong)
                same = plain(sentence) == plain(said) and not re.search(r"(?<!\w)--", sentence)
                if not (stays and same and took < PATIENCE):
                    problems.append((wrong, sentence, said, form.wrong, took))
                for name, text in before.items():
                    form.editor(name).value = text

    asyncio.run(scenario())
    assert not problems, "\n".join(map(str, problems))


@pytest.mark.parametrize(
    ("judges", "says"),
    [
        (["demo", "demo:encoder", "demo"], "--embed-with names demo twice: name each judge once."),
        (["demo:encoder", "nowhere"], "No model at nowhere"),
    ],
)
def test_each_of_several_judges_is_checked(judges: list[str], says: str) -> None:
    assert says in by_command("score", BASE["score"] | {"embed_with": judges})


@pytest.mark.parametrize(
    ("judges", "says"),
    [
        (["demo", "demo:encoder", "demo"], "embed_with names demo twice: name each judge once."),
        (["demo:encoder", "nowhere"], "workspace.toml: embed_with: No model at .*nowhere"),
        (["nowhere"], "workspace.toml: embed_with: No model at .*nowhere"),
        ("nowhere", "workspace.toml: embed_with: No model at .*nowhere"),
        ("", "workspace.toml: embed_with is empty: give a name or a path."),
        (["demo", " "], "workspace.toml: embed_with is empty: give a name or a path."),
        ({"a": 1}, r'workspace.toml: embed_with is {"a": 1.*: it must be text, or a list of that.'),
        (3, "workspace.toml: embed_with is 3: it must be text, or a list of that."),
        (["x", 3], "workspace.toml: embed_with is 3: it must be text"),
        ([], "embed_with names none: give one or more."),
        ([3, 4], "embed_with is 3: it must be text"),
    ],
)
def test_judges_of_the_workspace_are_told_of_as_options_are(judges: Any, says: str, study: Path) -> None:
    marker = study / "workspace.toml"
    before = marker.read_text()
    kept = [line for line in before.splitlines() if not line.startswith("embed_with")]
    marker.write_text(to_toml({"embed_with": judges}) + "\n".join(kept))
    try:
        words = arguments("score", {name: value for name, value in BASE["score"].items() if name != "embed_with"})
        assert re.search(says, str(CliRunner().invoke(app, words).exception))
        one = BASE["score"] | {"embed_with": "nobody"}
        assert "No model at nobody" in str(CliRunner().invoke(app, arguments("score", one)).exception)
    finally:
        marker.write_text(before)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["score", "jump", "--images", "images", "--embed-with", ""], "score: --embed-with is empty: give a name or"),
        (["score", "", "--images", "images"], "score: sae is empty: give a name or a path."),
        (["extract", "--model", "demo", "--images", "", "--name", "n"], "extract: --images is empty: give a path."),
        (["verify", ""], "verify: store is empty: give a name or a path."),
        (["neurons", ""], "No SAE named ''"),
        (["jobs", "--workspace", ""], "--workspace is empty: give a directory, or leave it out."),
    ],
)
def test_what_is_empty_is_not_the_folder_where_one_stands(words: list[str], says: str, study: Path) -> None:
    assert says in str(CliRunner().invoke(app, words).exception)


def test_what_lacks_may_stand_in_workspace_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = str(CliRunner().invoke(app, ["score", "jump", "--images", "x"]).exception)
    assert said.startswith("score needs --embed-with (") and "), or embed_with in a workspace.toml: see" in said
    assert "or out in" not in str(CliRunner().invoke(app, ["encode", "a", "b"]).exception), "that is no default"


def test_the_list_is_long_enough() -> None:
    assert len(CASES) >= 60

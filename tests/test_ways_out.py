"""What sentences to a user propose is there: every command, flag, setting and file that the source names in them."""

import ast
import dataclasses
import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.main import get_command

from engine import config
from saetui.cli.app import app
from tests.support.shell import in_pipe

ROOT = Path(__file__).parent.parent
FLAG = r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-])"
PLAIN = {
    "again",
    "can",
    "cannot",
    "does",
    "ended",
    "in",
    "opens",
    "reads",
    "with",
}  # words after the name of the program
STAGES = {  # which commands the sentences of a folder end
    "engine/activations/convert/": ("import", "export"),
    "engine/activations/": ("extract", "estimate", "train", "verify", "import", "export"),
    "engine/images/": ("extract", "score", "steer"),
    "engine/models/": ("extract", "score", "steer"),
    "engine/neurons/": ("score", "neurons", "concepts", "agreement"),
    "engine/sae/": ("train", "encode", "import", "export", "baseline", "stability"),
    "engine/sae/convert/": ("import",),
    "engine/sae/encode.py": ("encode",),
    "engine/steer/": ("steer", "steerability", "fidelity"),
    "engine/steer/fidelity/": ("fidelity",),
}


def sentences() -> list[tuple[str, str]]:
    """(place, text) of every string of the program that is no docstring; ``{}`` stands for what is put in."""
    found = []
    for top in ("engine", "saetui"):
        for path in sorted((ROOT / top).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            if not place.startswith("engine/demo/build/"):
                found += [(place, text) for text in strings(ast.parse(path.read_text(encoding="utf-8")))]
    return found


def strings(tree: ast.Module) -> list[str]:
    bodies = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    skipped = {id(n.body[0].value) for n in bodies if n.body and isinstance(n.body[0], ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            pieces = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
            found.append("".join(pieces))
    constants = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return found + [str(node.value) for node in constants if id(node) not in skipped]


def commands() -> dict[str, set[str]]:
    """Flags of every command, by its name; of groups, ``jobs resume`` as well as ``jobs``."""
    found, open_ = {}, [("", get_command(app))]
    while open_:
        name, command = open_.pop()
        found[name] = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
        found[name].add("--help")
        open_ += [(f"{name} {word}".strip(), one) for word, one in getattr(command, "commands", {}).items()]
    return found


SENTENCES, COMMANDS = sentences(), commands()


def test_sentences_are_found() -> None:
    texts = [text for _, text in SENTENCES]
    assert len(texts) > 1000
    assert any("saetui jobs resume {}" in text for text in texts)


def test_a_command_that_scores_an_sae_has_what_scoring_needs() -> None:
    wanting = [
        f"{place}: {text}"
        for place, text in SENTENCES
        if re.search(r"\bsaetui score \{", text) and not {"--images", "--embed-with"} <= set(re.findall(FLAG, text))
    ]
    assert wanting == []


def test_every_command_exists() -> None:
    wrong = []
    for place, text in SENTENCES:
        for first, second in re.findall(r"\bsaetui ([a-z]+)(?: ([a-z]+))?", text):
            known = first in COMMANDS or first in PLAIN
            if first == "jobs" and second not in ("", "lists"):
                known = f"jobs {second}" in COMMANDS
            wrong += [] if known else [f"{place}: {text}"]
    assert wrong == []


def test_every_flag_is_one_of_the_command_that_is_named() -> None:
    every = set().union(*COMMANDS.values())
    wrong = []
    for place, text in SENTENCES:
        named = re.search(r"\bsaetui ((?:jobs )?[a-z]+)", text)
        known = COMMANDS.get(named[1], every) if named else every
        wrong += [f"{place}: {text}" for flag in re.findall(FLAG, text) if flag not in known]
    assert wrong == []


@pytest.mark.parametrize("folder", STAGES)
def test_flags_are_those_of_a_command_that_ends_in_the_sentence(folder: str) -> None:
    known = set().union(*(COMMANDS[name] for name in STAGES[folder]))
    said = [(place, text) for place, text in SENTENCES if place.startswith(folder) and "saetui" not in text]
    used = {flag for _, text in said for flag in re.findall(FLAG, text)}
    assert used <= known


def test_no_sentence_leaves_the_number_of_a_hook_point_or_the_way_to_set_a_device_to_be_guessed() -> None:
    guessed = [text for _, text in SENTENCES if re.search(r"\b(use|of|on|take) (a )?(layer|mlp|attn):N\b", text)]
    guessed = [text for text in guessed if "N from 0" not in text]
    assert guessed == [] and [text for _, text in SENTENCES if "device cpu" in text.replace("--device cpu", "")] == []


def test_counts_are_written_with_their_things_by_one_function() -> None:
    """``counted`` knows one thing from several; what is left here is never one, or no count."""
    things = "images|shards|rows|steps|latents|tokens|files|stages|columns|stores|dimensions|blocks|answers|sequences"
    written = {
        text for _, text in SENTENCES if re.search(rf"\{{\}} ((broken|drawn|new|patch|visual) )?({things})\b", text)
    }
    allowed = (
        "Skipped {} broken images in all",  # where they are more than are named
        "{} does not give each of the images {} to {} its rows",
        "No images in {}{}: give a directory, list, .tar or .zip with {} files",
        "An answer of {} tokens is none",  # 0 or less
        " in {} stores",  # of several hook points
        "{} tokens/s",
        "the {} stages are",  # several
    )
    assert [text for text in written if not text.startswith(allowed)] == []


def test_every_module_and_setting_exists() -> None:
    for _, text in SENTENCES:
        for module in re.findall(r"python -m ([\w.]+)", text):
            assert importlib.util.find_spec(module) is not None, text
    settings = {f.name for c in vars(config).values() if dataclasses.is_dataclass(c) for f in dataclasses.fields(c)}
    assert {"batch_size", "limit", "device"} <= settings


def test_every_command_that_is_said_to_run_in_the_background_does() -> None:
    (text,) = {text for _, text in SENTENCES if text.startswith("No runs here yet")}
    for name in re.findall(r"[a-z]+", text.partition("--detach to ")[2]):
        assert name == "or" or "--detach" in COMMANDS[name], name


@pytest.mark.parametrize("task", ["extract", "train", "score", "steer", "ms", "encode", "demo", "run"])
def test_less_memory_is_asked_for_by_flags_of_the_command(task: str) -> None:
    from engine.runs.tasks import TASKS
    from engine.runs.worker import mistake

    out_of_memory = type("OutOfMemoryError", (RuntimeError,), {})
    for error in (MemoryError(), out_of_memory()):
        sentence = mistake(error, TASKS[task])
        assert sentence is not None
        said = set(re.findall(FLAG, sentence))
        assert said <= COMMANDS[task]
        assert said or "close what else uses it" in sentence


# Ways out that can be run are run: what is named gets one there, and the command that failed then succeeds.


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return shutil.copytree(ROOT / "tests" / "old_workspace", tmp_path / "w")


def proposed(sentence: str, **filled: str) -> list[str]:
    """The command that ``sentence`` names, with its words in capitals filled in."""
    (command,) = re.findall(r"run saetui ([^,:.]+?)(?: first)?[,.]", sentence)
    return shlex.split(" ".join(filled.get(word, word) for word in command.split()))


@pytest.mark.parametrize(
    "arguments", [("neurons", "jump"), ("steer", "jump", "--vlm", "demo", "--latent", "3=2x", "--max-new-tokens", "2")]
)
def test_an_sae_without_scores_is_scored_as_is_said(arguments: tuple[str, ...], workspace: Path) -> None:
    (workspace / "neurons" / "jump--images.h5").unlink()
    (workspace / "workspace.toml").write_text("")
    refused = in_pipe(*arguments, cwd=workspace)
    assert refused.code == 2 and "scores" in refused.err
    command = proposed(refused.err.replace("\n", " "), DIR="images", MODEL="demo:encoder")
    assert command[:2] == ["score", "jump"]
    scored = in_pipe(*command, cwd=workspace)
    assert scored.code == 0, scored.err
    done = in_pipe(*arguments, cwd=workspace)
    assert done.code == 0 or "fired on none" in done.err, done.err


def test_what_is_no_sae_of_ours_is_refused_without_a_command_that_is_not_there(workspace: Path) -> None:
    (workspace / "saes" / "other").mkdir()
    (workspace / "saes" / "other" / "config.json").write_text('{"d_in": 64, "d_sae": 512}')
    refused = in_pipe("encode", "other", "patches", "--out", "x.npz", cwd=workspace)
    assert refused.code == 2 and "one of another tool is brought in by saetui import" in refused.err
    assert in_pipe("encode", "jump", "patches", "--out", "x.npz", cwd=workspace).code == 0

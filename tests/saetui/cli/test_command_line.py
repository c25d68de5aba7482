"""The commands as a shell sees them."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import engine
import saetui
from engine.files import write_json
from engine.runs.attached import Attached
from engine.runs.run import Run
from engine.workspace import Workspace
from saetui.cli.work import ended
from tests.support.shell import command_of
from tests.support.shell import saetui as run_saetui
from tests.support.stores import write_store

HEAVY = ("torch", "transformers", "open_clip", "torchvision")


def modules_after(code):
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(out.stdout.split())


def test_help_is_light():
    code = "from saetui.cli import main\ntry: main(['--help'])\nexcept SystemExit as end: assert end.code == 0"
    loaded = modules_after(code)
    assert not loaded & {*HEAVY, "textual", "numpy", "h5py"}


def _modules(package):
    root = Path(package.__file__).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        if parts[-1] != "__main__":
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_module_of_the_app_imports_torch_even_indirectly():
    loaded = modules_after("\n".join(f"import {name}" for name in _modules(saetui)))
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(
    "name",
    [
        "engine",
        "engine.workspace",
        "engine.runs.events",
        "engine.runs.plan",
        "engine.runs.run",
        "engine.config",
        "engine.server.client",
    ],
)
def test_what_the_app_reads_through_is_light(name):
    assert not modules_after(f"import {name}") & {*HEAVY, "numpy", "h5py", "scipy"}


def test_the_engine_knows_nothing_of_screens():
    for path in Path(engine.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("saetui", "textual", "rich", "typer") for name in names), path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["trian", "train"]),
        (["train"], ["ACTIVATIONS"]),
        (["train", "x"], ["--name"]),
        (["train", "x", "--steps", "few"], ["--steps"]),
        (["train", "x", "--name", "s", "--groups", "1,b"], ["--groups", "commas"]),
        (["train", "x", "--name", "a/b"], ["'a/b'"]),
        (["jobs", "follow", "nothing"], ["nothing", "saetui jobs"]),
        (["run", "missing.toml"], ["missing.toml"]),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, words, tmp_path):
    done = run_saetui(*arguments, cwd=tmp_path, code=2)
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words)
    assert list(tmp_path.iterdir()) == [], "a refused command leaves nothing behind"


def test_a_workspace_that_cannot_be_written_is_one_sentence(tmp_path):
    """A file where a directory is needed, and a file system that is read-only for everybody, root included."""
    (tmp_path / "file").touch()
    done = run_saetui("train", "x", "--name", "s", "--workspace", tmp_path / "file", code=2)
    assert len(done.stderr.strip().splitlines()) == 1 and "not a directory" in done.stderr
    done = run_saetui("train", "x", "--name", "s", "--workspace", "/sys/saetui", code=2)
    assert len(done.stderr.strip().splitlines()) == 1 and "/sys/saetui" in done.stderr


# Exit codes


def test_damage_that_is_found_is_exit_code_2_with_the_way_out(tmp_path):
    store = write_store(tmp_path / "activations" / "a", np.ones((20, 3)))
    shard = store.path / "shard-00000.h5"
    shard.write_bytes(shard.read_bytes()[:-40])
    done = run_saetui("verify", "a", cwd=tmp_path, code=2)
    assert str(shard) in done.stdout and done.stderr.count("\n") == 1
    assert done.stderr.endswith("run the command that made the store again, which makes them anew.\n")
    assert json.loads(run_saetui("verify", "a", "--json", cwd=tmp_path, code=2).stdout)["problems"]


@pytest.mark.parametrize(
    "status, code",
    [
        ({"state": "done", "result": None}, 0),
        ({"state": "stopped"}, 2),
        ({"state": "running"}, 2),  # and nobody works on it: it died
        ({"state": "failed", "error": "No.", "mistake": True}, 2),
        ({"state": "failed", "error": "ValueError: no", "mistake": False}, 1),
    ],
)
def test_only_a_bug_is_exit_code_1(status, code, tmp_path):
    run = Run.create(Workspace(tmp_path), "doctor", {}, ["doctor"])
    write_json(run.path / "status.json", {"started": 1.0, "ended": 2.0, **status})
    done = run_saetui("jobs", "follow", "last", "--json", cwd=tmp_path, code=code)
    assert bool(done.stderr) == (code != 0)


@pytest.mark.parametrize(("told", "said"), [({}, "0:00"), ({"took": 75.2}, "1:15")])
def test_a_run_during_which_the_clock_was_set_back_took_no_negative_time(told, said, tmp_path):
    run = Run.create(Workspace(tmp_path), "doctor", {}, ["doctor"])
    write_json(run.path / "status.json", {"state": "stopped", "started": 9e5, "ended": 2.0, **told})
    assert run_saetui("jobs", cwd=tmp_path).stdout.rstrip().endswith(said)


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGINT,) * 2])
def test_a_signal_is_128_and_its_number(signals, tmp_path):
    write_store(tmp_path / "activations" / "a", np.random.default_rng(0).normal(size=(64, 8)))
    train = command_of(["train", "a", "--name", "s", "--steps", 10**7, "--expansion", 2, "--k", 2, "--batch-size", 16])
    with subprocess.Popen(train, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("saes/s/checkpoints/*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            for number in signals:
                process.send_signal(number)
                time.sleep(0.001)
            _, said = process.communicate(timeout=120)
        finally:
            process.kill()  # a test that fails leaves no training behind
    assert process.returncode == 128 + signals[0]
    assert " is kept. Continue with: saetui train a" in said and "memory" not in said and "bug" not in said
    (run,) = (tmp_path / "runs").iterdir()
    assert {"log.txt", "events.jsonl", "status.json"} <= {file.name for file in run.iterdir()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("where", ["typer", "saetui.cli.neurons", "textual.css.model", "atexit"])
def test_a_signal_while_it_starts_or_ends_needs_no_traceback(number, where, tmp_path):
    """``where``: the module whose loading it interrupts."""
    script = INTERRUPTED.format(number=int(number), where=where)
    done = subprocess.run([sys.executable, "-c", script, "jobs"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stderr, done.returncode in (-number, 128 + number)) == ("", True)


INTERRUPTED = """
import atexit, signal, sys

class Raises:
    def find_spec(self, name, *_):
        if name == "{where}":
            signal.raise_signal({number})

sys.meta_path.insert(0, Raises())
if "{where}" == "atexit":
    atexit.register(signal.raise_signal, {number})
from saetui.cli import main
if "{where}" == "textual.css.model":
    import saetui.cli.jobs as jobs
    def load(*_, **__):
        try:
            import textual.css.model
        except BaseException as error:
            raise RuntimeError("Error calling __set_name__") from error
    jobs.runs = load
main()
"""


def test_the_run_of_a_worker_that_was_killed_stays_with_its_log_and_events(tmp_path):
    write_store(tmp_path / "activations" / "a", np.random.default_rng(0).normal(size=(64, 8)))
    train = command_of(["train", "a", "--name", "s", "--steps", 10**7, "--expansion", 2, "--k", 2, "--batch-size", 16])
    with subprocess.Popen(train, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("saes/s/checkpoints/*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.05)
        (run,) = (tmp_path / "runs").iterdir()
        os.kill(json.loads((run / "status.json").read_text())["pid"], signal.SIGKILL)  # as the system does for memory
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and "SIGKILL" in said
    assert (run / "log.txt").exists() and [one.event for one in Run(run).events()[0]]
    assert Run(run).status.state == "died"


@pytest.mark.parametrize(
    ("kept", "words"),
    [("", "before anything was finished. Begin again with"), ("step 3 is kept", "; step 3 is kept.")],
)
def test_that_something_is_kept_is_only_said_where_it_is(kept, words, tmp_path):
    """As the worker says it: see tests/engine/runs/test_ended.py for what that says."""
    asked = Attached(Workspace(tmp_path), "train", {})
    assert words in ended(asked, kept)

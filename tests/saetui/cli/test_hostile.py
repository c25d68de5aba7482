"""Nothing that files or models say acts on a terminal, whichever command prints it, and JSON says it all the same."""

import fcntl
import json
import os
import select
import shutil
import struct
import subprocess
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from saetui.cli.app import app
from tests.saetui.cli.test_every_command import COVERED, MADE, STORE, TRAIN, commands
from tests.support.hostile import ACTING, EVIL, NAME, poison
from tests.support.shell import ENVIRONMENT, PATIENCE, Done, command_of, in_pipe, in_terminal, plain

QUICK = [  # what is typed; all of it in the workspace of a stranger, some of it about files that are damaged
    ["jobs"],
    ["jobs", "follow", "20261126-022439"],
    ["jobs", "follow", "20261126-022549"],
    ["jobs", "resume", "20261126-022549"],
    ["jobs", "follow", EVIL],
    ["neurons", "jump", "--top", "3"],
    ["neurons", "jump", "--search", EVIL],
    ["neurons", "matryoshka", "--top", "2", "--images"],
    ["show", "patches"],
    ["show", "jump"],
    ["show", "neurons/jump--images.h5"],
    ["show", "unfinished"],
    ["show"],
    ["show", "stability/old"],
    ["show", f"{NAME}.png"],
    ["show", EVIL],
    [NAME],
    ["jobs", "--workspace", f"{NAME}.png"],
]
WORK = [
    ["show", "20261126-022549-steer"],
    ["show", "recipes/hat.toml"],
    ["jobs", "pause", "20261126-022549"],
    ["jobs", "stop", "20261126-022549"],
    ["doctor"],
    ["config"],
    ["report", "jump", "--pictures", "2"],
    ["verify", "patches"],
    ["verify", "unfinished"],
    ["verify", "steerability/jump--old"],
    ["show", "concepts/jump--old"],
    ["train", *TRAIN.split(), "--steps", "10", "--name", "x"],
    ["train", "unfinished", "--name", "y"],
    ["extract", *STORE.split(), "--limit", "4", "--name", "few"],
    ["extract", *STORE.split(), "--limit", "5", "--name", "few"],
    ["estimate", *STORE.split(), "--images", EVIL, "--name", "all"],
    ["score", "jump", "--vocabulary", EVIL, "--name", "again"],
    ["run", "plan.toml"],
    ["steer", "--recipe", "hat"],
    ["ms", "A.npy", f"{NAME}.npy"],
    ["figure", "ms", "jump", "--out", f"{NAME}.svg"],
    ["figure", "top-images", "jump", "--out", f"{NAME}.png"],
    ["draw", NAME],
    ["concepts", "jump", "--labels", EVIL],
    ["fidelity", "jump", "--template", f"a {{}} {EVIL}"],
    ["fidelity", EVIL],
    ["agreement", NAME],
    ["stability", "jump", EVIL],
    ["baseline", EVIL, "--of", "pca", "--name", "x"],
    ["steerability", "jump", "--vlm", EVIL],
    ["encode", "jump", "patches", "--out", f"{NAME}.npz"],
    ["import", f"{NAME}.npz", "--name", "theirs"],
    ["export", "jump", "--to", "saev", "--out", f"{NAME}-out"],
    ["recognise", f"{NAME}-out"],
    ["import", f"{NAME}-out", "--name", "theirs"],
    ["relink", "images", NAME],
]


def stranger(parent: Path) -> Path:
    place = parent / NAME
    shutil.copytree(MADE, place)
    for path in sorted((place / "images").iterdir()):
        if path.is_dir():  # classes
            path.rename(path.with_name(f"{path.name}_{NAME}"))
    poison(place)
    shutil.copytree(place / "activations" / "patches", place / "activations" / "unfinished")
    manifest = place / "activations" / "unfinished" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"complete": False}))
    (place / f"{NAME}.png").write_bytes(b"broken")
    (place / "plan.toml").write_text(f"[[train]]\nactivations = {json.dumps(EVIL)}\nname = 'z'\n")
    np.save(place / "A.npy", np.ones((4, 2)))
    np.save(place / NAME, np.ones((3, 2)))
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return stranger(tmp_path_factory.mktemp("stranger"))


def said(words: list[str], place: Path, terminal: bool, as_json: bool) -> Done:
    typed = [*words, "--json"] if as_json else words
    return in_terminal(*typed, cwd=place, raw=True) if terminal else in_pipe(*typed, cwd=place)


TERMINAL, MACHINE = (True, False), (False, True)
EVERY = [TERMINAL, MACHINE, (False, False), (True, True)]


def check(words: list[str], place: Path, *forms: tuple[bool, bool]) -> None:
    """``forms``: in a terminal or in a pipe, and whether with ``--json``."""
    for terminal, as_json in forms:
        done = said(words, place, terminal, as_json)
        assert "Traceback" not in done.err, done.err
        for text in (done.out, done.err):
            assert not ACTING.search(text), (words, terminal, as_json, text)
            assert terminal or "\x1b" not in text
        if as_json and done.out:
            json.loads(plain(done.out))


@pytest.mark.parametrize("words", QUICK, ids=lambda words: ascii(" ".join(words)))
def test_what_commands_print_does_not_act(words, place):
    check(words, place, TERMINAL, MACHINE)


@pytest.mark.slow
@pytest.mark.parametrize("words", [*QUICK, *WORK], ids=lambda words: ascii(" ".join(words)))
def test_nor_does_what_work_says(words, place):
    check(words, place, *EVERY)


def test_nor_does_what_the_workbench_paints(place):
    """In a terminal of its own, as a person sees every mode and the runs."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    with subprocess.Popen(
        command_of(["--workspace", place]), stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT
    ) as process:
        said, keys, answered = "", iter("12345Jjq\x1bq"), 0
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                pytest.fail(ascii(said))
            if select.select([ours], [], [], 1.0)[0]:
                said += os.read(ours, 65536).decode(errors="surrogateescape")
            elif "Hierarchy" in said:  # it is quiet
                os.write(ours, next(keys, "q").encode())
            for _ in range(said.count("\x1b[c") - answered):
                answered += 1
                os.write(ours, b"\x1b[?62c")
    os.close(ours)
    os.close(theirs)
    assert said.count("[red]EVIL") > 5 and process.returncode == 0
    assert not ACTING.search(said.replace("\x1b]22;default\x07", "").replace("\x1b]22;pointer\x07", ""))


def test_every_command_is_tried():
    tried = {" ".join(words[: 2 if words[0] == "jobs" and len(words) > 1 else 1]) for words in [*QUICK, *WORK]}
    assert set(commands(get_command(app))) - set(COVERED) <= tried


def test_json_says_what_was_said(place):
    runs = json.loads(said(["jobs"], place, False, True).out)
    assert any(run["stage"].endswith(EVIL) for run in runs if "stage" in run)


def test_names_of_every_script_are_printed_as_they_are(tmp_path):
    place = tmp_path / "é漢字 שלום مرحبا می\u200cخواهم 👩\u200d🚀"
    place.mkdir()
    assert place.name in in_pipe("jobs", "follow", "last", cwd=place).err
    broken = tmp_path / os.fsdecode(b"caf\xe9")
    broken.mkdir()
    assert "caf\ufffd" in in_pipe("jobs", "follow", "last", cwd=broken).err

"""Completion in bash, zsh and fish: names of the workspace, choices, paths; fast, and without torch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from engine.files import write_json, write_text
from engine.workspace import MARKER
from saetui.cli import main
from saetui.cli.app import app
from saetui.cli.completing import SCRIPTS, answer

COMMAND = get_command(app)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Everything that has a name: its files are not read."""
    root = tmp_path / "study"
    for folder in ("activations/wide-store", "embeddings/judged", "runs/20260101-000000-train", "saes/zebra"):
        (root / folder).mkdir(parents=True)
    write_text(root / "saes/zebra/config.json", "{}")
    write_json(root / "activations/wide-store/manifest.json", {"model": {"spec": "hf:org/tower"}})
    write_text(root / "neurons/zebra--test.h5", "")
    write_text(root / MARKER, 'vlm = "hf:org/llava"\n')
    write_text(root / "recipes/pencil.toml", "")
    for name in ("concepts/zebra--test", "concepts/zebra--train", "stability/zebra--yak"):
        write_text(root / f"{name}.json", "")
    (root / "steerability/zebra--llava").mkdir(parents=True)
    monkeypatch.chdir(root)
    return root


def found(line, shell="fish", last=""):
    return [one.split("\t")[0] for one in answer(COMMAND, shell, [line, last]).splitlines()]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("saetui tra", ["train"]),
        ("saetui train w", ["wide-store"]),
        ("saetui train wide-store --embeddings ", ["judged"]),
        ("saetui train wide-store --arch batch", ["batchtopk"]),
        ("saetui train wide-store --arch=batch", ["--arch=batchtopk"]),
        ("saetui score ", ["zebra"]),
        ("saetui train wide-store --mono-embeddings ", ["judged"]),
        ("saetui stability other z", ["zebra"]),
        ("saetui stability zebra other --alive-on ", ["wide-store"]),
        ("saetui steer --recipe p", ["pencil"]),
        ("saetui steer zebra --vlm hf:org/l", ["hf:org/llava"]),
        ("saetui extract --model hf:org/t", ["hf:org/tower"]),
        ("saetui extract --model demo:", ["demo:encoder"]),
        ("saetui neurons zebra --on ", ["test"]),
        ("saetui neurons zebra --sort supp", ["support"]),
        ("saetui jobs follow ", ["last", "20260101-000000-train"]),
        ("saetui show 2026", ["20260101-000000-train"]),
        ("saetui verify j", ["judged"]),
        ("saetui verify zebra--", ["zebra--test", "zebra--train", "zebra--llava", "zebra--yak"]),
        ("saetui show concepts/", ["concepts/zebra--test"]),
        ("saetui verify pen", []),
        ("saetui score zebra --images sa", ["saes/"]),
        ("saetui neurons z --cs", ["--csv"]),
        ("saetui --colo", ["--colours"]),
        ("saetui --theme p", ["paper"]),
        ("saetui nonsense ", []),
        ("saetui train 'wide", ["wide-store"]),
    ],
)
def test_what_may_follow(place, line, names):
    assert found(line) == names


def test_the_workspace_that_is_typed_counts(place, monkeypatch):
    monkeypatch.chdir(place.parent)
    assert found("saetui score ") == []
    assert found("saetui score --workspace study ") == found("saetui score --workspace=study ") == ["zebra"]


@pytest.mark.parametrize("line", ["", "saetui", "saetui '", "saetui train \\", "saetui --workspace /dev/null score "])
def test_no_line_ends_in_a_traceback(place, line):
    assert isinstance(found(line), list)


def test_damaged_files_complete_nothing_and_nothing_is_said(place, capsys):
    write_text(place / MARKER, "vlm = [")
    write_text(place / "activations/wide-store/manifest.json", "{")
    assert found("saetui extract --model hf:") == []
    assert found("saetui train w") == ["wide-store"]
    assert capsys.readouterr() == ("", "")


def test_bash_completes_by_its_own_rules(place, tmp_path):
    """With the function that is installed; bash splits at colons, and takes the rest for the last word."""
    program = tmp_path / "saetui"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m saetui "$@"\n')
    program.chmod(0o755)
    script = f"""{SCRIPTS["bash"]}
    try() {{ COMP_LINE="$1"; COMP_POINT=${{#1}}; _saetui {program} "$2" "$3"; echo "${{COMPREPLY[*]}}"; }}
    try "saetui extract --model hf:org/t" "org/t" ":"
    try "saetui steer --recipe pen" "pen" "--recipe"
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=place, env=env, timeout=60)
    assert said.stdout.split() == ["org/tower", "pencil"]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_it_is_installed_once_where_the_shell_finds_it(shell, tmp_path, monkeypatch, capsys):
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    rc = tmp_path / {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}[shell]
    if shell != "fish":
        rc.write_text("alias ll='ls -l'")
    for argv in (["--install-completion"], ["--install-completion", shell]):
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 0 and str(tmp_path) in capsys.readouterr().out
    if shell == "fish":
        assert (tmp_path / ".config/fish/completions/saetui.fish").read_text() == SCRIPTS["fish"]
    else:
        kept, *added = rc.read_text().splitlines()
        assert kept == "alias ll='ls -l'" and len(added) == 1
        assert Path(added[0].split()[-1]).read_text() == SCRIPTS[shell]
    if program := shutil.which(shell):
        subprocess.run([program, "-n", "-c", SCRIPTS[shell]], check=True, timeout=20)


def test_another_shell_is_refused_with_the_way_out(monkeypatch, capsys):
    for argv, known in ((["--install-completion"], "/bin/tcsh"), (["--install-completion", "tcsh"], "/bin/bash")):
        monkeypatch.setenv("SHELL", known)
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2 and "bash, zsh, fish" in capsys.readouterr().err


def test_it_loads_neither_torch_nor_textual_nor_numpy(place):
    code = (
        "import sys, os; os.environ['_SAETUI_COMPLETE'] = 'fish'\n"
        "from saetui.cli import main\nmain(['saetui steer --vlm '])\n"
        "import json; print(json.dumps([m for m in ('torch', 'numpy', 'h5py', 'textual') if m in sys.modules]))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(said.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("path", [(), *((name,) for name in COMMAND.commands if name != "open"), ("jobs", "follow")])
def test_h_is_help_of_every_command(path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*path, "-h"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and said.startswith("Usage: saetui") and "-h, --help" in said

"""saetui doctor: what the terminal, the machine and the workspace can do, and what would improve it."""

import json as json_module
import os
import shutil
import sys
from typing import Any

import typer

from engine.config import DoctorSettings
from engine.workspace import Workspace
from saetui.cli import work
from saetui.cli.options import JsonOption, WorkspaceOption
from saetui.text import literal


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """What the terminal, the machine and the workspace can do, and what would improve it."""
    place = Workspace.find(workspace)
    report = work.compute(place, "doctor", DoctorSettings(), quiet=json, keep=False)
    terminal, advice = _terminal()
    report = report | {"terminal": terminal, "advice": report["advice"] + advice}
    if json:
        print(json_module.dumps(report, ensure_ascii=False))
        return
    for line in _lines(report):
        print(literal(line))


def _terminal() -> tuple[dict[str, Any], list[str]]:
    size = shutil.get_terminal_size()
    terminal = {
        "term": os.environ.get("TERM", ""),
        "colorterm": os.environ.get("COLORTERM", ""),
        "columns": size.columns,
        "rows": size.lines,
        "tty": sys.stdout.isatty(),
        "ssh": bool(os.environ.get("SSH_CONNECTION")),
        "tmux": bool(os.environ.get("TMUX")),
    }
    advice = []
    if terminal["tty"] and terminal["colorterm"] not in ("truecolor", "24bit"):
        advice.append("COLORTERM is not set (SSH does not forward it): export COLORTERM=truecolor if yours can do it.")
    return terminal, advice


def _lines(report: dict[str, Any]) -> list[str]:
    terminal, place, demo = report["terminal"], report["workspace"], report["demo"]
    counts = ", ".join(f"{place[k]} {k}" for k in ("activations", "embeddings", "saes", "neurons", "runs") if place[k])
    return [
        f"saetui     {report['saetui']} on Python {report['python']}",
        "libraries  " + "  ".join(f"{k} {v or 'missing'}" for k, v in report["versions"].items()),
        *(f"device     {d['device']:<7} {d['name']}{_memory(d)}" for d in report["devices"]),
        f"terminal   {terminal['term'] or 'unknown'}, {terminal['columns']}x{terminal['rows']}"
        + "".join(f", {word}" for word in ("ssh", "tmux") if terminal[word]),
        f"demo       {demo['bytes'] / 1e6:.1f} MB of models in {demo['path']}"
        if demo["path"]
        else "demo       missing",
        f"workspace  {place['root']}: {counts or 'empty'}; {place['free'] / 1e9:.1f} GB free",
        *(f"advice     {sentence}" for sentence in report["advice"]),
    ]


def _memory(device: dict[str, Any]) -> str:
    return f", {device['free'] / 1e9:.1f} of {device['total'] / 1e9:.1f} GB free" if "total" in device else ""

"""saetui doctor: what the terminal, the machine and the workspace can do, and what would improve it."""

import json as json_module
from dataclasses import asdict
from typing import Any

import typer

from engine.config import DoctorSettings
from engine.workspace import Workspace
from saetui.cli import work
from saetui.cli.options import JsonOption, WorkspaceOption
from saetui.formatting import literal
from saetui.terminal.probe import probe

COLOURS = {"truecolor": "24-bit colour", "256": "256 colours", "16": "16 colours", "mono": "no colours"}
RUNGS = {
    "kitty": "cells in 24-bit colour; by kitty's protocol in full size",
    "sixel": "cells in 24-bit colour",
    "truecolor": "cells in 24-bit colour",
    "256": "cells in 256 colours; heat maps are brightness",
    "mono": "glyphs of their brightness, without colour",
}


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """What the terminal, the machine and the workspace can do, and what would improve it."""
    place = Workspace.find(workspace)
    report = work.compute(place, "doctor", DoctorSettings(), quiet=json, keep=False)
    terminal = probe()
    told = {key: value for key, value in asdict(terminal).items() if key != "advice"}
    report = report | {"terminal": told, "advice": report["advice"] + terminal.advice}
    if json:
        print(json_module.dumps(report, ensure_ascii=False))
        return
    for line in _lines(report):
        print(literal(line))


def _lines(report: dict[str, Any]) -> list[str]:
    terminal, place, demo = report["terminal"], report["workspace"], report["demo"]
    counts = ", ".join(f"{place[k]} {k}" for k in ("activations", "embeddings", "saes", "neurons", "runs") if place[k])
    return [
        f"saetui     {report['saetui']} on Python {report['python']}",
        "libraries  " + "  ".join(f"{k} {v or 'missing'}" for k, v in report["versions"].items()),
        *(f"device     {d['device']:<7} {d['name']}{_memory(d)}" for d in report["devices"]),
        *_terminal(terminal),
        f"demo       {demo['bytes'] / 1e6:.1f} MB of models in {demo['path']}"
        if demo["path"]
        else "demo       missing",
        f"workspace  {place['root']}: {counts or 'empty'}; {place['free'] / 1e9:.1f} GB free",
        *(f"advice     {sentence}" for sentence in report["advice"]),
    ]


def _terminal(terminal: dict[str, Any]) -> list[str]:
    name = " ".join(filter(None, (terminal["name"], terminal["version"])))
    called = ", ".join(filter(None, (name, terminal["term"]))) or "unknown"
    around = "".join(f", {word}" for word in ("ssh", "tmux") if terminal[word] and word != terminal["name"])
    cell = f", cells of {terminal['cell'][0]}x{terminal['cell'][1]} pixels" if terminal["cell"] else ""
    graphics = " and ".join(word for word in ("kitty", "sixel") if terminal[word]) or "no"
    answered = f"asked in {1000 * terminal['seconds']:.0f} ms" if terminal["tty"] else "not asked, for it is none"
    return [
        f"terminal   {called}{around}, {terminal['columns']}x{terminal['rows']}{cell}",
        f"           {COLOURS[terminal['colours']]}, {graphics} graphics; {answered}",
        f"pictures   {RUNGS[terminal['rung']]}",
    ]


def _memory(device: dict[str, Any]) -> str:
    return f", {device['free'] / 1e9:.1f} of {device['total'] / 1e9:.1f} GB free" if "total" in device else ""

"""saetui doctor: what the terminal, the machine and the workspace can do, and what would improve it."""

from dataclasses import asdict, replace

import typer

from engine.config import DoctorSettings
from engine.doctor import Device, Report
from engine.errors import counted
from engine.records import to_json
from engine.workspace import Workspace
from saetui.cli import work
from saetui.cli.options import JsonOption, WorkspaceOption
from saetui.cli.streams import print_json
from saetui.formatting import size
from saetui.terminal.probe import Terminal, probe

COLOURS = {"truecolor": "24-bit colour", "256": "256 colours", "16": "16 colours", "mono": "no colours"}
HOLDS = {
    "activations": "activation store",
    "embeddings": "embedding store",
    "saes": "SAE",
    "neurons": "neurons file",
    "runs": "run",
}
RESULTS = ("concepts", "fidelity", "steerability", "stability")
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
    report: Report = work.compute(place, "doctor", DoctorSettings(), quiet=json, keep=False)
    terminal = probe()
    report = replace(report, advice=(*report.advice, *terminal.advice))
    if json:
        told = {key: value for key, value in asdict(terminal).items() if key != "advice"}
        print_json({**to_json(report), "terminal": told})
    else:
        work.say_facts(*_lines(report, terminal))


def _lines(report: Report, terminal: Terminal) -> list[str]:
    place, demo = report.workspace, report.demo
    counts = {thing: getattr(place, kind) for kind, thing in HOLDS.items()}
    counts["other result"] = sum(getattr(place, kind) for kind in RESULTS)
    made = ", ".join(counted(count, thing) for thing, count in counts.items() if count)
    return [
        f"saetui     {report.saetui} on Python {report.python}",
        "libraries  " + "  ".join(f"{package} {version or 'missing'}" for package, version in report.versions.items()),
        *(f"device     {device.device:<7} {device.name}{_memory(device)}" for device in report.devices),
        *_terminal(terminal),
        f"demo       {size(demo.bytes)} of models in {demo.path}" if demo.path else "demo       missing",
        f"workspace  {place.root}: {made or 'empty'}; {size(place.free)} free",
        *(f"advice     {sentence}" for sentence in report.advice),
    ]


def _terminal(terminal: Terminal) -> list[str]:
    name = " ".join(filter(None, (terminal.name, terminal.version)))
    called = ", ".join(filter(None, (name, terminal.term))) or "unknown"
    around = "".join(f", {word}" for word in ("ssh", "tmux") if getattr(terminal, word) and word != terminal.name)
    cell = f", cells of {terminal.cell[0]}x{terminal.cell[1]} pixels" if terminal.cell else ""
    graphics = " and ".join(word for word in ("kitty", "sixel") if getattr(terminal, word)) or "no"
    answered = f"asked in {1000 * terminal.seconds:.0f} ms" if terminal.tty else "not asked, for it is none"
    return [
        f"terminal   {called}{around}, {terminal.columns}x{terminal.rows}{cell}",
        f"           {COLOURS[terminal.colours]}, {graphics} graphics; {answered}",
        f"pictures   {RUNGS[terminal.rung]}",
    ]


def _memory(device: Device) -> str:
    if device.free is None or device.total is None:
        return ""
    return f", {size(device.free)} of {size(device.total)} free"

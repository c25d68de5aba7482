"""saetui demo: the whole loop on the shipped models and the drawn world."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.config import DemoSettings
from engine.demo.results import DemoDone
from engine.errors import counted
from engine.explained.fields import explained
from engine.metrics.results import AgainstMatched, Localisation
from engine.neurons.results import LatentSpread
from engine.workspace import Workspace
from saetui.cli import work
from saetui.cli.options import DetachOption, ExplainOption, JsonOption, WorkspaceOption, command, complete, extra
from saetui.cli.stages import check_explained, number
from saetui.formatting import duration, percent

FOLDER = "saetui-demo"
HeadlessOption = Annotated[bool, typer.Option("--headless", help="Print a summary and end; open nothing.")]


def register(app: typer.Typer) -> None:
    options = (
        extra("workspace", WorkspaceOption, None),
        extra("json", JsonOption, False),
        extra("detach", DetachOption, False),
        extra("headless", HeadlessOption, False),
        extra("explain", ExplainOption, False),
    )
    command(app, "demo", DemoSettings, *options)(demo)


def demo(given: dict[str, Any], workspace: str | None, json: bool, detach: bool, headless: bool, explain: bool) -> None:
    """The whole loop, from drawn images to steered answers, in a workspace ./saetui-demo (or --workspace)."""
    check_explained(explain, detach)
    place = Workspace.find(workspace or Path(FOLDER))
    settings = complete(DemoSettings, given, place, "demo")
    if detach:
        work.detach(place, "demo", settings, json)
    else:
        tell = explained if explain else None
        work.perform(place, "demo", settings, as_json=json, show=lambda result: show(result, place), explain=tell)
        if not (headless or json) and sys.stdin.isatty() and sys.stderr.isatty():
            from saetui.cli import workbench

            workbench.run(place, mode="neurons")


def show(result: DemoDone, place: Workspace) -> None:
    told = summary(result, place)
    work.say_facts(*told[:-2])
    work.say(*told[-2:])  # commands: each is copied whole


def summary(result: DemoDone, place: Workspace) -> list[str]:
    """The demo's result in a screenful of text, every score with its control."""
    sae, ms, steering = result.sae, result.ms, result.steering
    found = [c for c in result.concepts if c.auroc >= 0.9]
    objects = [c for c in result.concepts if c.kind == "object"]
    inserted = sum(c.inserted is not None for c in objects)
    suppressed = sum(c.suppressed is not None for c in objects)
    over = "" if sae.rows is None else f"   n {sae.rows:,} held-out rows"
    lines = [
        f"{counted(result.extract.images, 'drawn image')}, {counted(result.extract.rows, 'patch token')}, "
        f"{duration(result.seconds)} in all",
        f"SAE        FVE {number(sae.fve)}   L0 {number(sae.l0, digits=1)}   dead {percent(sae.dead, 1)}{over}",
        f"MS         mean {number(ms.sae.mean)}{_ends(ms.sae)}, n {ms.sae.latents:,}, baseline {number(ms.baseline)}",
        f"           matched raw neurons {number(ms.matched.mean)}{_ends(ms.matched)}, "
        f"beaten by {percent(ms.matched.share_beaten)}",
        f"concepts   {len(found)} of {len(result.concepts)} found by one latent with AUROC >= .9",
        f"inserted   {percent(steering.inserted)} of {inserted} kinds named on blank images at {steering.strength:g}x "
        f"(random {percent(steering.random_control)}, SAE only {percent(steering.attached_control)})",
        f"beside     {percent(steering.two_named)} of answers name an object and the kind inserted beside it "
        f"(random {percent(steering.two_named_random)})",
        f"suppressed {percent(steering.suppressed)} of {suppressed} kinds gone at 0 (SAE only "
        f"{percent(steering.attached_suppressed)})",
        *_localised(result.localisation),
        "",
    ]
    for concept in sorted(result.concepts, key=lambda c: -c.auroc)[:8]:
        lines.append(f"  {concept.latent:>4}  {concept.name:<10} AUROC {number(concept.auroc)}")
    best = max(found or result.concepts, key=lambda c: (c.kind == "object", c.inserted or 0, c.auroc))
    here = "" if place.root == Path.cwd() else f" --workspace {_short(place.root)}"
    return [
        *lines,
        "",
        "Next:",
        f"  saetui neurons demo --search {best.name}{here}",
        f"  saetui steer demo --latent {best.latent}={steering.strength:g}x{here}",
    ]


def _ends(of: LatentSpread | AgainstMatched) -> str:
    return "" if of.low is None else f" ({number(of.low)} to {number(of.high)})"


def _localised(found: Localisation | None) -> list[str]:
    if found is None:
        return []
    return [
        f"localised  {percent(found.peak)} of strongest patches on the object (random {percent(found.chance_peak)}), "
        f"{percent(found.mass)} of the map (uniform {percent(found.chance_mass)})"
    ]


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

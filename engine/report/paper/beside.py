"""``saetui report --paper``: what the SAEs of a workspace score, beside the published tables, cell by cell.

A cell is ours where an SAE of the workspace has its architecture, hook point, expansion and number of latents a token;
of several the mean, and how many they are. Frozen twins and untrained directions are none. What there is not stays
empty. What makes ours another thing than the published one (model, judge, images, K) is said of the whole table.
"""

import contextlib
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from engine.artefacts.entries import NeuronsEntry, SAEEntry, read_entry
from engine.artefacts.twins import Twins
from engine.config import PaperSettings
from engine.errors import UserError
from engine.files import read_toml
from engine.neurons.results import Summary
from engine.numbers import exact
from engine.report.paper.cell import Value, cell
from engine.report.paper.published import Published, PublishedTable, published
from engine.report.paper.steered import LAYER, results_of, steering_tables
from engine.report.results import PaperCompared, PaperTable
from engine.report.subject import subject_of
from engine.reporter import Reporter
from engine.runs.plan import plan_path
from engine.runs.run import runs
from engine.settings import check
from engine.workspace import Workspace, image_set_of, neurons_files, saes


@dataclass(frozen=True)
class _Mine:
    """An SAE of the workspace, and what is known of it."""

    entry: SAEEntry
    summary: Summary | None
    asked: bool = True
    """Whether it was scored on the images that were asked for."""
    twins: "tuple[_Mine, ...]" = ()
    """Frozen twins, each with the scores that are on the same images by the same judge."""

    @property
    def expansion(self) -> float:
        config = self.entry.config
        assert config is not None
        return config.w / config.d


def beside_paper(settings: PaperSettings, workspace: Workspace, reporter: Reporter | None = None) -> PaperCompared:
    """Every published table with ours beside it. UserError for a plan that cannot be read."""
    reporter = reporter or Reporter()
    check(settings)
    plan = settings.plan or _plan_run_last(workspace)
    said, own = published(), _own(plan)
    mine = list(_mine(settings, workspace, reporter))
    tables = tuple(_table(table, said, mine, own) for table in said.table)
    steered = results_of(workspace, [one.entry for one in mine], own.layers[LAYER])
    return PaperCompared(said.source, (*tables, *steering_tables(steered)), plan)


def _plan_run_last(workspace: Workspace) -> str:
    """The plan with a [paper] table that was run last in the workspace, if it is still there; empty without one."""
    for run in reversed(runs(workspace)):
        with contextlib.suppress(UserError, OSError):
            command = run.command
            plan = str(command.asked(workspace.root).get("plan", ""))
            if command.task == "run" and "paper" in read_toml(plan_path(plan)):
                return plan
    return ""


@dataclass(frozen=True)
class _Own:
    """What stands for what in a plan that is not of the paper's own model."""

    layers: dict[str, str]
    """Row of the tables -> hook point."""
    k: dict[int, int]
    """Published K -> ours."""


def _own(plan: str) -> _Own:
    path = plan_path(plan) if plan else None
    kept = read_toml(path).get("paper") if path else {}
    if kept is None:
        raise UserError(
            f"{path} has no table [paper], which says what of its layers and K stands for the published ones: add one, "
            "as paper-demo has, or leave --plan out."
        )
    layers = {"11": "layer:11", "17": "layer:17", "22": "layer:22", "23": "layer:23", "last": "last"}
    try:
        ks = {int(k): int(ours) for k, ours in dict(kept.get("k", {})).items()}
        return _Own(layers | {str(row): str(hook) for row, hook in dict(kept.get("layers", {})).items()}, ks)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: [paper] is not as saetui's own plans have it ({error}): correct it.") from error


def _mine(settings: PaperSettings, workspace: Workspace, reporter: Reporter) -> Iterator[_Mine]:
    names, twins = saes(workspace), Twins.of(workspace)
    sets = {name: _of_images(name, workspace) for name in names}
    known = sorted({one for some in sets.values() for one in some})
    if settings.on and settings.on not in known:
        raise UserError(f"No SAE was scored as {settings.on!r}: give one of {', '.join(known) or 'none yet'}.")
    for number, name in enumerate(names):
        reporter.check()
        reporter.progress(number, len(names), "SAEs")
        entry = read_entry(SAEEntry, workspace.sae(name))
        if entry is None or entry.error or entry.config is None:
            continue
        alone = sets[name][0] if len(sets[name]) == 1 else ""  # as of the hierarchy, whose are of other images
        scores = subject_of(name, alone or settings.on, workspace).scores if sets[name] else None
        ours = NeuronsEntry.read(scores) if scores else None
        asked = settings.on in ("", *sets[name]) or not sets[name]  # of one without scores there is an R2
        yield _Mine(entry, ours.summary if ours else None, asked, tuple(_twins(entry, ours, twins)))


def _of_images(sae: str, workspace: Workspace) -> list[str]:
    """The sets of whole images, as the paper's are, that it was scored on; not those of crops."""
    found = {image_set_of(path): read_entry(NeuronsEntry, path) for path in neurons_files(workspace, sae)}
    return sorted(name for name, one in found.items() if not (one and one.summary and one.summary.patches is not None))


def _twins(sae: SAEEntry, ours: NeuronsEntry | None, twins: Twins) -> Iterator[_Mine]:
    for one in twins.frozen(sae):
        theirs = twins.scored_alike(one.entry, ours) if ours else None
        yield _Mine(one.entry, theirs.summary if theirs else None)


def _table(table: PublishedTable, said: Published, mine: list[_Mine], own: _Own) -> PaperTable:
    rows, used = [], list[_Mine]()
    for row, values in table.rows.items():
        quantity, layer = (table.quantity, row) if table.quantity else (row, table.layer)
        cells = []
        for column, value in zip(table.columns, values, strict=True):
            fitting = _nearest([one for one in mine if _fits(one, table, layer, column, said, own)])
            found = [(one, v) for one in fitting if (v := _value(one, quantity, column)) is not None]
            used += [one for one, _ in found if one not in used]
            cells.append(cell(value, [(one.entry.path.name, v) for one, v in found]))
        rows.append((row, tuple(cells)))
    told = [table.quantity] if table.quantity else list(table.rows)
    notes = (*([table.remark] if table.remark else ()), *_notes(said, used, own, told))
    return PaperTable(table.title, table.across, tuple(map(str, table.columns)), tuple(rows), notes)


def _nearest(fitting: list[_Mine]) -> list[_Mine]:
    """Of several for a cell those that were scored on the images that were asked for, and of these those of CLS, as
    the published ones are: beside these, one to steer, of patches, or one of the hierarchy's images is none."""
    asked = [one for one in fitting if one.asked] or fitting
    return [one for one in asked if one.entry.config and one.entry.config.tokens in ("cls", "")] or asked


def _fits(one: _Mine, table: PublishedTable, layer: str, column: object, said: Published, own: _Own) -> bool:
    config = one.entry.config
    assert config is not None
    expansion = column if table.across == "expansion" else table.expansion
    k = int(str(column)) if table.across == "k" else said.k
    return (
        config.frozen == "none"
        and config.directions is None
        and config.hook == own.layers.get(layer, layer)
        and (not table.arch or (config.arch == table.arch and config.k == own.k.get(k, k)))
        and (expansion is None or math.isclose(one.expansion, float(str(expansion)), rel_tol=0.01))
        and (not table.taxonomy or (one.summary is not None and one.summary.hierarchy is not None))
    )


def _value(one: _Mine, quantity: str, column: object) -> Value | None:
    """What this SAE has of ``quantity``, beside the best of its twins; None where it was not measured or is not
    defined."""
    found = _measured(one, quantity, column)
    if found is None or quantity not in _EARNED:
        return found
    others = [value.value for twin in one.twins if (value := _measured(twin, quantity, column)) is not None]
    return replace(found, twin=max(others, default=None))


_EARNED = ("R2", "best MS", "mean MS", "mean MS of the group")  # more is better, and trained for or hoped for


def _measured(one: _Mine, quantity: str, column: object) -> Value | None:
    result, summary = one.entry.result, one.summary
    if quantity == "R2":
        if result is None or result.fve_batch is None:
            return None
        return Value(result.fve_batch, result.rows, "row", shared=True)
    if summary is None:
        return None
    ms, alike = summary.ms, summary.uniqueness
    groups = summary.hierarchy.groups if summary.hierarchy else ()
    place = int(str(column)) if quantity.startswith(("depth", "mean MS of the group")) else 0
    group = groups[place] if 0 <= place < len(groups) else None
    of_latents = partial(_known, n=ms.sae.latents, of="latent")
    of_pairs = partial(_known, n=alike.pairs, of="pair")
    found: dict[str, Value | None] = {
        "best MS": of_latents(ms.sae.best),
        "mean MS": of_latents(ms.sae.mean, control=ms.matched.mean, low=ms.sae.low, high=ms.sae.high),
        "mean MS of raw neurons": _known(
            ms.raw.mean,
            n=ms.raw.columns,
            of="neuron",
            control=ms.baseline,
            low=ms.raw.low,
            high=ms.raw.high,
            shared=True,
        ),
        "share of pairs that share a top image": of_pairs(_share(alike.above_zero, alike.pairs)),
        "share of pairs with a Jaccard index above .5": of_pairs(_share(alike.above_half, alike.pairs)),
    }
    if group is not None:
        of_group = partial(_known, of="latent")
        expected = summary.hierarchy.expected if summary.hierarchy else None
        found["depth, rounded"] = of_group(group.rounded, n=group.latents - group.left_out, control=expected)
        of = ms.groups[place] if place < len(ms.groups) else None
        found["mean MS of the group"] = (
            of_group(of.ms.mean, n=of.ms.n, control=of.matched.mean, low=of.ms.low, high=of.ms.high)
            if of is not None
            else of_group(group.ms, n=group.ms_latents)
        )
    return found.get(quantity)


def _known(value: float | None, **more: Any) -> Value | None:
    return None if value is None else Value(value, **more)


def _share(some: int, of: int) -> float | None:
    return some / of if of else None


_SAME_MODEL = ("clip-vit-large-patch14-336", "vit-l-14-336")


def _notes(said: Published, used: list[_Mine], own: _Own, quantities: Collection[str]) -> tuple[str, ...]:
    """What makes ours of ``quantities`` another thing than the published."""
    if not used:
        return ()
    notes = []
    summaries = [one.summary for one in used if one.summary is not None]
    models = {one.entry.config.model for one in used if one.entry.config}
    if other := sorted(model for model in models if not any(name in model.lower() for name in _SAME_MODEL)):
        notes.append(f"The model is {', '.join(other)}, not {said.model}.")
    if set(quantities) == {"R2"}:  # which no judge and no scored image has a part in
        summaries = []
    judged = summaries if any("MS" in one for one in quantities) else []
    if other := sorted({one.embed_with for one in judged if "dinov2" not in one.embed_with.lower()}):
        notes.append(f"The judge is {', '.join(other)}, not {said.judge}: MS of two judges are not comparable.")
    if sizes := sorted({one.images for one in summaries} - {said.images}):
        notes.append(f"The images are {', '.join(f'{n:,}' for n in sizes)}, not {said.images:,}.")
    ks = sorted({one.entry.config.k for one in used if one.entry.config})
    if ks != [said.k] and own.k:
        notes.append("K is " + ", ".join(f"{exact(ours)} for {exact(k)}" for k, ours in sorted(own.k.items())) + ".")
    layers = {row: hook for row, hook in own.layers.items() if row != "last" and hook != f"layer:{row}"}
    if layers:
        notes.append("Layers are " + ", ".join(f"{hook} for {row}" for row, hook in layers.items()) + ".")
    tokens = sorted({one.entry.config.tokens for one in used if one.entry.config} - {"cls", ""})
    if tokens:
        notes.append(f"The tokens are {', '.join(tokens)}, not CLS.")
    return tuple(notes)

"""SAEs of other tools into the workspace, and ours out."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.activations.convert import FORMATS as PARTS
from engine.activations.results import READS, Question
from engine.activations.store import Store
from engine.config import ExportSettings, ImportSettings, RecogniseSettings
from engine.errors import UserError
from engine.files import lock, nearest, new_folder, path_of, write_text
from engine.integrity import content_sha256
from engine.links import check_own
from engine.models.hookpoints import HookPoint, TokenPolicy
from engine.models.hub import check_is_notation, hub_sae
from engine.reporter import Reporter, StageBegan, Warned
from engine.sae.architectures import REGISTRY
from engine.sae.asked import check_there, check_vacant
from engine.sae.card import CARD, card, for_everybody
from engine.sae.config import CONFIG, WEIGHTS, SAEConfig, read_config, weights_sha256
from engine.sae.convert import FORMATS, Foreign, Format, Unsaid
from engine.sae.convert.format import OURS, hook_of
from engine.sae.fidelity import measure
from engine.sae.model import SAE
from engine.sae.results import CHECK_STAGE, READ_STAGE, Checked, Exported, Imported, Recognised
from engine.sae.state import read_training
from engine.workspace import Origin, Provenance, Source, Workspace, versions

DEPTH = 3
"""Folders below the given one in which SAEs are looked for, to name them."""
ROWS = 1 << 16
"""Of a store, that an SAE is checked on."""
ALIKE = 0.01
"""Difference in FVE between scales of which the more usual is meant."""
POOR = 0.2
"""FVE below which other scales of the inputs are tried."""
_EVERY = f"{', '.join(FORMATS)} (SAEs), {', '.join(PARTS)} (activations)"


def recognise_sae(settings: RecogniseSettings, workspace: Workspace, reporter: Reporter | None = None) -> Recognised:
    """What is in ``settings.source``, and what an import would still ask. Writes nothing, and fetches nothing.

    The UserErrors of :func:`import_sae`, but for what is not said and for the name.
    """
    (reporter or Reporter()).event(StageBegan(READ_STAGE))
    form, file = recognised(_local(settings.source, fetch=False), settings.format)
    free = shutil.disk_usage(nearest(workspace.root)).free
    try:
        foreign = form.read(file, settings)
    except Unsaid as error:
        return Recognised(format=form.NAME, file=str(file), questions=error.questions, free=free)
    _check_answers(foreign, settings)
    d, w = foreign.weights["W_enc"].shape
    return Recognised(
        format=form.NAME,
        file=str(file),
        arch=foreign.arch,
        d=d,
        w=w,
        k=foreign.k,
        model=foreign.model,
        hook=foreign.hook,
        tokens=foreign.tokens,
        questions=_questions(foreign, settings),
        bytes=sum(4 * one.numel() for one in foreign.weights.values()),
        free=free,
        notes=foreign.notes,
    )


def import_sae(settings: ImportSettings, workspace: Workspace, reporter: Reporter | None = None) -> Imported:
    """Write the SAE in ``settings.source`` into the workspace, as ours, under ``settings.name``.

    UserError where it is none, where several formats fit, for what it does not say and no setting says, and where the
    name is taken by another one.
    """
    reporter = reporter or Reporter()
    check_own(folder := workspace.sae(settings.name))
    form, file = recognised(_local(settings.source), settings.format)
    reporter.event(StageBegan(READ_STAGE))
    source = Source("file", file.name, str(file.absolute()), content_sha256(file))
    foreign = _answered(form.read(file, settings), settings, file)
    _check_answers(foreign, settings)
    check_is_notation(foreign.model)
    config = _config(foreign, settings, source, form)
    weights = scaled(foreign.weights, settings.scale) if settings.scale else foreign.weights
    sae = SAE.of(config, dict(weights))
    _check_free(folder, config)  # before a folder is made, and before what takes long
    store = _store_to_check(settings.check, config.d, workspace) if settings.check else None
    with lock(folder):
        made = _check_free(folder, config)
        checked = _check(sae, store, reporter) if store else None
        if made:
            sae.save(folder)
    return Imported(
        path=str(folder),
        format=form.NAME,
        arch=config.arch,
        d=config.d,
        w=config.w,
        k=config.k,
        model=config.model,
        hook=config.hook,
        tokens=config.tokens,
        notes=foreign.notes,
        checked=checked,
        made=made,
    )


def export_sae(
    settings: ExportSettings, workspace: Workspace, reporter: Reporter | None = None, scores: Sequence[str] = ()
) -> Exported:
    """Write an SAE of the workspace into the folder ``settings.out``. UserError where the format cannot hold it.

    ``scores``: lines of the card that a folder for the hub has, about MS and its control.
    """
    form = _format(settings.to or OURS)
    home = workspace.existing("saes", settings.sae)
    sae, training = SAE.load(home), read_training(home)
    if sae.config.arch not in form.HOLDS:
        holders = [one.NAME for one in FORMATS.values() if sae.config.arch in one.HOLDS]
        raise UserError(f"{form.NAME} has no {sae.config.arch} SAEs: give --to {' or --to '.join(holders)}.")
    out = path_of(settings.out)
    check_vacant(out)
    model = sae.config.model
    if settings.hub_folder or form.NAME == OURS:
        sae.config = for_everybody(sae.config)
    origin = sae.config.origin
    (reporter or Reporter()).writes(out)
    with new_folder(out) as folder:
        written = form.write(sae, origin.said if origin and origin.format == form.NAME else {}, folder)
        if model and not sae.config.model:
            written = replace(written, lost=(*written.lost, "where its model is on this machine: --model says it"))
        if settings.hub_folder:
            text = card(sae.config, form, written, training, scores, weights_sha256(home))
            write_text(folder / CARD, text)
            written = replace(written, files=(CARD, *written.files))
    return Exported(out=str(out), format=form.NAME, files=written.files, lost=written.lost)


def recognised(place: Path, format: str = "") -> tuple[Format, Path]:
    """The format of the SAE at ``place``, and its file of weights. UserError unless one alone fits."""
    if format:
        form = _format(format)
        found = form.find(place)
        if found is None:
            raise UserError(f"{place} is no SAE of {form.NAME}: check the path, or leave --format out.")
        return form, found
    fits = [(form, file) for form in FORMATS.values() if (file := form.find(place))]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise UserError(
            f"{place} looks like {' and '.join(form.NAME for form, _ in fits)}: say which it is by --format."
        )
    raise UserError(_nothing(place))


def scaled(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """For inputs ``scale`` times as large: biases and threshold grow with it, so latents and reconstruction do."""
    if not (math.isfinite(scale) and scale > 0):
        raise UserError(f"--scale is {scale}: give the factor by which its inputs were divided, above 0.")
    return {name: t if name in ("W_enc", "W_dec") else t * scale for name, t in weights.items()}


def _local(source: str, fetch: bool = True) -> Path:
    if source.startswith("hf:"):
        return hub_sae(source, fetch)
    place = path_of(source)
    check_there(place)
    return place


def _nothing(place: Path) -> str:
    """Why nothing is read at ``place``, and what is below it that could be."""
    if place.is_file():
        return f"{place} is no SAE, and no activations, that are read here: give one of {_EVERY}."
    if (place / CONFIG).is_file() and (place / WEIGHTS).is_file():
        return f"{place} can be used as it is: give it by its path, or copy the folder into saes/."
    below = sorted(_below(place, DEPTH))
    if below:
        shown = ", ".join(str(one.relative_to(place)) for one in below[:6]) + (" ..." if len(below) > 6 else "")
        return f"{place} is no SAE, and no activations, but holds some: give one of {shown}."
    return f"{place} holds no SAE, and no activations, that are read here: give one of {_EVERY}."


def _below(place: Path, depth: int) -> list[Path]:
    try:
        inside = sorted(one for one in place.iterdir() if one.is_dir() and not one.name.startswith("."))
    except OSError:
        return []
    found = [one for one in inside if _has_format(one)]
    deeper = [below for one in inside if one not in found and depth > 1 for below in _below(one, depth - 1)]
    return found + deeper


def _has_format(place: Path) -> bool:
    return any(form.find(place) for form in FORMATS.values()) or any(
        (files := form.find(place)) and form.holds(files) for form in PARTS.values()
    )


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise UserError(f"{name!r} is no format: give one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def _answered(foreign: Foreign, settings: ImportSettings, file: Path) -> Foreign:
    """With what the settings say of model, hook point and tokens. UserError, with what is likely, where nobody does."""
    questions = _questions(foreign, settings)
    asked = ", ".join(one.words for one in questions)
    if foreign.hook and any(one.setting == "hook" for one in questions):
        raise UserError(
            f"{file} reads {foreign.hook} of {foreign.model or 'a model that it does not name'}, which is no hook "
            f"point of a vision encoder as --hook takes them: if it reads one, give {asked}; SAEs of language models "
            "are not read."
        )
    if questions:
        raise UserError(f"{file} does not say what it reads: give {asked}.")
    return replace(foreign, **{name: getattr(settings, name) or getattr(foreign, name) for name in READS})


def _check_answers(foreign: Foreign, settings: RecogniseSettings) -> None:
    """UserError for an answer to what the files say otherwise."""
    cut = foreign.weights.get("threshold")
    said = {"arch": foreign.arch, "k": foreign.k, "threshold": float(cut[0]) if cut is not None else None}
    answers = {"arch": settings.arch, "k": settings.k, "threshold": _like(said["threshold"], settings.threshold)}
    for name, unasked in (("arch", "auto"), ("k", 0), ("threshold", -1.0)):
        answer, known = answers[name], said[name]
        if answer not in (unasked, known):
            found = f"its files say {known}" if known else f"its files have no {name}"
            raise UserError(f"--{name} is {answer}, and {found}: leave --{name} out.")


def _like(known: Any, given: float) -> Any:
    """``known`` where ``given`` is it as float32 holds it, else ``given``."""
    return known if known is not None and math.isclose(known, given, rel_tol=1e-6) else given


def _questions(foreign: Foreign, settings: RecogniseSettings) -> tuple[Question, ...]:
    """What the settings have yet to say. UserError for an answer that makes no sense."""
    asked = [_question(name, foreign, settings) for name in READS]
    if foreign.scaled and not settings.scale:
        asked.append(Question("scale", why=foreign.scaled))
    return tuple(one for one in asked if one)


def _question(name: str, foreign: Foreign, settings: RecogniseSettings) -> Question | None:
    """Whether it has to be asked what the SAE reads: where neither is said, and where what its files say is no answer,
    as the hook point of another tool is none, nor is then the model that it is in."""
    if answer := getattr(settings, name):
        _READ[name](answer)
        return None
    said = getattr(foreign, name)
    if not said:
        likely = foreign.likely.get(name)
        return Question(name, likely.value, likely.why) if likely else Question(name)
    if _is_read(name, said) and (name != "model" or not foreign.hook or _is_read("hook", foreign.hook)):
        return None
    return Question(name, hook_of(said) if name == "hook" else "", f"its files say {said}")


_READ: dict[str, Callable[[str], object]] = {"model": str, "hook": HookPoint.parse, "tokens": TokenPolicy.parse}


def _is_read(name: str, said: str) -> bool:
    try:
        _READ[name](said)
    except UserError:
        return False
    return True


def _config(foreign: Foreign, settings: ImportSettings, source: Source, form: Format) -> SAEConfig:
    d, w = foreign.weights["W_enc"].shape
    if ("threshold" in foreign.weights) != REGISTRY[foreign.arch].has_threshold:
        raise UserError(f"{source.path} has no threshold, which {foreign.arch} needs: copy it again.")
    return SAEConfig(
        arch=foreign.arch,
        d=d,
        w=w,
        k=foreign.k,
        groups=foreign.groups,
        scale=(settings.scale or 1.0) * foreign.scale,
        model=foreign.model,
        model_sha256=None if settings.model else foreign.model_sha256,
        transparency=foreign.transparency,
        hook=foreign.hook,
        tokens=foreign.tokens,
        provenance=Provenance((source,), versions()),
        origin=Origin(form.NAME, foreign.said, foreign.notes),
    )


def _check_free(folder: Path, config: SAEConfig) -> bool:
    """Whether it is to be written: not where it is there already, whole. UserError where another one is."""
    if not (folder / CONFIG).is_file():
        return True
    there = read_config(folder)
    if there.origin != config.origin or there.provenance.made_from != config.provenance.made_from:
        raise UserError(f"{folder} is another SAE: give another --name, or remove it.")
    try:
        weights_sha256(folder)
    except UserError:  # damaged: what made it mends it
        return True
    return False


def _store_to_check(given: str, d: int, workspace: Workspace) -> Store:
    store = Store.open(workspace.existing("activations", given))
    if store.d != d:
        raise UserError(f"{store.path} is {store.d:,} wide, and the SAE reads {d:,}: give --check another store.")
    return store


def _check(sae: SAE, store: Store, reporter: Reporter) -> Checked:
    reporter.event(StageBegan(CHECK_STAGE))
    x = torch.from_numpy(store.read(0, min(store.rows, ROWS))).float()
    found = _measured(sae, x)
    checked = Checked(store=str(store.path), rows=len(x), **found)
    if not len(x) or (checked.fve is not None and checked.fve >= POOR):
        return checked
    tried = {scale: _measured(_scaled(sae, scale), x)["fve"] or -math.inf for scale in _scales(x)}
    best = next(scale for scale, fve in tried.items() if fve >= max(tried.values()) - ALIKE)  # the most usual
    fve = tried[best]
    if fve < POOR:
        reporter.event(
            Warned("It reconstructs these activations poorly, at every usual scale: are they what it reads?")
        )
        return checked
    reporter.event(
        Warned(f"It fits these activations if they are divided by {best:.6g} (FVE {fve:.3f}): give --scale {best:.6g}.")
    )
    return replace(checked, scale=best, fve_scaled=fve)


def _measured(sae: SAE, x: Tensor) -> dict[str, float | None]:
    found = measure(sae, x.split(max(1, (1 << 24) // sae.config.w)))
    values = {"fve": found.fve, "l0": found.l0, "dead": found.dead}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _scaled(sae: SAE, scale: float) -> SAE:
    return SAE.of(sae.config, scaled({name: one.data for name, one in sae.named_parameters()}, scale))


def _scales(x: Tensor) -> tuple[float, ...]:
    """By which tools divide: the root mean squared norm (dictionary_learning), or that over sqrt(d) (SAELens)."""
    norm = float(x.double().pow(2).sum(1).mean().sqrt())
    mean = float(x.double().norm(dim=1).mean())
    root = math.sqrt(x.shape[1])
    return tuple(one for one in (norm, norm / root, mean, mean / root, root) if one > 0)

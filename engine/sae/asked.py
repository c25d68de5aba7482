"""What is asked of a training, an SAE's codes, an import or an export, checked before anything is loaded. No torch."""

import dataclasses
import math
import os
from pathlib import Path

from engine.activations.asked import Made, globbed, opened
from engine.activations.convert import FORMATS as PARTS
from engine.activations.manifest import FILE as MANIFEST
from engine.activations.store import KINDS, Store
from engine.config import (
    EncodeSettings,
    ExportSettings,
    ImportSettings,
    RecogniseSettings,
    TrainSettings,
    about,
    check,
)
from engine.errors import UserError, counted
from engine.files import check_target, is_vacant, path_of
from engine.images.sources import check_images
from engine.links import check_own
from engine.models import HookPoint, TokenPolicy
from engine.models.asked import check_device, may_have_gpu
from engine.models.hub import check_is_notation
from engine.numbers import size
from engine.room import free_memory
from engine.sae.config import CONFIG, WEIGHTS, fitting, latents, prefixes, read_config, steps_for
from engine.sae.state import Checkpointed, Finished, Identity, differences, identity, read_state, read_training
from engine.workspace import Workspace

LEAST_BATCH = 256  # tokens: with fewer, steps say little; where they do not fit, the dictionary is too large
TOPK = ("topk", "batchtopk", "matryoshka-batchtopk")
"""Architectures that keep the k largest latents."""
FORMATS = ("dictionary_learning", "overcomplete", "saelens", "saetui", "saev", "sparsify")
"""Of SAEs: engine.sae.convert.FORMATS, which needs torch."""


def check_train(settings: TrainSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    check(settings)
    with about("device"):
        check_device(settings.device)
    with about("name"):
        check_own(folder := workspace.sae(settings.name))
    with about("warmup"):
        _check_warmup(settings)
    with about("embeddings"):
        judged = opened("embeddings", settings.embeddings, workspace, made) if settings.embeddings else None
    with about("activations"):
        store = opened("activations", settings.activations, workspace, made)
    if store is None:
        return
    with about("embeddings"):
        if judged is not None:
            check_seen(judged, settings.embeddings, store)
    with about("expansion"):
        w = latents(store.d, settings.expansion)
        if not may_have_gpu() or settings.device == "cpu":
            check_memory(settings, store.d, free_memory())
    with about("k"):
        if settings.arch in TOPK:
            fitting(settings.k, w)
    with about("groups"):
        if settings.arch == "matryoshka-batchtopk":
            prefixes(settings.groups, w)
    with about("name"):
        _check_free(with_steps(settings, store, folder), store, folder)


def _check_warmup(settings: TrainSettings) -> None:
    """The default is for long trainings, and less in short ones; another one was meant as it is."""
    unasked = next(one.default for one in dataclasses.fields(TrainSettings) if one.name == "warmup")
    if settings.steps and settings.warmup > settings.steps and settings.warmup != unasked:
        raise UserError(f"warmup is {settings.warmup}: give at most the {counted(settings.steps, 'step')} of --steps.")


def check_seen(judged: Store, given: str, store: Store) -> None:
    """UserError where the judge saw something else through transparent images than the encoder."""
    seen, shown = judged.manifest.transparency, store.manifest.transparency
    if seen != shown:
        raise UserError(
            f"The embeddings {given!r} are of images with transparency {seen}, {store.path.name} is of "
            f"the same with transparency {shown}: make them with saetui extract --transparency {shown}."
        )


def least_memory(settings: TrainSettings, d: int) -> int:
    """Bytes that a training holds at least.

    Both matrices have d x w weights, gradients and Adam's two moments in float32; a batch has w preactivations a token.
    """
    w = latents(d, settings.expansion)
    return 2 * d * w * 4 * 4 + settings.batch_size * 4 * w


def check_memory(settings: TrainSettings, d: int, free: int | None) -> None:
    """UserError where ``free`` bytes are too few for what a training holds at least, with the setting that fits."""
    w, least = latents(d, settings.expansion), least_memory(settings, d)
    if free is None or least <= free:
        return
    a_token = 4 * w
    fixed = least - settings.batch_size * a_token
    batch = (free - fixed) // a_token
    fitting = math.floor(100 * free / (d * (32 * d + 4 * LEAST_BATCH))) / 100
    if batch >= LEAST_BATCH:
        way = f"give --batch-size {2 ** int(math.log2(batch))} or less"
    elif fitting * d >= 1:
        way = f"give --expansion {fitting:g} or less, and --batch-size {LEAST_BATCH}"
    else:
        way = "end what else uses it"
    takes = f"{size(least)} at least, and {size(free)} are free"
    raise UserError(
        f"{counted(w, 'latent')} trained on {counted(settings.batch_size, 'token')} a step take {takes}: {way}."
    )


def with_steps(settings: TrainSettings, store: Store, folder: Path) -> TrainSettings:
    """Where no steps are given: those of the training that began in ``folder``, else as many as the rows are worth."""
    if settings.steps:
        return settings
    begun = read_training(folder) or read_state(folder)
    steps = begun.identity["steps"] if begun else steps_for(store.rows, settings.batch_size)
    return dataclasses.replace(settings, steps=steps)


def _check_free(settings: TrainSettings, store: Store, folder: Path) -> None:
    """UserError where another SAE has the name."""
    finished, state, now = read_training(folder), read_state(folder), identity(settings, store.sha256)
    for found in (finished, state):
        check_same(folder, found, now)
    if finished is None or finished.result.steps != settings.steps:
        check_continues(folder, finished, state, settings.steps)


def check_same(folder: Path, found: Finished | Checkpointed | None, now: Identity) -> None:
    """UserError where what was ``found`` in the folder of an SAE was trained with other settings."""
    if found and (differing := differences(found.identity, now)):
        said = ", ".join(differing[:3])
        raise UserError(f"The SAE {folder.name} was trained with {said}: choose another --name.")


def check_continues(folder: Path, finished: Finished | None, state: Checkpointed | None, steps: int) -> None:
    """UserError where a training of ``steps`` cannot go on from what is in ``folder``."""
    if state is None and (folder / WEIGHTS).is_file() and not finished:
        raise UserError(f"{folder} holds an SAE that was not trained here: choose another --name.")
    done = max(finished.result.steps if finished else 0, state.step if state else 0)
    if done > steps:
        raise UserError(
            f"The SAE {folder.name} has {counted(done, 'step')} already: choose another --name for {steps:,}."
        )
    if finished and (state is None or state.step < done):
        raise UserError(
            f"The SAE {folder.name} was trained for {counted(done, 'step')}, and the state from which it could go on "
            f"is not there (as with --drop-state): choose another --name to train {steps:,} from the start."
        )


def check_encode(settings: EncodeSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    check(settings)
    with about("device"):
        check_device(settings.device)
    with about("out"):
        check_npz(settings.out)
        check_target(path_of(settings.out))
    with about("sae"):
        config = read_config(workspace.existing("saes", settings.sae))
    with about("activations"):
        if not path_of(settings.activations).is_file():
            store = Store.open(workspace.existing("activations", settings.activations))
            check_width(store.path, store.d, settings.sae, config.d)


def check_npz(out: str) -> None:
    if path_of(out).suffix != ".npz":
        raise UserError(f"--out {out} does not end in .npz: latents are written as a scipy sparse matrix.")


def check_width(source: Path, d: int, sae: str, reads: int) -> None:
    if d != reads:
        raise UserError(
            f"{source} is {d} wide, the SAE {sae} reads activations {reads} wide: "
            "give activations of the model and hook point that it was trained on."
        )


def check_recognise(settings: RecogniseSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be, as far as the files are not needed."""
    check(settings)
    with about("format"):
        check_format(settings.format)
    with about("hook"):
        if settings.hook:
            HookPoint.parse(settings.hook)
    with about("tokens"):
        if settings.tokens:
            TokenPolicy.parse(settings.tokens)
    with about("model"):
        if settings.model:
            check_is_notation(settings.model)
    with about("images"):
        if settings.images:
            check_images(settings.images)
    with about("source"):
        _check_source(settings.source)


def check_import(settings: ImportSettings, workspace: Workspace, made: Made = ()) -> None:
    """The same; and of the name, and the store to measure an SAE on."""
    with about("name"):
        check_own(workspace.sae(settings.name))
        check_own(workspace.activations(settings.name))
    with about("check"):
        if settings.check:
            opened("activations", settings.check, workspace, made)
    check_recognise(settings, workspace, made)


def _check_source(source: str) -> None:
    if source.startswith("hf:"):
        if not source.removeprefix("hf:").partition("@")[0].strip("/").partition("/")[2]:
            raise UserError(f"{source} is no repository name: write hf:ORG/NAME[/FOLDER].")
        return
    _, found = globbed(source)
    if not found:
        check_there(path_of(source))


def check_there(place: Path) -> None:
    if not place.exists():
        raise UserError(f"{place} does not exist: give the folder or file of an SAE, or hf:REPO[/FOLDER].")


def check_format(name: str) -> None:
    if name and name not in (*FORMATS, *PARTS):
        raise UserError(f"{name!r} is no format: give one of {', '.join(dict.fromkeys((*FORMATS, *PARTS)))}.")


def check_export(settings: ExportSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    with about("to"):
        check_format(settings.to)
    with about("out"):
        check_outside(path_of(settings.out), workspace)
        check_vacant(path_of(settings.out))
    with about("sae"):
        store = exported_store(settings, workspace)
        if store is None:
            read_config(workspace.existing("saes", settings.sae))
    with about("hub_folder"):
        check_hub_folder(settings, store)


def check_hub_folder(settings: ExportSettings, store: Path | None) -> None:
    if store is not None and settings.hub_folder:
        raise UserError(f"{store} is an activation store, and --hub-folder is of SAEs: leave it out.")


def check_vacant(out: Path) -> None:
    if not is_vacant(out):
        raise UserError(f"{out} is there already: give --out a folder that is new or empty.")


def check_outside(out: Path, workspace: Workspace) -> None:
    """UserError for a folder among artefacts: what lies there is taken for one, or for a part of one."""
    place = out.resolve()
    if any(place.is_relative_to((workspace.root / kind).resolve()) for kind in (*KINDS, "saes", "neurons", "runs")):
        raise UserError(f"{out} is among the artefacts of the workspace: give --out a folder elsewhere.")


def exported_store(settings: ExportSettings, workspace: Workspace) -> Path | None:
    """The store that is meant; None where an SAE is, or nothing."""
    found = [one for kind in KINDS for one in _named(kind, settings.sae, workspace) if (one / MANIFEST).is_file()]
    saes = [one for one in _named("saes", settings.sae, workspace) if (one / CONFIG).is_file()]
    if settings.to and settings.to not in FORMATS:
        return found[0] if found else workspace.existing(KINDS[0], settings.sae)
    if not found or (settings.to and settings.to not in PARTS) or (saes and not settings.to):
        return None
    if saes:
        raise UserError(
            f"{settings.sae} is a store and an SAE, and {settings.to} holds both: give {found[0]} or {saes[0]}."
        )
    return found[0]


def _named(kind: str, name: str, workspace: Workspace) -> list[Path]:
    return [path_of(name)] if os.sep in name else [workspace.root / kind / name]

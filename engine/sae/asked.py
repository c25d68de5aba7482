"""What is asked of a training, an SAE's codes, an import or an export, checked before anything is loaded. No torch."""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path

from engine.activations.asked import Made, globbed, opened
from engine.activations.convert import FORMATS as PARTS
from engine.activations.manifest import FILE as MANIFEST
from engine.activations.store import KINDS, Store
from engine.config import (
    BaselineSettings,
    EncodeSettings,
    ExportSettings,
    ImportSettings,
    RecogniseSettings,
    StabilitySettings,
    TrainSettings,
)
from engine.errors import UserError, counted
from engine.files import check_target, is_vacant, path_of
from engine.images.sources import check_images
from engine.kinds import ARTEFACTS
from engine.links import check_own
from engine.models import HookPoint, TokenPolicy, same_model
from engine.models.asked import check_device, may_have_gpu
from engine.models.hub import check_is_notation
from engine.numbers import size
from engine.room import free_memory
from engine.sae.config import (
    CONFIG,
    WEIGHTS,
    SAEConfig,
    fitting,
    latents,
    points_of,
    prefixes,
    read_config,
    steps_for,
)
from engine.sae.state import Checkpointed, Finished, Identity, differences, identity, read_state, read_training
from engine.settings import WrongValue, about, check
from engine.workspace import Workspace, stability_path

LEAST_BATCH = 256  # tokens: with fewer, steps say little; where they do not fit, the dictionary is too large
TOPK = ("topk", "batchtopk", "matryoshka-batchtopk", "archetypal")
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
        _check_warmup(settings, settings.steps)
    with about("frozen"):
        check_frozen(settings)
    with about("embeddings"):
        judged = opened("embeddings", settings.embeddings, workspace, made) if settings.embeddings else None
    with about("mono_embeddings" if settings.mono_embeddings else "mono"):
        check_mono(settings)
    with about("mono_embeddings"):
        mono = opened("embeddings", settings.mono_embeddings, workspace, made) if settings.mono else None
    with about("activations"):
        store = opened("activations", settings.activations, workspace, made)
    if store is None:
        return
    with about("warmup"):
        _check_warmup(settings, with_steps(settings, store.rows, folder).steps)
    for name, judge in (("embeddings", judged), ("mono_embeddings", mono)):
        with about(name):
            if judge is not None:
                check_seen(judge, getattr(settings, name), store)
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
        if mono is not None or not settings.mono:
            _check_free(with_steps(settings, store.rows, folder), store, mono, folder)


def _check_warmup(settings: TrainSettings, steps: int) -> None:
    """The default is for long trainings, and less in short ones; another one was meant as it is."""
    unasked = next(one.default for one in dataclasses.fields(TrainSettings) if one.name == "warmup")
    if steps and settings.warmup > steps and settings.warmup != unasked:
        raise UserError(f"warmup is {settings.warmup}: give at most the {counted(steps, 'step')} of this training.")


def check_frozen(settings: TrainSettings) -> None:
    if settings.frozen != "none" and settings.arch == "archetypal":
        raise UserError("An archetypal SAE begins at data points, not at random: give no --frozen, or another --arch.")


def check_mono(settings: TrainSettings) -> None:
    if bool(settings.mono) != bool(settings.mono_embeddings):
        raise UserError("--mono is a weight, and --mono-embeddings what it sees: give both, or neither.")


def check_seen(judged: Store, given: str, store: Store) -> None:
    """UserError where the judge saw something else through transparent images than the encoder."""
    seen, shown = judged.manifest.transparency, store.manifest.transparency
    if seen != shown:
        raise UserError(
            f"The embeddings {given!r} are of images with transparency {seen}, {store.path.name} is of "
            f"the same with transparency {shown}: make them with saetui extract --transparency {shown}."
        )


def a_latent_takes(settings: TrainSettings, d: int) -> int:
    """Bytes that a latent takes in a training: weights, gradients and Adam's two moments in float32, of both matrices.

    A frozen one has its weights alone, a soft-frozen one its start as well. An archetypal decoder has no moments; what
    it is made of, d + points values a latent, has.
    """
    if settings.arch == "archetypal":
        return 4 * (10 * d + 4 * points_of(settings.points, latents(d, settings.expansion)))
    matrices = 8 + {"none": 0, "decoder": -3, "encoder": -3, "soft-decoder": 1}[settings.frozen]
    return 4 * matrices * d


def least_memory(settings: TrainSettings, d: int) -> int:
    """Bytes that a training holds at least; a batch has w preactivations a token."""
    w = latents(d, settings.expansion)
    return (a_latent_takes(settings, d) + settings.batch_size * 4) * w


def check_memory(settings: TrainSettings, d: int, free: int | None) -> None:
    """WrongValue where ``free`` bytes are too few for what a training holds at least, with the setting that fits."""
    w, least, a_latent = latents(d, settings.expansion), least_memory(settings, d), a_latent_takes(settings, d)
    if free is None or least <= free:
        return
    fixed, a_token = a_latent * w, 4 * w
    batch = (free - fixed) // a_token
    fitting = math.floor(100 * free / (d * (a_latent + 4 * LEAST_BATCH))) / 100
    at_fault = "expansion"
    if batch >= LEAST_BATCH:
        at_fault, way = "batch_size", f"give --batch-size {2 ** int(math.log2(batch))} or less"
    elif fitting * d >= 1:
        way = f"give --expansion {fitting:g} or less, and --batch-size {LEAST_BATCH}"
    else:
        way = "end what else uses it"
    takes = f"{size(least)} at least, and {size(free)} are free"
    raise WrongValue(
        at_fault,
        f"{counted(w, 'latent')} trained on {counted(settings.batch_size, 'token')} a step take {takes}: {way}.",
    )


def with_steps(settings: TrainSettings, rows: int, folder: Path) -> TrainSettings:
    """Where no steps are given: those of the training that began in ``folder``, else as many as ``rows`` are worth."""
    if settings.steps:
        return settings
    begun = read_training(folder) or read_state(folder)
    steps = begun.identity["steps"] if begun else steps_for(rows, settings.batch_size)
    return dataclasses.replace(settings, steps=steps)


def _check_free(settings: TrainSettings, store: Store, mono: Store | None, folder: Path) -> None:
    """UserError where another SAE has the name."""
    finished, state = read_training(folder), read_state(folder)
    now = identity(settings, store.sha256, mono.sha256 if mono else "")
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


def check_baseline(settings: BaselineSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    check(settings)
    with about("device"):
        check_device(settings.device)
    with about("name"):
        check_own(folder := workspace.sae(settings.name))
    with about("activations"):
        store = opened("activations", settings.activations, workspace, made)
    if store is not None:
        with about("expansion"):
            w = latents_of(settings, store.d)
        with about("k"):
            fitting(settings.k, w)
    with about("name"):
        check_baseline_free(folder)


def latents_of(settings: BaselineSettings, d: int) -> int:
    """Number of latents of a baseline."""
    w = latents(d, settings.expansion or (2 if settings.of == "pca" else 8))
    if settings.of == "pca" and w > 2 * d:
        raise UserError(
            f"--expansion {settings.expansion:g} is more than pca has, {counted(d, 'component')} and their negatives: "
            "give 2 or less."
        )
    return w


def check_baseline_free(
    folder: Path, config: SAEConfig | None = None, settings: BaselineSettings | None = None
) -> None:
    """UserError where another SAE has the name than a baseline, and the one that both describe. One of an older version
    may be of any seed."""
    if read_training(folder) or read_state(folder):
        raise UserError(f"{folder.name} was trained: choose another --name.")
    if not (folder / CONFIG).is_file():
        return
    found = read_config(folder)
    same = config is None or _of_activations(found) == _of_activations(config)
    if found.measured and settings:
        same = same and (found.measured.seed, found.measured.holdout) == (settings.seed, settings.holdout)
    if not found.directions or not same:
        raise UserError(f"{folder} is another SAE: choose another --name.")


def _of_activations(config: SAEConfig) -> tuple[object, ...]:
    made_from = tuple(one.sha256 for one in config.provenance.made_from)
    return config.directions, config.arch, config.w, config.k, made_from


def check_stability(settings: StabilitySettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    check(settings)
    with about("device"):
        check_device(settings.device)
    with about("saes"):
        there = [workspace.existing("saes", one) for one in settings.saes if ("saes", one) not in made]
        check_several(settings.saes if made else there)
        check_alike(there)
    with about("name"):
        check_own(stability_path(settings, workspace))
    with about("alive_on"):
        store = opened("activations", settings.alive_on, workspace, made) if settings.alive_on else None
        if store is not None and there:
            check_width(store.path, store.d, there[0].name, read_config(there[0]).d)


def check_several(saes: Sequence[str | Path]) -> None:
    """UserError unless there are two or more, none of them twice."""
    if len(set(saes)) < max(2, len(saes)):
        raise UserError("Two or more SAEs are compared, each given once: give their names.")


def check_alike(folders: Sequence[Path]) -> None:
    """UserError unless these SAEs are of the same activations, as far as they say."""
    if not folders:
        return
    first = read_config(folders[0])
    for folder in folders[1:]:
        other = read_config(folder)
        if other.d != first.d:
            raise UserError(
                f"{folders[0].name} reads activations {first.d} wide, {folder.name} {other.d} wide: give SAEs of the "
                "same activations."
            )
        models = first.model_sha256, other.model_sha256
        if (first.hook and other.hook and first.hook != other.hook) or (all(models) and not same_model(*models)):
            raise UserError(
                f"{folders[0].name} reads {first.hook} of {first.model}, {folder.name} {other.hook} of {other.model}: "
                "give SAEs of the same activations."
            )


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
        if settings.images and ("images", settings.images) not in made:
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
    if any(place.is_relative_to((workspace.root / kind.folder).resolve()) for kind in ARTEFACTS):
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

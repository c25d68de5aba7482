"""How far a training is, as its checkpoint or its training.json says. Costs no torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from engine.config import TrainSettings
from engine.errors import UserError, reason, refusal
from engine.files import check_version, open_tensors, read_json, unsealed, value_sha256, write_json
from engine.places import located, recorded, workspace_of
from engine.records import from_json, parse_json, seldom, to_json
from engine.sae.config import CHECKPOINTS, CONFIG, TRAINING, WEIGHTS, named_weights, no_weights
from engine.sae.results import FinalMeasurement, MeasuredStep

if TYPE_CHECKING:
    import numpy as np

CHECKPOINT_VERSION = 1
FORMAT = "saetui-training"
TRAINING_VERSION = 1
UNIDENTIFIED = ("device", "eval_every", "checkpoint_every", "embeddings", "activations", "name", "keep_state")
"""Settings that do not change the weights: a training may continue under others. The store is compared by content."""

Identity = Mapping[str, Any]
"""The settings that the weights depend on, as JSON values; ``activations`` is the content hash of the store."""


@dataclass(frozen=True)
class Span:
    """A part of a training that was continued: until ``step``, its schedule was that of ``of`` steps in all."""

    step: int
    of: int
    sha256: str | None = None
    """Of the SAE as it was then; None where there was none yet."""


@dataclass(frozen=True, kw_only=True)
class Checkpointed:
    """What a checkpoint says of itself beside its tensors."""

    version: int = CHECKPOINT_VERSION
    identity: Identity
    step: int
    """Steps done."""
    scale: float
    history: tuple[MeasuredStep, ...]
    threads: int
    """Threads of torch on a CPU: with another number the last bits differ."""
    spans: tuple[Span, ...] = seldom(())
    """Before this one, when it was continued to more steps."""
    tensors_sha256: str | None = seldom()
    """Of the tensors beside it (:func:`tensors_sha256`); None in checkpoints of older versions."""


@dataclass(frozen=True)
class Split:
    """How many are trained on and how many are held out."""

    train: int
    held_out: int


@dataclass(frozen=True, kw_only=True)
class Finished:
    """training.json: a training that came to its end."""

    format: str = FORMAT
    version: int = TRAINING_VERSION
    identity: Identity
    settings: TrainSettings
    schedule: Mapping[str, float]
    """What followed from the settings: see engine.sae.schedule.Schedule."""
    rows: Split
    images: Split
    history: tuple[MeasuredStep, ...]
    result: FinalMeasurement
    spans: tuple[Span, ...] = seldom(())
    """As in Checkpointed."""
    sae_sha256: str | None = seldom()
    """Of the weights that it ended with; None where an older version wrote it."""


def identity(settings: TrainSettings, activations: str, mono_embeddings: str = "") -> Identity:
    """What tells a training from others; ``activations``: content hash of the store, ``mono_embeddings`` that of the
    one that MonoLoss sees, if it has a weight."""
    known = {key: value for key, value in to_json(settings).items() if key not in UNIDENTIFIED}
    return known | {"activations": activations, "mono_embeddings": mono_embeddings}


def settings_of(name: str, identity: Identity) -> TrainSettings:
    """The settings that an identity knows; stores are empty, a hash tells no name."""
    known = {**identity, "name": name, "activations": "", "mono_embeddings": ""}
    settings: TrainSettings = from_json(TrainSettings, known, name)
    return settings


def trained_alike(finished: Finished) -> str:
    """What tells a training from others but for what it left frozen (TrainSettings.frozen), as a hash: its twins have
    the same. The store is told by its content, and what depends on the number of steps by what came of it."""
    known = finished.identity
    if any(one.name not in known for one in fields(TrainSettings) if one.name not in UNIDENTIFIED):
        known = _with_defaults(known)
    told = {key: value for key, value in known.items() if key != "frozen" and key not in finished.schedule}
    spans = [(one.step, one.of) for one in finished.spans]
    return value_sha256([told, dict(finished.schedule), spans])


def checkpoint_path(folder: Path) -> Path:
    """Where the newest checkpoint of the SAE in ``folder`` is. Older ones are not kept: each is three times an SAE."""
    return folder / CHECKPOINTS / "newest.safetensors"


def read_state(folder: Path) -> Checkpointed | None:
    """What the checkpoint in ``folder`` says; None if there is no checkpoint, UserError if it is damaged."""
    path = checkpoint_path(folder)
    if not path.is_file():
        return None
    try:
        with open_tensors(path, "np") as file:
            value = unsealed(parse_json(file.metadata()["note"]), f"The checkpoint {path}", _FROM_START)
        found_version = value.get("version")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(path, error) from error
    check_version(found_version, CHECKPOINT_VERSION, path)
    state: Checkpointed = from_json(Checkpointed, value, f"The checkpoint {path}")
    return state


def unreadable(path: Path, error: Exception) -> UserError:
    return refusal(error, path) or UserError(f"The checkpoint {path} is damaged ({reason(error)}): {_FROM_START}.")


_FROM_START = "remove it to train from the start"


def check_tensors(folder: Path, state: Checkpointed, tensors: "Mapping[str, np.ndarray]") -> None:
    """UserError unless ``tensors`` are those that the checkpoint in ``folder`` was written with."""
    if state.tensors_sha256 not in (None, tensors_sha256(tensors)):
        path = checkpoint_path(folder)
        raise UserError(f"The checkpoint {path} is damaged (a bit of it has changed): {_FROM_START}.")


def verify_checkpoint(folder: Path) -> None:
    """UserError unless the checkpoint in ``folder``, if there is one, is as it was written."""
    state, path = read_state(folder), checkpoint_path(folder)
    if state is None:
        return
    try:
        with open_tensors(path, "np") as file:
            check_tensors(folder, state, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise unreadable(path, error) from error


def tensors_sha256(tensors: "Mapping[str, np.ndarray]") -> str:
    """Of names, types, shapes and bytes, in order of the names."""
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        whole.update(json.dumps([name, str(tensor.dtype), tensor.shape]).encode())
        whole.update(tensor.data if tensor.flags.c_contiguous else tensor.tobytes())
    return whole.hexdigest()


def read_training(folder: Path) -> Finished | None:
    """training.json in ``folder``; None if there is none, UserError if it is damaged or of a newer version."""
    path = folder / TRAINING
    if not path.is_file():
        return None
    again = f"remove it and give the command that trains {folder.name} again, which mends it"
    value = read_json(path, again if checkpoint_path(folder).is_file() else "train again under another --name")
    check_version(value.get("version") if isinstance(value, dict) else None, TRAINING_VERSION, path)
    finished: Finished = from_json(Finished, value, str(path))
    return located(finished, workspace_of(folder))


def write_training(folder: Path, finished: Finished) -> None:
    write_json(folder / TRAINING, to_json(recorded(finished, workspace_of(folder))))


def check_together(folder: Path, finished: Finished | None) -> None:
    """UserError unless ``finished`` belongs to the SAE in ``folder``, all of which is there. Reads no weights."""
    named = named_weights(folder)
    if not (folder / WEIGHTS).is_file():
        raise no_weights(folder)
    if finished and finished.sae_sha256 and named and finished.sae_sha256 != named:
        raise UserError(
            f"{folder / TRAINING} is of another SAE than {CONFIG} beside it: give the command that trains "
            f"{folder.name} again, which mends it, or copy the whole folder again."
        )


def differences(before: Identity, now: Identity) -> list[str]:
    """The settings in which two identities differ, in words. More steps are no other training: it continues."""
    known = _with_defaults(before)
    return [_difference(key, known[key], now[key]) for key in now if known[key] != now[key] and key != "steps"]


def _with_defaults(known: Identity) -> Identity:
    """With today's defaults for settings that it lacks, as an older version wrote it."""
    return identity(settings_of("", known), known["activations"], known.get("mono_embeddings", ""))


def _difference(key: str, before: Any, now: Any) -> str:
    match key:
        case "activations":
            return "other activations"
        case "mono_embeddings":
            return "other embeddings for --mono"
    return f"{key} {before} instead of {now}"

"""What a saved SAE says about itself, and the sizes that follow from the settings. Costs no torch.

An SAE is a folder: ``sae.safetensors`` (weights in raw-activation units), ``config.json`` (this), ``training.json``
(settings, history and result of its training) and, while it trains, ``checkpoints/``.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config import ArchitectureName, Directions, Frozen, Transparency
from engine.errors import UserError, counted, refusal
from engine.files import check_version, read_json, write_json
from engine.integrity import content_sha256
from engine.places import located, recorded, workspace_of
from engine.records import from_json, seldom, to_json
from engine.sae.results import HeldOutMeasurement
from engine.settings import place
from engine.workspace import Origin, Provenance

FORMAT = "saetui-sae"
VERSION = 1
WEIGHTS = "sae.safetensors"
CONFIG = "config.json"
TRAINING = "training.json"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class DirectionsMeasured:
    """What directions that were not trained were measured on, and to what end."""

    seed: int
    holdout: float
    """With the seed it says which images of the store are held out, as in a training."""
    held_out: HeldOutMeasurement


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """Sizes, kind and origin of an SAE. ``groups`` are cumulative numbers of latents, the last one is ``w``."""

    arch: ArchitectureName
    d: int
    """Width of the activations."""
    w: int
    """Number of latents."""
    k: int = 0
    """Active latents per token (topk family; 0 for the others)."""
    groups: tuple[int, ...] = ()
    """Nested prefixes of the dictionary (matryoshka)."""
    frozen: Frozen = seldom("none")
    """What training left at its random start: it is a control (see engine.sae.training_sae.TrainingSAE)."""
    directions: Directions | None = seldom()
    """Of an SAE that was not trained, what they are (engine.sae.baseline)."""
    measured: DirectionsMeasured | None = seldom()
    """Of such an SAE; None of others, which training.json tells of, and where an older version wrote it."""
    scale: float = 1.0
    """Raw activations were divided by this while training; the weights have it folded in."""
    model: str = place("model", "")
    """Spec of the encoder whose activations it reads."""
    model_sha256: str | None = None
    hook: str = ""
    """Hook point of these activations, e.g. ``layer:22``."""
    tokens: str = ""
    """Token policy of the activations that it was trained on."""
    transparency: Transparency = "white"
    """What showed through the images that they are of."""
    provenance: Provenance = Provenance()
    origin: Origin | None = seldom()
    """Where it was imported from; None for one that was trained here."""

    def shapes(self, threshold: bool) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor in sae.safetensors; ``threshold``: whether the architecture has one."""
        shapes: dict[str, tuple[int, ...]] = {
            "W_enc": (self.d, self.w),
            "b_enc": (self.w,),
            "W_dec": (self.w, self.d),
            "b_dec": (self.d,),
        }
        return shapes | ({"threshold": (self.w,)} if threshold else {})


def control(config: SAEConfig) -> str:
    """What makes it a control of trained SAEs, in words; empty where it is none."""
    match config.directions:
        case "pca":
            return "principal components, not trained"
        case "kmeans":
            return "centroids of k-means, not trained"
        case "random":
            return "random directions, not trained"
    match config.frozen:
        case "none":
            return ""
        case "soft-decoder":
            return "its decoder stayed near its random start"
    return f"its {config.frozen} stayed at its random start"


def control_in_short(config: SAEConfig) -> str:
    """The same as columns head it."""
    match config.directions:
        case "pca":
            return "PCA"
        case "kmeans":
            return "k-means"
        case "random":
            return "random"
    return {"none": "", "soft-decoder": "soft decoder"}.get(config.frozen, f"frozen {config.frozen}")


def read_config(folder: str | Path) -> SAEConfig:
    """The config of the SAE in ``folder``; a UserError when it is missing, damaged or of a newer version."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no SAE at {folder}: check the name, or train one (saetui train).")
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(
            f"{folder} holds no finished SAE (no {CONFIG}): run the command that trains it to the end; one of another "
            "tool is brought in by saetui import."
        )
    values = _said(path)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(
            f"{path} is not the config of a saetui SAE: give the folder of one; one of another tool is brought in by "
            "saetui import."
        )
    check_version(values.get("version"), VERSION, path)
    config: SAEConfig = from_json(SAEConfig, values, str(path))
    if min(config.d, config.w) < 1 or not math.isfinite(config.scale):
        raise UserError(
            f"{path} is damaged (d, w or scale makes no sense): put back a copy of it, or train under another --name."
        )
    return located(config, workspace_of(folder))


def is_control(folder: Path) -> bool:
    """Whether the SAE in ``folder`` is one (:func:`control`); what cannot be read is none."""
    try:
        return bool(control(read_config(folder)))
    except (UserError, OSError):  # it is gone, damaged, or elsewhere
        return False


def write_config(folder: Path, config: SAEConfig) -> None:
    """The config of the weights that are in ``folder``; it names them by their content."""
    weights = {_OF_WEIGHTS: content_sha256(folder / WEIGHTS)} if (folder / WEIGHTS).is_file() else {}
    said = to_json(recorded(config, workspace_of(folder)))
    write_json(folder / CONFIG, {"format": FORMAT, "version": VERSION, **weights, **said})


_OF_WEIGHTS = "weights_sha256"


def weights_sha256(folder: Path, sha256: Callable[[Path], str] = content_sha256) -> str:
    """Content hash of an SAE's weights: its identity. UserError when they are missing, or not those that its config
    was written with, as far as it says. ``sha256``: how they are read."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise no_weights(folder)
    try:
        found = sha256(path)
    except OSError as error:
        raise refusal(error, path) or error from error
    if (folder / CONFIG).is_file() and named_weights(folder) not in (None, found):
        raise UserError(
            f"{path} is damaged (a bit of it has changed, or it is of another SAE): give the command that made it "
            "again, which mends it, or copy the whole folder again."
        )
    return found


def no_weights(folder: Path) -> UserError:
    return UserError(f"{folder} has no {WEIGHTS}: make the SAE again, or copy the whole folder.")


def named_weights(folder: Path) -> str | None:
    """Content hash of the weights that the config in ``folder`` was written with; None where an older version did."""
    said = _said(folder / CONFIG)
    return said.get(_OF_WEIGHTS) if isinstance(said, dict) else None


def _said(path: Path) -> Any:
    return read_json(path, "remove it and give the command that made the SAE again, which mends it")


def latents(d: int, expansion: float) -> int:
    """Number of latents ``w = expansion * d``, to the nearest whole one."""
    w = round(expansion * d)
    if w < 1:
        raise UserError(f"--expansion {expansion:g} of {counted(d, 'dimension')} leaves no latent: give a larger one.")
    return w


MOST_POINTS = 4096


def points_of(points: int, w: int) -> int:
    """How many data points the latents of an archetypal SAE are mixtures of, where ``points`` are asked for."""
    return points or min(w, MOST_POINTS)


def fitting(k: int, w: int) -> int:
    """``k``, if so many of ``w`` latents can be active."""
    if k > w:
        raise UserError(f"--k {k} is more than the {counted(w, 'latent')}: lower it, or raise --expansion.")
    return k


def prefixes(groups: tuple[float, ...], w: int) -> tuple[int, ...]:
    """Matryoshka prefixes as cumulative numbers of latents.

    ``groups`` are cumulative shares of the dictionary (the last one is 1) or cumulative counts (the last one is w).
    """
    counts = tuple(round(g * w) for g in groups) if groups and groups[-1] == 1 else tuple(round(g) for g in groups)
    if not counts or counts[-1] != w:
        raise UserError(f"The matryoshka groups {_list(groups)} must end at 1 (shares) or at {w} (all latents).")
    if groups and groups[-1] != 1 and any(g != count for g, count in zip(groups, counts, strict=True)):
        raise UserError(
            f"The matryoshka groups {_list(groups)} are no counts of latents: give whole numbers, or shares."
        )
    if counts[0] < 1 or any(a >= b for a, b in itertools.pairwise(counts)):
        raise UserError(
            f"The matryoshka groups {_list(groups)} of {counted(w, 'latent')} must grow: give larger steps."
        )
    return counts


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:g}" for v in values)


def learning_rate(w: int) -> float:
    """2e-4 / sqrt(w / 2^14): the scaling of Gao et al., arXiv 2406.04093, as used for the SAEs of arXiv 2504.02821."""
    return 2e-4 / math.sqrt(w / 2**14)


def steps_for(rows: int, batch_size: int) -> int:
    """Steps of a training that is given none: 20 passes over the rows; 1,000 at least, for short trainings end before
    their thresholds settle, and at most the 100,000 of arXiv 2504.02821, which has 1.28 million images.
    """
    return min(max(math.ceil(20 * rows / batch_size), 1_000), 100_000)

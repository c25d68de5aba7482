"""What a format of another tool must say of itself, and what reading one gives."""

import io
import math
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from engine.activations.convert import Likely
from engine.config import ArchitectureName, RecogniseSettings, Transparency
from engine.errors import UserError, reason, refusal
from engine.files import read_json
from engine.models.hookpoints import HookPoint
from engine.models.hub import hub_notation, is_notation
from engine.regular import open_regular
from engine.sae.config import SAEConfig
from engine.sae.model import SAE
from engine.sae.results import Question

Said = Mapping[str, Any]
CONFIG_BYTES = 1 << 24


class Unsaid(UserError):
    """An SAE that cannot be read until ``questions`` are answered."""

    def __init__(self, sentence: str, *questions: Question):
        super().__init__(sentence)
        self.questions = questions


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """An SAE of another tool in our terms: ``weights`` as sae.safetensors has them, for what the tool feeds it."""

    arch: ArchitectureName
    weights: Mapping[str, Tensor]
    k: int = 0
    groups: tuple[int, ...] = ()
    """Cumulative, as in SAEConfig."""
    said: Said = field(default_factory=dict)
    """Its config as it stands in the file: it comes back on export."""
    model: str = ""
    """What it says that it reads, in our notation; empty where it does not say."""
    hook: str = ""
    tokens: str = ""
    model_sha256: str | None = None
    """As the following, as in SAEConfig, where it has been here before."""
    scale: float = 1.0
    transparency: Transparency = "white"
    likely: Mapping[str, Likely] = field(default_factory=dict)
    """By the names of settings: what it does not say, and may be."""
    scaled: str = ""
    """Why its inputs were scaled by a factor that it does not hold; empty where they were not."""
    notes: tuple[str, ...] = ()
    """What is other than it was there, in sentences."""


@dataclass(frozen=True)
class Written:
    """What an export wrote, and what the format could not hold."""

    files: tuple[str, ...]
    lost: tuple[str, ...] = ()


class Format(ABC):
    """One format: one file of this folder."""

    NAME: ClassVar[str]
    HOLDS: ClassVar[tuple[ArchitectureName, ...]]
    """The architectures that an export can write."""
    LOADS: ClassVar[str]
    """How its tool loads what is written, in Python; FOLDER stands for where it is."""

    @abstractmethod
    def find(self, path: Path) -> Path | None:
        """The file of weights if ``path``, a folder or a file, looks like this format. Reads no weights."""

    @abstractmethod
    def read(self, file: Path, settings: RecogniseSettings) -> Foreign:
        """The SAE in ``file``, which :meth:`find` gave. UserError for what it cannot be, Unsaid for what it does not
        say and that its weights cannot be read without."""

    @abstractmethod
    def write(self, sae: SAE, said: Said, folder: Path) -> Written:
        """Write ``sae`` into the empty ``folder``; ``said`` is what a config of this format said when it came in."""


FORMATS: dict[str, Format] = {}


def register(cls: type[Format]) -> type[Format]:
    """Let the format be read and written, by its name."""
    FORMATS[cls.NAME] = cls()
    return cls


EVERY: tuple[ArchitectureName, ...] = tuple(one for one in get_args(ArchitectureName) if one != "archetypal")
"""What SAEs are saved as: an archetypal one is a topk SAE."""
OURS = "saetui"
"""Below which a config of another tool holds what that tool has no place for."""


def kept(config: SAEConfig) -> dict[str, Any]:
    """What an export writes below OURS, so that it comes back on import."""
    return {name: value for name in _KEPT if (value := getattr(config, name)) not in ("", 0, (), None, *_USUAL)}


def brought_back(foreign: Foreign, kept: Any) -> Foreign:
    """``foreign`` with what stands below OURS in its config, as far as it fits the weights; what it says in words of
    other tools is only likely."""
    return _in_our_words(_with_kept(foreign, kept) if isinstance(kept, dict) else foreign)


def _with_kept(foreign: Foreign, kept: Said) -> Foreign:
    model, hook, tokens = (
        kept[name] if isinstance(kept.get(name), str) else getattr(foreign, name)
        for name in ("model", "hook", "tokens")
    )
    found = replace(_been_here(foreign, kept), model=model, hook=hook, tokens=tokens)
    arch, k, cut = kept.get("arch"), kept.get("k"), foreign.weights.get("threshold")
    if cut is None:
        return found
    if arch == "gated":
        return replace(found, arch="gated")
    if type(k) is not int or torch.unique(cut).numel() != 1:
        return found
    groups = _groups(kept.get("groups"), len(cut))
    if arch == "matryoshka-batchtopk" and groups:
        return replace(found, arch="matryoshka-batchtopk", k=k, groups=groups)
    return replace(found, arch="batchtopk", k=k) if arch == "batchtopk" else found


def _been_here(foreign: Foreign, kept: Said) -> Foreign:
    sha256, scale = kept.get("model_sha256"), kept.get("scale")
    if isinstance(sha256, str):
        foreign = replace(foreign, model_sha256=sha256)
    if type(scale) is float and math.isfinite(scale) and scale > 0:
        foreign = replace(foreign, scale=scale)
    for shown in get_args(Transparency):
        if shown == kept.get("transparency"):
            foreign = replace(foreign, transparency=shown)
    return foreign


def _in_our_words(foreign: Foreign) -> Foreign:
    """With a model and a hook point that are not in our notation as what is likely: that they are these is a guess.

    SAEs of language models are left as they are, to be refused as what they are.
    """
    if foreign.hook and not _is_hook(foreign.hook) and not _VISION.search(foreign.model):
        return foreign
    likely = dict(foreign.likely)
    if foreign.model and not is_notation(foreign.model):
        likely["model"] = Likely(hub_notation(foreign.model), f"the files say {foreign.model}")
        foreign = replace(foreign, model="")
    if foreign.hook and not _is_hook(foreign.hook) and (known := hook_of(foreign.hook)):
        likely["hook"] = Likely(known, f"the files say {foreign.hook}")
        foreign = replace(foreign, hook="")
    return replace(foreign, likely=likely)


_VISION = re.compile(r"clip|siglip|dino|vit|vision|beit|(?<![a-z])(?:mae|eva)(?![a-z])", re.IGNORECASE)
_BLOCK = re.compile(r"(?:layers?|(?:res)?blocks?)[ ._:/]+(\d{1,9})(?!\d)(.*)", re.DOTALL)


def _is_hook(text: str) -> bool:
    try:
        HookPoint.parse(text)
    except UserError:
        return False
    return True


def hook_of(text: str) -> str:
    """What the name of a module, or a hook of TransformerLens, is here; empty where that is not plain."""
    found = _BLOCK.search(text)
    if not found:
        return ""
    block, rest = int(found[1]), found[2].strip("._ ").removeprefix("hook_")
    if rest == "resid_pre":
        return f"layer:{block - 1}" if block else ""
    kinds = {
        "": "layer",
        "resid_post": "layer",
        "mlp_out": "mlp",
        "mlp": "mlp",
        "attn_out": "attn",
        "attn": "attn",
        "self_attn": "attn",
    }
    return f"{kinds[rest]}:{block}" if rest in kinds else ""


def _groups(value: Any, w: int) -> tuple[int, ...]:
    """Cumulative groups that end with ``w``; none where it is no such list."""
    if not isinstance(value, list) or not value or any(type(end) is not int for end in value):
        return ()
    return tuple(value) if value == sorted(set(value)) and value[0] > 0 and value[-1] == w else ()


_KEPT = ("arch", "k", "groups", "model", "hook", "tokens", "model_sha256", "scale", "transparency")
_USUAL = (SAEConfig.scale, SAEConfig.transparency)


def weights_beside(path: Path, weights: str, config: str) -> Path | None:
    """The file ``weights`` of the folder ``path``, or ``path`` if it is that, where ``config`` lies beside it."""
    here = path / weights if path.is_dir() else path
    return here if here.name == weights and here.is_file() and (here.parent / config).is_file() else None


def read_said(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``. UserError, which names it, for anything else."""
    said = read_json(path, "copy it again from where the SAE came from", CONFIG_BYTES)
    if not isinstance(said, dict):
        raise UserError(f"{path} holds no JSON object: copy it again from where the SAE came from.")
    kept: dict[str, Any] = sound(said)
    return kept


def sound(value: Any) -> Any:
    """JSON's ``value`` for a config of ours: null for numbers that JSON has not, no halves of characters."""
    match value:
        case dict():
            return {sound(key): sound(inner) for key, inner in value.items()}
        case list():
            return [sound(inner) for inner in value]
        case str():
            return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        case float() if not math.isfinite(value):
            return None
        case int() if abs(value) >= 1 << 63:
            return None
    return value


def vector(said: Said, key: str, d: int, path: Path) -> Tensor:
    """The ``d`` numbers ``key`` of a config; zeros where it has none. UserError for anything else."""
    value = said.get(key, [0.0] * d)
    if not isinstance(value, list) or len(value) != d or any(type(one) not in (int, float) for one in value):
        raise UserError(f"{path} has no {d:,} numbers {key}: copy it again from where the SAE came from.")
    return torch.tensor(value, dtype=torch.float32)


def read_torch(path: Path, skip: int = 0) -> dict[str, Tensor]:
    """The tensors of a file of ``torch.save``, from its byte ``skip`` on; nothing of it is executed.

    UserError for damage, for Python objects, and where there are no tensors. Of a training's checkpoint, which holds
    them among other things, those below its ``ae``.
    """
    try:
        with open_regular(path) as file:
            file.seek(skip)
            content = io.BytesIO(file.readall())
        _check_archive(content, path)
        loaded = torch.load(content, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # what a damaged file raises depends on where in it the damage is
        unread = UserError(
            f"{path} is no state dict that torch.save wrote whole ({reason(error)}): copy it again, or save the "
            "weights alone (torch.save(sae.state_dict(), PATH))."
        )
        raise refusal(error, path) or unread from error
    tensors = _tensors(loaded)
    if not tensors:
        raise UserError(f"{path} holds no weights (a {type(loaded).__name__}): give the file of an SAE's state dict.")
    return tensors


def names_in(path: Path) -> set[str]:
    """Names of the tensors that :func:`read_torch` reads, without reading these; none where it would refuse."""
    try:
        open_regular(path).close()  # no pipe is waited for
        archive = zipfile.is_zipfile(path)  # files of old versions of torch are none, and cannot be mapped
        return set(_tensors(torch.load(path, map_location="cpu", weights_only=True, mmap=archive)))
    except Exception:  # as in read_torch, which says why
        return set()


def _tensors(loaded: Any) -> dict[str, Tensor]:
    if isinstance(loaded, dict) and isinstance(loaded.get("ae"), dict):
        loaded = loaded["ae"]
    found = loaded.items() if isinstance(loaded, dict) else ()
    return {str(name): tensor.detach() for name, tensor in found if isinstance(tensor, Tensor)}


def _check_archive(content: io.BytesIO, path: Path) -> None:
    """UserError where the parts of the archive claim more than the file has: torch stores them as they are."""
    if zipfile.is_zipfile(content):
        with zipfile.ZipFile(content) as archive:
            if sum(one.file_size for one in archive.infolist()) > len(content.getbuffer()):
                raise UserError(f"{path} is compressed, which torch.save never does: save the weights again.")
    content.seek(0)


def matrices(
    path: Path, tensors: Mapping[str, Tensor], names: Mapping[str, str], turned: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Tensors by our names, in float32; ``names``: theirs by ours. ``turned``: stored transposed.

    UserError for one that is missing, not finite, or whose shape does not fit the others.
    """
    if missing := [theirs for theirs in names.values() if theirs not in tensors]:
        raise UserError(f"{path} has no {', '.join(missing)}: it is of another kind, or cut; copy it again.")
    found = {ours: tensors[theirs] for ours, theirs in names.items()}
    for ours, tensor in found.items():
        if not tensor.is_floating_point() or tensor.ndim not in (0, 1, 2):
            raise UserError(f"{path}: {names[ours]} is no vector or matrix of numbers; copy it again.")
    found = {ours: (tensor.T if ours in turned else tensor).float().contiguous() for ours, tensor in found.items()}
    d, w = found["W_enc"].shape if found["W_enc"].ndim == 2 else (0, 0)
    fits = {"W_enc": (d, w), "b_enc": (w,), "W_dec": (w, d), "b_dec": (d,)}
    for ours, tensor in found.items():
        if ours in fits and tuple(tensor.shape) != fits[ours]:
            raise UserError(
                f"{path}: {names[ours]} is {tuple(tensor.shape)}, and does not fit an encoder of {d:,} x {w:,}; "
                "copy the whole folder again."
            )
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: {names[ours]} has values that are not finite: this SAE cannot be used.")
    return found


def dtype_note(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    kinds = {str(one.dtype).removeprefix("torch.") for one in tensors.values() if one.is_floating_point()}
    odd = sorted(kinds - {"float32"})
    how = "rounded to float32" if "float64" in odd else "kept as float32, which holds each value"
    return (f"Its weights are {' and '.join(odd)}; they are {how}.",) if odd else ()


FOLDED = "It does not take its decoder bias off the input, as saetui does: the difference is in the encoder bias."
"""The note where weights come from :func:`taking_off`."""


def taking_off(b_dec: Tensor, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose encoder takes ``b_dec`` off its input, as ours do, of ones whose encoder does not.

    ``x @ W + b = (x - b_dec) @ W + (b + b_dec @ W)``, the sum in float64.
    """
    shift = b_dec.double() @ weights["W_enc"].double()
    return weights | {"b_enc": (weights["b_enc"].double() + shift).float()}


def left_on(weights: Mapping[str, Tensor]) -> Tensor:
    """``b_enc`` for a tool whose encoder does not take ``b_dec`` off its input: the inverse of :func:`taking_off`."""
    return (weights["b_enc"].double() - weights["b_dec"].double() @ weights["W_enc"].double()).float()


def at_length_1(weights: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Weights with directions of length 1, whose latents are as much larger. UserError for a direction of 0."""
    norms = weights["W_dec"].norm(dim=1)
    if not (norms > 0).all():
        raise UserError(f"{file} has latents whose direction is 0: this SAE cannot be used.")
    longer = {name: weights[name] * norms for name in ("W_enc", "b_enc")}
    return weights | longer | {"W_dec": weights["W_dec"] / norms[:, None]}


def gated(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Ours of the weights of a gated SAE: ``r`` (its logarithm of magnitude over gate) and ``gate`` (its bias).

    ``gate > 0`` is ``e^r (x - b_dec) @ W + b_mag > b_mag - e^r b_gate``, which is a threshold.
    """
    grown = weights.pop("r").exp()
    cut = weights["b_enc"] - grown * weights.pop("gate")
    return weights | {"W_enc": weights["W_enc"] * grown, "threshold": cut.clamp(min=0)}


def thresholds(value: Tensor, w: int) -> Tensor:
    """A threshold for each latent, from one for all or one each; below 0 it cuts nothing that 0 does not."""
    return value.float().clamp(min=0).expand(w).clone()


def number(said: Said, key: str, path: Path, kind: Callable[[Any], bool] = lambda value: value > 0) -> int:
    """The whole number ``key`` of a config. UserError without one that makes sense."""
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        raise UserError(f"{path} says no whole number {key}: copy it again from where the SAE came from.")
    if not kind(value):
        raise UserError(f"{path} says {key} = {value}, which makes no sense: copy it again.")
    return int(value)

"""dictionary_learning (Marks, Karvonen, Mueller), the format of the SAEs published with arXiv 2504.02821.

A folder ``trainer_0`` with ``config.json`` (its ``trainer`` names the class) and ``ae.pt``, a state dict; those of
earlier steps are ``checkpoints/ae_<step>.pt``. Weights and biases are for raw activations: where a training scaled its
inputs, the factor is in the biases and the threshold before they are saved.

Its classes encode as ours do, but for three: ``JumpReluAutoEncoder`` and ``AutoEncoderNew`` do not take their decoder
bias off the input, and ``AutoEncoder`` makes its directions of length 1 when it is loaded, its latents longer by as
much.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from engine.activations.convert.names import likely_of
from engine.config import ArchitectureName, RecogniseSettings
from engine.errors import UserError, counted
from engine.files import atomic_path, write_json
from engine.sae.convert.format import (
    EVERY,
    FOLDED,
    OURS,
    Foreign,
    Format,
    Said,
    Unsaid,
    Written,
    at_length_1,
    brought_back,
    dtype_note,
    gated,
    kept,
    left_on,
    matrices,
    names_in,
    number,
    read_said,
    read_torch,
    register,
    taking_off,
    thresholds,
)
from engine.sae.model import SAE
from engine.sae.results import Question

LINEAR = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight"}
PLAIN = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
TURNED = ("W_enc", "W_dec")
CLASSES: dict[str, ArchitectureName] = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "GatedAutoEncoder": "gated",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk",
    "MatryoshkaBatchTopKSAE": "matryoshka-batchtopk",
    "MatroyshkaBatchTopKSAE": "matryoshka-batchtopk",  # as the code of arXiv 2504.02821 spells it
    "JumpReluAutoEncoder": "jumprelu",
}


@register
class DictionaryLearning(Format):
    NAME = "dictionary_learning"
    HOLDS = EVERY
    LOADS = 'from dictionary_learning.utils import load_dictionary\nsae, config = load_dictionary("FOLDER", "cpu")'

    def find(self, path: Path) -> Path | None:
        if path.is_dir():
            return path / "ae.pt" if (path / "ae.pt").is_file() else None
        if path.suffix not in (".pt", ".pth") or not path.is_file():
            return None
        return path if _config(path) or _class_of(names_in(path)) else None

    def read(self, file: Path, settings: RecogniseSettings) -> Foreign:
        config = _config(file)
        said = read_said(config) if config else {}
        trainer = said.get("trainer", said)
        if not isinstance(trainer, dict):
            raise UserError(f"{config} says nothing of a trainer: copy it again from where the SAE came from.")
        tensors = read_torch(file)
        kind = _kind(trainer, tensors, file, settings)
        weights, notes = _READERS[kind](tensors, file)
        d, w = weights["W_enc"].shape
        if config and "activation_dim" in trainer and number(trainer, "activation_dim", config) != d:
            raise UserError(
                f"{file} is {d:,} wide, and {config} says {trainer['activation_dim']}: they are of two SAEs."
            )
        foreign = Foreign(
            arch=CLASSES[kind],
            weights=weights,
            k=_k(trainer, tensors, config or file) if "TopK" in kind else 0,
            groups=_groups(tensors, w, file) if "group_sizes" in tensors else (),
            said=said,
            model=str(trainer.get("lm_name") or ""),
            hook=_hook(trainer),
            likely=likely_of(file.parent),
            notes=(*notes, *dtype_note(tensors)),
        )
        return brought_back(foreign, said.get(OURS))

    def write(self, sae: SAE, said: Said, folder: Path) -> Written:
        kind, tensors = _WRITERS[sae.config.arch](sae)
        before = said.get("trainer", {})
        trainer = {
            **(before if isinstance(before, dict) else {}),
            "trainer_class": _TRAINERS[kind],
            "dict_class": kind,
            "activation_dim": sae.config.d,
            "dict_size": sae.config.w,
            "lm_name": sae.config.model,
            "layer": sae.config.hook,
        }
        if sae.config.k:
            trainer["k"] = sae.config.k
        if sae.config.groups:
            trainer["group_sizes"] = _sizes(sae.config.groups)
        write_json(folder / "config.json", {**said, "trainer": trainer, OURS: kept(sae.config)}, seal=False)
        with atomic_path(folder / "ae.pt") as temporary, open(temporary, "wb") as file:  # of a path it keeps the name
            torch.save({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file)
        longer = kind == "AutoEncoder" and not _have_length_1(sae.W_dec)
        lost = ("the lengths of its directions: its loader makes them 1, and latents as much larger",) if longer else ()
        return Written(("config.json", "ae.pt"), lost)


_TRAINERS = {
    "AutoEncoder": "StandardTrainer",
    "AutoEncoderTopK": "TopKTrainer",
    "BatchTopKSAE": "BatchTopKTrainer",
    "MatryoshkaBatchTopKSAE": "MatryoshkaBatchTopKTrainer",
    "JumpReluAutoEncoder": "JumpReluTrainer",
}


def _config(file: Path) -> Path | None:
    """``config.json`` beside a file of weights, or beside the folder ``checkpoints`` that it is in."""
    places = [file.parent / "config.json"]
    if file.parent.name == "checkpoints":
        places.append(file.parent.parent / "config.json")
    return next((place for place in places if place.is_file()), None)


def _class_of(names: set[str]) -> str:
    """What class tensors of such names are of; empty where none is, ``_TOPK`` where two are."""
    if {*PLAIN.values(), "group_sizes"} <= names:
        return "MatryoshkaBatchTopKSAE"
    if names == {*PLAIN.values(), "threshold"}:
        return "JumpReluAutoEncoder"
    if {"r_mag", "gate_bias", "mag_bias"} <= names:
        return "GatedAutoEncoder"
    if {*LINEAR.values()} <= names:
        return "AutoEncoder" if "bias" in names else "AutoEncoderNew" if "decoder.bias" in names else _TOPK
    return ""


_TOPK = "AutoEncoderTopK or BatchTopKSAE"


def _kind(trainer: Said, tensors: Mapping[str, Tensor], file: Path, settings: RecogniseSettings) -> str:
    named = trainer.get("dict_class") or _class_of(set(tensors))
    if named == _TOPK:
        chosen = {"topk": "AutoEncoderTopK", "batchtopk": "BatchTopKSAE"}.get(settings.arch)
        if not chosen:
            raise Unsaid(
                f"{file} may be an AutoEncoderTopK or a BatchTopKSAE, which have the same tensors, and no config.json "
                "is beside it: copy that too, or give --arch topk or --arch batchtopk.",
                Question("arch", why="topk and batchtopk have the same tensors, and no config.json is beside it"),
            )
        return chosen
    if not isinstance(named, str) or named not in CLASSES:
        raise UserError(
            f"{file} is {'of the class ' + repr(named) if named else 'of no class'} that is read here: give one of "
            f"{', '.join(CLASSES)}."
        )
    return str(named)


def _k(trainer: Said, tensors: Mapping[str, Tensor], where: Path) -> int:
    stored = {"k": tensors["k"].item()} if "k" in tensors and tensors["k"].numel() == 1 else {}
    k = number(stored or trainer, "k", where)
    if "k" in trainer and number(trainer, "k", where) != k:
        raise UserError(f"{where} says k = {trainer['k']}, and the weights {k}: they are of two SAEs.")
    return k


def _groups(tensors: Mapping[str, Tensor], w: int, file: Path) -> tuple[int, ...]:
    groups = tuple(torch.cumsum(tensors["group_sizes"].long().flatten(), 0).tolist())
    if not groups or groups[-1] != w or min(tensors["group_sizes"].flatten().tolist()) < 1:
        raise UserError(f"{file} has groups that do not make up its {counted(w, 'latent')}: copy it again.")
    return groups


def _hook(trainer: Said) -> str:
    """Empty where it says none, as those of arXiv 2504.02821 do."""
    named, layer = trainer.get("submodule_name"), trainer.get("layer")
    return str(named or ("" if layer in (None, "") else f"layer {layer}"))


def _sizes(groups: tuple[int, ...]) -> list[int]:
    return [end - begin for begin, end in zip((0, *groups), groups, strict=False)]


# How each class is read: its weights as ours, and what is other than it was.

_Read = tuple[dict[str, Tensor], tuple[str, ...]]


def _standard(tensors: Mapping[str, Tensor], file: Path) -> _Read:
    weights = matrices(file, tensors, LINEAR | {"b_dec": "bias"}, TURNED)
    if _have_length_1(weights["W_dec"]):
        return weights, ()
    weights = at_length_1(weights, file)
    return weights, ("Its directions are made of length 1, and its latents as much larger, as its own loader does.",)


def _have_length_1(directions: Tensor) -> bool:
    norms = directions.norm(dim=1)
    return torch.allclose(norms, torch.ones_like(norms))


def _new(tensors: Mapping[str, Tensor], file: Path) -> _Read:
    weights = matrices(file, tensors, LINEAR | {"b_dec": "decoder.bias"}, TURNED)
    return taking_off(weights["b_dec"], weights), (FOLDED,)


def _top_k(tensors: Mapping[str, Tensor], file: Path) -> _Read:
    return matrices(file, tensors, LINEAR | {"b_dec": "b_dec"}, TURNED), ()


def _batch_top_k(tensors: Mapping[str, Tensor], file: Path) -> _Read:
    return _with_threshold(matrices(file, tensors, LINEAR | {"b_dec": "b_dec", "threshold": "threshold"}, TURNED))


def _matryoshka(tensors: Mapping[str, Tensor], file: Path) -> _Read:
    return _with_threshold(matrices(file, tensors, PLAIN | {"threshold": "threshold"}))


def _jump_relu(tensors: Mapping[str, Tensor], file: Path) -> _Read:
    weights, _ = _with_threshold(matrices(file, tensors, PLAIN | {"threshold": "threshold"}))
    return taking_off(weights["b_dec"], weights), (FOLDED,)


def _gated(tensors: Mapping[str, Tensor], file: Path) -> _Read:
    names = {
        "W_enc": "encoder.weight",
        "W_dec": "decoder.weight",
        "b_dec": "decoder_bias",
        "b_enc": "mag_bias",
        "gate": "gate_bias",
        "r": "r_mag",
    }
    weights = matrices(file, tensors, names, TURNED)
    return gated(weights), ()


def _with_threshold(weights: dict[str, Tensor]) -> _Read:
    unset = bool((weights["threshold"] < 0).all())
    note = ("Its threshold was never set (training ends before it is): every positive latent is active.",)
    w = len(weights["b_enc"])
    return weights | {"threshold": thresholds(weights["threshold"], w)}, note if unset and w else ()


_READERS: dict[str, Callable[[Mapping[str, Tensor], Path], _Read]] = {
    "AutoEncoder": _standard,
    "AutoEncoderNew": _new,
    "GatedAutoEncoder": _gated,
    "AutoEncoderTopK": _top_k,
    "BatchTopKSAE": _batch_top_k,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "MatroyshkaBatchTopKSAE": _matryoshka,
    "JumpReluAutoEncoder": _jump_relu,
}


# How each architecture is written: the class, and its state dict.

_State = tuple[str, dict[str, Tensor]]


def _linear(sae: SAE, **more: Tensor) -> dict[str, Tensor]:
    return {"encoder.weight": sae.W_enc.T, "encoder.bias": sae.b_enc.data, "decoder.weight": sae.W_dec.T, **more}


def _write_standard(sae: SAE) -> _State:
    return "AutoEncoder", _linear(sae, bias=sae.b_dec.data)


def _write_top_k(sae: SAE) -> _State:
    unset = torch.tensor(-1.0)
    return "AutoEncoderTopK", _linear(sae, b_dec=sae.b_dec.data, k=_int(sae.config.k), threshold=unset)


def _write_batch_top_k(sae: SAE) -> _State:
    return "BatchTopKSAE", _linear(sae, b_dec=sae.b_dec.data, k=_int(sae.config.k), threshold=_one(sae))


def _write_matryoshka(sae: SAE) -> _State:
    sizes = torch.tensor(_sizes(sae.config.groups))
    return "MatryoshkaBatchTopKSAE", {
        "W_enc": sae.W_enc.data,
        "b_enc": sae.b_enc.data,
        "W_dec": sae.W_dec.data,
        "b_dec": sae.b_dec.data,
        "k": _int(sae.config.k),
        "threshold": _one(sae),
        "group_sizes": sizes,
    }


def _write_jump_relu(sae: SAE) -> _State:
    tensors = {name: parameter.data for name, parameter in sae.named_parameters()}
    return "JumpReluAutoEncoder", tensors | {"b_enc": left_on(tensors)}


def _int(value: int) -> Tensor:
    return torch.tensor(value, dtype=torch.int32)


def _one(sae: SAE) -> Tensor:
    """The one threshold of a batchtopk SAE."""
    assert sae.threshold is not None
    return sae.threshold.data[0].clone()


_WRITERS: dict[str, Callable[[SAE], _State]] = {
    "relu": _write_standard,
    "topk": _write_top_k,
    "batchtopk": _write_batch_top_k,
    "matryoshka-batchtopk": _write_matryoshka,
    "jumprelu": _write_jump_relu,
    "gated": _write_jump_relu,
}

"""SAELens: a folder with ``cfg.json`` and ``sae_weights.safetensors`` (W_enc (d, w), W_dec (w, d)).

BatchTopK and Matryoshka SAEs are ``jumprelu`` there, with their one threshold repeated; K and groups would be lost, so
an export keeps them in the config's ``metadata``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import save_file
from torch import Tensor

from engine.config import ArchitectureName, ImportSettings
from engine.errors import UserError
from engine.files import atomic_path, write_json
from engine.sae.convert.dictionary_learning import gated
from engine.sae.convert.format import (
    OURS,
    Foreign,
    Format,
    Said,
    Written,
    brought_back,
    dtype_note,
    kept,
    matrices,
    number,
    read_said,
    register,
    taking_off,
    thresholds,
)
from engine.sae.model import SAE, read_tensors

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
VERSION = "6.0.0"
"""Of the oldest SAELens that reads what is written here."""
NAMES = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
ARCHITECTURES: dict[str, ArchitectureName] = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
}
UNSAVED = ("batchtopk", "matryoshka_batchtopk")


@register
class SAELens(Format):
    NAME = "saelens"
    HOLDS: ClassVar[tuple[ArchitectureName, ...]] = (
        "relu", "topk", "batchtopk", "matryoshka-batchtopk", "jumprelu", "gated",
    )  # fmt: skip

    def find(self, path: Path) -> Path | None:
        folder = path if path.is_dir() else path.parent
        here = folder / WEIGHTS
        asked = path.is_dir() or path == here
        return here if asked and here.is_file() and (folder / CONFIG).is_file() else None

    def read(self, file: Path, settings: ImportSettings) -> Foreign:
        config = file.parent / CONFIG
        said = read_said(config)
        kind = _architecture(said, config)
        tensors = read_tensors(file)
        names = dict(NAMES)
        if kind == "jumprelu":
            names["threshold"] = "threshold"
        if kind == "gated":
            names |= {"b_enc": "b_mag", "gate": "b_gate", "r": "r_mag"}
        weights = matrices(file, tensors, names)
        notes: tuple[str, ...] = ()
        if kind == "gated":
            weights = gated(weights)
        if kind == "jumprelu":
            weights["threshold"] = thresholds(weights["threshold"], len(weights["b_enc"]))
        if kind == "topk" and said.get("rescale_acts_by_decoder_norm") is True:
            weights, notes = _unit(weights, file)
        if said.get("apply_b_dec_to_input", True) is False:
            weights = taking_off(weights["b_dec"], weights)
            notes += ("It does not take its decoder bias off the input, as saetui does: it is in the encoder bias.",)
        metadata = said.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        foreign = Foreign(
            arch=ARCHITECTURES[kind],
            weights=weights,
            k=_k(said, len(weights["b_enc"]), config) if kind == "topk" else 0,
            said=said,
            model=str(metadata.get("model_name") or said.get("model_name") or ""),
            hook=str(metadata.get("hook_name") or said.get("hook_name") or said.get("hook_point") or ""),
            scaled=_scaled(said, config),
            notes=(*notes, *dtype_note(tensors)),
        )
        return brought_back(foreign, metadata.get(OURS))

    def write(self, sae: SAE, said: Said, folder: Path) -> Written:
        config = sae.config
        kind = "jumprelu" if sae.threshold is not None else {"relu": "standard"}.get(config.arch, config.arch)
        before = said.get("metadata")
        metadata = {"sae_lens_version": VERSION, "sae_lens_training_version": None}
        metadata |= dict(before) if isinstance(before, Mapping) else {}
        values: dict[str, Any] = {
            "architecture": kind,
            "d_in": config.d,
            "d_sae": config.w,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": True,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {**metadata, "model_name": config.model, "hook_name": config.hook, OURS: kept(config)},
        }
        if kind == "topk":
            values |= {"k": config.k, "rescale_acts_by_decoder_norm": False}
        write_json(folder / CONFIG, values, seal=False)
        tensors = {name: parameter.data.contiguous() for name, parameter in sae.named_parameters()}
        with atomic_path(folder / WEIGHTS) as temporary:
            save_file(tensors, temporary)
        return Written((CONFIG, WEIGHTS))


def _architecture(said: Said, config: Path) -> str:
    """Its name there. UserError for one that is not read, and for the checkpoint of a training."""
    kind = said.get("architecture", "standard")
    if said.get("activation_fn") == "topk" or said.get("activation_fn_str") == "topk":  # of SAELens before 6
        kind = "topk"
    if not isinstance(kind, str):
        raise UserError(f"{config} names no architecture: copy it again from where the SAE came from.")
    if kind in UNSAVED or "l1_coefficient" in said or "topk_threshold_lr" in said:
        raise UserError(
            f"{config.parent} is the checkpoint of a training in SAELens: save the SAE for use there "
            "(save_inference_model) and give that folder."
        )
    if kind not in ARCHITECTURES:
        raise UserError(f"{config} says the architecture {kind!r}: give one of {', '.join(ARCHITECTURES)}.")
    for key in ("reshape_activations",):
        if said.get(key) not in (None, "none"):
            raise UserError(f"{config} says {key} = {said[key]}: SAEs of attention heads are not read.")
    return str(kind)


def _scaled(said: Said, config: Path) -> str:
    how = said.get("normalize_activations", "none")
    if how in (None, "none", False):
        return ""
    if how in ("expected_average_only_in", True):
        return f"{config} says normalize_activations = {how}: its inputs were scaled to a mean norm of sqrt(d)"
    raise UserError(
        f"{config} says normalize_activations = {how}, which changes each activation by itself; saetui's SAEs read "
        "activations as they are: give one that was trained without."
    )


def _unit(weights: dict[str, Tensor], file: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Latents are chosen, and told, by the length of what they add to the reconstruction."""
    norms = weights["W_dec"].norm(dim=1)
    if not (norms > 0).all():
        raise UserError(f"{file} has latents whose direction is 0: this SAE cannot be used.")
    changed = {
        "W_enc": weights["W_enc"] * norms,
        "b_enc": weights["b_enc"] * norms,
        "W_dec": weights["W_dec"] / norms[:, None],
    }
    return weights | changed, ("The lengths of its directions are in its encoder now, as it chooses latents by them.",)


def _k(said: Said, w: int, config: Path) -> int:
    known = said.get("activation_fn_kwargs")  # of SAELens before 6
    return min(number(known if "k" not in said and isinstance(known, dict) else said, "k", config), w)

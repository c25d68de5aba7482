"""SAELens: a folder with ``cfg.json`` and ``sae_weights.safetensors`` (W_enc (d, w), W_dec (w, d)).

BatchTopK and Matryoshka SAEs are ``jumprelu`` there, with their one threshold repeated; K and groups would be lost, so
an export keeps them in the config's ``metadata``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from engine.config import ArchitectureName, RecogniseSettings
from engine.errors import UserError
from engine.files import atomic_path, write_json
from engine.sae.convert.format import (
    EVERY,
    FOLDED,
    OURS,
    Foreign,
    Format,
    Said,
    Written,
    at_length_1,
    brought_back,
    dtype_note,
    gated,
    kept,
    matrices,
    number,
    read_said,
    register,
    taking_off,
    thresholds,
    weights_beside,
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
    HOLDS = EVERY
    LOADS = 'from sae_lens import SAE\nsae = SAE.load_from_disk("FOLDER")'

    def find(self, path: Path) -> Path | None:
        return weights_beside(path, WEIGHTS, CONFIG)

    def read(self, file: Path, settings: RecogniseSettings) -> Foreign:
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
            weights = at_length_1(weights, file)
            notes = ("The lengths of its directions are in its encoder now, as it chooses latents by them.",)
        if said.get("apply_b_dec_to_input", True) is False:
            weights = taking_off(weights["b_dec"], weights)
            notes += (FOLDED,)
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
    if (shape := said.get("reshape_activations")) not in (None, "none"):
        raise UserError(f"{config} says reshape_activations = {shape}: SAEs of attention heads are not read.")
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


def _k(said: Said, w: int, config: Path) -> int:
    known = said.get("activation_fn_kwargs")  # of SAELens before 6
    return min(number(known if "k" not in said and isinstance(known, dict) else said, "k", config), w)

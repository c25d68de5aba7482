"""sparsify (EleutherAI): a folder ``<run>/<hookpoint>/`` with ``cfg.json`` and ``sae.safetensors``.

``encoder.weight`` (w, d), ``encoder.bias`` (w), ``W_dec`` (w, d), ``b_dec`` (d). The K largest of each token, no
threshold; its transcoders and skip connections are no autoencoders.
"""

from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import save_file

from engine.config import ArchitectureName, RecogniseSettings
from engine.errors import UserError
from engine.files import atomic_path, write_json
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
    weights_beside,
)
from engine.sae.model import SAE, read_tensors

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
NAMES = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec"}


@register
class Sparsify(Format):
    NAME = "sparsify"
    HOLDS: ClassVar[tuple[ArchitectureName, ...]] = ("topk",)
    LOADS = 'from sparsify import SparseCoder\nsae = SparseCoder.load_from_disk("FOLDER")'

    def find(self, path: Path) -> Path | None:
        return weights_beside(path, WEIGHTS, CONFIG)

    def read(self, file: Path, settings: RecogniseSettings) -> Foreign:
        config = file.parent / CONFIG
        said = read_said(config)
        said = {**said, **said.get("sae", {})} if isinstance(said.get("sae"), dict) else said  # of a training
        for key, what in (("transcode", "a transcoder"), ("skip_connection", "an SAE with a skip connection")):
            if said.get(key):
                raise UserError(f"{file.parent} is {what}, which is not read here: give a sparse autoencoder.")
        if said.get("activation", "topk") != "topk":
            raise UserError(f"{config} says activation = {said['activation']}: only topk is read.")
        tensors = read_tensors(file)
        if "W_skip" in tensors:
            raise UserError(f"{file} has a skip connection, which is not read here: give a sparse autoencoder.")
        weights = matrices(file, tensors, NAMES, ("W_enc",))
        d, w = weights["W_enc"].shape
        if "d_in" in said and number(said, "d_in", config) != d:
            raise UserError(f"{file} is {d:,} wide, and {config} says {said['d_in']}: they are of two SAEs.")
        foreign = Foreign(
            arch="topk",
            weights=weights,
            k=min(number(said, "k", config), w),
            said=said,
            hook=file.parent.resolve().name,
            notes=dtype_note(tensors),
        )
        return brought_back(foreign, said.get(OURS))

    def write(self, sae: SAE, said: Said, folder: Path) -> Written:
        known: dict[str, Any] = {
            "activation": "topk",
            "expansion_factor": max(1, sae.config.w // sae.config.d),
            "normalize_decoder": True,
            "multi_topk": False,
        }
        exact = {
            "num_latents": sae.config.w,
            "k": sae.config.k,
            "skip_connection": False,
            "transcode": False,
            "d_in": sae.config.d,
        }
        write_json(folder / CONFIG, {**known, **said, **exact, OURS: kept(sae.config)}, seal=False)
        tensors = {
            "encoder.weight": sae.W_enc.data.T.contiguous(),
            "encoder.bias": sae.b_enc.data,
            "W_dec": sae.W_dec.data,
            "b_dec": sae.b_dec.data,
        }
        with atomic_path(folder / WEIGHTS) as temporary:
            save_file(tensors, temporary)
        return Written((CONFIG, WEIGHTS))

"""saev (Stevens et al.): one file, a line of JSON and then what ``torch.save`` writes.

``W_enc`` (d, w), ``b_enc``, ``W_dec`` (w, d), ``b_dec`` and, of BatchTopK, ``activation.threshold``. Since its schema
has a number the decoder bias is not taken off the input; files without one are of versions that did.
"""

import json
from pathlib import Path
from typing import Any, ClassVar

import torch

from engine.config import ArchitectureName, RecogniseSettings
from engine.errors import UserError, refusal
from engine.files import atomic_path
from engine.records import parse_json
from engine.regular import open_regular
from engine.sae.convert.format import (
    CONFIG_BYTES,
    FOLDED,
    OURS,
    Foreign,
    Format,
    Said,
    Written,
    brought_back,
    dtype_note,
    kept,
    left_on,
    matrices,
    number,
    read_torch,
    register,
    sound,
    taking_off,
    thresholds,
)
from engine.sae.model import SAE

FILE = "sae.pt"
SCHEMA = 5
AMBIGUOUS = (
    "Files of schema 1 from before July 2025 take the decoder bias off the input; it is read as newer ones, which "
    "do not: --check STORE shows whether that fits."
)
NAMES = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}


@register
class Saev(Format):
    NAME = "saev"
    HOLDS: ClassVar[tuple[ArchitectureName, ...]] = ("relu", "topk", "batchtopk", "matryoshka-batchtopk")
    LOADS = 'import saev.nn\nsae = saev.nn.load("FOLDER/sae.pt")'

    def find(self, path: Path) -> Path | None:
        file = path / FILE if path.is_dir() else path
        try:
            with open_regular(file) as opened:
                return file if opened.read(1) == b"{" and file.suffix in (".pt", ".pth") else None
        except OSError:
            return None

    def read(self, file: Path, settings: RecogniseSettings) -> Foreign:
        head, size = _head(file)
        config = head.get("cfg", head)
        if not isinstance(config, dict):
            raise UserError(f"{file} has a first line without a config: copy it again.")
        if head.get("schema", 1) not in range(1, SCHEMA + 1):
            raise UserError(
                f"{file} has schema {head['schema']}, and the newest that is read is {SCHEMA}: update saetui."
            )
        kind, k = _activation(head, config, file)
        tensors = read_torch(file, size)
        names = NAMES | ({"threshold": "activation.threshold"} if kind == "batchtopk" else {})
        weights = matrices(file, tensors, names)
        if kind == "batchtopk":
            weights["threshold"] = thresholds(weights["threshold"], len(weights["b_enc"]))
        notes: tuple[str, ...] = ()
        if "schema" in head:
            weights = taking_off(weights["b_dec"], weights)
            if weights["b_dec"].any():
                notes = (FOLDED, AMBIGUOUS) if head["schema"] == 1 else (FOLDED,)
        foreign = Foreign(
            arch=kind,
            weights=weights,
            k=min(k, len(weights["b_enc"])),
            said=head,
            notes=(*notes, *dtype_note(tensors)),
        )
        return brought_back(foreign, head.get(OURS))

    def write(self, sae: SAE, said: Said, folder: Path) -> Written:
        kind = {"relu": "Relu", "topk": "TopK"}.get(sae.config.arch, "BatchTopK")
        params: dict[str, Any] = {} if kind == "Relu" else {"top_k": sae.config.k}
        config = {"d_model": sae.config.d, "d_sae": sae.config.w, "activation": {"cls": kind, "params": params}}
        head = {"schema": SCHEMA, "cfg": config, "commit": "unknown", "lib": "unknown", OURS: kept(sae.config)}
        tensors = {name: parameter.data.contiguous() for name, parameter in sae.named_parameters()}
        cut = tensors.pop("threshold", None)
        tensors["b_enc"] = left_on(tensors)
        if cut is not None:
            tensors["activation.threshold"] = cut[0].clone()
        with atomic_path(folder / FILE) as temporary, open(temporary, "wb") as file:
            file.write(json.dumps(head).encode() + b"\n")
            torch.save(tensors, file)
        return Written((FILE,))


def _head(file: Path) -> tuple[dict[str, Any], int]:
    """Its first line, and how long that is."""
    try:
        with open_regular(file) as opened:
            begin = opened.read(CONFIG_BYTES)
    except OSError as error:
        raise refusal(error, file) or error from error
    line, newline, _ = begin.partition(b"\n")
    try:
        head = parse_json(line) if newline else None
    except ValueError:
        head = None
    if not isinstance(head, dict):
        raise UserError(f"{file} has no first line of JSON: it is damaged, or no file of saev; copy it again.")
    return sound(head), len(line) + 1


def _activation(head: Said, config: Said, file: Path) -> tuple[ArchitectureName, int]:
    said = config.get("activation")
    if isinstance(said, dict):
        name, params = said.get("cls"), said.get("params")
    else:
        name, params = head.get("cls", "Relu"), config
    params = params if isinstance(params, dict) else {}
    match name:
        case "Relu" | "SparseAutoencoderConfig":
            return "relu", 0
        case "TopK":
            return "topk", number({"top_k": 32, **params}, "top_k", file)
        case "BatchTopK":
            return "batchtopk", number({"top_k": 32, **params}, "top_k", file)
    raise UserError(f"{file} says the activation {name!r}: only Relu, TopK and BatchTopK are read.")

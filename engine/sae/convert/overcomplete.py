"""overcomplete (Fel et al.): the state dict of an SAE with a linear encoder, saved by ``torch.save``.

It says neither what chooses the latents nor how many: ``JumpSAE`` alone has a tensor of its own (``thresholds``, their
logarithms), and ``BatchTopKSAE`` keeps its threshold in none. They are asked for; an export puts them, and the decoder
bias that a reconstruction has not there, into ``saetui.json`` beside it.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.config import ArchitectureName, RecogniseSettings
from engine.errors import UserError
from engine.files import atomic_path, write_json
from engine.sae.convert.format import (
    EVERY,
    Foreign,
    Format,
    Said,
    Unsaid,
    Written,
    brought_back,
    dtype_note,
    kept,
    left_on,
    matrices,
    names_in,
    read_said,
    read_torch,
    register,
    taking_off,
    thresholds,
    vector,
)
from engine.sae.model import SAE
from engine.sae.results import Question

DICTIONARY, LINEAR, NORM = "dictionary._weights", "encoder.final_block.0", "encoder.final_block.1"
FILE, BESIDE = "sae.pt", "saetui.json"
NORM_EPSILON, LENGTH_EPSILON = 1e-5, 1e-8  # of torch's batch normalisation, and of its own l2


@register
class Overcomplete(Format):
    NAME = "overcomplete"
    HOLDS = EVERY
    LOADS = (
        'import torch\nsae.load_state_dict(torch.load("FOLDER/sae.pt"))  # sae: one of overcomplete.sae, linear encoder'
    )

    def find(self, path: Path) -> Path | None:
        files = sorted(path.glob("*.pt")) if path.is_dir() else [path]
        if len(files) != 1 or files[0].suffix not in (".pt", ".pth") or not files[0].is_file():
            return None
        names = names_in(files[0])
        return files[0] if DICTIONARY in names or {"dictionary.W", "dictionary.C"} <= names else None

    def read(self, file: Path, settings: RecogniseSettings) -> Foreign:
        tensors = read_torch(file)
        beside = read_said(file.parent / BESIDE) if (file.parent / BESIDE).is_file() else {}
        arch, k, cut = _choice(tensors, beside, settings, file)
        weights = _weights(tensors, beside, file)
        w = len(weights["b_enc"])
        if cut is not None:
            weights["threshold"] = torch.nextafter(thresholds(cut, w), torch.tensor(0.0))  # it keeps what reaches it
        foreign = Foreign(
            arch=arch,
            weights=weights,
            k=min(k, w),
            said=beside,
            notes=(
                "Its directions are taken to have length 1 before their multiplier, its default.",
                *dtype_note(tensors),
            ),
        )
        return brought_back(foreign, beside)

    def write(self, sae: SAE, said: Said, folder: Path) -> Written:
        norms = sae.W_dec.norm(dim=1).clamp(min=LENGTH_EPSILON)
        tensors: dict[str, Tensor] = {
            f"{LINEAR}.weight": (sae.W_enc.data * norms).T.contiguous(),
            f"{LINEAR}.bias": left_on(dict(sae.named_parameters())) * norms,
            DICTIONARY: sae.W_dec.data / norms[:, None],
            "dictionary.multiplier": torch.tensor(0.0),
        }
        config = sae.config
        beside: dict[str, Any] = kept(config) | {"b_dec": sae.b_dec.tolist()}
        lost = [f"the decoder bias: add b_dec of {BESIDE} to its reconstructions"] if sae.b_dec.any() else []
        if (norms - 1).abs().max() > 1e-6:
            lost.append("the lengths of its directions: its latents are as much larger")
        if sae.threshold is not None:
            cut = torch.nextafter(sae.threshold.data * norms, torch.tensor(math.inf))
            if "batchtopk" in config.arch:
                beside["threshold"] = float(cut[0])
                lost.append(f"its threshold: set running_threshold to that of {BESIDE}")
            else:
                tensors["thresholds"] = cut.log()
        with atomic_path(folder / FILE) as temporary, open(temporary, "wb") as file:  # of a path it keeps the name
            torch.save(tensors, file)
        write_json(folder / BESIDE, beside, seal=False)
        return Written((FILE, BESIDE), tuple(lost))


def _choice(
    tensors: Mapping[str, Tensor], beside: Said, settings: RecogniseSettings, file: Path
) -> tuple[ArchitectureName, int, Tensor | None]:
    """Architecture, K and threshold."""
    if "thresholds" in tensors:
        return "jumprelu", 0, tensors["thresholds"].float().exp()
    arch = beside.get("arch") if settings.arch == "auto" else settings.arch
    k = settings.k or beside.get("k", 0)
    cut = settings.threshold if settings.threshold >= 0 else beside.get("threshold")
    match arch:
        case "relu":
            return "relu", 0, None
        case "topk" if isinstance(k, int) and k > 0:
            return "topk", k, None
        case "batchtopk" | "matryoshka-batchtopk" if isinstance(cut, int | float) and isinstance(k, int):
            return "batchtopk", k, torch.tensor(float(cut))
    many, at = Question("k", why="its class says how many"), Question("threshold", why="its running_threshold")
    asked = {"topk": (many,), "batchtopk": (at,)}.get(str(arch), (Question("arch", why="its class says which"),))
    raise Unsaid(
        f"{file} does not say what chooses its latents: give --arch relu, --arch topk --k K, or --arch batchtopk "
        "--k K --threshold T (its running_threshold).",
        *asked,
    )


def _weights(tensors: Mapping[str, Tensor], beside: Said, file: Path) -> dict[str, Tensor]:
    if DICTIONARY not in tensors:
        raise UserError(f"{file} has an archetypal dictionary, which is not read: its class makes it anew from parts.")
    stored = tensors[DICTIONARY].float()
    multiplier = tensors.get("dictionary.multiplier", torch.tensor(0.0)).float()
    directions = stored / (stored.norm(dim=-1, keepdim=True) + LENGTH_EPSILON) * multiplier.exp()
    rows, bias = _encoder(tensors, directions, file)
    b_dec = vector(beside, "b_dec", directions.shape[-1], file.parent / BESIDE)
    whole = {"W_enc": rows, "b_enc": bias, "W_dec": directions, "b_dec": b_dec}
    weights = matrices(file, whole, {name: name for name in whole}, ("W_enc",))
    return taking_off(weights["b_dec"], weights)


def _encoder(tensors: Mapping[str, Tensor], directions: Tensor, file: Path) -> tuple[Tensor, Tensor]:
    """Weights (w, d) and bias of a linear encoder."""
    none = torch.zeros(len(directions))
    if f"{LINEAR}.weight" in tensors and not any(name.startswith("encoder.mlp_blocks") for name in tensors):
        rows, bias = tensors[f"{LINEAR}.weight"].float(), tensors.get(f"{LINEAR}.bias", none).float()
        if f"{NORM}.running_mean" in tensors:
            grown = tensors[f"{NORM}.weight"] / (tensors[f"{NORM}.running_var"] + NORM_EPSILON).sqrt()
            return rows * grown[:, None], (bias - tensors[f"{NORM}.running_mean"]) * grown + tensors[f"{NORM}.bias"]
        if f"{NORM}.weight" not in tensors:
            return rows, bias
    elif "encoder.weight" in tensors:
        return tensors["encoder.weight"].float(), tensors.get("encoder.bias", none).float()
    elif all(name == "encoder.bias" or name.startswith("encoder.tied_to.") for name in tensors if "encoder." in name):
        return directions, tensors.get("encoder.bias", none).float()
    raise UserError(f"{file} has an encoder of more than one linear layer: saetui reads linear ones.")

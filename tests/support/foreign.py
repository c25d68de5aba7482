"""SAEs as other tools leave them, small."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from engine.config import ImportSettings
from engine.files import write_json
from engine.sae.exchange import import_sae
from engine.sae.results import Imported
from engine.workspace import Workspace

READS = {"model": "demo:encoder", "hook": "layer:4", "tokens": "patches"}


def write_saelens(folder: Path, d: int = 16, w: int = 24, **said: Any) -> Path:
    """A folder of SAELens that says nothing of what it reads, but what is ``said``."""
    folder.mkdir(parents=True)
    chance = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (d, w), "b_enc": (w,), "W_dec": (w, d), "b_dec": (d,)}
    tensors = {name: torch.randn(shape, generator=chance) / 4 for name, shape in shapes.items()}
    save_file(tensors, folder / "sae_weights.safetensors")
    write_json(folder / "cfg.json", {"architecture": "standard", "d_in": d, "d_sae": w} | said, seal=False)
    return folder


def write_published(parent: Path, d: int = 16, w: int = 24, k: int = 3) -> Path:
    """A folder as the scripts of arXiv 2504.02821 leave one: its name says what its files do not."""
    run = "imagenet_train_activations_clip-vit-large-patch14-336_22_post_mlp_residual_matroyshka_batch_top_k_3_x2"
    folder = parent / "random_k_2" / run / "trainer_0"
    folder.mkdir(parents=True)
    chance = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (d, w), "b_enc": (w,), "W_dec": (w, d), "b_dec": (d,)}
    tensors = {name: torch.randn(shape, generator=chance) / 4 for name, shape in shapes.items()}
    tensors |= {"k": torch.tensor(k), "threshold": torch.tensor(0.1), "group_sizes": torch.tensor([w // 2, w - w // 2])}
    torch.save(tensors, folder / "ae.pt")
    trainer = {"dict_class": "MatroyshkaBatchTopKSAE", "activation_dim": d, "dict_size": w, "k": k}
    write_json(folder / "config.json", {"trainer": trainer}, seal=False)
    return folder


def bring(workspace: Workspace, source: Path, name: str, **answers: Any) -> Imported:
    return import_sae(ImportSettings(source=str(source), name=name, **(READS | answers)), workspace)

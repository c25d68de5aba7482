"""What this machine, its libraries and the workspace can do."""

import os
import shutil
import sys
from importlib import metadata
from typing import Any

import engine
from engine.config import DoctorSettings
from engine.errors import UserError
from engine.reporter import Reporter
from engine.workspace import Workspace

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "textual",
    "term-image",
    "h5py",
    "numpy",
)


def doctor(settings: DoctorSettings, workspace: Workspace, reporter: Reporter | None = None) -> dict[str, Any]:
    """Facts as a JSON-able dict, and ``advice``: a sentence for everything that could be better."""
    advice: list[str] = []
    report = {
        "saetui": engine.__version__,
        "python": sys.version.split()[0],
        "versions": {package: _version(package, advice) for package in PACKAGES},
        "devices": _devices(advice),
        "cpu_threads": os.cpu_count(),
        "demo": _demo(advice),
        "workspace": _workspace(workspace, advice),
    }
    return report | {"advice": advice}


def _version(package: str, advice: list[str]) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        advice.append(f"{package} is not installed: install saetui with pip, which brings it.")
        return None


def _devices(advice: list[str]) -> list[dict[str, Any]]:
    import torch

    devices: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        devices.append(
            {"device": f"cuda:{index}", "name": torch.cuda.get_device_name(index), "free": free, "total": total}
        )
    if torch.backends.mps.is_available():
        devices.append({"device": "mps", "name": "Apple GPU"})
    if not devices:
        advice.append("torch sees no GPU: the demo runs well on the CPU, full-size models do not.")
    return [*devices, {"device": "cpu", "name": f"{torch.get_num_threads()} threads"}]


def _demo(advice: list[str]) -> dict[str, Any]:
    from engine.models.shipped import assets

    try:
        folder = assets()
    except UserError as error:
        advice.append(str(error))
        return {"path": None, "bytes": 0}
    return {"path": str(folder), "bytes": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())}


def _workspace(workspace: Workspace, advice: list[str]) -> dict[str, Any]:
    root = workspace.root
    existing = next((p for p in (root, *root.parents) if p.exists()), root)
    free, writable = shutil.disk_usage(existing).free, os.access(existing, os.W_OK)
    if not writable:
        advice.append(f"{existing} is not writable: choose another --workspace.")
    if free < 5e9:
        advice.append(f"{existing} has {free / 1e9:.1f} GB free: an activation store of a full-size model needs more.")
    counts = {
        kind: len([p for p in (root / kind).iterdir() if not p.name.startswith(".")]) if (root / kind).is_dir() else 0
        for kind in ("activations", "embeddings", "saes", "neurons", "recipes", "runs")
    }
    return {"root": str(root), "writable": writable, "free": free, **counts}

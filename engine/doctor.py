"""What this machine, its libraries and the workspace can do."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

import engine
from engine.config import DoctorSettings
from engine.errors import UserError
from engine.kinds import ARTEFACTS
from engine.numbers import size
from engine.records import seldom
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


@dataclass(frozen=True)
class Device:
    device: str
    """As ``--device`` takes it."""
    name: str
    free: int | None = seldom()
    """Bytes, as ``total``; only where the device has memory of its own."""
    total: int | None = seldom()


@dataclass(frozen=True)
class ShippedModels:
    path: str | None
    """None: they are missing."""
    bytes: int


@dataclass(frozen=True)
class WorkspaceReport:
    root: str
    writable: bool
    free: int
    """Bytes on its disk."""
    activations: int
    """How many there are, as of the kinds below."""
    embeddings: int
    saes: int
    neurons: int
    concepts: int
    fidelity: int
    steerability: int
    stability: int
    recipes: int
    runs: int


@dataclass(frozen=True)
class Report:
    saetui: str
    """Version, as of ``python``."""
    python: str
    versions: Mapping[str, str | None]
    """By package; None: it is not installed."""
    devices: tuple[Device, ...]
    """The best first."""
    cpu_threads: int | None
    demo: ShippedModels
    workspace: WorkspaceReport
    advice: tuple[str, ...]
    """A sentence for everything that could be better."""


def doctor(settings: DoctorSettings, workspace: Workspace, reporter: Reporter | None = None) -> Report:
    advice: list[str] = []
    return Report(
        saetui=engine.__version__,
        python=sys.version.split()[0],
        versions={package: _version(package, advice) for package in PACKAGES},
        devices=_devices(advice),
        cpu_threads=os.cpu_count(),
        demo=_demo(advice),
        workspace=_workspace(workspace, advice),
        advice=tuple(advice),
    )


def _version(package: str, advice: list[str]) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        advice.append(f"{package} is not installed: install saetui with pip, which brings it.")
        return None


def _devices(advice: list[str]) -> tuple[Device, ...]:
    import torch

    devices = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        devices.append(Device(f"cuda:{index}", torch.cuda.get_device_name(index), free, total))
    if torch.backends.mps.is_available():
        devices.append(Device("mps", "Apple GPU"))
    if not devices:
        advice.append("torch sees no GPU: the demo runs well on the CPU, full-size models do not.")
    return (*devices, Device("cpu", f"{torch.get_num_threads()} threads"))


def _demo(advice: list[str]) -> ShippedModels:
    from engine.models.shipped import assets

    try:
        folder = assets()
    except UserError as error:
        advice.append(str(error))
        return ShippedModels(None, 0)
    return ShippedModels(str(folder), sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()))


def _workspace(workspace: Workspace, advice: list[str]) -> WorkspaceReport:
    root = workspace.root
    existing = next((p for p in (root, *root.parents) if p.exists()), root)
    free, writable = shutil.disk_usage(existing).free, os.access(existing, os.W_OK)
    if not writable:
        advice.append(f"{existing} is not writable: choose another --workspace.")
    if free < 5e9:
        advice.append(f"{existing} has {size(free)} free: an activation store of a full-size model needs more.")
    return WorkspaceReport(str(root), writable, free, **{kind.folder: len(kind.all_in(root)) for kind in ARTEFACTS})

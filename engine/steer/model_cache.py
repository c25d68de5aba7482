"""Models that stay loaded between two uses. A command uses them once, the model server again and again."""

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import torch

from engine.files import Stamp, path_of, stamp_of
from engine.models import WEIGHT_SUFFIXES, load_encoder
from engine.models.encoder import VisionEncoder
from engine.models.hub import cached_folder
from engine.models.vlm import VLM, is_local, load_vlm
from engine.reporter import Reporter, Warned
from engine.sae.config import weights_sha256
from engine.sae.model import SAE

T = TypeVar("T")
Stamps = tuple[tuple[str, Stamp], ...]


class LoadedSAE(NamedTuple):
    name: str
    sae: SAE
    sha256: str
    """Content hash of its weights, by which other artefacts name it."""


class Recent(Generic[T]):
    """The ``limit`` things used last. To make room, the one not used for longest is dropped before another is made.

    ``free`` is called whenever one was dropped.
    """

    def __init__(self, limit: int, free: Callable[[], None] = lambda: None):
        self.limit, self.free = limit, free
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._kept:
            while len(self._kept) >= self.limit:
                self._kept.popitem(last=False)
                self.free()
            self._kept[key] = make()
        self._kept.move_to_end(key)
        return self._kept[key]

    def values(self) -> list[T]:
        return list(self._kept.values())

    def clear(self) -> None:
        self._kept.clear()
        self.free()


class ModelCache:
    """At most one vision-language model, one encoder and two SAEs, each loaded when it is first asked for.

    Files that changed since are loaded again. The methods raise the UserErrors of what they load.
    """

    def __init__(self) -> None:
        self.vlms: Recent[VLM] = Recent(1, _free)
        self.encoders: Recent[VisionEncoder] = Recent(1, _free)
        self.saes: Recent[LoadedSAE] = Recent(2, _free)

    def vlm(self, spec: str, device: torch.device, dtype: str, reporter: Reporter) -> VLM:
        def load() -> VLM:
            with reporter.loading(f"the model {spec}", _bytes(spec)):
                return load_vlm(spec, device, dtype)

        return self.vlms.get((spec, str(device), dtype, _stamp(spec)), load)

    def encoder(self, spec: str, device: torch.device, reporter: Reporter) -> VisionEncoder:
        def load() -> VisionEncoder:
            with reporter.loading(f"the encoder {spec}", _bytes(spec)):
                encoder = load_encoder(spec, device)
            for message in encoder.warnings:
                reporter.event(Warned(message))
            return encoder

        return self.encoders.get((spec, str(device), _stamp(spec)), load)

    def sae(self, folder: Path, device: torch.device, reporter: Reporter) -> LoadedSAE:
        def load() -> LoadedSAE:
            with reporter.loading(f"the SAE {folder.name}", _bytes(str(folder))):
                sae = SAE.load(folder, device).eval()
                return LoadedSAE(folder.name, sae, weights_sha256(folder))

        return self.saes.get((str(folder), str(device), _stamp(str(folder))), load)

    def weights(self, spec: str) -> int:
        """Bytes of the weights of a model; UserError for one of the hub that is not on this machine."""
        folder = cached_folder(spec) if spec.startswith("hf:") else None
        return _bytes(spec if folder is None else str(folder))

    def clear(self) -> None:
        """Drop everything, and give its memory back."""
        for kept in (self.vlms, self.encoders, self.saes):
            kept.clear()


def _stamp(spec: str) -> Stamps:
    """Names and stamps of the files in a local directory: weights, settings, words; nothing for a model of the hub."""
    return tuple((path.name, stamp_of(path.stat())) for path in _files(spec))


def _bytes(spec: str) -> int:
    """Size of the weights in a local directory; 0 where it is not known."""
    return sum(path.stat().st_size for path in _files(spec) if path.suffix in WEIGHT_SUFFIXES)


def _files(spec: str) -> list[Path]:
    folder = path_of(spec)
    if not is_local(spec) or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _free() -> None:
    """Give back the memory of what was dropped: modules are in reference cycles, and CUDA keeps freed blocks."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()

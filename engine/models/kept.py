"""Models that stay loaded from one piece of work to the next, as from stage to stage of a plan, while there is room."""

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Generic, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import nn

from engine.files import Stamp, path_of, stamp_of
from engine.models.asked import WEIGHT_SUFFIXES
from engine.models.device import free_memory

T = TypeVar("T")
Stamps = tuple[tuple[str, Stamp], ...]
MOST = 4
"""Models kept at once: an encoder, a judge, a vision-language model, and one more."""


class Recent(Generic[T]):
    """The ``limit`` things used last. To make room, the one not used for longest is dropped before another is made.

    ``free`` is called whenever one was dropped.
    """

    def __init__(self, limit: int, free: Callable[[], None] = lambda: None):
        self.limit, self.free = limit, free
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._kept:
            while len(self._kept) >= self.limit:
                self.drop()
            self._kept[key] = make()
        self._kept.move_to_end(key)
        return self._kept[key]

    def drop(self) -> None:
        """Let go of the one that was not used for longest."""
        self._kept.popitem(last=False)
        self.free()

    def values(self) -> list[T]:
        return list(self._kept.values())

    def clear(self) -> None:
        self._kept.clear()
        self.free()


@runtime_checkable
class Loaded(Protocol):
    """An encoder, or a vision-language model."""

    @property
    def model(self) -> nn.Module: ...


L = TypeVar("L", bound=Loaded)
_KEPT: ContextVar[Recent[Loaded] | None] = ContextVar("kept", default=None)


@contextmanager
def models_kept() -> Iterator[None]:
    """What ``load_encoder`` and ``load_vlm`` load in here is loaded once for all that is done in here.

    The ``MOST`` models used last are kept, as long as they take no more than what is free beside them; those not used
    for longest go first. None where memory is short (:func:`forget_models`). Files that changed are loaded again.
    """
    if _KEPT.get() is not None:
        yield
        return
    held = _KEPT.set(Recent(MOST, free))
    try:
        yield
    finally:
        forget_models()
        _KEPT.reset(held)


def forget_models() -> bool:
    """Let go of the models that are kept, and give their memory back; whether there were any."""
    models = _KEPT.get()
    if models is None or not models.values():
        return False
    models.clear()
    return True


def give_back(device: torch.device) -> None:
    """Give memory that nothing holds any more back to the device, and that of models which are only kept."""
    forget_models()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def kept(spec: str, device: str | torch.device, how: tuple[Hashable, ...], load: Callable[[], L]) -> L:
    """What ``load`` makes of the model ``spec``, or made of it before within :func:`models_kept`. ``how``: as what."""
    models = _KEPT.get()
    if models is None:
        return load()
    key = spec, str(device), how, stamps(spec)
    if key not in models:
        free_there = free_memory(torch.device(device))
        while free_there is not None and models.values() and free_there < max(_held(models), 2 * weights_bytes(spec)):
            models.drop()
            free_there = free_memory(torch.device(device))
    return cast(L, models.get(key, load))


def _held(models: Recent[Loaded]) -> int:
    """Bytes of the weights of all that is kept."""
    return sum(weights.nbytes for one in models.values() for weights in one.model.parameters())


def stamps(spec: str) -> Stamps:
    """Names and stamps of the files in a local directory: weights, settings, words; nothing for a model of the hub."""
    return tuple((path.name, stamp_of(path.stat())) for path in _files(spec))


def weights_bytes(spec: str) -> int:
    """Size of the weights in a local directory; 0 where it is not known."""
    return sum(path.stat().st_size for path in _files(spec) if path.suffix in WEIGHT_SUFFIXES)


def _files(spec: str) -> list[Path]:
    folder = path_of(spec)
    if not is_local(spec) or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def is_local(spec: str) -> bool:
    """Whether ``spec`` is a directory, not a model of the hub or the demo."""
    return spec != "demo" and not spec.startswith("hf:")


def free() -> None:
    """Give back the memory of what was dropped: modules are in reference cycles, and CUDA keeps freed blocks."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()

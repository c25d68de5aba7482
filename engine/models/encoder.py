"""A vision encoder and the activations at its hook points."""

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn

from engine.errors import Notice, UserError, counted, reason, refusal
from engine.files import value_sha256
from engine.integrity import content_sha256
from engine.models.asked import no_hook
from engine.models.device import is_out_of_memory, random_state
from engine.models.hookpoints import HookPoint
from engine.models.kept import give_back

GREY = (128, 128, 128)
TRIED = ((256, 256), (700, 180), (180, 700))  # width and height of images whose number of sequences is looked at


T = TypeVar("T")
Change = Callable[[Tensor, dict[str, Tensor]], Tensor]
"""Of activations (image token d) and the model's inputs, on the model's device: what is read in their place."""


class Enough(Exception):
    """What was wanted has been recorded: ends the forward pass early."""


class NoLast(UserError):
    """The output of an encoder is not pooled."""


def _split(inputs: dict[str, Tensor], size: int, step: int) -> list[dict[str, Tensor]]:
    """The inputs of ``size`` images, ``step`` at a time."""
    return [{name: value[i : i + step] for name, value in inputs.items()} for i in range(0, size, step)]


class VisionEncoder(ABC):
    """A vision encoder: images in, activations out, the same for every library and family.

    A subclass sets the attributes and implements preprocessing, running and embedding.
    """

    spec: str  # as given to load_encoder; local paths absolute
    family: str  # clip, siglip, dinov2, ..., open_clip
    revision: str | None = None  # commit on the Hub
    weights: Sequence[Path] = ()  # the files the weights came from
    architecture: Any = None  # what its configuration says of it, as JSON
    settings_file = "preprocessor_config.json"  # where its preprocessing stands
    preprocessing: dict[str, Any]  # what happens to an image before the model, as JSON
    warnings: list[str]  # what the user should know about this load
    n_prefix: int  # CLS and register tokens before the patches
    has_cls: bool
    has_text: bool = False
    no_last: str = ""  # why there is no ``last``; empty if there is one
    patch_size: tuple[int, int] | None = None  # pixels
    batch_first: bool = True  # False: blocks return (token, batch, d)

    def __init__(self, model: nn.Module, vision: nn.Module):
        self.model = model.eval().requires_grad_(False)
        self.vision = vision
        self.blocks = find_blocks(vision)
        self.warnings = []
        self._shapes: dict[HookPoint, tuple[int, int]] = {}
        self._together = sys.maxsize  # images, as many as memory has let be run at once

    @abstractmethod
    def preprocess(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """RGB images as the model's inputs, on the CPU; ``pixel_values`` is (batch, ...). Safe in any thread."""

    @abstractmethod
    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "text D"]:
        """Texts in the space of ``last``, not normalised. UserError when there is no text tower or tokenizer."""

    @abstractmethod
    def _forward(self, inputs: dict[str, Tensor]) -> Float[Tensor, "batch D"]:
        """Run the whole vision side and return its projected or pooled output."""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(p.dtype for p in self.model.parameters() if p.is_floating_point())

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @cached_property
    def sha256(self) -> str | None:
        """Identity, for engine.models.same_model: hash of the weights file (or of the hashes of several), a dot, and
        that of the architecture, since the same weights compute something else with another activation function. None
        when the weights came from no file."""
        hashes = {path.name: content_sha256(path) for path in self.weights}
        if not hashes:
            return None
        weights = next(iter(hashes.values())) if len(hashes) == 1 else value_sha256(hashes)
        return f"{weights}.{value_sha256(self.architecture)}"

    @cached_property
    def alone(self) -> bool:
        """Whether images are run one at a time, since a batch of them is no sequence of tokens an image.

        So it is where a preprocessing cuts images into tiles or leaves them of several sizes, and where a model packs
        all of them into one row. Tried on images of several shapes; alone, every row is that image's.
        """
        return seen_alone(self.preprocess, self._embedded if self.blocks else None)

    @cached_property
    def tiled(self) -> bool:
        """Whether it sees an image as several sequences of tokens, each with CLS and registers of its own."""
        return self.alone and any(self.tiles(self.preprocess([Image.new("RGB", size, GREY)])) > 1 for size in TRIED)

    def tiles(self, inputs: dict[str, Tensor]) -> int:
        """How many sequences of tokens, one after the other, an image's tokens are: 1, or its number of tiles."""
        pixels = inputs["pixel_values"]
        return int(np.prod(pixels.shape[:-3])) if self.alone and self.n_prefix and pixels.ndim > 3 else 1

    @cached_property
    def _astray(self) -> bool:
        """Whether tokens that every image shares (CLS, registers) stand elsewhere than before the patches."""
        if not self.blocks or self.device.type == "meta":
            return False
        return astray(self._embedded, self.n_prefix)

    @torch.no_grad()
    def _embedded(self, images: Sequence[Image.Image]) -> Float[Tensor, "sequence token d"]:
        """What the first block is given for ``images``."""
        inputs = self.preprocess(images)
        with self._explained(inputs):
            hidden = block_input(self.blocks[0], lambda: self._forward(self._to_device(inputs)))
        return hidden if self.batch_first else hidden.transpose(0, 1)

    @cached_property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of patches; None where that depends on the image, or patches form no plain grid."""
        found = self._counted
        return found[:2] if found is not None and found[2] == found[0] * found[1] else None

    def check_patches(self) -> None:
        """Raise a UserError when blocks put out more tokens than patches, CLS and registers."""
        found = self._counted
        if found is not None and found[2] > found[0] * found[1]:
            raise UserError(
                f"{self.spec} has {counted(found[2], 'token')} for {found[0]} x {found[1]} patches, and which are "
                "which is not known: use --tokens all or random:K."
            )

    @cached_property
    def _counted(self) -> tuple[int, int, int] | None:
        """Rows and columns of patches by their size in pixels, and how many tokens come after CLS and registers."""
        pixels = self.preprocess([self._blank()])["pixel_values"]
        if self.patch_size is None or pixels.ndim != 4 or not self.blocks or self.alone:
            return None
        rows, columns = (side // patch for side, patch in zip(pixels.shape[-2:], self.patch_size, strict=True))
        try:
            tokens, _ = self.shape(HookPoint("layer", 0))
        except UserError:  # no sequence of tokens
            return None
        return rows, columns, tokens - self.n_prefix

    def width(self, hook: HookPoint) -> int:
        """Dimensions of the activations at ``hook``."""
        return self.shape(hook)[1]

    def shape(self, hook: HookPoint) -> tuple[int, int]:
        """(tokens, dimensions) of one image at ``hook``: measured once, on a blank image.

        Raises UserError when the pass draws random numbers, as one that masks patches does.
        """
        if hook not in self._shapes:
            inputs, before = self.preprocess([self._blank()]), random_state(self.device)
            seen = self.activations(inputs, [hook], 1)[hook]
            if not torch.equal(before, random_state(self.device)):
                raise UserError(f"The forward pass of {self.spec} draws random numbers: give an encoder that does not.")
            self._shapes[hook] = (seen.shape[1], seen.shape[2])
        return self._shapes[hook]

    def token_mask(self, inputs: dict[str, Tensor]) -> Bool[Tensor, "batch token"] | None:
        """True for tokens of the image, False for padding; None without padding."""
        mask = inputs.get("pixel_attention_mask")
        return None if mask is None or self.alone or bool(mask.all()) else mask.bool()

    def check_tokens(self, kind: str) -> None:
        """UserError when ``kind`` (of a token policy) asks for tokens that cannot be told from the others."""
        if kind == "cls" and not self.has_cls:
            raise UserError(f"{self.spec} has no CLS token: use --tokens mean, patches, all or random:K.")
        if kind == "cls" and self.tiled:
            raise UserError(
                f"{self.spec} cuts images into tiles, each with a CLS token of its own: use --tokens mean, patches, "
                "all or random:K."
            )
        if kind in ("mean", "patches"):
            self.check_patches()
        if kind in ("cls", "mean", "patches") and self._astray:
            raise UserError(
                f"{self.spec} puts tokens of its own elsewhere than before the patches, so that saetui cannot tell "
                "them apart yet: use --tokens all or random:K."
            )

    @torch.no_grad()
    def activations(
        self, inputs: dict[str, Tensor], hooks: Sequence[HookPoint], images: int | None = None
    ) -> dict[HookPoint, Float[Tensor, "batch token d"]]:
        """Activations at every hook point, from one forward pass that stops after the deepest one needed.

        ``inputs`` come from ``preprocess`` (any device), of one image where images are run ``alone``. ``last`` has a
        token axis of 1. Where memory is too small for so many images at once, there are several passes of fewer, which
        a Notice says. Raises UserError for a hook point that the model does not have, for inputs it does not take, and
        when it does not give one sequence of tokens for each of as many ``images``, or has no memory for a single one.
        """
        passes = self._passes(inputs, images, lambda part, size: self._pass(part, hooks, size))
        return {hook: torch.cat([taken[hook] for taken in passes]) for hook in hooks} if passes[1:] else passes[0]

    @torch.no_grad()
    def output(
        self, inputs: dict[str, Tensor], images: int, changes: Mapping[HookPoint, Change] | None = None
    ) -> Float[Tensor, "batch D"]:
        """What the whole vision side puts out (``last``) where each of ``changes`` stands between its hook point and
        all that reads it: in place of the activations, (image token d), comes what it makes of them and the inputs.

        Refuses as ``activations``, and an encoder without ``last``.
        """
        given = dict(changes or {})
        for hook in (HookPoint("last"), *given):
            self.check(hook)
        return torch.cat(self._passes(inputs, images, lambda part, size: self._changed(part, given)))

    def _changed(self, inputs: dict[str, Tensor], changes: Mapping[HookPoint, Change]) -> Float[Tensor, "batch D"]:
        def changer(hook: HookPoint, change: Change) -> Callable[[nn.Module, Any, Any], Any]:
            def put(module: nn.Module, args: Any, output: Any) -> Any:
                hidden = output[0] if isinstance(output, (tuple, list)) else output
                changed = change(self._sequence(output, hook, inputs), inputs).to(hidden.dtype)
                # Where each row of the sequence stands in the output, whichever way that is laid out.
                rows = torch.arange(hidden.shape[:-1].numel(), device=hidden.device).view(*hidden.shape[:-1], 1)
                places = self._by_image(rows if rows.ndim == 3 else rows[None], inputs).flatten()
                put_back = hidden.flatten(0, -2).index_copy(0, places, changed.flatten(0, 1)).view_as(hidden)
                return type(output)((put_back, *output[1:])) if isinstance(output, (tuple, list)) else put_back

            return put

        handles = [
            self._module(hook).register_forward_hook(changer(hook, change), prepend=True)
            for hook, change in changes.items()
            if not hook.pooled
        ]
        try:
            with self._explained(inputs):
                last = self._forward(self._to_device(inputs))
        finally:
            for handle in handles:
                handle.remove()
        at_end = changes.get(HookPoint("last"))
        return last if at_end is None else at_end(last[:, None], inputs)[:, 0].to(last.dtype)

    def _passes(
        self, inputs: dict[str, Tensor], images: int | None, run: Callable[[dict[str, Tensor], int | None], T]
    ) -> list[T]:
        """``run`` on the inputs, or on parts of them where memory is too small for all."""
        size = images if images == len(inputs["pixel_values"]) else None  # others cannot be told apart
        while True:
            step = min(self._together, size or 1)
            parts = [inputs] if size is None or step == size else _split(inputs, size, step)
            try:
                return [run(part, len(part["pixel_values"]) if size else images) for part in parts]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if step == 1:
                raise UserError(f"{self.device} is out of memory for a single image of {self.spec}: use --device cpu.")
            self._fewer(step)

    def _fewer(self, step: int) -> None:
        """Run half of ``step`` images at a time from here on."""
        self._together = step // 2
        give_back(self.device)
        full = f"{self.device} is out of memory for {counted(step, 'image')} of {self.spec} at once"
        warnings.warn(
            f"{full}: from here on they are run {self._together} at a time, which may change the last bits; "
            f"--batch-size {self._together} asks for that.",
            Notice,
            stacklevel=2,
        )

    def _pass(
        self, inputs: dict[str, Tensor], hooks: Sequence[HookPoint], images: int | None
    ) -> dict[HookPoint, Float[Tensor, "batch token d"]]:
        for hook in hooks:
            self.check(hook)
        modules = {hook: self._module(hook) for hook in hooks if not hook.pooled}
        taken: dict[HookPoint, Tensor] = {}

        def taker(hook: HookPoint) -> Callable[[nn.Module, Any, Any], None]:
            def take(module: nn.Module, args: Any, output: Any) -> None:
                taken[hook] = self._sequence(output, hook, inputs)
                if len(taken) == len(set(hooks)):
                    raise Enough

            return take

        # prepend: a hook of the library's own may replace the output, and would run first
        handles = [module.register_forward_hook(taker(hook), prepend=True) for hook, module in modules.items()]
        try:
            with self._explained(inputs):
                last = self._forward(self._to_device(inputs))
                taken[HookPoint("last")] = last.unsqueeze(1)
        finally:
            for handle in handles:
                handle.remove()
        for hook in hooks:
            if hook not in taken:
                raise UserError(f"{self.spec} does not run {hook} on images: use another hook point, such as last.")
            if images is not None and (len(taken[hook]) != images or not taken[hook].shape[1]):
                raise UserError(
                    f"{self.spec} gives {counted(len(taken[hook]), 'sequence')} of "
                    f"{counted(taken[hook].shape[1], 'token')} for {counted(images, 'image')} at {hook}, so that "
                    "saetui cannot tell whose they are: use another encoder."
                )
        return {hook: taken[hook] for hook in hooks}

    @contextmanager
    def _explained(self, inputs: dict[str, Tensor]) -> Iterator[None]:
        """What ends a forward pass: having enough, or an error of the library's, in words."""
        try:
            yield
        except Enough:
            pass
        except ODD as error:
            if is_out_of_memory(error):
                raise
            raise UserError(self._refusal(inputs, error)) from error

    def check(self, hook: HookPoint) -> None:
        """Raise the UserError that ``activations`` would for this hook point, without running the model."""
        if not hook.pooled:
            self._module(hook)
        elif self.no_last:
            raise self.lacks_last(self.no_last)

    def lacks_last(self, why: str) -> "NoLast":
        """The refusal of ``last``, with a hook point that there is: some models give no sequence of tokens anywhere."""
        with suppress(UserError):
            if self.blocks:
                self.shape(layer := HookPoint("layer", self.n_layers - 1))
                return NoLast(f"{self.spec} has no last ({why}): use {layer}.")
        return NoLast(f"{self.spec} has no last ({why}), nor tokens of layers: give another encoder.")

    def _module(self, hook: HookPoint) -> nn.Module:
        if not self.blocks:
            if not self._pools():
                raise UserError(
                    f"{self.spec} is no plain stack of transformer blocks and has no last: use another encoder."
                )
            raise UserError(f"{self.spec} is no plain stack of transformer blocks: its only hook point is last.")
        if hook.index >= len(self.blocks):
            raise UserError(no_hook(self.spec, hook, self.n_layers))
        return module_at(hook, self.blocks[hook.index], self.spec, f"use layer:{hook.index}")

    @torch.no_grad()
    def _pools(self) -> bool:
        """Whether an encoder without blocks has the other hook point, ``last``."""
        try:
            return not self.no_last and self._forward(self._to_device(self.preprocess([self._blank()]))).ndim == 2
        except NoLast:
            return False

    def _sequence(self, output: Any, hook: HookPoint, inputs: dict[str, Tensor]) -> Float[Tensor, "batch token d"]:
        hidden = output[0] if isinstance(output, (tuple, list)) else output
        if isinstance(hidden, Tensor) and hidden.ndim == 2 and self.alone:
            hidden = hidden[None]
        if not isinstance(hidden, Tensor) or hidden.ndim != 3:
            raise UserError(
                f"{hook} of {self.spec} is no sequence of tokens, which saetui does not keep yet: use last where it "
                "has one, or another encoder."
            )
        sequences = len(hidden) if self.batch_first else hidden.shape[1]
        if self.alone and self.n_prefix and sequences != self.tiles(inputs):
            raise UserError(
                f"{self.spec} gives {counted(sequences, 'sequence')} of tokens for "
                f"{counted(self.tiles(inputs), 'tile')} of an image at {hook}, so that saetui cannot tell "
                "CLS and patches apart: use another encoder."
            )
        return self._by_image(hidden, inputs)

    def _by_image(self, hidden: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """What a block puts out, with an image's tokens one after the other."""
        hidden = hidden if self.batch_first else hidden.transpose(0, 1)
        if not self.alone:
            return hidden
        kept = inputs.get("pixel_attention_mask")  # of tokens: padding is left out
        if kept is not None and kept.shape == hidden.shape[:2]:
            return hidden[kept.bool().to(hidden.device)][None]
        return hidden.flatten(0, 1)[None]

    def _to_device(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        device, dtype = self.device, self.dtype
        return {
            name: value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
            for name, value in inputs.items()
        }

    def _refusal(self, inputs: dict[str, Tensor], error: Exception) -> str:
        pixels = inputs["pixel_values"]
        shape = " x ".join(str(side) for side in pixels.shape[1:])
        way_out = f"correct the sizes in its {self.settings_file}, or give another encoder"
        if pixels.ndim != 4 or isinstance(error, TypeError):
            way_out = "if it is the vision tower of a larger model, give the whole model's directory"
        return (
            f"{self.spec} does not take the {shape} inputs that its preprocessing makes ({reason(error)}): {way_out}."
        )

    def _blank(self) -> Image.Image:
        return Image.new("RGB", (256, 256), GREY)


def seen_alone(
    prepare: Callable[[Sequence[Image.Image]], dict[str, Tensor]],
    embedded: Callable[[Sequence[Image.Image]], Tensor] | None,
) -> bool:
    """Whether a batch of images is no sequence of tokens an image.

    ``prepare`` makes the inputs of images; ``embedded`` gives what the first block gets for them, by its sequences.
    """
    images = [Image.new("RGB", size, GREY) for size in TRIED]
    apart = [prepare([image])["pixel_values"] for image in images]
    if {pixels.shape for pixels in apart} != {(1, *apart[0].shape[1:])} or apart[0].ndim > 4:
        return True
    return embedded is not None and len(embedded(images)) != len(images)


def astray(embedded: Callable[[Sequence[Image.Image]], Tensor], n_prefix: int) -> bool:
    """Whether tokens that every image shares (CLS, registers) stand elsewhere than in the first ``n_prefix`` places.

    ``embedded`` gives what the first block gets for images. Llama 4 puts CLS at the end, YOLOS its detections.
    """
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8))
    grey, other = (embedded([image])[0] for image in (Image.new("RGB", (256, 256), GREY), noise))
    if grey.shape != other.shape:
        return False
    shared = (grey == other).all(-1)
    return bool(shared.any()) and not (bool(shared[:n_prefix].all()) and not shared[n_prefix:].any())


def block_input(block: nn.Module, run: Callable[[], Any]) -> Float[Tensor, "sequence token d"]:
    """What ``block`` is given in ``run``, which ends there."""
    given: list[Tensor] = []

    def take(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given.append(next(one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)))
        raise Enough

    handle = block.register_forward_pre_hook(take, with_kwargs=True, prepend=True)
    try:
        run()
    except Enough:
        pass
    finally:
        handle.remove()
    if not given:
        raise UserError("None of the blocks that were found in the model is run on images: use another encoder.")
    return given[0] if given[0].ndim > 2 else given[0][None]


def patches(tokens: int, n_prefix: int, tiles: int = 1) -> slice | np.ndarray:
    """Which of an image's ``tokens`` are patches: all but the first ``n_prefix`` of each of its ``tiles``."""
    if tiles == 1 or not n_prefix:
        return slice(n_prefix, None)
    return np.flatnonzero(np.arange(tokens) % (tokens // tiles) >= n_prefix)


ODD = (ValueError, RuntimeError, TypeError, AttributeError, LookupError, ArithmeticError)
"""What a library raises on settings that are not as it expects them."""


_PANIC = "PanicException"  # what a library in Rust (tokenizers) ends with on what it never expects; no Exception


@contextmanager
def refusing_odd(spec: str) -> Iterator[None]:
    """UserError for what the files of the model ``spec`` make a library raise: which error depends on where in them
    something is odd."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        if is_out_of_memory(error):
            raise
        raise refusal(error) or UserError(
            f"{spec} cannot be loaded, as its files are not those of a model ({reason(error)}): fetch or save it again."
        ) from error


def module_at(hook: HookPoint, block: nn.Module, whose: str, way_out: str) -> nn.Module:
    """The module whose output is ``hook``, in its ``block``. UserError where the block has none."""
    if not hook.modules:
        return block
    module = next((child for name, child in block.named_children() if name in hook.modules), None)
    if module is None:
        raise UserError(f"The blocks of {whose} have no module named {' or '.join(hook.modules)}: {way_out}.")
    return module


def find_blocks(vision: nn.Module) -> list[nn.Module]:
    """The transformer blocks in order: the longest list of modules of one class that have submodules.

    Empty for convolutional and hierarchical models, whose stages have no residual stream of one width.
    """
    for kind in (nn.ModuleList, nn.Sequential):  # timm keeps its blocks in a Sequential
        stacks = [
            list(module)
            for module in vision.modules()
            if isinstance(module, kind) and len({type(child) for child in module}) == 1 and any(module[0].children())
        ]
        if stacks:
            longest = max(stacks, key=len)
            stages = sum(type(stack[0]) is type(longest[0]) for stack in stacks) > 1
            nested = any(isinstance(part, kind) for part in longest[0].modules())
            return [] if stages or nested else longest
    return []

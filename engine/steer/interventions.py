"""What is done to the latents of an SAE inside a model, and the hook that does it. Imports no torch.

For every visual token v: a = encode(v), a' = a with some latents changed, then v' = decode(a') (the SAE's error is
dropped, as in arXiv 2504.02821) or v' = v + decode(a') - decode(a) (it is kept).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from engine.config import InterventionMode
from engine.errors import UserError, counted
from engine.numbers import typed

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from engine.models.vlm import VLM
    from engine.sae.model import SAE

_LATENT = re.compile(r"(\d{1,18})(?:=([^=]+?)(x?))?", re.ASCII)
_TOKENS = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """A change of latents. Without ``latents`` it is the control: the SAE attached, but unclamped."""

    latents: tuple[tuple[int, float], ...] = ()
    """Pairs of latent and value, in raw-activation units."""
    mode: InterventionMode = "clamp"
    """clamp: a_k = value; add: a_k + value; scale: a_k * value; ablate: a_k = 0, whatever the value."""
    keep_error: bool = False
    """Add the SAE's reconstruction error back."""
    tokens: tuple[int, ...] | None = None
    """Indices of the patch tokens that are changed, row by row from the upper left; None: all of them."""

    def control(self) -> Intervention:
        """The same tokens through the same SAE with no latent changed, to tell reconstruction damage from steering."""
        return replace(self, latents=(), mode="clamp")  # one control for all modes

    def edit(self, a: Float[Tensor, "token w"]) -> Float[Tensor, "token w"]:
        """a' of the latents ``a``, as a new tensor."""
        edited = a.clone()
        for latent, value in self.latents:
            if self.mode == "clamp":
                edited[:, latent] = value
            elif self.mode == "add":
                edited[:, latent] += value
            elif self.mode == "scale":
                edited[:, latent] *= value
            elif self.mode == "ablate":
                edited[:, latent] = 0.0
            else:
                assert_never(self.mode)
        return edited

    def apply(self, sae: SAE, patches: Float[Tensor, "token d"]) -> Float[Tensor, "token d"]:
        """The patch tokens of one image as the model shall see them, in their own dtype; computed in float32."""
        chosen = slice(None) if self.tokens is None else list(self.tokens)
        self.check_tokens(len(patches))
        x = patches[chosen].float()
        a = sae.encode(x)
        steered = sae.decode(self.edit(a))
        if self.keep_error:
            steered = x + (steered - sae.decode(a))  # in these brackets: exactly x where nothing was changed
        out = patches.clone()
        out[chosen] = steered.to(out.dtype)
        return out

    def check_tokens(self, n_patches: int) -> None:
        """UserError when one of the chosen patch tokens is not among ``n_patches``."""
        for token in self.tokens or ():
            if not 0 <= token < n_patches:
                raise UserError(f"There is no patch token {token}: give indices from 0 to {n_patches - 1}.")


@contextmanager
def attached(vlm: VLM, sae: SAE, intervention: Intervention | Sequence[Intervention | None]) -> Iterator[None]:
    """Inside this block ``vlm`` sees images through ``sae``, changed by ``intervention``.

    One intervention holds for every image. A sequence has one per image of a batch, in order; None leaves its image
    untouched. Tokens before the patches (CLS, registers) are never changed. The SAE must be on the model's device.
    Raises UserError when the SAE does not fit: another width, a hook point that the language model does not see
    through, a latent that does not exist.
    """
    given = [intervention] if isinstance(intervention, Intervention) else list(intervention)
    site = vlm.site(sae.config.hook)
    check(vlm, sae, *(one for one in given if one is not None))

    def through_sae(module: Any, args: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        steered = hidden.clone()
        rows = steered if steered.ndim == 3 else steered[None]  # some towers pack the tokens of all images in one row
        for row, one in zip(rows, _per_row(intervention, len(rows)), strict=True):
            if one is not None:
                row[vlm.n_prefix :] = one.apply(sae, row[vlm.n_prefix :])
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    # First in line: after a first forward pass transformers has hooks of its own here, which record the hidden state
    # that LLaVA reads. A hook after those would change nothing, silently.
    handle = site.register_forward_hook(through_sae, prepend=True)
    try:
        yield
    finally:
        handle.remove()


def check(vlm: VLM, sae: SAE, *interventions: Intervention) -> None:
    """UserError unless ``sae`` fits ``vlm``, and has the latents that ``interventions`` change."""
    vlm.site(sae.config.hook)
    if vlm.width is not None and sae.config.d != vlm.width:
        raise UserError(
            f"The SAE reads vectors of width {sae.config.d}, the vision tower of {vlm.spec} is {vlm.width} wide: "
            "take an SAE that was trained on this vision tower."
        )
    if vlm.astray:
        raise UserError(
            f"The vision tower of {vlm.spec} puts tokens of its own elsewhere than before the patches, which saetui "
            "cannot steer yet: use a family that the README lists."
        )
    for one in interventions:
        for latent, _ in one.latents:
            if not 0 <= latent < sae.config.w:
                raise UserError(f"There is no latent {latent}: this SAE has latents 0 to {sae.config.w - 1}.")
        if vlm.n_patches is not None:
            one.check_tokens(vlm.n_patches)


def _per_row(given: Intervention | Sequence[Intervention | None], n: int) -> Sequence[Intervention | None]:
    if isinstance(given, Intervention):
        return [given] * n
    if len(given) != n:
        raise UserError(
            f"The interventions are {len(given)} for {counted(n, 'row')} of the vision tower: give one intervention an "
            "image, or, for a model that cuts an image into tiles, steer one image at a time."
        )
    return given


class LatentValue(NamedTuple):
    """What ``LATENT=VALUE`` says."""

    latent: int
    value: float
    relative: bool
    """The value is a multiple of the latent's own maximum."""


def parse_latent(text: str, mode: InterventionMode) -> LatentValue:
    """``1203=30``, ``1203=-5``, ``1203=2x`` (twice its largest activation), or just ``1203`` when ablating."""
    match = _LATENT.fullmatch(text.strip())
    number = typed(match[2], float) if match and match[2] else None
    if match is None or (match[2] and number is None):
        raise UserError(f"{text!r} is not LATENT=VALUE: write 1203=30, 1203=-5, or 1203=2x.")
    latent, relative = int(match[1]), bool(match[3])
    if mode == "ablate":
        if number:
            raise UserError(f"{text!r} has a value, but mode ablate always sets 0: leave it out, or choose mode clamp.")
        return LatentValue(latent, 0.0, False)
    if number is None:
        raise UserError(f"{text!r} lacks a value: write {latent}=30, or choose mode ablate.")
    if mode == "scale" and relative:
        raise UserError(
            f"{text!r} is a multiple of the maximum, but mode scale takes a plain factor: {latent}={number:g}."
        )
    return LatentValue(latent, number, relative)


def parse_latents(texts: Sequence[str], mode: InterventionMode) -> tuple[LatentValue, ...]:
    """Several of ``parse_latent``; UserError when a latent is named twice."""
    values = tuple(parse_latent(text, mode) for text in texts)
    seen: set[int] = set()
    for value in values:
        if value.latent in seen:
            raise UserError(f"Latent {value.latent} is given twice: give it once.")
        seen.add(value.latent)
    return values


def resolve(values: Sequence[LatentValue], maxima: Mapping[int, float]) -> tuple[tuple[int, float], ...]:
    """Pairs of latent and absolute value. ``maxima``: the largest activation of each latent with a relative value."""
    return tuple((v.latent, v.value * maxima[v.latent] if v.relative else v.value) for v in values)


def parse_tokens(text: str) -> tuple[int, ...] | None:
    """Patch tokens: None for ``all``, else the sorted indices of a list like ``0,3,5-9``."""
    if text.strip() == "all":
        return None
    indices: set[int] = set()
    for part in text.split(","):
        match = _TOKENS.fullmatch(part.strip())
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise UserError(f"{text!r} does not name patch tokens: write all, or indices like 0,3,5-9.")
        indices.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(indices))


def tokens_text(indices: Sequence[int], n_patches: int) -> str:
    """As ``parse_tokens`` reads them: ``all`` of ``n_patches``, else the ascending ``indices``, in ranges."""
    if len(indices) == n_patches:
        return "all"
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in runs)

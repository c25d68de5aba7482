"""The forward pass of one batch: the rows that the token policy keeps, on their way to the host."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.activations.reading import Batch, Part
from engine.activations.store import owned
from engine.activations.target import Target
from engine.config import ExtractSettings
from engine.errors import UserError, counted
from engine.models import HookPoint, TokenPolicy
from engine.models.encoder import VisionEncoder, patches

TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895e38, "float32": 3.4028234e38}


@dataclass(frozen=True)
class Rows:
    """One batch's rows for one target, on their way to the disk."""

    values: Tensor  # (rows, d) in the stored type, on the host once ``ready``
    extremes: Tensor  # (2): smallest and largest value before the cast
    image: np.ndarray
    token: np.ndarray
    ready: Any  # CUDA event, or None


def forward(encoder: VisionEncoder, batch: Batch, settings: ExtractSettings, needed: list[Target]) -> dict[str, Rows]:
    """Rows of the batch by hook point, on their way to the host; empty when no image of it can be read."""
    if not batch.parts:
        return {}
    policy = TokenPolicy.parse(settings.tokens)
    taken = [_of_part(encoder, part, policy, settings.seed, needed) for part in batch.parts]
    rows = {}
    for target in needed:
        values, images, tokens = zip(*(part[target.hook] for part in taken), strict=True)
        image = np.concatenate(images)
        if not owned(image, batch.indices, policy.rows_an_image(target.hook)):
            raise UserError(
                f"{encoder.spec} does not give each of the images {batch.indices[0]} to {batch.indices[-1]} its rows "
                f"at {target.hook}: use another encoder."
            )
        chosen = torch.cat(values) if len(values) > 1 else values[0]
        rows[str(target.hook)] = _to_host(chosen, TORCH[settings.dtype], image, np.concatenate(tokens))
    return rows


def _of_part(
    encoder: VisionEncoder, part: Part, policy: TokenPolicy, seed: int, needed: list[Target]
) -> dict[HookPoint, tuple[Tensor, np.ndarray, np.ndarray]]:
    """The rows of images that are run together, with the image and token of each."""
    inputs = part.inputs
    if encoder.device.type == "cuda":
        inputs = {name: value.pin_memory() for name, value in inputs.items()}
    activations = encoder.activations(inputs, [target.hook for target in needed], len(part.indices))
    mask, tiles = encoder.token_mask(part.inputs), encoder.tiles(part.inputs)
    rows = {}
    for target in needed:
        hidden = activations[target.hook]
        if target.hook.kind == "last":
            rows[target.hook] = hidden[:, 0], np.array(part.indices), np.full(len(hidden), -1)
        else:
            rows[target.hook] = select(hidden, policy, encoder.n_prefix, seed, part.indices, mask, tiles)
    return rows


def select(
    hidden: Tensor,
    policy: TokenPolicy,
    n_prefix: int,
    seed: int,
    indices: list[int],
    mask: Tensor | None = None,
    tiles: int = 1,
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """The rows that ``policy`` keeps of ``hidden`` (batch, token, d), with the image and token index of each.

    ``indices``: image index of each batch element. ``mask`` (batch, token): False for padding, which is never kept.
    ``tiles``: of how many sequences, each with its own prefix, the tokens of an image are.
    """
    batch, tokens, d = hidden.shape
    shown = patches(tokens, n_prefix, tiles)
    if policy.kind == "mean":
        return (
            _mean(hidden[:, shown], None if mask is None else mask[:, shown]),
            np.array(indices),
            np.full(batch, -1),
        )
    keep = np.zeros((batch, tokens), bool)
    if policy.kind == "random":
        lengths = np.full(batch, tokens) if mask is None else mask.sum(1).numpy()
        for row, (index, length) in enumerate(zip(indices, lengths, strict=True)):
            if length < policy.count:
                raise UserError(
                    f"Image {index} has {counted(length, 'token')}, fewer than --tokens {policy}: lower the number."
                )
            keep[row, drawn(int(length), policy.count, seed, index)] = True
    else:
        keep[:, {"cls": slice(0, 1), "patches": shown, "all": slice(None)}[policy.kind]] = True
        if mask is not None:
            keep &= mask.numpy()
    element, token = np.nonzero(keep)
    flat = hidden.reshape(-1, d)
    if len(token) < batch * tokens:
        flat = flat[torch.from_numpy(np.flatnonzero(keep)).to(hidden.device)]
    return flat, np.asarray(indices)[element], token


def drawn(tokens: int, count: int, seed: int, image: int) -> np.ndarray:
    """The positions that ``random:count`` keeps: sorted, distinct, below ``tokens``.

    They depend only on ``seed`` and ``image``, the number of the image, so neither batching nor an interruption
    changes them.
    """
    return np.sort(np.random.default_rng([seed, image]).choice(tokens, count, replace=False))


def _mean(patches: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return patches.float().mean(1)
    weight = mask.to(patches.device).float().unsqueeze(-1)
    return (patches.float() * weight).sum(1) / weight.sum(1)


def _to_host(values: Tensor, dtype: torch.dtype, image: np.ndarray, token: np.ndarray) -> Rows:
    """Cast on the device and start the copy; the writer waits for it."""
    extremes = torch.stack(torch.aminmax(values)).float()
    stored = values.to(dtype)
    if values.device.type != "cuda":
        return Rows(stored.cpu(), extremes.cpu(), image, token, None)
    host, host_extremes = (torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in (stored, extremes))
    host.copy_(stored, non_blocking=True)
    host_extremes.copy_(extremes, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record()
    return Rows(host, host_extremes, image, token, ready)


def check_storable(rows: Rows, target: Target, batch: Batch, settings: ExtractSettings) -> None:
    """Wait until ``rows`` are on the host; UserError that names an image with values that the type cannot hold."""
    if rows.ready is not None:
        rows.ready.synchronize()
    low, high = rows.extremes.tolist()
    if not max(-low, high) <= LARGEST[settings.dtype]:
        bad = np.flatnonzero(~np.isfinite(rows.values.float().numpy()).all(1))
        if len(bad):
            path = batch.records[int(rows.image[bad[0]]) - batch.start].path
            raise _unstorable(path, target.hook, max(-low, high), settings)


def _unstorable(path: str, hook: HookPoint, peak: float, settings: ExtractSettings) -> UserError:
    if np.isfinite(peak):
        return UserError(
            f"The activations of {path} at {hook} reach {peak:.6g}, more than {settings.dtype} holds: "
            "use --dtype bfloat16 or float32."
        )
    way_out = "check the model's weights" if settings.precision == "float32" else "use --precision float32"
    return UserError(f"The activations of {path} at {hook} are not finite: {way_out}, or leave the image out.")

"""Codes as lists of the kept latents, for the CPU: a step costs one dense product, the encoder, instead of five."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass
class Kept:
    """The positive activations that a sparsifier kept, in the order of their rows."""

    rows: Int[Tensor, " kept"]
    latents: Int[Tensor, " kept"]
    values: Float[Tensor, " kept"]
    batch: int

    def activity(self, w: int) -> tuple[Bool[Tensor, " w"], Float[Tensor, ""]]:
        fired = torch.zeros(w, dtype=torch.bool).index_fill_(0, self.latents, True)
        smallest = self.values.detach().min() if len(self.values) else torch.tensor(torch.inf)
        return fired, smallest


class Encode(torch.autograd.Function):
    """Values of kept latents; backward is sparse, since all other latents have no gradient."""

    @staticmethod
    def forward(ctx, W_enc, bias, centred, values, rows, latents):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(centred, rows, latents)
        ctx.w = len(bias)
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        centred, rows, latents = ctx.saved_tensors
        sums = None
        if ctx.needs_input_grad[0]:
            by_latent = torch.argsort(latents, stable=True)
            sums = bag_sums(centred, rows[by_latent], gradient[by_latent], latents[by_latent], ctx.w)
        return sums, gradient.new_zeros(ctx.w).index_add_(0, latents, gradient), None, None, None, None


class Decode(torch.autograd.Function):
    """Row b of the result: the sum of ``values * W_dec[latents]`` over the entries of bag b."""

    @staticmethod
    def forward(ctx, W_dec, values, bags, latents, count):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(W_dec, values, bags, latents)
        return bag_sums(W_dec, latents, values, bags, count)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        W_dec, values, bags, latents = ctx.saved_tensors
        to_rows = None
        if ctx.needs_input_grad[0]:
            by_latent = torch.argsort(latents, stable=True)
            to_rows = bag_sums(gradient, bags[by_latent], values[by_latent], latents[by_latent], len(W_dec))
        with torch.enable_grad():  # the library's own kernel for <gradient of the bag, row of W_dec>
            weight = values.detach().requires_grad_()
            out = bag_sums(W_dec.detach(), latents, weight, bags, len(gradient))
        (to_values,) = torch.autograd.grad(out, weight, gradient)
        return to_rows, to_values, None, None, None


def decode(
    W_dec: Float[Tensor, "w d"], b_dec: Float[Tensor, " d"], kept: Kept, ends: tuple[int, ...]
) -> list[Float[Tensor, "batch d"]]:
    """Reconstruction by every prefix of the dictionary; ``ends`` are their cumulative numbers of latents."""
    group = torch.bucketize(kept.latents, torch.tensor(ends), right=True)
    bags = kept.rows * len(ends) + group
    parts = Decode.apply(W_dec, kept.values, bags, kept.latents, kept.batch * len(ends))
    x_hat, reconstructions = b_dec, []
    for part in parts.view(kept.batch, len(ends), -1).unbind(1):
        x_hat = x_hat + part
        reconstructions.append(x_hat)
    return reconstructions


def largest(values: Float[Tensor, " n"], count: int, hint: float) -> Int[Tensor, " kept"]:
    """Ascending indices of the ``count`` largest values, those that are positive; of equal ones the first.

    ``hint`` only saves time: a guess somewhat below the smallest value that will be kept.
    """
    candidates = (values > max(hint, 0.0)).nonzero().squeeze(1)
    if len(candidates) < count:
        candidates = (values > 0).nonzero().squeeze(1)
    if len(candidates) <= count:
        return candidates
    found = values[candidates]
    smallest = found.topk(count, sorted=False).values.min()
    keep = found > smallest
    ties = (found == smallest).nonzero().squeeze(1)
    keep[ties[: count - int(keep.sum())]] = True
    return candidates[keep]


def bag_sums(
    table: Float[Tensor, "m d"],
    index: Int[Tensor, " n"],
    weight: Float[Tensor, " n"],
    sorted_bags: Int[Tensor, " n"],
    bags: int,
) -> Float[Tensor, "bags d"]:
    """Row b: the sum of ``weight * table[index]`` over the entries of bag b. Each bag is summed in one order."""
    starts = torch.searchsorted(sorted_bags, torch.arange(bags))
    return F.embedding_bag(index, table, starts, mode="sum", per_sample_weights=weight)

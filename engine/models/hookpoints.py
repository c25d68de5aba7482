"""Where in an encoder activations are taken (hook points), and from which tokens. Does not import torch."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.errors import UserError

Kind = Literal["layer", "mlp", "last"]
Tokens = Literal["cls", "mean", "all", "patches", "random"]


@dataclass(frozen=True)
class HookPoint:
    """``layer:N``: the residual stream after block N (0-based), before any final norm; ``mlp:N``: the output of that
    block's MLP, before layer scale and residual addition; ``last``: the projected or pooled output."""

    kind: Kind
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> "HookPoint":
        if text == "last":
            return cls("last")
        match = re.fullmatch(r"(layer|mlp):(\d+)", text)
        if not match:
            raise UserError(f"{text!r} is no hook point: use layer:N, mlp:N (N from 0) or last.")
        return cls("layer" if match[1] == "layer" else "mlp", int(match[2]))

    def __str__(self) -> str:
        return "last" if self.kind == "last" else f"{self.kind}:{self.index}"


@dataclass(frozen=True)
class TokenPolicy:
    """Which tokens of an image are kept.

    ``all``: every token of the sequence, CLS and registers included; ``patches``: without them; ``cls``: the CLS
    token; ``mean``: one row, the mean over the patches; ``random``: ``count`` distinct positions of ``all``, different
    for each image.
    """

    kind: Tokens
    count: int = 0

    @classmethod
    def parse(cls, text: str) -> "TokenPolicy":
        if text in ("cls", "mean", "all", "patches"):
            return cls(text)  # type: ignore[arg-type]
        match = re.fullmatch(r"random:([1-9]\d*)", text)
        if not match:
            raise UserError(f"{text!r} is no choice of tokens: use cls, mean, all, patches or random:K.")
        return cls("random", int(match[1]))

    def __str__(self) -> str:
        return f"random:{self.count}" if self.kind == "random" else self.kind

    def draw(self, tokens: int, seed: int, image: int) -> np.ndarray:
        """For ``random``: ``count`` sorted distinct positions below ``tokens``. They depend only on ``seed`` and
        ``image``, the number of the image, so neither batching nor an interruption changes them."""
        chosen = np.random.default_rng([seed, image]).choice(tokens, self.count, replace=False)
        return np.sort(chosen).astype(np.int64)

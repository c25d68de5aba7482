"""Where in an encoder activations are taken (hook points), and from which tokens. Does not import torch or NumPy."""

import re
from dataclasses import dataclass
from typing import Literal

from engine.errors import UserError

Tokens = Literal["cls", "mean", "all", "patches", "random"]


@dataclass(frozen=True)
class HookKind:
    """One kind of hook point. All that is to know of a kind is here; the rest of the program asks."""

    name: str
    says: str
    """What is taken there; ``{}`` stands for the number of the block."""
    modules: tuple[str, ...] = ()
    """What the module is called inside a block, in one library or another; empty: it is the block itself."""
    pooled: bool = False
    """It is the end of the encoder, one row an image; else in every block, a row a token."""

    @property
    def form(self) -> str:
        return self.name if self.pooled else f"{self.name}:N"


KINDS = {
    kind.name: kind
    for kind in (
        HookKind("layer", "the residual stream that block {} puts out, counted from 0"),  # before any final norm
        HookKind(  # before layer scale and residual addition
            "mlp", "what the MLP of block {} puts out, counted from 0", modules=("mlp", "ffn", "feed_forward")
        ),
        HookKind(  # the heads joined and projected, before layer scale and residual addition
            "attn",
            "what the attention of block {} puts out, counted from 0",
            modules=("attn", "self_attn", "attention"),
        ),
        HookKind("last", "the pooled or projected output", pooled=True),
    )
}
_IN_BLOCKS = ", ".join(kind.form for kind in KINDS.values() if not kind.pooled)
_POOLED = ", ".join(kind.form for kind in KINDS.values() if kind.pooled)


@dataclass(frozen=True)
class HookPoint:
    """Where activations are taken: a name in ``KINDS``, and the number of the block, from 0."""

    kind: str
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> "HookPoint":
        """``layer:22``, ``mlp:22``, ``attn:22``, ``last``. UserError for anything else."""
        match = re.fullmatch(r"(\w+)(?::(\d{1,6}))?", text)
        kind = KINDS.get(match[1]) if match else None
        if match is None or kind is None or kind.pooled != (match[2] is None):
            raise UserError(f"{text!r} is no hook point: use {_IN_BLOCKS} (N from 0) or {_POOLED}.")
        return cls(kind.name, int(match[2] or 0))

    @property
    def pooled(self) -> bool:
        return KINDS[self.kind].pooled

    @property
    def modules(self) -> tuple[str, ...]:
        return KINDS[self.kind].modules

    @property
    def says(self) -> str:
        """What is taken there, in words."""
        return KINDS[self.kind].says.format(self.index)

    def __str__(self) -> str:
        return self.kind if self.pooled else f"{self.kind}:{self.index}"


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
        match = re.fullmatch(r"random:([1-9]\d{0,8})", text)
        if not match:
            raise UserError(f"{text!r} is no choice of tokens: use cls, mean, all, patches or random:K.")
        return cls("random", int(match[1]))

    def __str__(self) -> str:
        return f"random:{self.count}" if self.kind == "random" else self.kind

    def rows_an_image(self, hook: HookPoint) -> int | None:
        """How many rows every image has at ``hook``; None where that depends on the image's number of tokens."""
        return 1 if hook.pooled else {"cls": 1, "mean": 1, "random": self.count}.get(self.kind)

"""Which latents are listed, in which order, and by what they were found. Knows nothing of the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.errors import UserError, counted
from engine.neurons.quantities import BEST, SUPPORT
from engine.neurons.query import LATENTS
from saetui.formatting import count, number, percent

if TYPE_CHECKING:
    from engine.metrics.results import AgainstMatched
    from engine.neurons.results import LatentSpread
    from saetui.scores import Scores


@dataclass
class LatentList:
    """The answer to a filter, or to a question that was asked beside it."""

    sort: str = BEST
    descending: bool = True
    latents: list[int] = field(default_factory=list)
    title: str = ""
    """What was asked beside the filter; empty while the filter holds."""
    matches: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """How well latents answer that, where they were ranked: by the name of the measure, which heads its column."""
    mistake: str = ""
    """Why the filter finds nothing: a sentence; empty where it is understood."""
    support: int = SUPPORT
    """Images that a latent must fire on to stand among the first of the best."""
    copies: bool = False
    """Whether latents are listed whose top images are copies of one another."""
    aside: tuple[int, ...] = ()
    """Those that are not."""
    by_match: bool = False
    """The filter searches for text, and the best match stands first."""
    through: Mapping[int, str] = field(default_factory=dict)
    """Words through which the filter finds latents, so that a row says why it is listed."""

    def filter(self, scores: Scores, text: str) -> None:
        """List what the filter ``text`` finds; nothing, and why, where it cannot be understood."""
        from engine.query import texts

        self.only([], "")
        self.by_match = False
        try:
            asked = LATENTS.parse(text)
        except UserError as error:
            self.mistake = str(error)
            return
        labels, self.by_match = scores.labels, bool(texts(asked)) and self.sort == BEST
        sort = "" if self.by_match else self.sort
        found = scores.neurons.listed(
            sort, asked, labels.texts, self.descending, labels.marks, self.support, self.copies
        )
        self.latents, self.aside, self.through = found.latents, found.aside, scores.neurons.found_through(asked)

    def only(self, latents: Sequence[int], title: str) -> None:
        """List just these, in this order."""
        self.latents, self.title, self.matches, self.mistake, self.aside = list(latents), title, {}, "", ()
        self.through = {}

    def ranked(self, found: Mapping[str, Mapping[int, float]], title: str) -> None:
        """List the latents of ``found``, those of its first measure first, in its order, with all that they have."""
        self.only(list(dict.fromkeys(latent for values in found.values() for latent in values)), title)
        self.title, self.matches = f"{title}: esc lists all", found

    def place(self, latent: int) -> int:
        """The row of ``latent``; the first where it is not listed."""
        return self.latents.index(latent) if latent in self.latents else 0

    def falls(self, heading: str) -> bool | None:
        """Whether the column with that ``heading`` begins with the largest; None where the list does not stand by
        it."""
        if self.matches:
            return True if heading == next(iter(self.matches)) else None
        stands = not (self.title or self.by_match) and LATENTS.named.get(heading.lower()) == self.sort
        return self.descending if stands else None

    @property
    def _order(self) -> str:
        if self.by_match:
            return "best match first"
        if self.sort == BEST:
            return "best first" if self.descending else "worst first"
        return f"by {self.sort} {'↓' if self.descending else '↑'}"

    def head(self, scores: Scores) -> str:
        """What is listed, and below it the mean MS beside its controls."""
        neurons, summary = scores.neurons, scores.neurons.summary
        ms, all_listed = summary.ms, len(self.latents) == neurons.w
        shown = f"{'' if all_listed else f'{count(len(self.latents))} of '}{counted(neurons.w, 'latent')}"
        aside = f"{count(len(self.aside))} set aside (A), " if self.aside else ""
        listed = self.title or f"{shown}, {aside}{count(summary.alive)} alive · {self._order}"
        matched = f"matched raw {_mean(ms.matched)}, beaten by {percent(ms.matched.share_beaten)}"
        means = f"MS {_mean(ms.sae)}, n {count(ms.sae.latents)} · {matched}"
        crops = "crops: " if summary.patches is not None else ""
        return f"{scores.sae} · {listed}\n{crops}{means} · pairs {number(ms.baseline)}"


def _mean(of: LatentSpread | AgainstMatched) -> str:
    """A mean over latents with half its interval, which older files do not have."""
    half = "" if of.low is None or of.high is None else f" ±{number((of.high - of.low) / 2)}"
    return f"{number(of.mean)}{half}"

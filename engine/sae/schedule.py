"""What changes from step to step of a training: the learning rate, and what waits for the device."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from engine.config import TrainSettings
from engine.errors import counted
from engine.sae.config import learning_rate


@dataclass(frozen=True)
class Schedule:
    """What depends on the length of the training. Short runs get proportions of the long one."""

    steps: int
    lr: float
    """Highest learning rate."""
    warmup: int
    """Steps over which it rises: as set, at most a tenth of all."""
    decay: int
    """Steps at the end over which it falls to 0."""
    dead_after: int
    """Tokens without firing after which a latent is dead: as set, at most a fortieth of all tokens. (1e7 tokens, the
    setting of arXiv 2504.02821, are a fortieth of its 1e5 steps of 4096.)"""
    theta_from: int
    """Step from which the threshold is averaged: 1000, at most half of all. Until then it follows the batch."""
    theta_smoothing: float
    """Weight of the past in that average: 0.999, and less where 1000 steps are more than a tenth of all: the average
    of a short training would otherwise be one of thresholds that the weights have left behind."""

    @classmethod
    def of(cls, settings: TrainSettings, w: int) -> "Schedule":
        steps = settings.steps
        return cls(
            steps=steps,
            lr=settings.lr or learning_rate(w),
            warmup=max(1, min(settings.warmup, steps // 10)),
            decay=round(settings.decay * steps),
            dead_after=max(1, min(settings.dead_after, steps * settings.batch_size // 40)),
            theta_from=min(1000, steps // 2),
            theta_smoothing=1 - 1 / max(1, min(1000, steps // 10)),
        )

    def rate(self, step: int) -> float:
        """Learning rate of step ``step`` (0-based)."""
        rising = min(1.0, (step + 1) / self.warmup)
        falling = min(1.0, (self.steps - step) / self.decay) if self.decay else 1.0
        return self.lr * rising * falling

    def differences(self, other: "Schedule", until: int, revives: bool) -> list[str]:
        """In what the first ``until`` steps under ``other`` would have been other steps, in words.

        ``revives``: whether the training looks at dead latents. The threshold is left out: it is followed anew (see
        engine.sae.training_sae.TrainingSAE.follow).
        """
        found = []
        if self.warmup != other.warmup and min(self.warmup, other.warmup) < until:
            found.append(f"warmup over {counted(self.warmup, 'step')}, not {other.warmup:,}")
        if any(one.decay and until > one.steps - one.decay for one in (self, other)):
            found.append("a learning rate that had fallen")
        if revives and self.dead_after != other.dead_after:
            found.append(f"latents dead after {counted(self.dead_after, 'token')}, not {other.dead_after:,}")
        return found

    def smoothing(self, step: int) -> float:
        return self.theta_smoothing if step >= self.theta_from else 0.0


class Waiting:
    """Measures how much of the time a loop waits for what it loops over."""

    WINDOW = 1.0  # seconds that a share is about

    def __init__(self) -> None:
        self._began, self._waited = time.perf_counter(), 0.0
        self._share: float | None = None

    def over(self, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        """The same batches; the time until each comes counts as waiting."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def share(self) -> float:
        """Share of the last whole window spent waiting; of what has passed, before there is one."""
        passed = time.perf_counter() - self._began
        so_far = self._waited / passed
        if passed >= self.WINDOW:
            self._share = so_far
            self._began, self._waited = time.perf_counter(), 0.0
        return so_far if self._share is None else self._share


class Pace:
    """How long a training will take, told once it is known: after ``STEPS`` steps, and one that does not count."""

    STEPS = 10

    def __init__(self, step: int) -> None:
        self._first = step + 1
        self._began = 0.0

    def left(self, step: int, steps: int) -> float | None:
        """Seconds until ``steps`` are done, at the step at which that is known; else None."""
        if step == self._first:
            self._began = time.perf_counter()
        if step != self._first + self.STEPS:
            return None
        return (time.perf_counter() - self._began) / self.STEPS * (steps - step)

"""What is done to the model for one latent, and what is done beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engine.files import value_sha256
from engine.sae.model import SAE
from engine.steer.controls import Added, along
from engine.steer.interventions import Intervention
from engine.steer.results import Condition
from engine.steer.steerability.asking import Change
from engine.steer.steerability.subjects import Subject


@dataclass(frozen=True, eq=False)
class Conditions:
    """The changes of each latent. Controls are drawn by ``seed`` and latent: more latents leave them as they are."""

    sae: SAE
    sha256: str
    """Content hash of the SAE's weights."""
    alive: Sequence[int]
    """Latents that fire, of which the random ones are drawn."""
    seed: int
    keep_error: bool
    diffmean: Mapping[int, tuple[Float[Tensor, " d"], str]]
    """Of each latent: mean activation of its top images less that of random images, and what tells it apart."""

    @property
    def untouched(self) -> Change:
        return Change("untouched", None, None, None, "untouched")

    @property
    def attached(self) -> Change:
        return self._change("attached", None, Intervention(keep_error=self.keep_error), "")

    def steered(self, subject: Subject, value: float) -> Change:
        one = self._clamp(subject.latent, value)
        return self._change("steered", subject, one, "", value)

    def beside(self, subject: Subject, value: float, sign: int) -> list[Change]:
        """The controls of one latent at ``value``: as far along a random latent and a random direction, and DiffMean,
        added (``sign`` 1) or taken away (-1): as long as it is, and as far as the latent moves a token between 0 and
        ``value``, or its maximum where that is 0. Where few patches hold the concept, their mean is short."""
        clamp = self._clamp(subject.latent, value)
        rng = np.random.default_rng([self.seed, subject.latent])
        other = int(rng.choice([one for one in self.alive if one != subject.latent] or [subject.latent]))
        noise = torch.from_numpy(rng.standard_normal(self.sae.config.d)).to(self.sae.W_dec)
        vector, told = self.diffmean[subject.latent]
        far = (abs(value) or subject.maximum) * self.sae.W_dec[subject.latent].norm()
        equal = vector * (far / vector.norm().clamp(min=torch.finfo(vector.dtype).tiny))
        directions: list[tuple[Condition, Tensor, str]] = [
            ("random_latent", self.sae.W_dec[other], f"latent {other}"),
            ("random_direction", noise, f"noise {self.seed}"),
        ]
        return [
            *(self._change(name, subject, along(self.sae, clamp, r), by, value) for name, r, by in directions),
            self._change("diffmean", subject, Added(vector=sign * vector), f"{sign} {told}", value),
            self._change("diffmean_equal", subject, Added(vector=sign * equal), f"{sign} {told} {value!r}", value),
        ]

    def _clamp(self, latent: int, value: float) -> Intervention:
        return Intervention(latents=((latent, value),), keep_error=self.keep_error)

    def _change(
        self, name: Condition, subject: Subject | None, one: Intervention, by: str, value: float | None = None
    ) -> Change:
        said = [name, self.sha256, [list(pair) for pair in one.latents], one.mode, one.keep_error, by]
        latent, concept = (subject.latent, subject.concept) if subject else (None, None)
        return Change(name, latent, concept, one, value_sha256(said), value)

"""Free text and latents in the space that the encoder's image and text towers share: see ``engine.neurons.names``."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engine.errors import UserError
from engine.neurons.file import Neurons
from engine.neurons.names import rank_text


@dataclass(frozen=True)
class TextSpace:
    """Embeddings of texts against latents, as a neurons file keeps them."""

    directions: Float[np.ndarray, "w D"]
    """Unit vector of each latent (``names.directions``); 0 for a latent without top images."""
    mean: Float[np.ndarray, " D"]
    """Mean of the unit embeddings of the vocabulary's words."""

    @classmethod
    def of(cls, neurons: Neurons) -> "TextSpace":
        """The space in which ``neurons`` was named. UserError when it does not keep it."""
        directions, mean = neurons.directions, neurons.word_mean
        if directions is None or mean is None:
            raise UserError(
                f"{neurons.path.name} has no directions of latents (its encoder has no text tower, or it is older "
                "than they are): score an SAE of a CLIP-like encoder, or score again (saetui score)."
            )
        return cls(directions, mean)

    def cosines(self, text: Float[np.ndarray, " D"]) -> Float[np.ndarray, " w"]:
        """``names.rank_text`` of one text; NaN for a latent without direction."""
        cosines = rank_text(text[None], self.directions, self.mean)[0]
        cosines[~self.directions.any(axis=1)] = np.nan
        return cosines

    def rank(self, text: Float[np.ndarray, " D"], top: int) -> list[tuple[int, float]]:
        """The ``top`` latents nearest to ``text``, with their cosines."""
        cosines = self.cosines(text)
        order = np.argsort(np.where(np.isnan(cosines), np.inf, -cosines), kind="stable")
        return [(int(n), float(cosines[n])) for n in order[:top] if not np.isnan(cosines[n])]

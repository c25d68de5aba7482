"""The space in which words and images are compared: that of a CLIP-like encoder."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from engine.errors import UserError
from engine.models.encoder import VisionEncoder
from engine.models.hookpoints import HookPoint
from engine.neurons.names import embed_text

LAST = HookPoint("last")


class Space:
    """Unit embeddings of texts and of images; each text is embedded once."""

    def __init__(self, encoder: VisionEncoder, batch_size: int = 32):
        if not encoder.has_text:
            raise UserError(
                f"{encoder.spec} has no text tower, so that words cannot be compared with images: give a CLIP-like "
                "encoder to --compare-with."
            )
        self.encoder, self._batch = encoder, 1 if encoder.alone else batch_size
        self._texts: dict[str, np.ndarray] = {}

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "text D"]:
        new = list(dict.fromkeys(text for text in texts if text not in self._texts))
        if new:
            given = [text or "-" for text in new]  # some tokenizers make nothing at all of an empty text
            self._texts.update(zip(new, _unit(embed_text(self.encoder, given)), strict=True))
        return np.stack([self._texts[text] for text in texts]) if texts else np.zeros((0, 1), np.float32)

    def images(self, images: Iterable[Image.Image]) -> Float[np.ndarray, "image D"]:
        found: list[np.ndarray] = []
        waiting: list[Image.Image] = []
        for image in images:
            waiting.append(image)
            if len(waiting) == self._batch:
                found.append(self._embedded(waiting))
                waiting = []
        if waiting:
            found.append(self._embedded(waiting))
        return np.concatenate(found)

    @torch.inference_mode()
    def _embedded(self, images: list[Image.Image]) -> np.ndarray:
        rows = self.encoder.activations(self.encoder.preprocess(images), [LAST])[LAST]
        return _unit(rows.reshape(len(images), -1).float().cpu().numpy())


def direction(embeddings: Float[np.ndarray, "image D"]) -> Float[np.ndarray, " D"]:
    """Unit vector of the mean of unit embeddings."""
    return _unit(embeddings.mean(0)[None])[0]


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)

"""Images found by their captions, and captions by their images, with SAEs in place."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from engine.errors import UserError
from engine.metrics.recovery import recovery
from engine.metrics.results import Recovery
from engine.metrics.retrieval import recall
from engine.models.encoder import VisionEncoder
from engine.neurons.names import embed_text
from engine.steer.fidelity.captions import read_captions
from engine.steer.fidelity.embeddings import Condition, Untouched, unit
from engine.steer.fidelity.results import Retrieval

KS = (1, 5)


@dataclass(frozen=True, eq=False)
class CaptionSpace:
    """Captions as the text tower sees them, and the images that they belong to."""

    texts: Float[np.ndarray, "caption D"]
    """Unit embeddings, of each text once."""
    images: Int[np.ndarray, " image"]
    """Numbers of the images that have captions."""
    of_image: list[Int[np.ndarray, " _"]]
    """Of each of these, the numbers of its captions."""
    of_text: list[Int[np.ndarray, " _"]]
    """Of each caption, the places of its images among these."""
    untouched: Float[np.ndarray, "2 k image"]

    def told(self, spliced: Condition, control: Condition, seed: int) -> Retrieval:
        found = [self.found(torch.cat(one.embeddings).numpy()) for one in (spliced, control)]

        def of(direction: int, k: int) -> Recovery:
            before, one, other = (values[direction, k] for values in (self.untouched, *found))
            return recovery(before, one, other, (0.0, 1.0), seed)

        return Retrieval(len(self.images), len(self.texts), of(0, 0), of(0, 1), of(1, 0), of(1, 1))

    def found(self, embeddings: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "2 k image"]:
        """Of each image, whether it finds a caption of its own, and how many of its captions find it or another of
        their images, among the nearest k of KS."""
        shown = embeddings[self.images]
        by_image = recall(shown, self.texts, self.of_image, KS)
        by_text = recall(self.texts, shown, self.of_text, KS)
        return np.stack([by_image, np.stack([by_text[:, own].mean(1) for own in self.of_image], axis=1)])


def caption_space(spec: str, encoder: VisionEncoder, before: Untouched) -> tuple[CaptionSpace | None, tuple[str, ...]]:
    """The captions of the images, or why images are not found by them. UserError for a table of other images."""
    if not spec:
        return None, ()
    said = read_captions(spec)
    images = [number for number, one in enumerate(before.shown) if one.path in said]
    if not images:
        raise UserError(
            f"{spec} names none of the images: its paths must be as the images are listed, like {before.shown[0].path}."
        )
    if not encoder.has_text:
        return None, (f"Retrieval is left out: {encoder.spec} has no text tower.",)
    own = [said[before.shown[number].path] for number in images]
    numbers = {text: place for place, text in enumerate(dict.fromkeys(text for texts in own for text in texts))}
    try:
        texts = unit(torch.from_numpy(embed_text(encoder, list(numbers)))).float().numpy()
    except UserError as error:  # no tokenizer
        return None, (f"Retrieval is left out: {error}",)
    of_text: list[list[int]] = [[] for _ in numbers]
    for place, some in enumerate(own):
        for text in some:
            of_text[numbers[text]].append(place)
    space = CaptionSpace(
        texts,
        np.array(images),
        [np.array([numbers[text] for text in some]) for some in own],
        [np.array(places) for places in of_text],
        np.empty((2, len(KS), len(images))),
    )
    space.untouched[:] = space.found(unit(before.embeddings).float().numpy())
    return space, ()

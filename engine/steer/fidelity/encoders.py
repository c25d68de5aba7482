"""What is left of an encoder's image embeddings, and of what they tell, with SAEs in place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engine.config import FidelitySettings
from engine.errors import UserError
from engine.images import Images
from engine.metrics.recovery import recovery
from engine.models.encoder import VisionEncoder
from engine.neurons.names import class_texts, distinct, embed_text, is_word
from engine.reporter import Reporter, StageBegan
from engine.steer.fidelity.embeddings import (
    Condition,
    Untouched,
    ablated,
    compare,
    look,
    nearest,
    reconstructed,
    unit,
)
from engine.steer.fidelity.results import EncoderFidelity, ZeroShot
from engine.steer.fidelity.retrieval import caption_space
from engine.steer.fidelity.subjects import Subject

SHARE, COSINE = (0.0, 1.0), (-1.0, 1.0)


def measure_encoder(
    settings: FidelitySettings,
    subjects: Sequence[Subject],
    encoder: VisionEncoder,
    images: Images,
    reporter: Reporter,
) -> list[tuple[EncoderFidelity, tuple[str, ...]]]:
    """What is left of the encoder with each SAE, and what is to be said of that."""
    reporter.event(StageBegan("untouched"))
    before = look(encoder, images, list(dict.fromkeys(one.hook for one in subjects)), settings, reporter)
    classes, why = _classes(settings, encoder, before)
    captions, more = caption_space(settings.captions, encoder, before)
    sites = dict.fromkeys(one.site for one in subjects)
    controls = {site: Condition(ablated(before.means[site.hook], site, encoder), site) for site in sites}
    spliced = [Condition(reconstructed(one.sae, one.site, encoder), one.site) for one in subjects]
    reporter.event(StageBegan("spliced"))
    texts = classes.embeddings if classes else None
    conditions = [*controls.values(), *spliced]
    compare(encoder, images, before, conditions, texts, captions is not None, settings, reporter)
    reporter.event(StageBegan("intervals"))
    found = []
    for done, (one, condition) in enumerate(zip(subjects, spliced, strict=True), 1):
        control = controls[one.site]
        part = EncoderFidelity(
            spec=encoder.spec,
            images=len(before.shown),
            broken=before.broken,
            tokens=one.tokens,
            reached=control.reached,
            cosine=recovery(1.0, condition.cosine, control.cosine, COSINE, settings.seed),
            zero_shot=classes.told(condition, control, settings.seed) if classes else None,
            retrieval=captions.told(condition, control, settings.seed) if captions else None,
        )
        found.append((part, (*why, *more, *([] if part.reached else [_unreached(one, encoder)]))))
        reporter.progress(done, len(subjects), "SAEs")
        reporter.check()
    return found


def _unreached(one: Subject, encoder: VisionEncoder) -> str:
    tokens = {"cls": "CLS", "patches": "the patches", "all": "all tokens"}[one.tokens]
    return (
        f"What {tokens} are at {one.hook} does not reach the embedding of {encoder.spec}, which is the same whatever "
        "stands there: fidelity here says nothing of the SAE."
    )


@dataclass(frozen=True, eq=False)
class _Classes:
    """The classes of the images, as the text tower sees them."""

    texts: tuple[str, ...]
    embeddings: Float[Tensor, "class D"]
    true: Float[np.ndarray, " N"]
    """Number of the class of each image; NaN without one."""
    untouched: Int[np.ndarray, " N"]
    """What the untouched encoder takes it for."""

    def told(self, spliced: Condition, control: Condition, seed: int) -> ZeroShot:
        one, other = (np.concatenate(condition.predicted) for condition in (spliced, control))

        def right(kind: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
            return np.where(np.isnan(self.true), np.nan, kind == self.true)

        def same(kind: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
            return (kind == self.untouched).astype(float)

        return ZeroShot(
            texts=self.texts,
            accuracy=recovery(right(self.untouched), right(one), right(other), SHARE, seed),
            agreement=recovery(1.0, same(one), same(other), SHARE, seed),
        )


def _classes(
    settings: FidelitySettings, encoder: VisionEncoder, before: Untouched
) -> tuple[_Classes | None, tuple[str, ...]]:
    """The classes in words, or why classes are not told."""
    names = class_texts(before.shown)
    codes = [name for name in names.values() if not is_word(name)]
    left_out = "Zero-shot accuracy is left out: "
    if not encoder.has_text:
        return None, (f"{left_out}{encoder.spec} has no text tower.",)
    if len(names) < 2:
        return None, (f"{left_out}the images are not in two classes or more.",)
    if codes:
        why = f"the classes have codes in place of words, as {codes[0]}: a classes.txt among the folders names them."
        return None, (left_out + why,)
    texts = tuple(settings.template.replace("{}", name) for name in names.values())
    try:
        embedded = unit(torch.from_numpy(embed_text(encoder, list(texts))))
    except UserError as error:  # no tokenizer
        return None, (f"{left_out}{error}",)
    alike = int((~distinct(embedded.float().numpy())).sum())
    notes = [
        f"The text tower takes {alike:,} of {len(names):,} classes for one another: it does not know their words; a "
        "classes.txt among the folders, or --template, puts them in others."
    ]
    numbers = {label: number for number, label in enumerate(names)}
    true = np.array([numbers[one.label] if one.label else np.nan for one in before.shown], float)
    return _Classes(texts, embedded, true, nearest(before.embeddings, embedded)), tuple(notes if alike else [])

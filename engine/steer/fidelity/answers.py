"""What a vision-language model says of images: untouched, with an SAE attached, and with the mean in its place."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from engine.config import FidelitySettings
from engine.errors import UserError
from engine.images import BrokenImage, Images
from engine.metrics.recovery import recovery
from engine.models.device import pick_device
from engine.models.vlm import VLM
from engine.reporter import Reporter, StageBegan, Warned
from engine.steer.controls import Replaced, mean_patches
from engine.steer.fidelity.results import AnswerFidelity
from engine.steer.fidelity.subjects import Subject
from engine.steer.generate import Spoken, forced, spoken
from engine.steer.interventions import Intervention, check
from engine.steer.model_cache import ModelCache

SHARE, KL = (0.0, 1.0), (0.0, float("inf"))
_TOGETHER = 16  # images asked about at most: each holds the logits of an answer


@dataclass
class Divergence:
    """Of the untouched model, image by image: means over the tokens of its own answer."""

    kl: list[float] = field(default_factory=list)
    same: list[float] = field(default_factory=list)
    """Share of the tokens at which the likeliest one is the same."""


def measure_answers(
    settings: FidelitySettings, subjects: Sequence[Subject], images: Images, reporter: Reporter
) -> Sequence[AnswerFidelity | str]:
    """How far the model is from itself with each SAE attached; a sentence where it does not see through the SAE."""
    reporter.event(StageBegan("load the model"))
    device = pick_device(settings.device)
    vlm = ModelCache().vlm(settings.vlm, device, settings.dtype, reporter)
    for note in vlm.notes:
        reporter.event(Warned(note))
    why = [_unfit(vlm, one) for one in subjects]
    fitting = [one for one, refused in zip(subjects, why, strict=True) if not refused]
    if not fitting:
        return why
    pictures = _pictures(images, settings.asked)
    hooks = list(dict.fromkeys(str(one.hook) for one in fitting))
    reporter.event(StageBegan("means"))
    controls = {hook: Replaced(vector=_mean(vlm, hook, images, pictures, reporter)) for hook in hooks}
    found = {one.folder: Divergence() for one in fitting}
    ablated = {hook: Divergence() for hook in hooks}
    reporter.event(StageBegan("answers"))
    step, tokens = 1 if vlm.alone else min(settings.batch_size, _TOGETHER), 0
    for start in range(0, len(pictures), step):
        shown = [images.load(number) for number in pictures[start : start + step]]
        said = spoken(vlm, shown, settings.prompt, settings.max_new_tokens, reporter.check)
        tokens += sum(map(len, said.ids))
        for hook, divergence in ablated.items():
            first = next(one for one in fitting if str(one.hook) == hook)
            _diverge(divergence, said, forced(vlm, said, first.sae, controls[hook], reporter.check))
        for one in fitting:
            _diverge(found[one.folder], said, forced(vlm, said, one.sae, Intervention(), reporter.check))
        reporter.progress(min(start + step, len(pictures)), len(pictures), "images")
    return [
        refused or _told(vlm, settings, found[one.folder], ablated[str(one.hook)], tokens)
        for one, refused in zip(subjects, why, strict=True)
    ]


def _unfit(vlm: VLM, one: Subject) -> str:
    try:
        check(vlm, one.sae)
    except UserError as refused:
        return f"Answers are left out: {refused}"
    return ""


def _pictures(images: Images, asked: int) -> list[int]:
    """The middles of ``asked`` equal parts of the list, which is often sorted by class, as far as they can be read."""
    parts = min(asked or len(images), len(images))
    found = []
    for number in ((2 * part + 1) * len(images) // (2 * parts) for part in range(parts)):
        try:
            images.load(number)
        except BrokenImage:
            continue
        found.append(number)
    if not found:
        raise UserError(f"No image of {images.spec} that was to be asked about can be read: give others.")
    return found


def _mean(vlm: VLM, hook: str, images: Images, pictures: Sequence[int], reporter: Reporter) -> Float[Tensor, " d"]:
    """Of the patch tokens of the images."""
    total, step = None, 1 if vlm.alone else _TOGETHER
    for start in range(0, len(pictures), step):
        shown: list[Image.Image] = [images.load(number) for number in pictures[start : start + step]]
        for mean in mean_patches(vlm, hook, shown, step):
            total = mean.double() if total is None else total + mean.double()
        reporter.check()
    assert total is not None
    return (total / len(pictures)).float()


def _diverge(divergence: Divergence, said: Spoken, changed: Sequence[Float[Tensor, "token vocabulary"]]) -> None:
    """KL(p || q) = sum p (ln p - ln q) over the vocabulary in nats, p of the untouched model; in float64."""
    for before, after in zip(said.logits, changed, strict=True):
        log_p, log_q = before.double().log_softmax(-1), after.double().log_softmax(-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0.0)  # rounding may leave -1e-17
        if not bool(kl.isfinite().all()):
            raise UserError("What the model says next is not finite with activations replaced: try --dtype float32.")
        divergence.kl.append(float(kl.mean()))
        divergence.same.append(float((before.argmax(-1) == after.argmax(-1)).double().mean()))


def _told(
    vlm: VLM, settings: FidelitySettings, spliced: Divergence, ablated: Divergence, tokens: int
) -> AnswerFidelity:
    def of(name: str) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        return np.array(getattr(spliced, name)), np.array(getattr(ablated, name))

    return AnswerFidelity(
        spec=vlm.spec,
        images=len(spliced.kl),
        tokens=tokens,
        kl=recovery(0.0, *of("kl"), bounds=KL, seed=settings.seed, lower=True),
        same_token=recovery(1.0, *of("same"), bounds=SHARE, seed=settings.seed),
    )

"""Image embeddings of an encoder: untouched, with an SAE's reconstructions, and with the mean in their place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from engine.activations.reading import Part, prepared
from engine.activations.shards import ImageRecord
from engine.config import FidelitySettings
from engine.errors import UserError
from engine.images import Images
from engine.models import HookPoint
from engine.models.encoder import Change, VisionEncoder
from engine.reporter import Reporter
from engine.sae.model import SAE

LAST = HookPoint("last")
_ENCODED_BYTES = 1 << 28  # of latents at a time
_SAME = 1e-5  # relative: embeddings that are one, whatever batches they come from


@dataclass(frozen=True)
class Site:
    """Where activations are replaced: a hook point, and of which tokens."""

    hook: HookPoint
    tokens: str
    """pooled, cls, patches or all."""

    def chosen(
        self, x: Float[Tensor, "image token d"], inputs: dict[str, Tensor], encoder: VisionEncoder
    ) -> Bool[Tensor, "image token"]:
        """The tokens, padding left out."""
        place = _places(x.shape[1], self.hook, inputs, encoder).to(x.device)
        prefix = 0 if self.hook.pooled else encoder.n_prefix
        of = {"cls": place == 0, "patches": place == prefix}.get(self.tokens, torch.ones_like(place, dtype=torch.bool))
        return of & _image(x, self.hook, inputs, encoder)


def _places(tokens: int, hook: HookPoint, inputs: dict[str, Tensor], encoder: VisionEncoder) -> Int[Tensor, " token"]:
    """Of each token: its position among CLS and registers (of its tile), or their number for a patch."""
    if hook.pooled:
        return torch.zeros(tokens, dtype=torch.long)
    return (torch.arange(tokens) % (tokens // encoder.tiles(inputs))).clamp(max=encoder.n_prefix)


def _image(
    x: Float[Tensor, "image token d"], hook: HookPoint, inputs: dict[str, Tensor], encoder: VisionEncoder
) -> Bool[Tensor, "image token"]:
    """True for tokens of the image, False for padding."""
    real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    padding = None if hook.pooled else encoder.token_mask(inputs)
    if padding is not None:
        real[:, -padding.shape[1] :] = padding.to(x.device)
    return real


def reconstructed(sae: SAE, site: Site, encoder: VisionEncoder) -> Change:
    """The SAE's reconstruction in place of the activations, its error dropped."""

    def change(x: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        chosen = site.chosen(x, inputs, encoder)
        rows = x[chosen].float()
        step = max(1, _ENCODED_BYTES // (4 * sae.config.w))
        out = x.float().clone()
        out[chosen] = torch.cat([sae(part) for part in rows.split(step)]) if len(rows) else rows
        return out

    return change


def ablated(means: Float[Tensor, "place d"], site: Site, encoder: VisionEncoder) -> Change:
    """The mean in place of the activations: of CLS and of each register its own, of patches that of all."""

    def change(x: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        at = _places(x.shape[1], site.hook, inputs, encoder).to(x.device)
        return torch.where(site.chosen(x, inputs, encoder)[..., None], means.to(x.device, x.dtype)[at], x)

    return change


@dataclass
class Untouched:
    """What one pass over the images leaves behind."""

    shown: list[ImageRecord]
    """Those that can be read."""
    broken: int
    embeddings: Float[Tensor, "N D"]
    means: dict[HookPoint, Float[Tensor, "place d"]]
    """Of all images: of CLS, of each register, and of the patches."""


@torch.inference_mode()
def look(
    encoder: VisionEncoder,
    images: Images,
    hooks: Sequence[HookPoint],
    settings: FidelitySettings,
    reporter: Reporter,
) -> Untouched:
    """Embeddings of the untouched encoder, and the mean activations at ``hooks``; kept on the host."""
    shown: list[ImageRecord] = []
    embeddings, sums = list[Tensor](), dict[HookPoint, Tensor]()
    counts: dict[HookPoint, Tensor] = {}
    for records, part in _parts(encoder, images, settings, reporter):
        taken = encoder.activations(part.inputs, list(dict.fromkeys([*hooks, LAST])), len(part.indices))
        embeddings.append(taken[LAST][:, 0].float().cpu())
        shown += records
        for hook in hooks:
            x = taken[hook].double().cpu()
            if not bool(x.isfinite().all()):
                raise UserError(f"The activations at {hook} are not finite: check the model's weights.")
            real = _image(x, hook, part.inputs, encoder)
            places = _places(x.shape[1], hook, part.inputs, encoder).expand(len(x), -1)[real]
            if hook not in sums:
                number = 1 if hook.pooled else encoder.n_prefix + 1
                sums[hook], counts[hook] = x.new_zeros(number, x.shape[2]), x.new_zeros(number)
            sums[hook].index_add_(0, places, x[real])
            counts[hook].index_add_(0, places, x.new_ones(len(places)))
    if not shown:
        raise UserError(f"No image of {images.spec} can be read: give others.")
    means = {hook: (total / counts[hook].clamp(min=1)[:, None]).float() for hook, total in sums.items()}
    return Untouched(shown, len(images) - len(shown), torch.cat(embeddings), means)


@dataclass
class Condition:
    """What the embeddings under one condition say, image by image."""

    change: Change
    site: Site
    cosines: list[np.ndarray] = field(default_factory=list)
    """With those of the untouched encoder."""
    predicted: list[np.ndarray] = field(default_factory=list)
    """Numbers of classes."""
    embeddings: list[Float[Tensor, "_ D"]] = field(default_factory=list)
    """Unit rows, where they are kept."""
    reached: bool = False
    """Whether any embedding is another than the untouched one."""

    @property
    def cosine(self) -> Float[np.ndarray, " N"]:
        return np.concatenate(self.cosines)


@torch.inference_mode()
def compare(
    encoder: VisionEncoder,
    images: Images,
    before: Untouched,
    conditions: Sequence[Condition],
    texts: Float[Tensor, "class D"] | None,
    keep: bool,
    settings: FidelitySettings,
    reporter: Reporter,
) -> None:
    """Fill ``conditions`` in one more pass over the images. ``texts``: unit embeddings, one a class. ``keep``
    the embeddings, too."""
    done = 0
    for records, part in _parts(encoder, images, settings, reporter):
        untouched = before.embeddings[done : done + len(records)]
        for one in conditions:
            found = encoder.output(part.inputs, len(part.indices), {one.site.hook: one.change}).float().cpu()
            if not bool(found.isfinite().all()):
                raise UserError(f"Embeddings with activations replaced at {one.site.hook} are not finite.")
            one.reached |= bool(((found - untouched).norm(dim=1) > _SAME * untouched.norm(dim=1)).any())
            cosine = (unit(found) * unit(untouched)).sum(1)
            one.cosines.append(cosine.clamp(-1, 1).numpy())
            if keep:
                one.embeddings.append(unit(found).float())
            if texts is not None:
                one.predicted.append(nearest(found, texts))
        done += len(records)


def unit(rows: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    """Rows of length 1, in float64."""
    return normalize(rows.double(), dim=1)


def nearest(embeddings: Float[Tensor, "n D"], texts: Float[Tensor, "class D"]) -> Int[np.ndarray, " n"]:
    """The class whose text is nearest to each image by cosine."""
    return (unit(embeddings) @ texts.T).argmax(1).numpy()


def _parts(
    encoder: VisionEncoder, images: Images, settings: FidelitySettings, reporter: Reporter
) -> Iterator[tuple[list[ImageRecord], Part]]:
    """The images that can be read, some at a time, in the same order and company in every pass."""
    starts = range(0, len(images), settings.batch_size)
    spans = [(start, min(start + settings.batch_size, len(images))) for start in starts]
    for batch in prepared(images, encoder, spans, settings.workers):
        for part in batch.parts:
            yield [batch.records[i - batch.start] for i in part.indices], part
        reporter.progress(batch.start + len(batch.records), len(images), "images")
        reporter.check()

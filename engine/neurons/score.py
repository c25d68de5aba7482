"""Score every latent of an SAE on a set of images: one pass over them, one file of results."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from engine.activations.asked import MadeOtherwise
from engine.activations.extract import extract
from engine.activations.reading import Batch, prepared
from engine.activations.store import Store
from engine.activations.target import is_of
from engine.config import ExtractSettings, Pooling, ScoreSettings, Transparency, check
from engine.errors import UserError, keeping
from engine.files import check_target, value_sha256
from engine.images import Images, open_images
from engine.images.objects import Objects, open_objects
from engine.images.taxonomies import open_taxonomy
from engine.links import check_own
from engine.metrics.copies import copies
from engine.metrics.hierarchy import hierarchy
from engine.metrics.matched_neurons import against, matched_ms, rectified_ms
from engine.metrics.monosemanticity import MS, MSAccumulator, monosemanticity, number
from engine.metrics.uniqueness import uniqueness
from engine.models import HookPoint, load_encoder, same_model
from engine.models.asked import other_width
from engine.models.device import pick_device
from engine.models.encoder import VisionEncoder
from engine.neurons import localised
from engine.neurons.asked import no_encoder
from engine.neurons.file import Neurons, write_neurons
from engine.neurons.names import Names, embed_text, name_latents, vocabulary
from engine.neurons.pooling import chosen_tokens, pool, scored_tokens
from engine.neurons.quantities import KEPT
from engine.neurons.results import Frequency, LatentSpread, MSSummary, Scored, ScoredImage, Summary
from engine.neurons.taxonomy import placed
from engine.neurons.top_images import TopImages
from engine.places import recorded_text, workspace_of
from engine.reporter import Reporter, StageBegan, Warned
from engine.sae.config import weights_sha256
from engine.sae.model import SAE
from engine.workspace import Provenance, Source, Workspace, neurons_path, numbered, short_slug, versions

LAST = HookPoint("last")
DENSE = 0.1  # a latent that fires on a larger share of the tokens is dense
_ENCODED_BYTES = 1 << 28  # of the dense latents of the images that are encoded together


def score(settings: ScoreSettings, workspace: Workspace, reporter: Reporter | None = None) -> Scored:
    """Score ``settings.sae`` on ``settings.images``; writes ``neurons/<sae>--<images>.h5`` and returns its summary.

    Tokens: those of the kind that the SAE was trained on. For ``cls``, ``mean`` and pooled (``last``) SAEs the one
    token of an image; for all others its patches, without CLS and registers, pooled by ``settings.pooling`` (``cls``
    takes the CLS token instead). MS, support, frequency of images and top images are about these pooled values.

    Memory: O(w x top) for the top images, 8 bytes for each latent that fires on an image, N x D for the embeddings.
    UserError for whatever the user can mend, as for a name under which there are other scores.
    """
    reporter = reporter or Reporter()
    check(settings)
    folder = workspace.existing("saes", settings.sae)
    device = pick_device(settings.device)
    sae = SAE.load(folder, device)
    images = open_images(settings.images, settings.limit, sae.config.transparency)
    words = vocabulary(settings.vocabulary, images.entries)
    path = neurons_path(settings, folder.name, workspace)
    check_own(path)
    if not path.is_file():
        check_target(path)
    encoder = _encoder(settings, sae, device, reporter)
    objects = open_objects(settings.objects) if settings.objects else None
    parents = open_taxonomy(settings.taxonomy, settings.wordnet)

    images.learn(reporter=reporter)
    read = (
        Source("sae", folder.name, str(folder), weights_sha256(folder)),
        Source("model", encoder.spec, encoder.spec, encoder.sha256 or ""),
        Source("images", images.spec, images.spec, images.sha256),
        Source("vocabulary", Path(settings.vocabulary).name or "built-in", settings.vocabulary, value_sha256(words)),
        *([Source("objects", Path(objects.spec).name, objects.spec, objects.sha256)] if objects else []),
        *(
            [Source("taxonomy", Path(settings.taxonomy).name or "WordNet", settings.taxonomy, parents.sha256)]
            if parents
            else []
        ),
    )
    _scored_already(path, settings, read, images)  # other scores are refused before the judge sees all images
    reporter.event(StageBegan("embedding"))
    embeddings = _embeddings(settings, workspace, images, reporter)
    judged = Source("embeddings", embeddings.path.name, str(embeddings.path), embeddings.sha256)
    sources = (*read[:2], judged, *read[2:])
    if found := _scored_already(path, settings, sources, images):
        reporter.event(StageBegan("nothing to do: it is scored"))
        return Scored(**vars(found), path=str(path), made=False)
    reporter.event(StageBegan("encoding"))
    E = embeddings.read(0, embeddings.rows)
    with keeping("what the judge saw is kept"):
        seen = _encode(settings, sae, encoder, images, embeddings, E, reporter)

    reporter.event(StageBegan("scoring"))
    result = seen.pooled.result(settings.min_support)
    reporter.progress(1, 4, "scores")
    raw = monosemanticity(seen.up, E, settings.min_support, interval=False)
    rectified = rectified_ms(seen.up, seen.down, E, settings.min_support)
    reporter.progress(2, 4, "scores")
    matched = matched_ms(seen.up, seen.down, E, result.support, settings.min_support, settings.seed)
    reporter.progress(3, 4, "scores")
    scored = _images(embeddings)
    if parents is not None:
        scored = placed(scored, parents, reporter)
    paths = [image.taxonomy for image in scored]
    latents = _latents(seen, result, matched)
    alike = uniqueness(latents["top_images"], len(scored))
    names = _names(encoder, seen, latents["top_images"], words, reporter)
    latents |= {
        "partner": alike.partner,
        "jaccard": alike.jaccard,
        "names": names.of_latent,
        "name_scores": names.scores,
    }
    if names.words:
        latents["directions"] = names.directions
    latents |= measured(
        latents,
        activations=sparse.csc_array(seen.pooled.activations()),
        embeddings=E,
        paths=paths,
        labels=[image.label for image in scored],
        decoder=sae.W_dec,
        groups=sae.config.groups,
        w=sae.config.w,
    )
    reporter.progress(4, 4, "scores")
    if objects is not None:
        latents |= _on_objects(encoder, images, embeddings, latents, objects, reporter)

    frequency = latents["token_frequency"]
    fires = frequency > 0
    summary = Summary(
        sae=folder.name,
        images=len(scored),
        broken=len(images) - len(scored),
        tokens=seen.tokens,
        pooling=settings.pooling if seen.several else "none",
        model=encoder.spec,
        hook=sae.config.hook,
        embed_with=settings.embed_with,
        ms=MSSummary(
            sae=LatentSpread(**vars(result.spread), latents=len(result.ms) - result.undefined),
            raw=raw.spread,
            raw_relu=rectified.spread,
            matched=against(result.ms, matched),
            baseline=number(result.baseline),
            lift=number(result.mean - result.baseline),
            median_support=_median(result.support[fires]),
        ),
        alive=int(fires.sum()),
        dead=int((~fires).sum()),
        frequency=Frequency(float(frequency.sum()), float((frequency > DENSE).mean()), _median(frequency[fires])),
        hierarchy=hierarchy(latents["top_images"], paths, sae.config.groups, result.ms, settings.seed)
        if any(paths)
        else None,
        uniqueness=alike.summary(),
        named=int((latents["names"] >= 0).any(axis=1).sum()),
        settings=settings,
        left_out=images.left_out,
        localisation=localised.summary(latents) if "peak" in latents else None,
        copies=int(copies(latents["top_images"], latents["distinct"]).sum()),
    )
    origin = Provenance(sources, versions())
    mean = names.mean if names.words else None
    write_neurons(path, latents, scored, names.words, names.latents, names.latent_scores, summary, origin, mean)
    reporter.event(StageBegan("done"))
    return Scored(**vars(summary), path=str(path))


def measured(latents: Mapping[str, np.ndarray], **given: Any) -> dict[str, np.ndarray]:
    """The quantities that have a function of their own (``Quantity.made_by``), from ``latents`` and what is given.

    Given are ``activations`` (N, w) sparse, pooled, 0 or above; ``embeddings`` (N, D) of the judge; ``paths``, the
    taxonomy of each image; ``labels``, its class or None; ``decoder`` (w, d); ``groups``, cumulative sizes of the
    Matryoshka groups; ``w``.
    """
    known = {**given, **latents}
    made: dict[str, np.ndarray] = {}
    declared = [one for one in KEPT.values() if one.made_by]
    for _, together in groupby(declared, key=lambda one: (one.made_by, one.of)):
        quantities = list(together)
        result = quantities[0].function()(*(known[name] for name in quantities[0].of))
        results = result if len(quantities) > 1 else (result,)
        made |= {one.name: array for one, array in zip(quantities, results, strict=True)}
        known |= made
    return made


def _on_objects(
    encoder: VisionEncoder,
    images: Images,
    embeddings: Store,
    latents: Mapping[str, np.ndarray],
    objects: Objects,
    reporter: Reporter,
) -> dict[str, np.ndarray]:
    if "maps" not in latents:
        reporter.event(Warned("There are no maps of patches, so nothing says whether they lie on the objects."))
        return {}
    reporter.event(StageBegan("holding maps against objects"))
    scored = embeddings.image.tolist()
    return localised.localised(encoder, images, scored, latents["top_images"], latents["maps"], objects, reporter)


def _images(embeddings: Store) -> list[ScoredImage]:
    """The images that could be read, in order."""
    embeddings.check_listed()
    records = [embeddings.images[i] for i in embeddings.image.tolist()]
    return [ScoredImage(one.path, one.label, one.taxonomy, one.sha256 or "") for one in records]


def _scored_already(path: Path, settings: ScoreSettings, sources: Sequence[Source], images: Images) -> Summary | None:
    """The summary in ``path`` if it was made from the very same sources with the same settings.

    UserError for other scores: a name is no identity, and they are not replaced. A file that lacks what scoring
    computes now, or is damaged, is made anew; so is one of these images when some could not be read and now are others.
    """
    if not path.is_file():
        return None
    try:
        found = Neurons.open(path)
    except UserError:  # damaged
        return None
    with found:
        mended = _mended(found, images)
        older = "objects" not in {one.kind for one in found.provenance.made_from}  # they are told for the first time
        passed = (*(("images", "embeddings") if mended else ()), *(("objects",) if older else ()))
        compared = [one for one in sources if one.kind not in passed]
        if differing := _differences(found, settings, compared, images):
            raise UserError(f"{path} holds scores of {'; '.join(differing)}: give another --name.")
        told = not (older and settings.objects)
        return found.summary if found.complete and told and not mended else None


def _mended(found: Neurons, images: Images) -> bool:
    """Whether all images that were scored are the same now, and some that could not be read then are not."""
    if not found.summary.broken or len(images) != found.summary.images + found.summary.broken:
        return False
    before = next((one.sha256 for one in found.provenance.made_from if one.kind == "images"), "")
    now = {entry.path: images.content(number) for number, entry in enumerate(images.entries)}
    return before != images.sha256 and all(now.get(one.path) == one.sha256 for one in found.images)


_SAID = {
    "sae": "the SAE",
    "model": "the encoder",
    "images": "the images",
    "vocabulary": "the words",
    "objects": "the objects",
    "taxonomy": "the taxonomy",
}
_COMPARED = ("pooling", "min_support", "top", "batch_size", "seed")  # settings that no source tells


def _differences(found: Neurons, settings: ScoreSettings, sources: Sequence[Source], images: Images) -> list[str]:
    """In what the scores that are there differ from those that are asked for, in words."""
    kept, before = {one.kind: one for one in found.provenance.made_from}, found.summary.settings
    changed = [one for one in sources if one.kind not in kept or not _same(kept[one.kind], one, images)]
    differing = [
        _other(_SAID[one.kind], _called(kept.get(one.kind), before), _called(one, settings))
        for one in changed
        if one.kind in _SAID
    ]
    if "taxonomy" in kept and "taxonomy" not in {one.kind for one in sources}:
        differing.append(_other(_SAID["taxonomy"], _called(kept["taxonomy"], before), _called(None, settings)))
    pairs = [(name, getattr(before, name), getattr(settings, name)) for name in _COMPARED]
    differing += [_other(name.replace("_", " "), was, now) for name, was, now in pairs if was != now]
    was, now = (recorded_text(one.embed_with, "model", workspace_of(found.path)) for one in (before, settings))
    if was != now or (changed and not differing):
        differing.append(_other("the judge", before.embed_with, settings.embed_with))
    return differing


def _same(before: Source, now: Source, images: Images) -> bool:
    match now.kind:
        case "model":
            return same_model(before.sha256, now.sha256)
        case "images":  # the identity of their list once was of paths and sizes; the embeddings tell the rest
            return before.sha256 in (images.sha256, images.listed_sha256)
        case "vocabulary" if before.name == now.name == "built-in":
            return True  # it grows from version to version: names by older ones still hold
        case _:
            return before.sha256 == now.sha256


def _called(source: Source | None, settings: ScoreSettings) -> str:
    if source is None:
        return "none"
    limit = settings.limit if source.kind == "images" else 0
    return (source.path or source.name) + (f" (the first {limit:,})" if limit else "")


def _other(what: str, before: object, now: object) -> str:
    return f"{what} {before}, not {now}" if before != now else f"{what} {now} as it was then"


@dataclass
class _Seen:
    """What one pass over N images leaves behind."""

    pooled: MSAccumulator  # latents, one value an image
    up: Float[np.ndarray, "N d"]  # raw coordinates, pooled like latents
    down: Float[np.ndarray, "N d"]  # the same of the coordinates with the other sign
    fired: np.ndarray  # (w) tokens on which each latent fires
    token_count: int
    top: TopImages
    joint: Float[np.ndarray, "N D"] | None  # image embeddings in the space of the text tower
    tokens: str  # which tokens were scored
    several: bool  # more than one token an image


def _encoder(settings: ScoreSettings, sae: SAE, device: torch.device, reporter: Reporter) -> VisionEncoder:
    """The encoder whose activations the SAE reads, found to fit it."""
    spec = settings.encoder or sae.config.model
    if not spec:
        raise UserError(no_encoder(settings.sae))
    encoder = load_encoder(spec, device)
    for message in encoder.warnings:
        reporter.event(Warned(message))
    hook = HookPoint.parse(sae.config.hook)
    encoder.check(hook)
    width = encoder.width(hook)
    if width != sae.config.d:
        raise UserError(other_width(spec, hook, width, sae.config.d))
    if sae.config.model_sha256 and not same_model(sae.config.model_sha256, encoder.sha256):
        reporter.event(Warned(f"{spec} has other weights, or other settings, than the encoder the SAE was trained on."))
    if settings.embed_with == spec:
        reporter.event(Warned(f"{spec} judges its own latents: an independent encoder is meant."))
    return encoder


def _embeddings(settings: ScoreSettings, workspace: Workspace, images: Images, reporter: Reporter) -> Store:
    """What the judge sees of the images: extracted once for each judge and image list, then reused.

    They once were named by the paths and sizes of the images: such are reused where the contents agree too. Where a
    judge of that name was another one, by its weights, the next free name is taken.
    """
    shown = images.transparency
    old, name = (_embeddings_name(settings, one, shown) for one in (images.listed_sha256, images.sha256))
    name = old if is_of(workspace.embeddings(old), images, reporter) else name
    ask = ExtractSettings(
        model=settings.embed_with,
        images=settings.images,
        name="",
        at=("last",),
        transparency=shown,
        dtype="float32",
        batch_size=settings.batch_size,
        limit=settings.limit,
        workers=settings.workers,
        device=settings.device,
        embeddings=True,
    )
    for one in numbered(name):
        with contextlib.suppress(MadeOtherwise):
            extract(replace(ask, name=one), workspace, reporter)
            return Store.open(workspace.embeddings(one))
    raise AssertionError("there is always a free name")


def _embeddings_name(settings: ScoreSettings, images: str, transparency: Transparency) -> str:
    told = [] if transparency == "white" else [transparency]  # of the names from when there was only white
    identity = value_sha256([settings.embed_with, images, settings.batch_size, *told])[:8]
    return f"{short_slug(Path(settings.embed_with).name)}--{short_slug(Path(settings.images).stem)}-{identity}"


@torch.inference_mode()
def _encode(
    settings: ScoreSettings,
    sae: SAE,
    encoder: VisionEncoder,
    images: Images,
    embeddings: Store,
    E: Float[np.ndarray, "N D"],
    reporter: Reporter,
) -> _Seen:
    """One pass over the images that the judge saw, which are those of ``embeddings`` (``E``: what it saw)."""
    hook, tokens = HookPoint.parse(sae.config.hook), scored_tokens(settings.pooling, sae, encoder)
    several = tokens == "patches"
    w, N = sae.config.w, len(E)
    hooks = [hook, LAST] if encoder.has_text and hook != LAST else [hook]
    seen = _Seen(
        pooled=MSAccumulator(),
        up=np.empty((N, sae.config.d), np.float32),
        down=np.empty((N, sae.config.d), np.float32),
        fired=np.zeros(w, np.int64),
        token_count=0,
        top=TopImages(w, settings.top, encoder.grid if several else None),
        joint=None,
        tokens=tokens,
        several=several,
    )
    starts = range(0, len(images), settings.batch_size)
    batches = [(start, min(start + settings.batch_size, len(images))) for start in starts]
    done = 0
    for batch in prepared(images, encoder, batches, settings.workers):
        _check_judged(batch, embeddings)
        for together in batch.parts:
            taken = encoder.activations(together.inputs, hooks, len(together.indices))
            x, mask = chosen_tokens(taken[hook].float(), tokens, encoder, together.inputs)
            _check_finite(x, [images.entries[i].path for i in together.indices], hook)
            stop = done + len(x)
            how = settings.pooling if several else "max"
            seen.up[done:stop], seen.down[done:stop] = (pool(v, mask, how).cpu().numpy() for v in (x, -x))
            if LAST in taken and encoder.has_text:
                joint = taken[LAST][:, 0].float().cpu().numpy()
                seen.joint = np.empty((N, joint.shape[1]), np.float32) if seen.joint is None else seen.joint
                seen.joint[done:stop] = joint
            for first, part, shown in _parts(x, mask, w):
                _take(sae, part, shown, how, done + first, E, seen)
            done = stop
        reporter.progress(done, N, "images")
        reporter.check()
    return seen


def _check_judged(batch: Batch, embeddings: Store) -> None:
    """UserError when the images of ``batch`` are not as the judge saw them. What it could not read, it tries again."""
    for index, now in enumerate(batch.records, batch.start):
        then = embeddings.images[index]
        if (then.broken is None, then.sha256) == (now.broken is None, now.sha256):
            continue
        if now.broken is not None:
            raise UserError(
                f"{now.path} cannot be read any more ({now.broken}): mend it, or take it out of the images."
            )
        what = "changed while it was scored" if then.broken is None else "could not be read at first, and can be"
        raise UserError(f"{now.path} {what}: run the same command again.")


def _parts(x: Tensor, mask: Tensor, w: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """So many images at a time that their dense latents fit into memory."""
    step = max(1, _ENCODED_BYTES // (4 * w * x.shape[1]))
    for start in range(0, len(x), step):
        yield start, x[start : start + step], mask[start : start + step]


def _take(sae: SAE, x: Tensor, mask: Tensor, how: Pooling, first: int, E: np.ndarray, seen: _Seen) -> None:
    """Encode some images and add what they say of the latents; ``first``: the number of the first of them."""
    z = sae.encode(x) * mask[..., None]
    seen.fired += (z > 0).sum(dim=(0, 1)).cpu().numpy()
    seen.token_count += int(mask.sum())
    pooled = sparse.csr_array(pool(z, mask, how).cpu().numpy())
    seen.pooled.update(pooled, E[first : first + len(x)])
    for i in range(len(x)):
        fired = slice(pooled.indptr[i], pooled.indptr[i + 1])
        latents = pooled.indices[fired]

        def patches(entered: np.ndarray, image: Tensor = z[i]) -> np.ndarray:
            return image[:, torch.from_numpy(entered).to(image.device)].T.cpu().numpy()

        seen.top.add(first + i, latents, pooled.data[fired], patches)


def _check_finite(x: Tensor, paths: list[str], hook: HookPoint) -> None:
    finite = x.isfinite().flatten(1).all(dim=1)
    if not bool(finite.all()):
        raise UserError(
            f"The activations of {paths[int((~finite).nonzero()[0])]} at {hook} are not finite: check the model's "
            "weights, or leave the image out."
        )


def _latents(seen: _Seen, result: MS, matched: np.ndarray) -> dict[str, np.ndarray]:
    """What the pass and MS say of each latent."""
    top_images, top_activations, maps = seen.top.sorted()
    arrays = {
        "ms": result.ms,
        "low": result.low,
        "high": result.high,
        "support": result.support,
        "effective_support": result.effective_support,
        "matched": matched,
        "token_frequency": seen.fired / max(seen.token_count, 1),
        "maximum": top_activations[:, 0],
        "top_images": top_images,
        "top_activations": top_activations,
    }
    return arrays if maps is None else arrays | {"maps": maps}


def _names(encoder: VisionEncoder, seen: _Seen, top_images: np.ndarray, words: list[str], reporter: Reporter) -> Names:
    if seen.joint is None:
        message = f"{encoder.spec} has no text tower, so latents get no names."
    else:
        try:
            return name_latents(top_images, seen.joint, words, lambda texts: embed_text(encoder, texts))
        except UserError as error:  # a tower without its tokenizer: everything else stands
            message = f"Latents get no names: {error}"
    reporter.event(Warned(message))
    return Names.none(len(top_images))


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None

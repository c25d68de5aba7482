"""Test the latents of an SAE on labelled concepts: the command ``saetui concepts``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import sparse

from engine.activations.reading import prepared
from engine.activations.shards import ImageRecord
from engine.config import ConceptsSettings
from engine.errors import UserError, counted
from engine.files import check_target, value_sha256
from engine.images import Images, open_images
from engine.images.taxonomies import open_taxonomy
from engine.links import check_own
from engine.metrics.concepts import ConceptScores, concept_scores, halves
from engine.metrics.detection import REPEATS
from engine.metrics.matched_neurons import matched_columns
from engine.metrics.monosemanticity import number
from engine.metrics.results import Interval
from engine.models import HookPoint, load_encoder
from engine.models.asked import other_width
from engine.models.device import pick_device
from engine.models.encoder import VisionEncoder
from engine.neurons.asked import no_encoder
from engine.neurons.concept_labels import concepts, read_labels
from engine.neurons.concept_results import (
    ConceptMeans,
    ConceptsTested,
    ConceptTest,
    read_concepts,
    write_concepts,
)
from engine.neurons.pooling import chosen_tokens, pool, scored_tokens
from engine.neurons.results import ScoredImage
from engine.neurons.seen import check_finite, parts
from engine.neurons.taxonomy import placed, with_other_names
from engine.reporter import Reporter, StageBegan, Warned
from engine.sae.config import weights_sha256
from engine.sae.model import SAE
from engine.settings import check
from engine.workspace import Provenance, Source, Workspace, concepts_path, versions

KS = (1, 5, 20)
DIRECTIONS = 512
"""Random directions at most: as many columns of all images are held."""


def measure_concepts(
    settings: ConceptsSettings, workspace: Workspace, reporter: Reporter | None = None
) -> ConceptsTested:
    """Encode the images, and measure how well single latents and probes tell their concepts, beside three controls.

    Writes ``concepts/<sae>--<images>.json``. One value a latent and image, over the tokens that ``score`` takes and
    with its pooling. Memory: 8 bytes for each latent that fires on an image, 8 (d + DIRECTIONS) bytes an image.
    UserError for whatever the user can mend, as for images without labels.
    """
    reporter = reporter or Reporter()
    check(settings)
    folder = workspace.existing("saes", settings.sae)
    path = concepts_path(settings, folder.name, workspace)
    check_own(path)
    if not path.is_file():
        check_target(path)
    device = pick_device(settings.device)
    sae = SAE.load(folder, device)
    images = open_images(settings.images, settings.limit, sae.config.transparency)
    labels = read_labels(settings.labels) if settings.labels else None
    parents = open_taxonomy(settings.taxonomy, settings.wordnet)
    spec = settings.encoder or sae.config.model
    if not spec:
        raise UserError(no_encoder(settings.sae))
    encoder = load_encoder(spec, device)
    for message in encoder.warnings:
        reporter.event(Warned(message))
    hook = HookPoint.parse(sae.config.hook)
    encoder.check(hook)
    if (width := encoder.width(hook)) != sae.config.d:
        raise UserError(other_width(spec, hook, width, sae.config.d))
    for note in images.notes:
        reporter.event(Warned(note))
    images.learn(reporter=reporter)
    of_taxonomy = Path(settings.taxonomy).name or "WordNet"
    sources = (
        Source("sae", folder.name, str(folder), weights_sha256(folder)),
        Source("model", encoder.spec, encoder.spec, encoder.sha256 or ""),
        Source("images", images.spec, images.spec, images.sha256),
        *([Source("labels", Path(settings.labels).name, settings.labels, value_sha256(labels))] if labels else []),
        *([Source("taxonomy", of_taxonomy, settings.taxonomy, parents.sha256)] if parents else []),
    )
    if found := _tested_already(path, settings, sources):
        reporter.event(StageBegan("nothing to do: it is tested"))
        return found
    reporter.event(StageBegan("encoding"))
    seen = _encode(settings, sae, encoder, images, reporter)

    shown = with_other_names(seen.images, images.entries)
    names, has = concepts(placed(shown, parents, reporter) if parents else shown, labels)
    first = halves([one.label for one in seen.images], settings.seed)
    kept = _enough(has, first, settings.min_images)
    if not kept.any():
        raise UserError(
            f"{settings.images} has no concept with {counted(settings.min_images, 'image')} in each half, and as many "
            "without: give images in folders of classes, a table of --labels, or a lower --min-images."
        )
    names, has = [name for name, keep in zip(names, kept, strict=True) if keep], has[:, kept]
    reporter.event(StageBegan("testing"))
    scores = {}
    for done, (control, activations) in enumerate(_columns(seen, settings.seed), 1):
        dealt = has[np.random.default_rng(settings.seed).permutation(len(has))] if control == "shuffled" else has
        scores[control] = concept_scores(activations, dealt, first, settings.threshold, KS, settings.seed)
        reporter.progress(done, 4, "sets of columns")
        reporter.check()
    means: dict[str, Any] = {control: _means(one, settings) for control, one in scores.items()}
    result = ConceptsTested(
        path=str(path),
        sae=folder.name,
        images=len(seen.images),
        concepts=len(names),
        left_out=int((~kept).sum()),
        **means,
        tests=tuple(_test(c, name, has, scores) for c, name in enumerate(names)),
        settings=settings,
        origin=Provenance(sources, versions()),
    )
    write_concepts(result, workspace)
    reporter.event(StageBegan("done"))
    return result


def _tested_already(path: Path, settings: ConceptsSettings, sources: tuple[Source, ...]) -> ConceptsTested | None:
    """What is in ``path``, if it was made from the same sources with the same settings. UserError for other tests."""
    if not path.is_file():
        return None
    found = read_concepts(path)
    made_from = [one.content[::2] for one in found.origin.made_from] == [one.content[::2] for one in sources]
    if not made_from or any(getattr(found.settings, name) != getattr(settings, name) for name in _COMPARED):
        raise UserError(
            f"{path} holds tests of another SAE or encoder, of other images or settings: give another --name."
        )
    return replace(found, made=False)


_COMPARED = ("pooling", "min_images", "threshold", "limit", "seed")  # settings that no source tells


@dataclass
class _Seen:
    """What one pass leaves behind: one value an image, of each latent, coordinate and random direction."""

    images: list[ScoredImage]
    latents: sparse.csc_array
    raw: tuple[Float[np.ndarray, "N d"], Float[np.ndarray, "N d"]]  # coordinates, and with the other sign
    random: tuple[Float[np.ndarray, "N r"], Float[np.ndarray, "N r"]]


@torch.inference_mode()
def _encode(settings: ConceptsSettings, sae: SAE, encoder: VisionEncoder, images: Images, reporter: Reporter) -> _Seen:
    hook, tokens = HookPoint.parse(sae.config.hook), scored_tokens(settings.pooling, sae.config, encoder)
    how = settings.pooling if tokens == "patches" else "max"
    rng = np.random.default_rng(settings.seed)
    turned = rng.normal(size=(sae.config.d, min(DIRECTIONS, sae.config.w))).astype(np.float32)
    directions = torch.from_numpy(turned / np.linalg.norm(turned, axis=0)).to(sae.W_enc.device)
    starts = range(0, len(images), settings.batch_size)
    batches = [(start, min(start + settings.batch_size, len(images))) for start in starts]
    shown: list[ScoredImage] = []
    latents: list[sparse.csr_array] = []
    dense: list[list[np.ndarray]] = [[], [], [], []]
    for batch in prepared(images, encoder, batches, settings.workers):
        for together in batch.parts:
            taken = encoder.activations(together.inputs, [hook], len(together.indices))[hook].float()
            x, mask = chosen_tokens(taken, tokens, encoder, together.inputs)
            check_finite(x, [images.entries[i].path for i in together.indices], hook)
            for _, part, of in parts(x, mask, sae.config.w):
                pooled = pool(sae.encode(part) * of[..., None], of, how)
                latents.append(sparse.csr_array(pooled.cpu().numpy()))
                y = part @ directions.to(part.device)
                for kept, values in zip(dense, (part, -part, y, -y), strict=True):
                    kept.append(pool(values, of, how).cpu().numpy())
            shown += [_image(batch.records[i - batch.start]) for i in together.indices]
        reporter.progress(batch.start + len(batch.records), len(images), "images")
        reporter.check()
    if not shown:
        raise UserError(f"No image of {settings.images} can be read: give others.")
    up, down, right, left = (np.concatenate(values) for values in dense)
    return _Seen(shown, sparse.csc_array(sparse.vstack(latents)), (up, down), (right, left))


def _image(record: ImageRecord) -> ScoredImage:
    return ScoredImage(record.path, record.label, record.taxonomy, record.sha256 or "")


def _enough(has: np.ndarray, first: np.ndarray, least: int) -> Bool[np.ndarray, " C"]:
    kinds = (has[first], ~has[first], has[~first], ~has[~first])
    return np.all([half.sum(axis=0) >= least for half in kinds], axis=0)


def _columns(seen: _Seen, seed: int) -> list[tuple[str, sparse.csc_array]]:
    support = np.diff(seen.latents.indptr)
    return [
        ("latents", seen.latents),
        ("matched", matched_columns(*seen.raw, support, seed)),
        ("random", matched_columns(*seen.random, support, seed)),
        ("shuffled", seen.latents),
    ]


def _means(scores: ConceptScores, settings: ConceptsSettings) -> ConceptMeans:
    drawn = np.random.default_rng(settings.seed).integers(0, len(scores.auroc), (REPEATS, len(scores.auroc)))
    return ConceptMeans(
        **{name: _mean_interval(getattr(scores, name), getattr(scores.repeats, name), drawn) for name in MEASURES},
        probes={str(k): _mean(found) for k, found in scores.probes.items()},
        covered=_mean(np.where(np.isnan(scores.auroc), np.nan, scores.auroc >= settings.threshold)),
        above=float(scores.above.mean()),
        precise=float(scores.precise.mean()),
        missed=_mean(scores.missed),
        absorbed=_mean(scores.absorbed),
    )


MEASURES = ("auroc", "ap", "f1")


def _mean_interval(values: np.ndarray, repeats: np.ndarray, drawn: np.ndarray) -> Interval:
    """Over the concepts; the interval between the 2.5 % and 97.5 % points of means over concepts that are drawn with
    replacement, each with a resampling of its images."""
    means = np.array([_mean(repeats[chosen, again]) for again, chosen in enumerate(drawn)], float)  # none: NaN
    return Interval(int((~np.isnan(values)).sum()), _mean(values), *_ends(means))


def _ends(values: np.ndarray) -> list[float | None]:
    known = values[~np.isnan(values)]
    return [float(np.quantile(known, q)) for q in (0.025, 0.975)] if len(known) else [None, None]


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _test(c: int, name: str, has: np.ndarray, found: dict[str, ConceptScores]) -> ConceptTest:
    ours = found["latents"]
    return ConceptTest(
        concept=name,
        images=int(has[:, c].sum()),
        latent=int(ours.latent[c]),
        auroc=Interval(len(has), number(ours.auroc[c]), *_ends(ours.repeats.auroc[c])),
        ap=number(ours.ap[c]),
        f1=number(ours.f1[c]),
        probes={str(k): number(values[c]) for k, values in ours.probes.items()},
        above=int(ours.above[c]),
        precise=int(ours.precise[c]),
        missed=number(ours.missed[c]),
        absorbed=number(ours.absorbed[c]),
        **{control: number(found[control].auroc[c]) for control in ("matched", "random", "shuffled")},
    )

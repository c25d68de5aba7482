"""Score every latent of SAEs on a set of images: one pass over them, one file of results an SAE."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse

from engine.activations.asked import MadeOtherwise
from engine.activations.extract import extract
from engine.activations.store import Store
from engine.activations.target import is_of
from engine.config import ExtractSettings, ScoreSettings, ScoresSettings, Transparency
from engine.errors import UserError, counted, keeping
from engine.files import check_target, value_sha256
from engine.images import Images, open_images
from engine.images.objects import Objects, open_objects
from engine.images.taxonomies import ClassTaxonomy, open_taxonomy
from engine.kinds import EMBEDDINGS
from engine.links import check_own
from engine.metrics.by_group import mean_ms, ms_by_group
from engine.metrics.copies import copies
from engine.metrics.hierarchy import hierarchy
from engine.metrics.matched_neurons import against, matched_ms, rectified_ms
from engine.metrics.monosemanticity import MS, number
from engine.metrics.parts import ms_of_units
from engine.metrics.uniqueness import uniqueness
from engine.models import HookPoint, load_encoder, same_model
from engine.models.asked import other_width
from engine.models.device import free_memory, pick_device
from engine.models.encoder import VisionEncoder
from engine.models.kept import Recent
from engine.neurons import localised
from engine.neurons.already import scored_already
from engine.neurons.asked import apart, check_patches, no_encoder, passes, said_of
from engine.neurons.cropping import Cropping, cropping_of
from engine.neurons.crops import Crops, plain_grid
from engine.neurons.file import write_neurons
from engine.neurons.names import Names, Words, embed_text, name_latents, vocabulary
from engine.neurons.pooling import image_pooling, scored_tokens
from engine.neurons.quantities import KEPT
from engine.neurons.results import Frequency, LatentSpread, MSSummary, RawMS, Scored, ScoredAll, ScoredImage, Summary
from engine.neurons.seen import Reader, Seen, View, look
from engine.neurons.taxonomy import placed, with_other_names
from engine.reporter import Once, Reporter, StageBegan, Warned
from engine.sae.config import SAEConfig, read_config, weights_sha256
from engine.sae.model import SAE
from engine.settings import check
from engine.workspace import Provenance, Source, Workspace, neurons_path, numbered, short_slug, versions

DENSE = 0.1  # a latent that fires on a larger share of the tokens is dense
_ROOM = 1 << 32  # bytes that several SAEs may take together where the machine does not tell what is free


def score(settings: ScoreSettings, workspace: Workspace, reporter: Reporter | None = None) -> Scored:
    """Score ``settings.sae`` on ``settings.images``; writes ``neurons/<sae>--<images>.h5`` and returns its summary.

    Tokens: those of the kind that the SAE was trained on. For ``cls``, ``mean`` and pooled (``last``) SAEs the one
    token of an image; for all others its patches, without CLS and registers, pooled by ``settings.pooling`` (``cls``
    takes the CLS token instead). MS, support, frequency of images and top images are about these pooled values. With
    the pooling ``crop`` MS, support and matched neurons are of ``settings.crops`` patches of each image, drawn at
    random, each by its own activation and judged by the crop around it (engine.metrics.parts, engine.neurons.crops);
    all else is as with ``max``.

    Memory: O(w x top) for the top images, 8 bytes for each latent that fires on an image, N x D for the embeddings and
    8 N x d for raw neurons; of crops the same for each patch that is scored.
    UserError for whatever the user can mend, as for a name under which there are other scores.
    """
    return score_together([settings], workspace, reporter)[0]


def score_together(
    asked: Sequence[ScoreSettings], workspace: Workspace, reporter: Reporter | None = None
) -> list[Scored]:
    """:func:`score` for each of ``asked``, in this order, to the same bytes.

    Those of the same images and encoder share what does not depend on the SAE: each judge sees the images once, and so
    does the encoder, at all their hook points, as long as what is kept of them fits into half of the free memory; else
    there are several passes. All are checked before anything is begun. Stopped in a pass, it begins again; scores that
    are written are kept.
    """
    return _Scorings(workspace, reporter or Reporter(), len(asked) > 1).score(asked)


def score_all(settings: ScoresSettings, workspace: Workspace, reporter: Reporter | None = None) -> ScoredAll:
    """:func:`score` for each SAE of ``settings`` by each judge, together."""
    return ScoredAll(tuple(score_together(apart(settings), workspace, reporter)))


@dataclass(frozen=True, eq=False)
class _Scoring:
    """One scoring, found to be possible."""

    number: int
    """Among those that were asked for."""
    settings: ScoreSettings
    config: SAEConfig
    reader: Reader
    words: list[str]
    objects: Objects | None
    parents: ClassTaxonomy | None
    path: Path
    read: tuple[Source, ...]

    @property
    def sae(self) -> str:
        return self.reader.folder.name

    def sources(self, *embeddings: Store) -> tuple[Source, ...]:
        """What its scores are made from, with ``embeddings`` by its judge."""
        judged = [Source("embeddings", one.path.name, str(one.path), one.sha256) for one in embeddings]
        return (*self.read[:2], *judged, *self.read[2:])


class _Scorings:
    """Scorings of one call: what they share, and what is done for each of them."""

    def __init__(self, workspace: Workspace, reporter: Reporter, several: bool):
        self.workspace, self.reporter, self.several = workspace, Once(reporter), several
        self.images = cache(open_images)
        self.objects = cache(open_objects)
        self.parents = cache(open_taxonomy)
        self.encoders = Recent[VisionEncoder](1)
        self.done: dict[int, Scored] = {}

    def score(self, asked: Sequence[ScoreSettings]) -> list[Scored]:
        configs = []
        for settings in asked:
            with self._about(settings):
                check(settings)
                configs.append(read_config(self.workspace.existing("saes", settings.sae)))
        opened = [[self._opened(place, asked[place]) for place in some] for some in passes(asked, configs)]
        self._check_apart([one for some in opened for one in some])
        for some in opened:
            self._score(some)
        return [self.done[place] for place in range(len(asked))]

    # Before it begins

    @contextlib.contextmanager
    def _about(self, settings: ScoreSettings) -> Iterator[None]:
        """Of several SAEs, whatever is wrong says with which."""
        try:
            yield
        except UserError as error:
            if not self.several:
                raise
            raise UserError(said_of(settings.sae, str(error))) from error

    def _opened(self, place: int, settings: ScoreSettings) -> _Scoring:
        with self._about(settings):
            return self._found_possible(place, settings)

    def _found_possible(self, place: int, settings: ScoreSettings) -> _Scoring:
        folder = self.workspace.existing("saes", settings.sae)
        config = SAE.load(folder, "cpu").config  # its weights are read again for the pass: a damaged one is told now
        images = self._images(settings, config)
        words = vocabulary(settings.vocabulary, images.entries)
        path = neurons_path(settings, folder.name, self.workspace)
        check_own(path)
        if not path.is_file():
            check_target(path)
        encoder = self._encoder(settings, config)
        objects = self.objects(settings.objects) if settings.objects else None
        parents = self.parents(settings.taxonomy, settings.wordnet)
        for note in images.notes:
            self._warn(note)
        images.learn(reporter=self.reporter)
        made_from = (
            Source("sae", folder.name, str(folder), weights_sha256(folder)),
            Source("model", encoder.spec, encoder.spec, encoder.sha256 or ""),
            Source("images", images.spec, images.spec, images.sha256),
            Source(
                "vocabulary", Path(settings.vocabulary).name or "built-in", settings.vocabulary, value_sha256(words)
            ),
            *([Source("objects", Path(objects.spec).name, objects.spec, objects.sha256)] if objects else []),
            *([_taxonomy(settings, parents)] if parents else []),
        )
        scored_already(path, settings, made_from, images)  # other scores are refused before the judge sees all images
        hook, tokens = HookPoint.parse(config.hook), scored_tokens(settings.pooling, config, encoder)
        view = View(
            hook, tokens, image_pooling(settings.pooling) if tokens == "patches" else "max", cropping_of(settings)
        )
        if view.crops:
            check_patches(settings.sae, config)
            plain_grid(encoder)  # refused where there is none
        reader = Reader(folder, view, config.d, config.w, settings.top)
        return _Scoring(place, settings, config, reader, words, objects, parents, path, made_from)

    def _images(self, settings: ScoreSettings, config: SAEConfig) -> Images:
        return self.images(settings.images, settings.limit, config.transparency)

    def _encoder(self, settings: ScoreSettings, config: SAEConfig) -> VisionEncoder:
        """The encoder whose activations the SAE reads, found to fit it."""
        spec = settings.encoder or config.model
        if not spec:
            raise UserError(no_encoder(settings.sae))
        encoder = self._loaded(spec, settings.device)
        hook = HookPoint.parse(config.hook)
        encoder.check(hook)
        width = encoder.width(hook)
        if width != config.d:
            raise UserError(other_width(spec, hook, width, config.d))
        if config.model_sha256 and not same_model(config.model_sha256, encoder.sha256):
            of = f"the encoder the SAE {settings.sae} was" if self.several else "the encoder the SAE was"
            self._warn(f"{spec} has other weights, or other settings, than {of} trained on: --encoder names another.")
        if settings.embed_with == spec:
            self._warn(f"{spec} judges its own latents: name an independent encoder with --embed-with.")
        return encoder

    def _loaded(self, spec: str, device: str) -> VisionEncoder:
        encoder = self.encoders.get((spec, device), lambda: load_encoder(spec, pick_device(device)))
        for message in encoder.warnings:
            self._warn(message)
        return encoder

    def _warn(self, message: str) -> None:
        self.reporter.event(Warned(message))

    def _check_apart(self, scorings: Sequence[_Scoring]) -> None:
        paths = [one.path for one in scorings]
        if twice := next((path for path in paths if paths.count(path) > 1), None):
            raise UserError(f"{twice} would be written twice: name each SAE once, or give its scores another --name.")

    # What is done

    def _score(self, some: Sequence[_Scoring]) -> None:
        """Scorings that share images and encoder."""
        settings, images = some[0].settings, self._images(some[0].settings, some[0].config)
        judged: dict[str, Store] = {}
        for judge in dict.fromkeys(one.settings.embed_with for one in some):
            self.reporter.event(StageBegan("embedding"))
            with keeping(self._kept("what other judges saw is kept" if judged else "")):
                judged[judge] = _embeddings(replace(settings, embed_with=judge), self.workspace, images, self.reporter)
        left: dict[Reader, list[_Scoring]] = {}
        for one in some:
            sources = one.sources(judged[one.settings.embed_with])
            if found := scored_already(one.path, one.settings, sources, images):
                self.done[one.number] = Scored(**vars(found), path=str(one.path), made=False)
            else:
                left.setdefault(one.reader, []).append(one)
        if not left:
            self.reporter.event(StageBegan(f"nothing to do: {'all are' if len(some) > 1 else 'it is'} scored"))
            return
        encoder = self._loaded(settings.encoder or some[0].config.model, settings.device)
        cropped: dict[_Judged, Store] = {}
        for one in (one for scorings in left.values() for one in scorings):
            cropping, judge = one.reader.view.crops, one.settings.embed_with
            if cropping is not None and (judge, cropping) not in cropped:
                self.reporter.event(StageBegan("embedding crops"))
                with keeping(self._kept("what the judge saw is kept")):
                    cropped[judge, cropping] = _crops(one.settings, self.workspace, images, encoder, self.reporter)
        texts = _Texts(encoder)
        scorers = {
            judge: _Scorer(encoder, images, judged[judge], cropped, some[0].parents, texts, self.reporter, self._warn)
            for judge in dict.fromkeys(one.settings.embed_with for scorings in left.values() for one in scorings)
        }
        readers = list(left)
        while readers:
            self.reporter.event(StageBegan("encoding"))
            with keeping(self._kept("what the judge saw is kept")):
                passed = look(
                    readers,
                    encoder,
                    images,
                    list(judged.values()),
                    settings.batch_size,
                    settings.workers,
                    _room(encoder),
                    self.reporter,
                )
            for scorer in scorers.values():
                scorer.begin(passed.joint)
            while passed.seen:
                seen = passed.seen.pop(0)
                for one in left.pop(readers.pop(0)):
                    with keeping(self._kept("what the judge saw is kept")):
                        self._write(one, seen, scorers[one.settings.embed_with])
                del seen  # it is large
        self.reporter.event(StageBegan("done"))

    def _write(self, one: _Scoring, seen: Seen, scorer: "_Scorer") -> None:
        if self.several:
            self.reporter.check()
        self.reporter.event(StageBegan(f"scoring {one.path.stem}" if self.several else "scoring"))
        self.done[one.number] = Scored(**vars(scorer.written(one, seen)), path=str(one.path))

    def _kept(self, otherwise: str = "") -> str:
        made = sum(one.made for one in self.done.values())
        return f"{counted(made, 'score')} {'is' if made == 1 else 'are'} kept" if made else otherwise


def _room(encoder: VisionEncoder) -> int:
    """Bytes that several SAEs may take together: half of what is free of the host's memory and of the device's."""
    free = [free_memory(device) for device in {torch.device("cpu"), encoder.device}]
    return min((one // 2 for one in free if one is not None), default=_ROOM)


class _Texts:
    """What the text tower of an encoder makes of words: once for all SAEs and judges."""

    def __init__(self, encoder: VisionEncoder):
        self.encoder = encoder
        self._known: dict[tuple[str, ...], Words] = {}

    def of(self, words: list[str]) -> Words:
        if (known := tuple(words)) not in self._known:
            self._known[known] = Words.embedded(words, lambda texts: embed_text(self.encoder, texts))
        return self._known[known]


class _Scorer:
    """Makes and writes scores of what one encoder and one judge saw of some images."""

    def __init__(
        self,
        encoder: VisionEncoder,
        images: Images,
        embeddings: Store,
        cropped: "Mapping[_Judged, Store]",
        parents: ClassTaxonomy | None,
        texts: _Texts,
        reporter: Reporter,
        warn: Callable[[str], None],
    ):
        self.encoder, self.images, self.embeddings, self.texts = encoder, images, embeddings, texts
        self.cropped = cropped
        self.reporter, self.warn = reporter, warn
        self.E = embeddings.read(0, embeddings.rows)
        self.scored = with_other_names(_images(embeddings), images.entries)
        if parents is not None:
            self.scored = placed(self.scored, parents, reporter)
        self.paths = [image.taxonomy for image in self.scored]
        self.begin(None)

    def begin(self, joint: Float[np.ndarray, "N D"] | None) -> None:
        """With what another pass has seen."""
        self.joint = joint
        self.controls: dict[tuple[View, int], tuple[RawMS, RawMS]] = {}

    def written(self, one: _Scoring, seen: Seen) -> Summary:
        """Score what was ``seen`` of an SAE, write the file, and return its summary."""
        settings, config, least = one.settings, one.config, one.settings.min_support
        cropped = self.cropped[settings.embed_with, seen.view.crops] if seen.view.crops else None
        E, image = (self.E, None) if cropped is None else self._judged_crops(cropped, seen)
        activations = seen.activations()
        result = ms_of_units(seen.units(), E, image, least)
        self.reporter.progress(1, 4, "scores")
        raw, rectified = self._controls(seen, E, image, least)
        self.reporter.progress(2, 4, "scores")
        matched = matched_ms(seen.raw.up, seen.raw.down, E, result.support, least, settings.seed, image)
        self.reporter.progress(3, 4, "scores")
        latents = _latents(seen, result, matched)
        alike = uniqueness(latents["top_images"], len(self.scored))
        names = self._names(latents["top_images"], one.words)
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
            activations=sparse.csc_array(activations),
            embeddings=self.E,
            paths=self.paths,
            labels=[image.label for image in self.scored],
            decoder=seen.sae.W_dec,
            groups=config.groups,
            w=config.w,
        )
        self.reporter.progress(4, 4, "scores")
        if one.objects is not None:
            latents |= self._on_objects(latents, one.objects)

        frequency = latents["token_frequency"]
        fires, (mean, _) = frequency > 0, mean_ms(result.ms)
        summary = Summary(
            sae=one.sae,
            images=len(self.scored),
            broken=len(self.images) - len(self.scored),
            tokens=seen.view.tokens,
            pooling=settings.pooling if seen.view.several else "none",
            model=self.encoder.spec,
            hook=config.hook,
            embed_with=settings.embed_with,
            ms=MSSummary(
                sae=LatentSpread(**vars(result.spread), latents=mean.n, low=mean.low, high=mean.high),
                raw=raw,
                raw_relu=rectified,
                matched=against(result.ms, matched),
                baseline=number(result.baseline),
                lift=number(result.mean - result.baseline),
                lift_latents=mean.n,
                lift_low=None if mean.low is None else mean.low - result.baseline,
                lift_high=None if mean.high is None else mean.high - result.baseline,
                median_support=_median(result.support[fires]),
                groups=ms_by_group(result.ms, matched, config.groups),
            ),
            alive=int(fires.sum()),
            dead=int((~fires).sum()),
            frequency=Frequency(float(frequency.sum()), float((frequency > DENSE).mean()), _median(frequency[fires])),
            hierarchy=(
                hierarchy(latents["top_images"], self.paths, config.groups, result.ms, settings.seed)
                if any(self.paths)
                else None
            ),
            uniqueness=alike.summary(),
            named=int((latents["names"] >= 0).any(axis=1).sum()),
            settings=settings,
            left_out=self.images.left_out,
            localisation=localised.summary(latents) if "peak" in latents else None,
            copies=int(copies(latents["top_images"], latents["distinct"]).sum()),
            patches=None if image is None else len(image),
        )
        write_neurons(
            one.path,
            latents,
            self.scored,
            names.words,
            names.latents,
            names.latent_scores,
            summary,
            Provenance(one.sources(self.embeddings, *([cropped] if cropped else [])), versions()),
            names.mean if names.words else None,
        )
        return summary

    def _judged_crops(
        self, cropped: Store, seen: Seen
    ) -> tuple[Float[np.ndarray, "units D"], Int[np.ndarray, " units"]]:
        """What the judge saw of the patches that are scored, and whose they are. UserError where they are others."""
        each = len(seen.raw.up) // len(self.scored)
        image = np.repeat(self.embeddings.image, each)
        if not np.array_equal(cropped.image // each, image):
            raise UserError("Images changed while their crops were judged: run the same command again.")
        return cropped.read(0, cropped.rows), image

    def _controls(
        self, seen: Seen, E: Float[np.ndarray, "units D"], image: Int[np.ndarray, " units"] | None, least: int
    ) -> tuple[RawMS, RawMS]:
        """MS of the raw neurons, and of them rectified: the same for all SAEs of a view."""
        key = seen.view, least
        if key not in self.controls:
            found = (
                ms_of_units(seen.raw.up, E, image, least, interval=False),
                rectified_ms(seen.raw.up, seen.raw.down, E, least, image),
            )
            means = [mean_ms(one.ms)[0] for one in found]
            raw, rectified = (
                RawMS(**vars(one.spread), columns=mean.n, low=mean.low, high=mean.high)
                for one, mean in zip(found, means, strict=True)
            )
            self.controls[key] = raw, rectified
        return self.controls[key]

    def _names(self, top_images: np.ndarray, words: list[str]) -> Names:
        if self.joint is None:
            message = f"{self.encoder.spec} has no text tower, so latents get no names."
        else:
            try:
                return name_latents(top_images, self.joint, self.texts.of(words))
            except UserError as error:  # a tower without its tokenizer: everything else stands
                message = f"Latents get no names: {error}"
        self.warn(message)
        return Names.none(len(top_images))

    def _on_objects(self, latents: Mapping[str, np.ndarray], objects: Objects) -> dict[str, np.ndarray]:
        if "maps" not in latents:
            self.warn("There are no maps of patches, so nothing says whether they lie on the objects.")
            return {}
        self.reporter.event(StageBegan("holding maps against objects"))
        top_images, maps, scored = latents["top_images"], latents["maps"], self.embeddings.image.tolist()
        return localised.localised(self.encoder, self.images, scored, top_images, maps, objects, self.reporter)


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


def _taxonomy(settings: ScoreSettings, parents: ClassTaxonomy) -> Source:
    return Source("taxonomy", Path(settings.taxonomy).name or "WordNet", settings.taxonomy, parents.sha256)


def _images(embeddings: Store) -> list[ScoredImage]:
    """The images that could be read, in order."""
    embeddings.check_listed()
    records = [embeddings.images[i] for i in embeddings.image.tolist()]
    return [ScoredImage(one.path, one.label, one.taxonomy, one.sha256 or "") for one in records]


def _embeddings(settings: ScoreSettings, workspace: Workspace, images: Images, reporter: Reporter) -> Store:
    """What the judge sees of the images: extracted once for each judge and image list, then reused.

    They once were named by the paths and sizes of the images: such are reused where the contents agree too.
    """
    old, name = (_embeddings_name(settings, one, images.transparency) for one in (images.listed_sha256, images.sha256))
    name = old if is_of(workspace.embeddings(old), images, reporter) else name
    return _seen_by_judge(settings, workspace, name, images, reporter)


_Judged = tuple[str, Cropping]
"""A judge, and the crops that it has seen."""


def _crops(
    settings: ScoreSettings, workspace: Workspace, images: Images, encoder: VisionEncoder, reporter: Reporter
) -> Store:
    """What the judge sees of the crops around the patches that are scored: extracted once for each judge, image list,
    cropping, and way in which an encoder sees pictures."""
    cropping = cropping_of(settings)
    assert cropping is not None, "crops are scored"
    cut = value_sha256([vars(cropping), encoder.grid, encoder.patch_size, encoder.preprocessing])[:8]
    name = f"{_embeddings_name(settings, images.sha256, images.transparency)}-crops-{cut}"
    return _seen_by_judge(settings, workspace, name, Crops(images, encoder, cropping), reporter)


def _seen_by_judge(
    settings: ScoreSettings, workspace: Workspace, name: str, images: Images, reporter: Reporter
) -> Store:
    """The judge's store of ``images``, copied where another one holds the same; where a judge of that name was another
    one, by its weights, the next free name is taken."""
    ask = ExtractSettings(
        model=settings.embed_with,
        images=settings.images,
        name="",
        at=("last",),
        transparency=images.transparency,
        dtype="float32",
        batch_size=settings.batch_size,
        limit=settings.limit,
        workers=settings.workers,
        device=settings.device,
        embeddings=True,
    )
    others = EMBEDDINGS.all_in(workspace.root)
    for one in numbered(name):
        with contextlib.suppress(MadeOtherwise):
            extract(replace(ask, name=one), workspace, reporter, images=images, others=others)
            return Store.open(workspace.embeddings(one))
    raise AssertionError("there is always a free name")


def _embeddings_name(settings: ScoreSettings, images: str, transparency: Transparency) -> str:
    told = [] if transparency == "white" else [transparency]  # of the names from when there was only white
    identity = value_sha256([settings.embed_with, images, settings.batch_size, *told])[:8]
    return f"{short_slug(Path(settings.embed_with).name)}--{short_slug(Path(settings.images).stem)}-{identity}"


def _latents(seen: Seen, result: MS, matched: np.ndarray) -> dict[str, np.ndarray]:
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


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None

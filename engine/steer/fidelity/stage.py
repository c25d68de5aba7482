"""``saetui fidelity``: what a model still does with an SAE's reconstruction in place of its activations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engine.config import FidelitySettings
from engine.errors import UserError
from engine.files import check_target
from engine.images import Images, open_images
from engine.links import check_own
from engine.metrics.recovery import recovery
from engine.models import HookPoint, load_encoder, same_model
from engine.models.asked import other_width
from engine.models.device import pick_device
from engine.models.encoder import VisionEncoder
from engine.neurons.asked import no_encoder
from engine.neurons.names import class_texts, distinct, embed_text, is_word
from engine.reporter import Reporter, StageBegan, Warned
from engine.sae.config import weights_sha256
from engine.sae.model import SAE
from engine.steer.fidelity.asked import check_fidelity, spliced_tokens
from engine.steer.fidelity.embeddings import (
    LAST,
    Condition,
    Site,
    Untouched,
    ablated,
    compare,
    look,
    nearest,
    reconstructed,
    unit,
)
from engine.steer.fidelity.file import read_fidelity, write_fidelity
from engine.steer.fidelity.results import EncoderFidelity, Fidelity, FidelityMeasured, ZeroShot
from engine.workspace import Provenance, Source, Workspace, fidelity_path, versions

SHARE, COSINE = (0.0, 1.0), (-1.0, 1.0)
_COMPARED = ("splice", "template", "batch_size", "seed")  # settings that no source tells


@dataclass(frozen=True, eq=False)
class Subject:
    """An SAE that is measured."""

    folder: Path
    path: Path
    """Of its result."""
    sae: SAE
    spec: str
    """Of its encoder."""
    tokens: str

    @property
    def hook(self) -> HookPoint:
        return HookPoint.parse(self.sae.config.hook)

    @property
    def site(self) -> Site:
        return Site(self.hook, self.tokens)


def fidelity(settings: FidelitySettings, workspace: Workspace, reporter: Reporter | None = None) -> FidelityMeasured:
    """Run the images through the encoder untouched, with each SAE's reconstruction in place of the activations that it
    reads, and with their mean there instead; writes ``fidelity/<sae>--<images>.json`` of each.

    SAEs of one encoder share its untouched pass. Memory: 4 D bytes an image, D the width of the embedding. UserError
    for whatever the user can mend.
    """
    reporter = reporter or Reporter()
    check_fidelity(settings, workspace)
    reporter.event(StageBegan("load"))
    device = pick_device(settings.device)
    subjects = [_subject(settings, one, workspace, device) for one in settings.sae]
    found: dict[Path, Fidelity] = {}
    for some in _alike(subjects):
        found |= _of_one_encoder(settings, some, workspace, device, reporter)
    reporter.event(StageBegan("done"))
    saes = tuple(found[one.path] for one in subjects)
    return FidelityMeasured(saes, made=any(one.made for one in saes))


def _subject(settings: FidelitySettings, given: str, workspace: Workspace, device: torch.device) -> Subject:
    folder = workspace.existing("saes", given)
    path = fidelity_path(settings, folder.name, workspace)
    check_own(path)
    if not path.is_file():
        check_target(path)
    sae = SAE.load(folder, device).eval()
    spec = settings.encoder or sae.config.model
    if not spec:
        raise UserError(no_encoder(given))
    return Subject(folder, path, sae, spec, spliced_tokens(settings, given, sae.config))


def _alike(subjects: Iterable[Subject]) -> list[list[Subject]]:
    """Those that read the same encoder, shown the same pictures."""
    groups: dict[tuple[str, str], list[Subject]] = {}
    for one in subjects:
        groups.setdefault((one.spec, one.sae.config.transparency), []).append(one)
    return list(groups.values())


def _of_one_encoder(
    settings: FidelitySettings,
    subjects: Sequence[Subject],
    workspace: Workspace,
    device: torch.device,
    reporter: Reporter,
) -> dict[Path, Fidelity]:
    images = open_images(settings.images, settings.limit, subjects[0].sae.config.transparency)
    encoder = load_encoder(subjects[0].spec, device)
    for message in encoder.warnings:
        reporter.event(Warned(message))
    encoder.check(LAST)
    for one in subjects:
        _check_fit(one, encoder, reporter)
    images.learn(reporter=reporter)
    found: dict[Path, Fidelity] = {}
    left: list[tuple[Subject, tuple[Source, ...]]] = []
    for one in subjects:
        sources: tuple[Source, ...] = (
            Source("sae", one.folder.name, str(one.folder), weights_sha256(one.folder)),
            Source("model", encoder.spec, encoder.spec, encoder.sha256 or ""),
            Source("images", images.spec, images.spec, images.sha256),
        )
        if there := _there(one.path, settings, sources):
            found[one.path] = there
        else:
            left.append((one, sources))
    if not left:
        reporter.event(StageBegan("nothing to do: it is measured"))
        return found
    measured = _measure(settings, [one for one, _ in left], encoder, images, reporter)
    for (one, sources), (part, notes) in zip(left, measured, strict=True):
        result = Fidelity(
            path=str(one.path),
            sae=one.folder.name,
            hook=str(one.hook),
            encoder=part,
            notes=notes,
            settings=replace(settings, sae=(one.folder.name,), replace=False),
            provenance=Provenance(sources, versions()),
        )
        write_fidelity(result, workspace)
        found[one.path] = result
    return found


def _check_fit(one: Subject, encoder: VisionEncoder, reporter: Reporter) -> None:
    config = one.sae.config
    encoder.check(one.hook)
    if (width := encoder.width(one.hook)) != config.d:
        raise UserError(other_width(one.spec, one.hook, width, config.d))
    encoder.check_tokens(one.tokens)
    if config.model_sha256 and not same_model(config.model_sha256, encoder.sha256):
        text = f"{one.spec} has other weights, or other settings, than the encoder {one.folder.name} was trained on."
        reporter.event(Warned(text))


def _there(path: Path, settings: FidelitySettings, sources: Sequence[Source]) -> Fidelity | None:
    """What was measured of the very same SAE, encoder and images by the same settings. UserError for anything else,
    unless it is to be replaced."""
    if not path.is_file():
        return None
    try:
        found = read_fidelity(path)
    except UserError:
        if settings.replace:
            return None
        raise
    before = [one.content[::2] for one in found.provenance.made_from]
    same = all(getattr(found.settings, name) == getattr(settings, name) for name in _COMPARED)
    if same and before == [one.content[::2] for one in sources]:
        return replace(found, made=False)
    if settings.replace:
        return None
    raise UserError(
        f"{path} holds the fidelity of another SAE or encoder, on other images or by other settings: give another "
        "--name, or --replace it."
    )


def _measure(
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
    sites = dict.fromkeys(one.site for one in subjects)
    controls = {site: Condition(ablated(before.means[site.hook], site, encoder), site) for site in sites}
    spliced = [Condition(reconstructed(one.sae, one.site, encoder), one.site) for one in subjects]
    reporter.event(StageBegan("spliced"))
    texts = classes.embeddings if classes else None
    compare(encoder, images, before, [*controls.values(), *spliced], texts, settings, reporter)
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
        )
        found.append((part, (*why, *([] if part.reached else [_unreached(one, encoder)]))))
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
        why = f"the classes have codes in place of words, as {codes[0]}: give folders whose names say what is in them."
        return None, (left_out + why,)
    texts = tuple(settings.template.replace("{}", name) for name in names.values())
    try:
        embedded = unit(torch.from_numpy(embed_text(encoder, list(texts))))
    except UserError as error:  # no tokenizer
        return None, (f"{left_out}{error}",)
    alike = int((~distinct(embedded.float().numpy())).sum())
    notes = [f"The text tower takes {alike:,} of {len(names):,} classes for one another: it does not know their words."]
    numbers = {label: number for number, label in enumerate(names)}
    true = np.array([numbers[one.label] if one.label else np.nan for one in before.shown], float)
    return _Classes(texts, embedded, true, nearest(before.embeddings, embedded)), tuple(notes if alike else [])

"""``saetui fidelity``: what a model still does with an SAE's reconstruction in place of its activations."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from engine.config import FidelitySettings
from engine.errors import UserError
from engine.files import check_target, value_sha256
from engine.images import Images, open_images
from engine.links import check_own
from engine.models import load_encoder, same_model
from engine.models.asked import other_width
from engine.models.device import pick_device
from engine.models.encoder import NoLast, VisionEncoder
from engine.models.vlm import vlm_sha256
from engine.neurons.asked import no_encoder
from engine.reporter import Reporter, StageBegan, Warned
from engine.sae.config import weights_sha256
from engine.sae.model import SAE
from engine.steer.fidelity.answers import measure_answers
from engine.steer.fidelity.asked import check_fidelity, spliced_tokens
from engine.steer.fidelity.captions import read_captions
from engine.steer.fidelity.embeddings import LAST
from engine.steer.fidelity.encoders import measure_encoder
from engine.steer.fidelity.file import read_fidelity, write_fidelity
from engine.steer.fidelity.results import AnswerFidelity, EncoderFidelity, Fidelity, FidelityMeasured
from engine.steer.fidelity.subjects import Subject
from engine.workspace import Provenance, Source, Workspace, fidelity_path, versions

_COMPARED = ("splice", "template", "batch_size", "seed")  # settings that no source tells
_OF_ANSWERS = ("prompt", "asked", "max_new_tokens", "dtype")


def fidelity(settings: FidelitySettings, workspace: Workspace, reporter: Reporter | None = None) -> FidelityMeasured:
    """Run the images through the encoder untouched, with each SAE's reconstruction in place of the activations that it
    reads, and with their mean there instead; with ``vlm``, ask that model about some of them so. Writes
    ``fidelity/<sae>--<images>.json`` of each.

    SAEs of one encoder share what is untouched. Memory: 4 D bytes an image, D the width of the embedding (with
    captions as many more for each SAE), and the logits of 16 answers. UserError for whatever the user can mend.
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
    for one in subjects:
        _check_fit(one, encoder, reporter)
    for note in images.notes:
        reporter.event(Warned(note))
    images.learn(reporter=reporter)
    captions = [_captions(settings.captions)] if settings.captions else []
    found: dict[Path, Fidelity] = {}
    left: list[tuple[Subject, tuple[Source, ...]]] = []
    for one in subjects:
        sources: tuple[Source, ...] = (
            Source("sae", one.folder.name, str(one.folder), weights_sha256(one.folder)),
            Source("model", encoder.spec, encoder.spec, encoder.sha256 or ""),
            Source("images", images.spec, images.spec, images.sha256),
            *captions,
            *([Source("model", settings.vlm, settings.vlm, vlm_sha256(settings.vlm))] if settings.vlm else []),
        )
        if there := _there(one.path, settings, sources):
            found[one.path] = there
        else:
            left.append((one, sources))
    if not left:
        reporter.event(StageBegan("nothing to do: it is measured"))
        return found
    measured = _measured(settings, [one for one, _ in left], encoder, images, reporter)
    for (one, sources), (part, answers, notes) in zip(left, measured, strict=True):
        result = Fidelity(
            path=str(one.path),
            sae=one.folder.name,
            hook=str(one.hook),
            encoder=part,
            answers=answers,
            notes=notes,
            settings=replace(settings, sae=(one.folder.name,), replace=False),
            provenance=Provenance(sources, versions()),
        )
        write_fidelity(result, workspace)
        found[one.path] = result
    return found


def _captions(spec: str) -> Source:
    return Source("captions", Path(spec).name, spec, value_sha256(read_captions(spec)))


def _measured(
    settings: FidelitySettings,
    subjects: Sequence[Subject],
    encoder: VisionEncoder,
    images: Images,
    reporter: Reporter,
) -> list[tuple[EncoderFidelity | None, AnswerFidelity | None, tuple[str, ...]]]:
    """Of each: what is left of the encoder, what of the model that is asked, and what is to be said of that."""
    parts: list[tuple[EncoderFidelity | None, tuple[str, ...]]]
    try:
        encoder.shape(LAST)
        parts = [*measure_encoder(settings, subjects, encoder, images, reporter)]
    except NoLast as error:
        if not settings.vlm:
            raise
        parts = [(None, (f"Embeddings are left out: {error}",)) for _ in subjects]
    if not settings.vlm:
        return [(part, None, notes) for part, notes in parts]
    answers = measure_answers(settings, subjects, images, reporter)
    return [
        (part, None, (*notes, answer)) if isinstance(answer, str) else (part, answer, notes)
        for (part, notes), answer in zip(parts, answers, strict=True)
    ]


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
    names = (*_COMPARED, *(_OF_ANSWERS if settings.vlm else ()))
    same = all(getattr(found.settings, name) == getattr(settings, name) for name in names)
    if same and before == [one.content[::2] for one in sources]:
        return replace(found, made=False)
    if settings.replace:
        return None
    raise UserError(
        f"{path} holds the fidelity of another SAE or encoder, on other images or by other settings: give another "
        "--name, or --replace it."
    )

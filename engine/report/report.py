"""``saetui report``: an SAE, how it was trained, what it found and what steering with it did, as one page of HTML."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine.activations.manifest import Manifest, read_manifest
from engine.artefacts.entries import Origin, SAEEntry, read_entry
from engine.artefacts.provenance import describe
from engine.config import ReportSettings
from engine.errors import UserError, counted
from engine.files import check_target, path_of, read_bytes, write_text
from engine.neurons.file import Neurons, refusing_damage
from engine.neurons.labels import Labels
from engine.neurons.query import LATENTS
from engine.report import facts, gallery
from engine.report.earned import earned_of, of_earned
from engine.report.explained import explanations
from engine.report.measured import distributions, figures, training_curves
from engine.report.page import MARK, Page, render
from engine.report.pictures import GRID, Album
from engine.report.results import Reported
from engine.report.subject import Subject, subject_of
from engine.report.transcripts import MOST, demo_of, transcripts
from engine.report.trees import groups_of, taxa_of
from engine.report.uses import uses_of
from engine.reporter import Reporter, StageBegan
from engine.runs.trainings import Training, trainings
from engine.sae.config import weights_sha256
from engine.settings import check
from engine.workspace import Workspace


def report(settings: ReportSettings, workspace: Workspace, reporter: Reporter | None = None) -> Reported:
    """Write the page. UserError where there is nothing to report on, the filter cannot be understood, or another file
    stands where it is to be written."""
    reporter = reporter or Reporter()
    check(settings)
    if settings.answers and not path_of(settings.answers).is_file():
        raise UserError(f"There is no file of answers {settings.answers}: give another --answers, or none.")
    LATENTS.parse(settings.filter)  # what is wrong with it is said first
    subject = subject_of(settings.sae, settings.on, workspace)
    out = path_of(settings.out) if settings.out else workspace.root / f"report-{subject.name}.html"
    _check_free(out, settings)
    reporter.writes(out)
    reporter.event(StageBegan("reading"))
    if subject.scores is None:
        page, result = _page(settings, subject, None, reporter)
    else:
        with Neurons.open(subject.scores) as neurons:
            page, result = _page(settings, subject, neurons, reporter)
    reporter.event(StageBegan("writing"))
    missing = tuple(page.missing)
    page.missing = [one.replace(f"{workspace.root}/", "") for one in missing]  # where it lay says nothing to others
    text = render(page)
    write_text(out, text)
    return Reported(path=str(out), bytes=len(text.encode()), missing=missing, **result)


def _page(
    settings: ReportSettings, subject: Subject, neurons: Neurons | None, reporter: Reporter
) -> tuple[Page, dict[str, int]]:
    place, root = subject.workspace, subject.workspace.root
    entry = subject.tried(lambda: _sae(subject), "The SAE")
    finished = entry is not None and entry.config is not None
    sha256 = (subject.tried(lambda: weights_sha256(subject.folder), "Its weights") or "") if finished else ""
    training = subject.tried(lambda: _training(place, subject.name), "Its training")
    tables = list(facts.of_sae(entry, sha256, root)) if entry else []
    stored = subject.tried(lambda: _store(subject, entry), "Its activations")
    tables += [facts.of_store(*stored, root)] if stored else []
    told = subject.tried(lambda: transcripts(place, subject.name, settings.answers), "Steered answers") or []
    page = Page(
        sae=subject.name,
        config=entry.config if entry else None,
        curves=training_curves(subject.name, training, entry),
        transcripts=told[:MOST],
        more_transcripts=max(len(told) - MOST, 0),
        demo=demo_of(place, subject.name),
        missing=subject.missing,
    )
    if entry and finished:
        page.earned = subject.tried(partial(earned_of, entry, subject.scores, place), "What it is held against")
    if sha256:
        page.uses = subject.tried(partial(uses_of, sha256, place), "Fidelity and steerability") or page.uses
    if entry and not finished:
        subject.missing.append(f"The SAE is not finished: it is at step {entry.step or 0:,}.")
    if entry and not page.curves:
        subject.missing.append("There are no training curves: the SAE was not trained here, or its history is gone.")
    subject.missing.extend(_unused(subject.name, page))
    counts = {"latents": 0, "found": 0, "pictures": 0, "answers": len(page.transcripts)}
    if neurons is not None and subject.scores is not None:
        source = _within(subject.scores, root)
        tables += facts.of_scores(neurons, source, root)
        with refusing_damage(subject.scores):
            counts |= _scored(settings, subject, neurons, source, page, reporter)
    page.facts = tables
    page.chain = list(_chain(subject, finished))
    page.figures, page.explained = figures(subject.name, entry, neurons, page.source, page.demo)
    if page.earned:
        page.explained |= explanations(of_earned(page.earned))
    page.explained |= explanations(page.uses.told)
    return page, counts


def _scored(
    settings: ReportSettings, subject: Subject, neurons: Neurons, source: str, page: Page, reporter: Reporter
) -> dict[str, int]:
    """Fill in whatever the scores say; how many latents and pictures there are."""
    labels = subject.tried(lambda: Labels.of(neurons.path, subject.name, neurons.sae_sha256), "Labels")
    labels = labels or Labels(neurons.path)
    listed = gallery.chosen(neurons, labels, settings)
    if not listed.latents:
        raise UserError(_nothing(settings, subject.name))
    values = gallery.shown(neurons)
    album = Album(neurons.summary.settings.images)
    reporter.event(StageBegan("pictures"))
    gallery.fill(album, neurons, listed.latents, settings.pictures, reporter)
    page.source, page.images, page.filter, page.only = source, neurons.summary.images, settings.filter, settings.only
    page.patches = neurons.summary.patches
    page.grid = [min(side, GRID) for side in neurons.grid or ()]
    page.listed, page.values, page.album, page.asked_pictures = listed, values, album, settings.pictures
    page.latents = gallery.rows(neurons, labels, listed.latents, values, album, settings.pictures, reporter)
    page.properties = gallery.properties(neurons, labels)
    page.labels = [
        (latent, labels.text(latent), labels.marked(latent)) for latent in sorted({*labels.texts, *labels.marks})
    ]
    page.labels_source = _within(labels.path, subject.workspace.root)
    page.distributions = distributions(neurons, source)
    page.groups, page.trend = groups_of(neurons)
    page.taxa = taxa_of(neurons)
    subject.missing.extend(_lacking(neurons, album, page))
    return {"latents": len(listed.latents), "found": listed.found, "pictures": len(album.data)}


def _nothing(settings: ReportSettings, name: str) -> str:
    """What to say of a gallery in which there would be no latent."""
    if settings.only != "all":
        return f"No latent of {name} that the filter finds is {settings.only}: e and * in the workbench do that."
    return f"The filter {settings.filter!r} finds no latent of {name}: try another --filter."


def _unused(name: str, page: Page) -> Iterator[str]:
    """What was not asked of a model with the SAE in it."""
    if not page.transcripts:
        none = "is no steered answer in full" if page.uses.steerability else "are no steered answers"
        yield f"There {none}: saetui steer {name} --vlm MODEL --latent N=2x makes one."
    if page.config and not page.uses.fidelity:
        asked = f"saetui fidelity {name} --images IMAGES"
        yield f"There is no fidelity: {asked} measures what a model does with it in place."


def _lacking(neurons: Neurons, album: Album, page: Page) -> Iterator[str]:
    if album.unread:
        first = next(iter(album.unread.values()))
        of = len(album.unread) + len(album.data)
        yield f"{counted(len(album.unread), 'picture')} of {of:,} cannot be shown: {first}"
    if neurons.grid is None:
        yield "There are no heat maps: these scores are of one token an image."
    if not page.taxa:
        yield "There is no tree of classes: the scored images have neither classes nor a taxonomy."
    if not page.labels:
        yield "There are no labels: e and * in the workbench give latents a name and a mark."


def _check_free(out: Path, settings: ReportSettings) -> None:
    """A file that is there is replaced where that was asked for, and where it is a report."""
    if out.is_file():
        if not settings.replace:
            raise UserError(f"{out} is there already: give another --out, or --replace it.")
        if MARK not in read_bytes(out, 1 << 30)[:400].decode("utf-8", "replace"):
            raise UserError(f"{out} is there already and is no report: give another --out.")
    check_target(out)


def _sae(subject: Subject) -> SAEEntry | None:
    if not subject.folder.is_dir():
        raise UserError(f"There is no folder {subject.folder}: only its scores are left.")
    entry = read_entry(SAEEntry, subject.folder)
    if entry is not None and entry.error:
        raise UserError(entry.error)
    return entry


def _training(workspace: Workspace, name: str) -> Training | None:
    return next((row for row in trainings(workspace) if row.name == name), None)


def _store(subject: Subject, entry: SAEEntry | None) -> tuple[Manifest, str] | None:
    """The activations that it was trained on, where they are still there."""
    origin = next((one for one in entry.made_from if one.kind == "activations"), None) if entry else None
    if origin is None:
        return None
    here = subject.workspace.root / "activations" / Path(origin.name).name
    return read_manifest(here), here.name


def _chain(subject: Subject, has_sae: bool) -> Iterator[Origin]:
    """What the scores, or the SAE alone, were made from, by content hash, and whether that is as it was."""
    about = subject.scores or (subject.folder if has_sae else None)
    if about is not None:
        found = subject.tried(lambda: describe(str(about), subject.workspace), "What it was made from")
        yield from (facts.placed(one, subject.workspace.root) for one in (found.chain if found else ()))


def _within(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)

"""What a model does with the SAE in it: fidelity and steerability, from the results of its weights, in tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from engine.artefacts.measured import results_of
from engine.errors import counted
from engine.metrics.results import Interval, Recovery
from engine.numbers import number, percent
from engine.report.explained import Number
from engine.steer.fidelity.results import Fidelity
from engine.steer.results import HEADS, TITLES, Measured, OneWord, Steerability, Texts
from engine.workspace import Workspace

Form = Callable[[float | None], str]
_SCORE: Form = partial(number, digits=3)
_SHARE: Form = partial(percent, digits=1)


@dataclass(frozen=True)
class UseRow:
    name: str
    n: int
    cells: tuple[Number | None, ...]
    """Below the heads of the table; None where it was not measured."""
    control: bool = False


@dataclass(frozen=True)
class UseTable:
    """Scores of one result."""

    title: str
    source: str
    heads: tuple[str, ...]
    rows: tuple[UseRow, ...]
    controls: tuple[int, ...] = ()
    """Columns that are what the SAE is held against."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Uses:
    fidelity: tuple[UseTable, ...] = ()
    steerability: tuple[UseTable, ...] = ()
    told: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of each quantity: over what its numbers are, and the files that say them."""


def uses_of(sha256: str, workspace: Workspace) -> Uses:
    """Of the SAE whose weights have that content hash."""
    fidelity, steerability = list[UseTable](), list[UseTable]()
    for entry, record in results_of(sha256, workspace):
        source = str(entry.file_of(entry.path).relative_to(workspace.root))
        on = ", ".join(Path(one.name).name for one in entry.made_from if one.kind == "images")
        if isinstance(record, Fidelity):
            fidelity += _fidelity(record, source, f" of {on}" if on else "")
        elif isinstance(record, Steerability):
            steerability += _steerability(record, source)
    return Uses(tuple(fidelity), tuple(steerability), _told((*fidelity, *steerability)))


def _told(tables: tuple[UseTable, ...]) -> dict[str, tuple[str, str]]:
    sources: dict[str, dict[str, None]] = {}
    units: dict[str, str] = {}
    for table in tables:
        for one in (cell for row in table.rows for cell in row.cells if cell):
            sources.setdefault(one.about, {})[table.source] = None
            units.setdefault(one.about, one.n)
    return {about: (units[about], ", ".join(found)) for about, found in sources.items()}


def _fidelity(record: Fidelity, source: str, of: str) -> Iterator[UseTable]:
    heads = ("untouched", "SAE in place", "mean in place", "recovered")
    if part := record.encoder:
        rows = [_recovery("cosine of the embedding", part.cosine, _SCORE, "spliced_cosine", "image")]
        if part.zero_shot:
            rows.append(_recovery("right class", part.zero_shot.accuracy, _SHARE, "right_class", "image"))
            rows.append(_recovery("same class", part.zero_shot.agreement, _SHARE, "same_class", "image"))
        if found := part.retrieval:
            for title, key, about in (
                ("caption among the nearest", "text", "text_found"),
                ("image among the nearest", "image", "image_found"),
            ):
                for most in (1, 5):
                    measured: Recovery = getattr(found, f"{key}_at_{most}")
                    rows.append(_recovery(f"{title} {most}", measured, _SHARE, about, "image"))
        title = f"{part.spec}, {part.tokens} at {record.hook}: {counted(part.images, 'image')}{of}"
        yield UseTable(title, source, heads, tuple(rows), (0, 2), record.notes)
    if answers := record.answers:
        rows = [
            _recovery("KL of its answers, nats", answers.kl, _SCORE, "spliced_kl", "answer"),
            _recovery("same token", answers.same_token, _SHARE, "same_token", "answer"),
        ]
        asked = f"asked {record.settings.prompt!r} of {counted(answers.images, 'image')}{of}"
        yield UseTable(f"{answers.spec}, {asked}", source, heads, tuple(rows), (0, 2))


def _recovery(name: str, found: Recovery, form: Form, about: str, unit: str) -> UseRow:
    cells = [_number(one, form, about, unit) for one in (found.untouched, found.spliced, found.ablated)]
    return UseRow(name, found.spliced.n, (*cells, _number(found.recovered, _SHARE, about, unit)))


def _steerability(record: Steerability, source: str) -> Iterator[UseTable]:
    asked = record.settings
    latents = f"{record.vlm}, {counted(len(record.latents), 'latent')}"
    if word := record.word:
        yield _word(word, f"One word, {latents} on a plain image, clamped to {asked.strength}", source)
    if word := record.word_on_pictures:
        images = counted(word.pictures, "image")
        title = f"One word, {record.vlm}, the first latents on {images} drawn at random, clamped to {asked.strength}"
        yield _word(word, title, source)
    for one in record.texts:
        value = asked.strength if one.task == "insertion" else asked.suppress_to
        prompts = counted(len(record.prompts), "prompt")
        title = f"{one.task.capitalize()}, {latents} and {prompts}, clamped to {value}, judged by {one.judge}"
        yield _texts(one, title, source)


def _word(found: OneWord, title: str, source: str) -> UseTable:
    about = "one_word"
    rows = [_condition((one,), _SCORE, about) for one in found.conditions]
    for name, value in (("true label", found.true_label), ("random label", found.random_label)):
        if value is not None:
            rows.append(UseRow(name, value.n, (_number(value, _SCORE, about, "latent"), None), True))
    return UseTable(title, source, ("cosine", "steered ahead by"), tuple(rows))


def _texts(found: Texts, title: str, source: str) -> UseTable:
    measured = zip(found.done, found.followed, found.both, strict=True)
    rows = tuple(_condition(one, _SHARE, "texts") for one in measured)
    undecided = f"{counted(found.undecided, 'answer')} that the judge did not decide do not count."
    return UseTable(
        title, source, (*HEADS[found.task], "steered ahead by"), rows, notes=(undecided,) if found.undecided else ()
    )


def _condition(measured: tuple[Measured, ...], form: Form, about: str) -> UseRow:
    """The last of ``measured`` says what the steered model is ahead by."""
    last = measured[-1]
    cells = [_number(one.score, form, about, "latent") for one in measured]
    ahead = _number(last.ahead, form, about, "latent")
    return UseRow(TITLES[last.condition], last.score.n, (*cells, ahead), last.condition != "steered")


def _number(found: Interval | None, form: Form, about: str, unit: str) -> Number | None:
    if found is None or found.mean is None:
        return None
    known = found.low is not None and found.high is not None
    ends = f" [{' '.join(form(end).removesuffix('%') for end in (found.low, found.high))}]" if known else ""
    return Number(f"{form(found.mean)}{ends}", about, counted(found.n, unit))

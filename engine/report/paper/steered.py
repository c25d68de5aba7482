"""The published steering figures, and what ``saetui steerability`` measured in a workspace beside them.

A result is of a cell where its SAE is a Matryoshka SAE at the hook point that stands for layer 22, whose output
LLaVA-1.5 reads. The control of a steered model is the same model with the SAE attached and no latent changed.
"""

from collections.abc import Callable, Sequence

from engine.artefacts.entries import SAEEntry
from engine.kinds import STEERABILITY
from engine.metrics.results import Interval
from engine.report.paper.cell import Value, cell
from engine.report.results import PaperTable
from engine.steer.results import Condition, Measured, OneWord, Steerability, Texts
from engine.steer.steerability.file import SCORES, read_steerability
from engine.steer.steerability.one_word import PICTURES, PLAIN, RANDOM_LABEL, TRUE_LABEL, Published
from engine.steer.steerability.texts import PUBLISHED, Task
from engine.workspace import Workspace

LAYER = "22"
_ROWS = {
    "insertion": ("concept appeared", "prompt followed", "both"),
    "suppression": ("concept removed", "the rest kept", "both"),
}


def results_of(workspace: Workspace, entries: Sequence[SAEEntry], hook: str) -> tuple[Steerability, ...]:
    """The steering results of the Matryoshka SAEs at ``hook``, frozen twins and untrained directions left out; of
    several of one SAE that of the most latents: its latents count once."""
    known = {
        entry.path.name
        for entry in entries
        if (config := entry.config) is not None
        and (config.arch, config.hook, config.frozen) == ("matryoshka-batchtopk", hook, "none")
        and config.directions is None
    }
    paths = [file for path in STEERABILITY.all_in(workspace.root) if (file := path / SCORES).exists()]
    results = [result for result in map(read_steerability, paths) if result.sae in known]
    largest: dict[str, Steerability] = {}
    for one in results:
        if one.sae not in largest or _latents(one) > _latents(largest[one.sae]):
            largest[one.sae] = one
    return tuple(largest.values())


def _latents(result: Steerability) -> int:
    """Of how many latents its scores are."""
    words = (word.conditions for word in (result.word, result.word_on_pictures) if word)
    texts = (rows for said in result.texts for rows in (said.done, said.followed, said.both))
    return max((row.score.n for rows in (*words, *texts) for row in rows), default=0)


def steering_tables(results: Sequence[Steerability]) -> tuple[PaperTable, ...]:
    """Each published steering table, with the mean of ``results`` beside it."""
    return (
        _word("Steering: the one word, of a plain image", PLAIN, results, lambda one: one.word),
        _word("Steering: the one word, of images", PICTURES, results, lambda one: one.word_on_pictures),
        *(_texts(task, results) for task in PUBLISHED),
    )


def _word(
    title: str, told: Published, results: Sequence[Steerability], of: Callable[[Steerability], OneWord | None]
) -> PaperTable:
    measured = [(one, word) for one in results if (word := of(one)) is not None]
    cells = [cell(value, _conditions(condition, [(one, word.conditions) for one, word in measured]))
             for condition, value in told.items()]  # fmt: skip
    for value, label in ((RANDOM_LABEL, "random_label"), (TRUE_LABEL, "true_label")):
        found = [(one.sae, _value(getattr(word, label))) for one, word in measured]
        cells.append(cell(value, [(sae, score) for sae, score in found if score is not None]))
    columns = (*told, "random label", "true label")
    return PaperTable(title, "condition", columns, (("cosine", tuple(cells)),), _notes([one for one, _ in measured]))


def _texts(task: Task, results: Sequence[Steerability]) -> PaperTable:
    measured = [(one, said) for one in results if (said := _first(one, task)) is not None]
    rows = []
    for number, (name, told) in enumerate(zip(_ROWS[task], PUBLISHED[task], strict=True)):
        shares = [(one, (said.done, said.followed, said.both)[number]) for one, said in measured]
        rows.append((name, tuple(cell(value, _conditions(condition, shares)) for condition, value in told.items())))
    judges = sorted({said.judge for _, said in measured})
    notes = _notes([one for one, _ in measured])
    if judges:
        notes = (*notes, f"Judged by {', '.join(judges)}; shares of two judges are not comparable.")
    return PaperTable(f"Steering: {task}", "condition", tuple(PUBLISHED[task][0]), tuple(rows), notes)


def _first(result: Steerability, task: Task) -> Texts | None:
    """By the first judge."""
    return next((said for said in result.texts if said.task == task), None)


def _conditions(
    condition: Condition, measured: Sequence[tuple[Steerability, Sequence[Measured]]]
) -> list[tuple[str, Value]]:
    found = []
    for result, rows in measured:
        scores = {row.condition: row.score for row in rows}
        control = None if condition == "untouched" else scores.get("attached")
        if (value := _value(scores.get(condition), control)) is not None:
            found.append((result.sae, value))
    return found


def _value(score: Interval | None, control: Interval | None = None) -> Value | None:
    if score is None or score.mean is None:
        return None
    return Value(score.mean, score.n, "latent", control.mean if control else None, score.low, score.high)


def _notes(used: Sequence[Steerability]) -> tuple[str, ...]:
    if other := sorted({one.vlm for one in used if "llava-1.5-7b" not in one.vlm.lower()}):
        return (f"The model steered is {', '.join(other)}, not LLaVA-1.5.",)
    return ()

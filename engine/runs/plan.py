"""A plan: stages in a TOML file, each a table with the settings of one command.

A list where a setting takes one value makes a grid: ``arch = ["topk", "batchtopk"]`` with ``expansion = [4, 8]`` trains
four SAEs, named by ``name``'s fields (``name = "clip-{arch}-x{expansion}"``). ``sae = "*"`` means every SAE that the
plan imports, trains or makes of other directions, ``"*-x4"`` some of them; in ``[[figure]]``, every one of which the
plan makes what is drawn. Relative paths are from the workspace, wherever one stands.

What differs from place to place is an input: ``[inputs.train]`` with ``about`` and perhaps ``default``; where a setting
is ``"$train"``, it has the value that ``--input train=...`` gives; ``"$data/train"`` is a folder in that.
"""

import contextlib
import dataclasses
import fnmatch
import itertools
import os
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config import PlanSettings
from engine.errors import UserError, keeping
from engine.files import path_of, read_toml
from engine.links import check_own
from engine.models import HookPoint
from engine.models.hub import check_is_notation
from engine.numbers import exact
from engine.places import located
from engine.records import to_json
from engine.reporter import Once, Reporter, StageBegan
from engine.runs.tasks import TASKS
from engine.settings import WrongValue, about, from_mapping
from engine.steer.recipes import with_recipe
from engine.workspace import (
    FIGURES,
    MARKER,
    Workspace,
    check_name,
    concepts_path,
    fidelity_path,
    first_few,
    names_by_judge,
    neurons_path,
    slug,
    stability_path,
    steerability_folder,
    store_names,
)

if TYPE_CHECKING:
    from engine.activations.asked import Made

STAGES = (
    "draw",
    "extract",
    "import",
    "train",
    "baseline",
    "score",
    "concepts",
    "stability",
    "fidelity",
    "steer",
    "steerability",
    "agreement",
    "figure",
)
NAMED = {
    "extract": "activations",
    "import": "an SAE",
    "train": "an SAE",
    "baseline": "an SAE",
    "score": "images",
    "concepts": "images",
    "stability": "a result",
    "fidelity": "images",
    "steerability": "a model",
    "figure": "a figure",
}
"""What the names of stages are names of."""
DEFAULT_NAMES = {"train": "{activations}-{arch}-x{expansion}-k{k}-s{seed}"}
WIDTH = 80  # characters of a line on the narrowest terminals
MAKES_SAES = ("import", "train", "baseline")


@dataclass(frozen=True)
class Stage:
    task: str
    settings: Any
    of_workspace: frozenset[str] = field(default=frozenset(), compare=False)
    """Settings that workspace.toml gives, not the plan."""

    @property
    def name(self) -> str:
        """What it makes; of a score or an answer, the SAE or the recipe that it is about; of pictures and people's
        choices, their folder; of a figure, its file."""
        if self.task == "figure":
            return Path(self.settings.out).stem
        found = next(filter(None, (getattr(self.settings, of, "") for of in _NAMES)), "")
        if not isinstance(found, tuple):
            return str(found)
        return found[0] + (f" and {len(found) - 1:,} more" if found[1:] else "")


_NAMES = (
    "sae",
    "recipe",
    "name",
    "saes",
    "images",
    "folder",
)  # settings that say what a stage is about, the first first


@dataclass(frozen=True)
class StageDone:
    stage: str
    """Its task."""
    name: str
    """See :attr:`Stage.name`."""
    result: Mapping[str, Any]
    """As JSON values: engine.runs.tasks.Task.read makes them the task's record."""


@dataclass(frozen=True)
class PlanDone:
    stages: tuple[StageDone, ...]


def run_plan(settings: PlanSettings, workspace: Workspace, reporter: Reporter | None = None) -> PlanDone:
    """Run every stage in order; a stage whose artefact is there already returns at once.

    The whole plan is checked before anything starts. Models stay loaded from stage to stage while memory has room for
    them, and neighbouring stages of a task that can do several at once are done at once.
    """
    from engine.models.kept import models_kept  # torch

    reporter = Once(reporter or Reporter())  # stages look at the same images
    stages = checked(settings, workspace)
    done: list[StageDone] = []
    with models_kept():
        for some in together(stages):
            more = f" and {len(some) - 1:,} more" if len(some) > 1 else ""
            reporter.event(StageBegan(f"{len(done) + 1}/{len(stages)} {some[0].task} {some[0].name}{more}"))
            kept = f"{_stages(len(done))} before it kept" if done else ""
            with keeping(kept), _told_of_figure(some[0], plan_path(settings.plan), workspace):
                results = TASKS[some[0].task].all([one.settings for one in some], workspace, reporter)
            done += [StageDone(one.task, one.name, to_json(r)) for one, r in zip(some, results, strict=True)]
            with keeping(f"{_stages(len(done))} kept"):
                reporter.check()
    return PlanDone(tuple(done))


def together(stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """Stages in order: neighbours that are done at once, and each of the others."""
    for task, neighbours in itertools.groupby(stages, key=lambda stage: stage.task):
        some = list(neighbours)
        yield from [some] if TASKS[task].together else [[one] for one in some]


def check_run(settings: PlanSettings, workspace: Workspace, made: "Made" = ()) -> None:
    """UserError for a plan of which a stage cannot be."""
    with about("plan"):
        checked(settings, workspace)


def plan_path(given: str) -> Path:
    """The file ``given``, else the plan of that name that saetui brings."""
    path = path_of(given)
    if not path.is_file() and given in (names := shipped()):
        return names[given]
    return path


def shipped() -> dict[str, Path]:
    """The plans that saetui brings, by name."""
    plans = (Path(__file__).parent / "plans").glob("*.toml")
    return {path.stem: path for path in sorted(plans, key=lambda path: path.stem)}


def checked(settings: PlanSettings, workspace: Workspace) -> list[Stage]:
    """The stages of a plan. UserError for one that cannot be."""
    path = plan_path(settings.plan)
    stages = read_plan(path, workspace, settings.input)
    check_plan(stages, workspace, path)
    check_stages(stages, workspace, path)
    return stages


def _stages(done: int) -> str:
    return "the stage is" if done == 1 else f"the {done} stages are"


def check_there(path: Path) -> None:
    """UserError where there is no such plan."""
    if not path.is_file():
        raise UserError(
            f"There is no plan {path}: give a TOML file with [[extract]], [[train]], [[score]] tables, or one of "
            f"{', '.join(shipped())}."
        )


def read_plan(path: Path, workspace: Workspace, inputs: Sequence[str] = ()) -> list[Stage]:
    """The stages of a plan, grids expanded, in the order of ``STAGES``. ``inputs``: NAME=VALUE each."""
    check_there(path)
    plan = read_toml(path)
    plan = _with_inputs(plan, _inputs(plan.pop("inputs", {}), inputs, path), path)
    plan.pop("paper", None)  # what saetui report --paper reads
    unknown = set(plan) - set(STAGES)
    if unknown:
        raise UserError(f"{path} has a table {sorted(unknown)[0]!r}: a plan's tables are {', '.join(STAGES)}.")
    stages: list[Stage] = []
    for task in STAGES:
        given = plan.get(task, [])
        tables = [given] if isinstance(given, dict) else given
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise UserError(f"{path}: {task} is {given!r}: write its settings under [[{task}]].")
        for table in tables:
            defaults = workspace.defaults_of(TASKS[task].settings)
            expanded = _expand(task, table, defaults, stages, path, workspace.root)
            stages += _by_judge(list(expanded)) if task == "score" else expanded
    if not stages:
        raise UserError(
            f"{path} has no stages: add tables, such as [[extract]], [[train]] and [[score]]; there are "
            f"{', '.join(STAGES)}."
        )
    makes = [stage for stage in stages if stage.task in ("extract", *MAKES_SAES)]
    names = [(one.task == "extract" or _of_activations(one), one.name) for one in makes]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice:
        raise UserError(f"{path} makes {twice[1]!r} twice: put the differing settings, like {{seed}}, into its name.")
    return stages


def _inputs(declared: Any, given: Sequence[str], path: Path) -> dict[str, str]:
    """The values of the inputs that a plan declares. UserError for one that is missing, or that it does not know."""
    if not isinstance(declared, dict) or not all(isinstance(one, dict) for one in declared.values()):
        raise UserError(f"{path}: inputs is no table of tables: write [inputs.NAME] with about, and perhaps default.")
    values = {name: str(one["default"]) for name, one in declared.items() if "default" in one}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise WrongValue("input", f"--input {text} is not NAME=VALUE: give a value.")
        if name not in declared:
            known = f"its inputs are {', '.join(declared)}" if declared else "it has none"
            raise WrongValue("input", f"{path} has no input {name}: {known}.")
        values[name] = value
    if any(name not in values for name in declared):
        raise WrongValue("input", _lacking(declared, values, path))
    return values


def _lacking(declared: Mapping[str, Mapping[str, Any]], values: Mapping[str, str], path: Path) -> str:
    """What is said of inputs without a value: a line each, and one for each of the others, with its value."""
    lacking = [name for name in declared if name not in values]
    count = f"{len(lacking)} inputs" if len(lacking) > 1 else "an input"
    lines = [f"{path} needs {count}, given by --input NAME=VALUE:", *(_told(name, declared[name]) for name in lacking)]
    if values:
        lines.append("These have a value, which --input changes:")
        lines += [_told(name, declared[name], values[name]) for name in declared if name in values]
    return "\n".join(lines)


def _told(name: str, declared: Mapping[str, Any], value: str = "") -> str:
    """One of them, in a line where :data:`WIDTH` has room for that."""
    called = f"{name}={value}" if value else name
    line = textwrap.TextWrapper(WIDTH, "  ", "    ", break_long_words=False, break_on_hyphens=False)
    return line.fill(f"{called}: {str(declared.get('about', '')).rstrip('.')}")


def _with_inputs(value: Any, inputs: Mapping[str, str], path: Path) -> Any:
    """A plan with the values of its inputs in place of their names."""
    match value:
        case dict():
            return {key: _with_inputs(one, inputs, path) for key, one in value.items()}
        case list():
            return [_with_inputs(one, inputs, path) for one in value]
        case str() if value.startswith("$"):
            return "/".join(_of_input(part, inputs, path) for part in value.split("/"))
    return value


def _of_input(part: str, inputs: Mapping[str, str], path: Path) -> str:
    """``part`` of a path, or the value of the input that it names."""
    if not part.startswith("$"):
        return part
    if part[1:] not in inputs:
        known = f"its inputs are {', '.join(inputs)}" if inputs else "declare it as [inputs.NAME]"
        raise UserError(f"{path} has no input {part[1:]!r}: {known}.")
    return inputs[part[1:]]


def _expand(
    task: str, table: dict[str, Any], defaults: dict[str, Any], before: Sequence[Stage], path: Path, root: Path
) -> Iterator[Stage]:
    """``before``: the stages whose results may be named."""
    kind = TASKS[task].settings
    hints = typing.get_type_hints(kind)
    table = {key.replace("-", "_"): value for key, value in table.items()}
    of = "saes" if task == "stability" else "sae"
    several = typing.get_origin(hints.get(of)) is tuple
    if of in table and not several:
        table[of] = _starred(table[of], task, "", before, path)
    grid = [k for k, v in table.items() if isinstance(v, list) and typing.get_origin(hints.get(k)) is not tuple]
    fields = {f.name: f.default for f in dataclasses.fields(kind)}
    drawn = {"out": f"{FIGURES}/{{kind}}.svg", "replace": True} if task == "figure" else {}
    base = defaults | drawn
    judges = base.get("embed_with")  # several of them in workspace.toml are as several in the table
    if isinstance(judges, list) and "embed_with" not in table:
        grid.append("embed_with")
        if not judges:
            raise WrongValue("embed_with", "embed_with names none: give one or more.", str(root / MARKER))
    for values in itertools.product(*((base | table)[k] for k in grid)):
        chosen = base | table | dict(zip(grid, values, strict=True))
        if of in table and several:
            chosen[of] = _starred(table[of], task, str(chosen.get("kind", "")), before, path)
        template = chosen.get("name") or DEFAULT_NAMES.get(task)
        if template:
            chosen["name"] = _named(str(template), fields | chosen, task, path)
        if task == "figure":
            folder, file = os.path.split(str(chosen["out"]))
            chosen["out"] = os.path.join(folder, _named(file, fields | chosen, task, path))
        try:
            settings = from_mapping(kind, chosen, f"{path} [[{task}]]")
        except WrongValue as error:
            if error.setting in table or error.setting not in base:
                raise
            raise WrongValue(error.setting, error.sentence, str(root / MARKER)) from None
        yield Stage(task, located(settings, root), frozenset(defaults) - frozenset(table))


def _by_judge(scores: list[Stage]) -> list[Stage]:
    """Scores of one table whose names do not tell their judges apart are called as ``score`` calls those by several."""

    def alike(one: Stage) -> tuple[str, str]:
        return one.settings.name, one.settings.images

    named: list[Stage] = []
    for one in scores:
        judges = list(dict.fromkeys(other.settings.embed_with for other in scores if alike(other) == alike(one)))
        name = names_by_judge(*alike(one), judges)[one.settings.embed_with]
        named.append(dataclasses.replace(one, settings=dataclasses.replace(one.settings, name=name)))
    return named


def _starred(given: Any, task: str, kind: str, before: Sequence[Stage], path: Path) -> list[Any]:
    """What ``sae = ...`` means: a name with * or ?, those of what earlier stages make. ``kind``: of a figure."""
    found: list[Any] = []
    for one in given if isinstance(given, list) else [given]:
        if not isinstance(one, str) or not set("*?") & set(one):
            found.append(one)
            continue
        does, known = _known(task, kind, before)
        names = fnmatch.filter(known, one)
        if not names:
            told = f"it {does} {first_few(known)}" if known else f"it {does} none"
            raise UserError(f"{path} [[{task}]]: nothing that it {does} is called {one!r}: {told}.")
        found += names
    return list(dict.fromkeys(found)) if task in ("figure", "stability") else found


def _known(task: str, kind: str, before: Sequence[Stage]) -> tuple[str, list[str]]:
    """What a plan does so that a stage can read it, and the names of what it does that with."""
    if task != "figure":
        makes = [one for one in before if one.task in MAKES_SAES and not _of_activations(one)]
        return "makes", [one.settings.name for one in makes]
    does, of, setting = DRAWN.get(kind, DRAWN["ms"])
    return does, list(dict.fromkeys(getattr(one.settings, setting) for one in before if one.task in of))


_SCORED = ("scores", ("score",), "sae")
DRAWN = {
    "ms": _SCORED,
    "hierarchy": _SCORED,
    "top-images": _SCORED,
    "reconstruction": ("measures", ("train", "baseline"), "name"),
    "stability": ("compares", ("stability",), "name"),
    "dose": ("steers", ("steerability",), "sae"),
}
"""By the kind of a figure: what a plan does for it, the stages that do it, and the setting with the name."""


def _of_activations(stage: Stage) -> bool:
    """Whether an import is of activations, by its settings: of an SAE, neither images nor such a format is given."""
    if stage.task != "import":
        return False
    from engine.activations.convert import FORMATS as OF_ACTIVATIONS  # numpy, for which completion does not wait
    from engine.sae.asked import FORMATS as OF_SAES

    asked = stage.settings
    return bool(asked.images or asked.tokens_per_image) or asked.format in set(OF_ACTIVATIONS) - set(OF_SAES)


READS = {
    "activations": "activations",
    "alive_on": "activations",
    "check": "activations",
    "embeddings": "embeddings",
    "mono_embeddings": "embeddings",
    "sae": "saes",
    "saes": "saes",
}
"""Settings, and the folder of each."""
_READ_ELSEWHERE = ("extract", "agreement", "figure")
"""Stages of which such settings are something else: their tasks check them."""


def check_plan(stages: list[Stage], workspace: Workspace, path: Path) -> None:
    """UserError for what neither is there nor made by an earlier stage, and for two scores of one name."""
    made: set[tuple[str, str]] = set()
    for stage in stages:
        asked = stage.settings
        read = [
            (folder, one)
            for name, folder in READS.items()
            if stage.task not in _READ_ELSEWHERE
            for one in _each(getattr(asked, name, ""))
        ]
        with told_of(stage, path, workspace):
            for folder, name in read:
                if name and (folder, name) not in made:
                    workspace.existing(folder, name, made)
            if stage.task == "steer" and ("recipes", asked.recipe) not in made:
                with_recipe(workspace, asked)
            if stage.task == "figure":
                _check_drawn(asked.out, workspace)
            if stage.task == "import":
                _check_model(Path(asked.model), workspace)
        now = makes(stage, workspace)
        if stage.task not in ("draw", "steer", *MAKES_SAES) and made & now:
            name = min(made & now)[1]
            way = "{kind}, into its out" if stage.task == "figure" else "{pooling}, into its name"
            raise UserError(f"{path} [[{stage.task}]] makes {name} twice: put the differing settings, like {way}.")
        for place in (_PLACES[folder](workspace, name) for folder, name in now if folder in _PLACES):
            check_own(place)
        made |= now


def _check_drawn(out: str, workspace: Workspace) -> None:
    """UserError for a figure elsewhere: a plan may be a stranger's, and draws over what is there."""
    if Path(out).parent != workspace.root / FIGURES:
        raise WrongValue(
            "out", f"out is {out}: a plan draws into {FIGURES}/ of the workspace, so give {FIGURES}/NAME.svg."
        )


def _check_model(path: Path, workspace: Workspace) -> None:
    """UserError for what an import calls its model, where that was no path, and is none."""
    if path.is_relative_to(workspace.root) and not path.exists():
        check_is_notation(os.path.relpath(path, workspace.root))


def _each(value: str | tuple[str, ...]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value


def check_stages(stages: list[Stage], workspace: Workspace, path: Path) -> None:
    """UserError for the first stage with a setting that cannot be, where the earlier ones have made what they make."""
    made: set[tuple[str, str]] = set()
    for stage in stages:
        with told_of(stage, path, workspace):
            TASKS[stage.task].refuse(stage.settings, workspace, made)
        made |= makes(stage, workspace)


@contextlib.contextmanager
def told_of(stage: Stage, path: Path, workspace: Workspace) -> Iterator[None]:
    """Whatever is wrong is said of the table of the stage, and of settings and places as they are written there; or of
    a line of workspace.toml, where that gives the setting."""
    names = {one.name: one.name for one in dataclasses.fields(stage.settings)}
    try:
        yield
    except UserError as error:
        wrong = error if isinstance(error, WrongValue) else WrongValue("", str(error))
        if wrong.setting in stage.of_workspace:
            raise UserError(wrong.told_of_line(workspace.root / MARKER, workspace.root)) from error
        said = wrong.told(names, workspace.root)
        raise UserError(f"{path} [[{stage.task}]]: {said}") from error


def _told_of_figure(stage: Stage, path: Path, workspace: Workspace) -> contextlib.AbstractContextManager[None]:
    """As :func:`told_of`: what a figure is of is known only when it is drawn, so that its table may have to be mended
    then."""
    return told_of(stage, path, workspace) if stage.task == "figure" else contextlib.nullcontext()


_PLACES: dict[str, Callable[[Workspace, str], Path]] = {
    "activations": Workspace.activations,
    "embeddings": Workspace.embeddings,
    "saes": Workspace.sae,
    "neurons": lambda workspace, name: workspace.root / "neurons" / name,
    "concepts": lambda workspace, name: workspace.root / "concepts" / name,
    "stability": lambda workspace, name: workspace.root / "stability" / name,
    "fidelity": lambda workspace, name: workspace.root / "fidelity" / name,
    "recipes": Workspace.recipe,
    "steerability": lambda workspace, name: workspace.root / "steerability" / name,
    FIGURES: lambda workspace, name: workspace.root / FIGURES / name,
}


def makes(stage: Stage, workspace: Workspace) -> set[tuple[str, str]]:
    """What other stages may read of it, as folder and name."""
    asked = stage.settings
    match stage.task:
        case "draw":
            return {("images", asked.images)}
        case "extract":
            hooks = list(dict.fromkeys(str(HookPoint.parse(at)) for at in asked.at))
            return {("embeddings" if asked.embeddings else "activations", n) for n in store_names(asked.name, hooks)}
        case "import":
            return {("activations" if _of_activations(stage) else "saes", asked.name)}
        case "train":
            control = {("controls", asked.name)} if asked.frozen != "none" else set()
            return {("saes", asked.name), ("trainings", asked.name)} | control
        case "baseline":
            return {("saes", asked.name), ("controls", asked.name)}
        case "score":
            return {("neurons", neurons_path(asked, Path(asked.sae).name, workspace).name)}
        case "concepts":
            return {("concepts", concepts_path(asked, Path(asked.sae).name, workspace).name)}
        case "stability":
            return {("stability", stability_path(asked, workspace).name)}
        case "fidelity":
            return {("fidelity", fidelity_path(asked, Path(sae).name, workspace).name) for sae in asked.sae}
        case "steerability":
            return {("steerability", steerability_folder(asked, Path(asked.sae).name, workspace).name)}
        case "steer" if asked.save_recipe:
            return {("recipes", asked.save_recipe)}
        case "figure":
            return {(FIGURES, Path(asked.out).name)}
    return set()


def _named(template: str, values: dict[str, Any], task: str, path: Path) -> str:
    literal = template.replace("{", "").replace("}", "")
    if "/" in literal or literal.startswith("."):  # it would become another name, and no folder
        check_name(template, NAMED[task])
    shown = {k: exact(v) if isinstance(v, float) else v for k, v in values.items()}
    try:
        return slug(template.format_map(shown))
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path} [[{task}]]: the name {template!r} uses {error}, which is no setting of it.") from None

"""What a plan will take, before it is begun: what is there, rows, room, and time as earlier work here took. No torch.

Stages are those that the run does, done together where it does them together: scorings that share images and encoder
are one pass.
"""

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from engine.activations.asked import opened, store_of
from engine.activations.manifest import FILE, Manifest, read_manifest
from engine.activations.shards import bytes_of
from engine.config import (
    AgreementSettings,
    BaselineSettings,
    ConceptsSettings,
    DrawSettings,
    ExtractSettings,
    FidelitySettings,
    FigureSettings,
    ImportSettings,
    PlanSettings,
    ScoreSettings,
    StabilitySettings,
    SteerabilitySettings,
    SteerSettings,
    TrainSettings,
    Transparency,
)
from engine.errors import UserError, counted
from engine.files import nearest, no_room, path_of, read_json
from engine.images.sources import open_images
from engine.models import HookPoint, TokenPolicy
from engine.models.asked import rows_of, width_of
from engine.neurons.asked import passes
from engine.neurons.file import Neurons
from engine.places import located
from engine.records import from_json
from engine.runs.expected import bytes_a_latent, bytes_of_weights, pass_seconds, training_of, unseen, work_a_second
from engine.runs.paces import Forward, paces
from engine.runs.plan import Stage, checked, makes, plan_path, together, told_of
from engine.sae.asked import latents_of, with_steps
from engine.sae.config import CONFIG, SAEConfig, latents, read_config
from engine.sae.state import read_state, read_training
from engine.steer.results import ANSWERS, Steerability
from engine.workspace import (
    Workspace,
    concepts_path,
    fidelity_path,
    neurons_path,
    stability_path,
    steerability_folder,
)

OFTEN = 1000  # times that a training may go over its rows before that is told
State = Literal["there", "begun", "to do"]


@dataclass(frozen=True, kw_only=True)
class ExpectedStage:
    task: str
    name: str
    state: State
    rows: int | None
    """Pictures that are drawn, rows that are stored, rows that are trained on (steps x batch), images that are scored,
    answers, or latents that are steered. None, as below, where it is not known."""
    bytes: int | None
    """Of what it makes, in all."""
    left: int | None
    """Of these, yet to be written."""
    seconds: float | None
    """Yet to be spent, without loading; of a score, that of its pass (ExpectedPass) tells it."""
    of_pass: int | None = None
    judge: str = ""
    """Of a score."""


@dataclass(frozen=True, kw_only=True)
class ExpectedPass:
    """Scorings that are done together: the images are shown to each judge once, and to the encoder once (or a few
    times, where memory has no room for all SAEs)."""

    number: int
    encoder: str
    judges: tuple[str, ...]
    scorings: int
    """Yet to be done."""
    images: int | None
    left: int | None
    """Bytes of what judges see, yet to be written."""
    seconds: float | None
    """Of all of its scorings."""


@dataclass(frozen=True, kw_only=True)
class ExpectedPlan:
    stages: tuple[ExpectedStage, ...]
    passes: tuple[ExpectedPass, ...]
    left: int
    """Bytes to be written, as far as they are known."""
    unsized: int
    """Stages and passes of which they are not."""
    seconds: float
    """As far as they are known."""
    untimed: int
    """Stages and passes of which they are not."""
    free: int
    """Bytes, on the disk of the workspace."""
    warnings: tuple[str, ...] = ()


def expected_plan(settings: PlanSettings, workspace: Workspace) -> ExpectedPlan:
    """UserError for a plan of which a stage cannot be."""
    return _Expecting(workspace, plan_path(settings.plan)).plan(checked(settings, workspace))


@dataclass(frozen=True)
class _Rows:
    """What is known of a store that is there, or will be."""

    rows: int | None
    d: int | None
    model: str
    hook: str
    transparency: Transparency


@dataclass
class _Disk:
    free: int
    wanted: int = 0


class _Expecting:
    """The workspace as it will be when the stages so far are done."""

    def __init__(self, workspace: Workspace, path: Path):
        self.workspace, self.path = workspace, path
        self.paces, self.work = paces(workspace), work_a_second(workspace)
        self.a_latent = bytes_a_latent(workspace)
        self.drawn: dict[str, int] = {}
        self.stores: dict[str, _Rows] = {}
        self.saes: dict[str, SAEConfig] = {}
        self.passes: list[ExpectedPass] = []
        self.disks: dict[int, _Disk] = {}
        self.often: list[_Often] = []
        self._listed = cache(open_images)

    def plan(self, stages: Sequence[Stage]) -> ExpectedPlan:
        found = [one for some in together(stages) for one in self._expected(some)]
        timed = [one.seconds for one in found if one.of_pass is None] + [one.seconds for one in self.passes]
        lefts = [one.left for one in found] + [one.left for one in self.passes]
        lacking = [no_room(one.wanted, one.free) for one in self.disks.values()]
        return ExpectedPlan(
            stages=tuple(found),
            passes=tuple(self.passes),
            left=sum(one for one in lefts if one is not None),
            unsized=lefts.count(None),
            seconds=sum(one for one in timed if one is not None),
            untimed=timed.count(None),
            free=shutil.disk_usage(nearest(self.workspace.root)).free,
            warnings=tuple(filter(None, [*lacking, _told_often(self.often)])),
        )

    def _expected(self, some: Sequence[Stage]) -> list[ExpectedStage]:
        with told_of(some[0], self.path, self.workspace):
            if some[0].task == "score":
                return self._scores(some)
            return [self._one(stage) for stage in some]

    def _one(self, stage: Stage) -> ExpectedStage:
        match stage.settings:
            case DrawSettings() as asked:
                return self._draw(stage, asked)
            case ExtractSettings() as asked:
                return self._extract(stage, asked)
            case TrainSettings() as asked:
                return self._train(stage, asked)
            case ImportSettings() as asked:
                return self._import(stage, asked)
            case BaselineSettings() as asked:
                return self._baseline(stage, asked)
            case ConceptsSettings() as asked:
                return self._concepts(stage, asked)
            case StabilitySettings() as asked:
                path = stability_path(asked, self.workspace)
                return _there(stage, None, path) if path.is_file() else self._to_do(stage, path)
            case FidelitySettings() as asked:
                return self._fidelity(stage, asked)
            case FigureSettings() as asked:  # drawn anew each time
                return self._to_do(stage, path_of(asked.out), seconds=self.paces.of_alike(asked))
            case AgreementSettings():
                return self._to_do(stage, self.workspace.root, bytes=0, left=0)
            case SteerSettings() as asked:
                return self._steer(stage, asked)
            case SteerabilitySettings() as asked:
                return self._steerability(stage, asked)
        raise AssertionError(stage.task)

    # Pictures and stores

    def _draw(self, stage: Stage, asked: DrawSettings) -> ExpectedStage:
        folder = path_of(asked.images)
        self.drawn[asked.images] = asked.pictures
        if (folder / "drawn.json").is_file() and (folder / "labels.jsonl").is_file():
            return _there(stage, asked.pictures, folder)
        return self._to_do(stage, folder, rows=asked.pictures, seconds=self.paces.of_pictures(asked.pictures))

    def _images(self, source: str, limit: int) -> int:
        if source in self.drawn:
            return min(self.drawn[source], limit or self.drawn[source])
        return len(self._listed(source, limit))

    def _extract(self, stage: Stage, asked: ExtractSettings) -> ExpectedStage:
        images = self._images(asked.images, asked.limit)
        hooks = list(dict.fromkeys(map(HookPoint.parse, asked.at)))
        if asked.for_steering:  # its hook point is known when it is loaded
            return self._stored(
                stage, asked, images, [self._store(asked, None, self.workspace.activations(asked.name))]
            )
        stores = [self._store(asked, hook, store_of(asked, str(hook), self.workspace)) for hook in hooks]
        return self._stored(stage, asked, images, stores)

    def _store(self, asked: ExtractSettings, hook: HookPoint | None, folder: Path) -> "_Store":
        made = read_manifest(folder) if (folder / FILE).is_file() else None
        if made is not None:
            return _Store(folder, made.hook, made.d, self._rows_an_image(asked, HookPoint.parse(made.hook)), made)
        if hook is None:
            return _Store(folder, "", None, None, None)
        return _Store(folder, str(hook), width_of(asked.model, hook), self._rows_an_image(asked, hook), None)

    @staticmethod
    def _rows_an_image(asked: ExtractSettings, hook: HookPoint) -> int | None:
        return rows_of(asked.model, hook, TokenPolicy.parse(asked.tokens))

    def _stored(self, stage: Stage, asked: ExtractSettings, images: int, stores: Sequence["_Store"]) -> ExpectedStage:
        for one in stores:
            rows = one.made.rows if one.whole and one.made else _times(images, one.rows_an_image)
            known = _Rows(rows, one.d, asked.model, one.hook, asked.transparency)
            self.stores[one.folder.name] = known
        rows_in_all = _sum([self.stores[one.folder.name].rows for one in stores])
        if all(one.whole for one in stores):
            return _there(stage, rows_in_all, *(one.folder for one in stores))
        left = [images - one.done for one in stores]
        return self._to_do(
            stage,
            stores[0].folder,
            begun=any(one.done for one in stores),
            rows=rows_in_all,
            bytes=_sum([one.bytes(images, asked.dtype) for one in stores]),
            left=_sum([one.bytes(n, asked.dtype) for one, n in zip(stores, left, strict=True)]),
            seconds=self.paces.of_images(Forward.of(asked.model, asked), max(left)),
        )

    # SAEs

    def _train(self, stage: Stage, asked: TrainSettings) -> ExpectedStage:
        folder, store = self.workspace.sae(asked.name), self._read(asked.activations)
        if (folder / "config.json").is_file():
            self.saes[asked.name] = read_config(folder)
        else:
            w = latents(store.d, asked.expansion) if store.d else 0
            self.saes[asked.name] = SAEConfig(
                arch=asked.arch,
                d=store.d or 0,
                w=w,
                model=store.model,
                hook=store.hook,
                transparency=store.transparency,
            )
        if store.rows is None and not asked.steps:
            return self._to_do(stage, folder)
        asked = with_steps(asked, store.rows or 0, folder)
        rows = asked.steps * asked.batch_size
        finished, state = read_training(folder), read_state(folder)
        if finished and finished.result.steps == asked.steps:
            return _there(stage, rows, folder)
        done = state.step if state else 0
        if store.rows and rows > OFTEN * store.rows:
            self.often.append(_Often(asked.name, rows, store.rows))
        if store.d is None or not store.rows:
            return self._to_do(stage, folder, begun=bool(done), rows=rows)
        takes = training_of(asked, store.rows, store.d, self.workspace, self.work)
        part = 1 - done / asked.steps
        seconds = takes.seconds * part if takes.seconds is not None else None
        left = max(takes.bytes - _size(folder), 0)
        return self._to_do(stage, folder, begun=bool(done), rows=rows, bytes=takes.bytes, left=left, seconds=seconds)

    def _import(self, stage: Stage, asked: ImportSettings) -> ExpectedStage:
        """How large it is, its files say when they are read."""
        reads = _Rows(None, None, asked.model, asked.hook, asked.transparency)
        if makes(stage, self.workspace) == {("activations", asked.name)}:
            folder = self.workspace.activations(asked.name)
            made = read_manifest(folder) if (folder / FILE).is_file() else None
            if made is None:
                self.stores[asked.name] = reads
                return self._to_do(stage, folder)
            return _there(stage, made.rows, folder) if made.complete else self._to_do(stage, folder, begun=True)
        folder = self.workspace.sae(asked.name)
        if (folder / CONFIG).is_file():
            return _there(stage, None, folder)
        self.saes[asked.name] = SAEConfig(arch="relu", d=0, w=0, model=asked.model, hook=asked.hook)
        return self._to_do(stage, folder)

    def _baseline(self, stage: Stage, asked: BaselineSettings) -> ExpectedStage:
        folder, store = self.workspace.sae(asked.name), self._read(asked.activations)
        if (folder / CONFIG).is_file():
            return _there(stage, None, folder)
        w = latents_of(asked, store.d) if store.d else 0
        self.saes[asked.name] = SAEConfig(
            arch=asked.arch,
            d=store.d or 0,
            w=w,
            model=store.model,
            hook=store.hook,
            transparency=store.transparency,
        )
        takes = bytes_of_weights(store.d, w) if store.d else None
        return self._to_do(stage, folder, bytes=takes, left=takes)

    def _read(self, name: str) -> _Rows:
        if name in self.stores:
            return self.stores[name]
        store = opened("activations", name, self.workspace, ())
        assert store is not None
        made = store.manifest
        return _Rows(made.rows, made.d, made.model.spec, made.hook, made.transparency)

    def _config(self, sae: str) -> SAEConfig:
        return self.saes[sae] if sae in self.saes else read_config(self.workspace.existing("saes", sae))

    # Scores

    def _scores(self, some: Sequence[Stage]) -> list[ExpectedStage]:
        asked: list[ScoreSettings] = [stage.settings for stage in some]
        configs = [self._config(one.sae) for one in asked]
        found: dict[int, ExpectedStage] = {}
        for numbers in passes(asked, configs):
            images = self._images(asked[numbers[0]].images, asked[numbers[0]].limit)
            for number in numbers:
                one = self._score(some[number], asked[number], configs[number].w, images)
                found[number] = replace(one, of_pass=len(self.passes) + 1, judge=asked[number].embed_with)
            undone = sum(found[number].state != "there" for number in numbers)
            self._pass([asked[number] for number in numbers], configs[numbers[0]], images, undone)
        return [found[number] for number in range(len(some))]

    def _score(self, stage: Stage, asked: ScoreSettings, w: int, images: int) -> ExpectedStage:
        path = neurons_path(asked, Path(asked.sae).name, self.workspace)
        with contextlib.suppress(UserError), Neurons.open(path) as made:
            if made.complete:
                return _there(stage, made.summary.images, path)
        takes = round(self.a_latent * w) if self.a_latent and w else None
        return self._to_do(stage, path, rows=images, bytes=takes, left=takes)

    def _pass(self, asked: Sequence[ScoreSettings], config: SAEConfig, images: int, undone: int) -> None:
        judges = list(dict.fromkeys(one.embed_with for one in asked))
        first, shown = asked[0], config.transparency
        new = unseen(asked, shown, images, self.workspace) if undone else []
        encoder = first.encoder or config.model
        widths = [(width_of(judge, HookPoint("last")), rows) for judge, rows in new]
        left = _sum([None if d is None else bytes_of(rows, d, "float32") for d, rows in widths])
        self._wants(self.workspace.root / "embeddings", left)
        each = [(Forward.of(judge, first), rows) for judge, rows in new]
        self.passes.append(
            ExpectedPass(
                number=len(self.passes) + 1,
                encoder=encoder,
                judges=tuple(judges),
                scorings=undone,
                images=images,
                left=left,
                seconds=pass_seconds(self.paces, images, Forward.of(encoder, first), each, undone),
            )
        )

    def _concepts(self, stage: Stage, asked: ConceptsSettings) -> ExpectedStage:
        images = self._images(asked.images, asked.limit)
        path = concepts_path(asked, Path(asked.sae).name, self.workspace)
        if path.is_file():
            return _there(stage, images, path)
        return self._to_do(stage, path, rows=images, seconds=self.paces.of_alike(asked))

    def _fidelity(self, stage: Stage, asked: FidelitySettings) -> ExpectedStage:
        images = self._images(asked.images, asked.limit)
        files = [fidelity_path(asked, Path(one).name, self.workspace) for one in asked.sae]
        there = sum(one.is_file() for one in files)
        if there == len(files):
            return _there(stage, images, *files)
        return self._to_do(stage, files[0], begun=there > 0, rows=images)

    # Steering

    def _steer(self, stage: Stage, asked: SteerSettings) -> ExpectedStage:
        seconds = self.paces.of_alike(asked)
        return self._to_do(stage, self.workspace.root, rows=len(ANSWERS), bytes=0, left=0, seconds=seconds)

    def _steerability(self, stage: Stage, asked: SteerabilitySettings) -> ExpectedStage:
        folder = steerability_folder(asked, Path(asked.sae).name, self.workspace)
        rows = len(asked.latent) or asked.count
        with contextlib.suppress(UserError, OSError):
            made = from_json(Steerability, read_json(folder / "scores.json"), str(folder))
            if located(made, self.workspace.root).settings == asked:
                return _there(stage, rows, folder)
        begun = (folder / "answers.jsonl").is_file()
        return self._to_do(stage, folder, begun=begun, rows=rows, seconds=self.paces.of_alike(asked))

    # What all have

    def _to_do(
        self,
        stage: Stage,
        place: Path,
        *,
        begun: bool = False,
        rows: int | None = None,
        bytes: int | None = None,
        left: int | None = None,
        seconds: float | None = None,
    ) -> ExpectedStage:
        self._wants(place, left)
        state: State = "begun" if begun else "to do"
        return ExpectedStage(
            task=stage.task, name=stage.name, state=state, rows=rows, bytes=bytes, left=left, seconds=seconds
        )

    def _wants(self, place: Path, left: int | None) -> None:
        """A stage will write so many bytes at ``place``, on whatever disk that is."""
        on = nearest(place)
        disk = self.disks.setdefault(os.stat(on).st_dev, _Disk(shutil.disk_usage(on).free))
        disk.wanted += left or 0


@dataclass(frozen=True)
class _Often:
    """A training that goes over its rows very many times."""

    name: str
    rows: int
    """That it is trained on."""
    stored: int

    @property
    def times(self) -> float:
        return self.rows / self.stored


def _told_often(found: Sequence[_Often]) -> str:
    """What is said of the one that does so most; empty without one."""
    if not found:
        return ""
    most = max(found, key=lambda one: one.times)
    more = f"; {counted(len(found) - 1, 'other training')} more than {OFTEN:,} times" if found[1:] else ""
    return (
        f"{most.name} is trained on {counted(most.rows, 'row')} from a store of {most.stored:,}, each row "
        f"{most.times:,.0f} times{more}: give fewer steps, or extract more images."
    )


@dataclass(frozen=True)
class _Store:
    """A store that an extraction makes; ``made``: its manifest, where it has begun."""

    folder: Path
    hook: str
    d: int | None
    rows_an_image: int | None
    made: Manifest | None

    @property
    def whole(self) -> bool:
        return self.made is not None and self.made.complete

    @property
    def done(self) -> int:
        """Images whose rows are there."""
        return sum(one.next_image - one.first_image for one in self.made.shards) if self.made else 0

    def bytes(self, images: int, dtype: str) -> int | None:
        rows = _times(images, self.rows_an_image)
        return None if rows is None or self.d is None else bytes_of(rows, self.d, dtype)


def _there(stage: Stage, rows: int | None, *places: Path) -> ExpectedStage:
    size = sum(map(_size, places))
    return ExpectedStage(task=stage.task, name=stage.name, state="there", rows=rows, bytes=size, left=0, seconds=0.0)


def _size(place: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [place] if place.is_file() else place.rglob("*")
    found = 0
    for one in files:
        with contextlib.suppress(OSError):
            found += one.stat().st_size if one.is_file() else 0
    return found


def _times(images: int, rows: int | None) -> int | None:
    return None if rows is None else images * rows


def _sum(values: Sequence[int | None]) -> int | None:
    """None where one of them is not known."""
    known = [one for one in values if one is not None]
    return sum(known) if len(known) == len(values) else None

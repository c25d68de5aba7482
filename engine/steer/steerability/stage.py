"""``saetui steerability``: how well the latents of an SAE steer a model, with judges, controls and intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from engine.config import SteerabilitySettings
from engine.errors import keeping
from engine.files import lock, value_sha256
from engine.links import check_own
from engine.metrics.bootstrap import bootstrap
from engine.metrics.results import Interval
from engine.models.device import pick_device
from engine.models.vlm import vlm_sha256
from engine.neurons.seal import neurons_sha256
from engine.places import located, recorded, workspace_of
from engine.reporter import Reporter, StageBegan, Warned
from engine.steer.interventions import Intervention
from engine.steer.interventions import check as check_fit
from engine.steer.judges import Given, load, named
from engine.steer.model_cache import LoadedSAE, ModelCache
from engine.steer.results import Dose, GroupSteered, JudgeUsed, OneWord, Steerability, SteeredLatent, Texts
from engine.steer.steerability import dose, one_word, texts
from engine.steer.steerability.asked import check_steerability, scores_of, strength
from engine.steer.steerability.asking import Picture
from engine.steer.steerability.file import ANSWERS, SCORES, read_steerability, write_steerability
from engine.steer.steerability.log import Log
from engine.steer.steerability.means import Values, plain
from engine.steer.steerability.prompts import prompts
from engine.steer.steerability.space import Space
from engine.steer.steerability.study import Scored, Study, prepare
from engine.steer.steerability.subjects import Drawn, Subject
from engine.workspace import Provenance, Source, Workspace, steerability_folder, versions


@dataclass(frozen=True, eq=False)
class Gathered:
    """What needs the model that is steered; the rest needs its texts."""

    word_values: Values
    word: OneWord | None
    word_on_pictures: OneWord | None
    said: Mapping[texts.Task, Sequence[texts.Said]]
    doses: tuple[Dose, ...]


def steerability(
    settings: SteerabilitySettings, workspace: Workspace, reporter: Reporter | None = None
) -> Steerability:
    """Measure what ``settings`` ask for; writes ``steerability/<sae>--<model>/`` and returns its summary.

    Answers and verdicts are kept in ``answers.jsonl`` as they come: whatever ends the work, the same command goes on,
    and other settings ask only for what is new.
    """
    reporter = reporter or Reporter()
    check_steerability(settings, workspace)
    sae_folder = workspace.existing("saes", settings.sae)
    folder = steerability_folder(settings, sae_folder.name, workspace)
    check_own(folder)
    reporter.event(StageBegan("load"))
    device, models = pick_device(settings.device), ModelCache()
    loaded = models.sae(sae_folder, device, reporter)
    scored = Scored.read(scores_of(settings, sae_folder, workspace), loaded.sae, settings)
    sources = (
        Source("sae", loaded.name, str(sae_folder), loaded.sha256),
        Source("neurons", scored.path.stem, str(scored.path), neurons_sha256(scored.path)),
        Source("model", settings.vlm, settings.vlm, vlm_sha256(settings.vlm)),
    )
    with lock(folder):
        if found := _there(folder, settings, sources, scored.drawn):
            reporter.event(StageBegan("nothing to do: it is measured"))
            return found
        encoder = models.encoder(settings.compare_with or loaded.sae.config.model, device, reporter)
        space, log = Space(encoder, settings.batch_size), Log(folder / ANSWERS)
        try:
            with keeping("what was answered is kept"):
                got = _gather(settings, scored, loaded, models, sources[-1].sha256, space, log, workspace, reporter)
                models.clear()  # a judge may need the room
                judgings = _judge(settings, scored, got, space, log, device, reporter)
        finally:
            log.close()
        origin = Provenance((*sources, Source("model", encoder.spec, encoder.spec, encoder.sha256 or "")), versions())
        result = replace(_result(settings, scored, loaded.name, got, judgings, origin), path=str(folder / SCORES))
        write_steerability(result, workspace)
    reporter.event(StageBegan("done"))
    return result


def _there(
    folder: Path, settings: SteerabilitySettings, sources: Sequence[Source], drawn: Drawn
) -> Steerability | None:
    """What was measured by the very same settings, of the same artefacts and concepts."""
    if not (folder / SCORES).is_file():
        return None
    found, root = read_steerability(folder / SCORES), workspace_of(folder)
    origin = {one.content for one in found.provenance.made_from}
    concepts = [(one.latent, one.concept) for one in found.latents]
    same = (
        located(recorded(settings, root), root) == found.settings
        and {one.content for one in located(recorded(Provenance(tuple(sources)), root), root).made_from} <= origin
        and concepts == [(one.latent, one.concept) for one in drawn.subjects]
    )
    return replace(found, made=False) if same else None


def _gather(
    settings: SteerabilitySettings,
    scored: Scored,
    loaded: LoadedSAE,
    models: ModelCache,
    sha256: str,
    space: Space,
    log: Log,
    workspace: Workspace,
    reporter: Reporter,
) -> Gathered:
    """``sha256``: identity of the model."""
    sae = loaded.sae
    vlm = models.vlm(settings.vlm, sae.W_dec.device, settings.dtype, reporter)
    for note in vlm.notes:
        reporter.event(Warned(note))
    check_fit(vlm, sae, Intervention())
    identity = value_sha256([sha256, str(vlm.model.dtype)])
    study = prepare(settings, scored, vlm, identity, sae, loaded.sha256, space, log, reporter)
    found = _doses(study)
    return Gathered(*_words(study), _said(study), dose.kept(found, settings, loaded.name, workspace, reporter))


def _words(study: Study) -> tuple[Values, OneWord | None, OneWord | None]:
    """The one-word check of all latents on the plain image, and of a few on images drawn at random."""
    settings = study.settings
    if "word" not in settings.part:
        return {}, None, None
    values = study.values(settings.strength)
    found, word = _word(study, values, [study.plain], one_word.PLAIN, "one word")
    few, pictures = dict(list(values.items())[: settings.few]), study.random_pictures()
    if not pictures:
        return found, word, None
    return found, word, _word(study, few, pictures, one_word.PICTURES, "one word: pictures")[1]


def _word(
    study: Study,
    values: Mapping[Subject, float],
    pictures: Sequence[Picture],
    published: one_word.Published,
    stage: str,
) -> tuple[Values, OneWord]:
    space, directions = study.space, study.directions
    found = one_word.one_word(study.asker, study.conditions, values, pictures, space, directions, stage)
    images, seed = study.scored.images, study.settings.seed
    return found, one_word.summary(found, list(values), len(pictures), images, space, directions, seed, published)


def _said(study: Study) -> dict[texts.Task, list[texts.Said]]:
    settings = study.settings
    found: dict[texts.Task, list[texts.Said]] = {}
    given = (study.asker, study.conditions)
    if "insertion" in settings.part:
        found["insertion"] = texts.inserted(
            *given, study.values(settings.strength), study.prompts, study.plain, settings.max_new_tokens
        )
    if "suppression" in settings.part:
        pictures = {one.latent: [study.scored.picture(image) for image in one.top] for one in study.subjects}
        found["suppression"] = texts.suppressed(
            *given, study.values(settings.suppress_to), study.prompts, pictures, settings.max_new_tokens
        )
    return found


def _doses(study: Study) -> tuple[Dose, ...]:
    if "dose" not in study.settings.part:
        return ()
    return dose.doses(
        study.asker,
        study.conditions,
        study.subjects,
        study.settings.doses,
        study.prompts,
        study.plain,
        study.space,
        study.directions,
        study.settings.most_damage,
    )


def _judge(
    settings: SteerabilitySettings,
    scored: Scored,
    got: Gathered,
    space: Space,
    log: Log,
    device: torch.device,
    reporter: Reporter,
) -> list[texts.Judging]:
    """All verdicts of each judge; none where there are no texts."""
    if not got.said:
        return []
    encoder, found = space.encoder, []
    given = Given(settings, space.texts, encoder.spec, encoder.sha256 or "", scored.words, device, reporter)
    for name in named(settings):
        judging = texts.Judging(load(name, given), log, reporter)
        for task, some in got.said.items():
            judging.ask(texts.cases(task, some), f"judging by {name}: {task}")
        found.append(judging)
    return found


def _result(
    settings: SteerabilitySettings,
    scored: Scored,
    sae: str,
    got: Gathered,
    judgings: Sequence[texts.Judging],
    origin: Provenance,
) -> Steerability:
    measured: list[Texts] = []
    first: dict[str, Values] = {}
    for judging in judgings:
        for task, some in got.said.items():
            one, both = texts.judged(task, some, judging, settings.seed)
            measured.append(one)
            first.setdefault(task, both)
    latents = _latents(settings, scored.drawn.subjects, got.word_values, first)
    return Steerability(
        path="",
        sae=sae,
        vlm=settings.vlm,
        images=scored.path.stem.rpartition("--")[2],
        drawn_from=scored.drawn.drawn_from,
        latents=latents,
        groups=_groups(latents, settings.seed),
        word=got.word,
        word_on_pictures=got.word_on_pictures,
        texts=tuple(measured),
        prompts=prompts(settings),
        judges=tuple(JudgeUsed(one.judge.name, one.judge.model, one.judge.asks) for one in judgings),
        agreement=texts.agreements(judgings),
        doses=got.doses,
        settings=settings,
        provenance=origin,
    )


def _latents(
    settings: SteerabilitySettings, subjects: Sequence[Subject], word: Values, first: Mapping[str, Values]
) -> tuple[SteeredLatent, ...]:
    nothing = np.full(len(subjects), np.nan)
    columns = [
        word["steered"] - word["untouched"] if word else nothing,
        *(first[task]["steered"] if task in first else nothing for task in ("insertion", "suppression")),
    ]
    return tuple(
        SteeredLatent(
            one.latent,
            one.group,
            one.concept,
            one.concept_from,
            one.maximum,
            strength(settings.strength, one.maximum),
            *(plain(column[at]) for column in columns),
        )
        for at, one in enumerate(subjects)
    )


def _groups(latents: Sequence[SteeredLatent], seed: int) -> tuple[GroupSteered, ...]:
    """Of each Matryoshka group that latents were drawn from; none where they are all of one."""
    groups = sorted({one.group for one in latents})

    def mean(group: int, name: str, bounds: tuple[float, float]) -> Interval:
        column = [getattr(one, name) for one in latents if one.group == group]
        return bootstrap(np.array(column, float), bounds, seed)

    return tuple(
        GroupSteered(
            group,
            mean(group, "word", (-2.0, 2.0)),
            mean(group, "inserted", texts.SHARE),
            mean(group, "suppressed", texts.SHARE),
        )
        for group in groups
        if len(groups) > 1
    )

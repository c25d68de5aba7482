"""Insertion and suppression over many prompts: does the concept come or go, and does all else stay?

Insertion: the plain image, every prompt; the latent is clamped high. Suppression: prompt i about the latent's top image
number i (from the first again, where there are fewer); the latent is clamped low. Of suppression only those answers
count of which a judge says that they name the concept where the model is untouched.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.files import value_sha256
from engine.metrics.kappa import concord
from engine.reporter import Reporter, StageBegan
from engine.steer.judges import Case, Judge, Verdict
from engine.steer.results import CONDITIONS, Condition, JudgesAgree, Measured, QuestionKind, Texts
from engine.steer.steerability.asking import Ask, Asker, Picture
from engine.steer.steerability.conditions import Conditions
from engine.steer.steerability.log import KeptVerdict, Log
from engine.steer.steerability.means import Values, compared, mean_of
from engine.steer.steerability.subjects import Subject

SHARE = (0.0, 1.0)
_BATCH = 64  # questions between two looks whether to stop
Task = Literal["insertion", "suppression"]
PUBLISHED: Mapping[Task, Sequence[Mapping[Condition, float]]] = {
    "insertion": (
        {"steered": 0.487, "diffmean": 0.531},
        {"steered": 0.858, "diffmean": 0.662},
        {"steered": 0.424, "diffmean": 0.358},
    ),
    "suppression": (
        {"steered": 0.644, "diffmean": 0.640},
        {"steered": 0.814, "diffmean": 0.387},
        {"steered": 0.525, "diffmean": 0.333},
    ),
}
"""Done, followed or kept, and both: CLIP ViT-L/14-336 and LLaVA-1.5, judged by a language model."""


@dataclass(frozen=True)
class Said:
    """An answer, and those of the untouched model that it is held against."""

    subject: Subject
    condition: Condition
    prompt: str
    answer: str
    untouched: str
    others: tuple[str, ...] = ()
    """Of the untouched model, to the other prompts."""

    def case(self, kind: QuestionKind) -> Case:
        match kind:
            case "appeared":
                return Case(kind, self.subject.concept, self.prompt, self.answer)
            case "followed":
                return Case(kind, "", self.prompt, self.answer, self.untouched, self.others)
        return Case(kind, self.subject.concept, self.prompt, self.answer, self.untouched)

    @property
    def before(self) -> Case:
        """Whether the untouched answer names the concept."""
        return Case("appeared", self.subject.concept, self.prompt, self.untouched)


def inserted(
    asker: Asker,
    conditions: Conditions,
    values: Mapping[Subject, float],
    prompts: Sequence[str],
    picture: Picture,
    max_new_tokens: int,
) -> list[Said]:
    """What is said with each latent (a key of ``values``, which are the strengths) turned up, and beside it."""
    changes = {
        one: [
            conditions.untouched,
            conditions.attached,
            conditions.steered(one, value),
            *conditions.beside(one, value, 1),
        ]
        for one, value in values.items()
    }
    asked = [(one, Ask(picture, prompt, c)) for one, some in changes.items() for c in some for prompt in prompts]
    said = asker.answers([ask for _, ask in asked], max_new_tokens, "inserting")
    plain = {ask.prompt: text for (_, ask), text in zip(asked, said, strict=True) if ask.change.intervention is None}
    return [
        Said(
            one,
            ask.change.condition,
            ask.prompt,
            text,
            plain[ask.prompt],
            tuple(other for prompt, other in plain.items() if prompt != ask.prompt),
        )
        for (one, ask), text in zip(asked, said, strict=True)
    ]


def suppressed(
    asker: Asker,
    conditions: Conditions,
    values: Mapping[Subject, float],
    prompts: Sequence[str],
    pictures: Mapping[int, Sequence[Picture]],
    max_new_tokens: int,
) -> list[Said]:
    """What is said with each latent turned down, about its ``pictures``, and beside it."""
    asked: list[tuple[Subject, Ask]] = []
    for one, value in values.items():
        changes = [
            conditions.untouched,
            conditions.attached,
            conditions.steered(one, value),
            *conditions.beside(one, value, -1),
        ]
        own = pictures[one.latent]
        pairs = list(zip(prompts, itertools.cycle(own), strict=False)) if own else []
        asked += [(one, Ask(picture, prompt, change)) for change in changes for prompt, picture in pairs]
    said = asker.answers([ask for _, ask in asked], max_new_tokens, "suppressing")
    plain = {
        (one.latent, ask.prompt): text
        for (one, ask), text in zip(asked, said, strict=True)
        if ask.change.intervention is None
    }
    return [
        Said(one, ask.change.condition, ask.prompt, text, plain[one.latent, ask.prompt])
        for (one, ask), text in zip(asked, said, strict=True)
    ]


class Judging:
    """Verdicts of one judge, each asked for once."""

    def __init__(self, judge: Judge, log: Log, reporter: Reporter):
        self.judge, self._log, self._reporter = judge, log, reporter
        self.found: dict[Case, bool | None] = {}

    def ask(self, cases: Sequence[Case], stage: str) -> None:
        """Have ``found`` of each of ``cases``."""
        self._reporter.event(StageBegan(stage))
        keys = {case: self._key(case) for case in cases}
        kept = {case: self._log.get(KeptVerdict, key) for case, key in keys.items()}
        todo = [case for case, one in kept.items() if one is None]
        self.found |= {case: one.yes for case, one in kept.items() if one is not None}
        for start in range(0, len(todo), _BATCH):
            part = todo[start : start + _BATCH]
            for case, verdict in zip(part, self.judge.judge(part), strict=True):
                self._log.add(self._record(keys[case], case, verdict))
                self.found[case] = verdict.yes
            done = len(keys) - len(todo) + min(start + _BATCH, len(todo))
            self._reporter.progress(done, len(keys), "verdicts")
            self._reporter.check()

    def _key(self, case: Case) -> str:
        parts = [case.kind, case.concept, case.prompt, case.answer, case.untouched, list(case.others)]
        return value_sha256([self.judge.identity, *parts])[:32]

    def _record(self, key: str, case: Case, verdict: Verdict) -> KeptVerdict:
        said = (case.kind, case.concept, case.prompt, case.answer)
        return KeptVerdict(key, self.judge.name, *said, verdict.yes, verdict.said, verdict.score)


def cases(task: Task, said: Sequence[Said]) -> list[Case]:
    """All that a judge is asked about ``said``, each once."""
    second: QuestionKind = "followed" if task == "insertion" else "kept"
    found = [one.case(kind) for one in said for kind in ("appeared", second)]
    return list(dict.fromkeys([*found, *(one.before for one in said if task == "suppression")]))


def judged(task: Task, said: Sequence[Said], judging: Judging, seed: int) -> tuple[Texts, Values]:
    """What the judge found, and the values of ``both`` of each latent."""
    done, second = _Rows(), _Rows()
    undecided = 0
    for one in said:
        appeared = judging.found[one.case("appeared")]
        other = judging.found[one.case("followed" if task == "insertion" else "kept")]
        if task == "suppression" and not judging.found[one.before]:
            appeared = other = None
        else:
            undecided += appeared is None or other is None
        came = appeared if task == "insertion" or appeared is None else not appeared
        place = (one.condition, one.subject)
        done[place].append(came)
        second[place].append(other)
    both = {place: [_and(a, b) for a, b in zip(done[place], second[place], strict=True)] for place in done}
    values = [_values(rows, said) for rows in (done, second, both)]
    shares = [compared(one, seed, SHARE, told) for one, told in zip(values, PUBLISHED[task], strict=True)]
    return Texts(task, judging.judge.name, shares[0], shares[1], shares[2], undecided), values[2]


class _Rows(defaultdict[tuple[Condition, Subject], list[bool | None]]):
    """What was found of a latent under a condition, answer by answer."""

    def __init__(self) -> None:
        super().__init__(list)


def _and(one: bool | None, other: bool | None) -> bool | None:
    return None if one is None or other is None else one and other


def _values(rows: Mapping[tuple[Condition, Subject], Sequence[bool | None]], said: Sequence[Said]) -> Values:
    subjects = list(dict.fromkeys(one.subject for one in said))
    return {
        name: mean_of([rows[name, one] for one in subjects])
        for name in CONDITIONS
        if any(condition == name for condition, _ in rows)
    }


def agreements(judgings: Sequence[Judging]) -> tuple[JudgesAgree, ...]:
    """Of all pairs of judges, by the kind of question."""
    found = []
    for one, other in itertools.combinations(judgings, 2):
        for kind in ("appeared", "followed", "kept"):
            pairs = [
                (yes, other.found.get(case))
                for case, yes in one.found.items()
                if case.kind == kind and None not in (yes, other.found.get(case))
            ]
            if pairs:
                columns = np.array(pairs, bool).T
                found.append(JudgesAgree((one.judge.name, other.judge.name), kind, concord(columns[0], columns[1])))
    return tuple(found)


def steered_of(measured: Sequence[Measured]) -> Measured:
    return next(one for one in measured if one.condition == "steered")

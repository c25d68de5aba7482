"""Scoring as a command does it: the scores, and beside them those of whatever the SAEs are held against."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from engine.artefacts.entries import NeuronsEntry, read_entry
from engine.artefacts.twins import Twins
from engine.config import ScoreSettings, ScoresSettings
from engine.neurons import score as scoring
from engine.neurons.results import Scored, ScoredAll
from engine.reporter import Reporter
from engine.workspace import Workspace


def score(settings: ScoreSettings, workspace: Workspace, reporter: Reporter | None = None) -> Scored:
    """As engine.neurons.score.score."""
    return score_together([settings], workspace, reporter)[0]


def score_together(
    asked: Sequence[ScoreSettings], workspace: Workspace, reporter: Reporter | None = None
) -> list[Scored]:
    """As engine.neurons.score.score_together."""
    return _beside(scoring.score_together(asked, workspace, reporter), workspace)


def score_all(settings: ScoresSettings, workspace: Workspace, reporter: Reporter | None = None) -> ScoredAll:
    """As engine.neurons.score.score_all."""
    return ScoredAll(tuple(_beside(scoring.score_all(settings, workspace, reporter).scores, workspace)))


def _beside(scores: Iterable[Scored], workspace: Workspace) -> list[Scored]:
    twins = Twins.of(workspace)
    read = ((one, read_entry(NeuronsEntry, Path(one.path))) for one in scores)
    return [replace(one, twins=twins.of_scores(entry) if entry else ()) for one, entry in read]

"""MS of any matrix of activations against any embeddings: the command ``saetui ms``."""

from pathlib import Path

from engine.config import MsSettings
from engine.files import path_of
from engine.metrics.monosemanticity import monosemanticity, number, numbers
from engine.neurons.results import MatrixScored
from engine.reporter import Reporter, StageBegan
from engine.workspace import Workspace


def ms_files(settings: MsSettings, workspace: Workspace, reporter: Reporter | None = None) -> MatrixScored:
    """MS of a matrix file (or activation store) against another: per column, and in sum."""
    from engine.activations.matrix_files import read_matrix

    reporter = reporter or Reporter()
    reporter.event(StageBegan("read"))
    A = read_matrix(_source(settings.activations, workspace, "activations"))
    E = read_matrix(_source(settings.embeddings, workspace, "embeddings"))
    reporter.event(StageBegan("score"))
    result = monosemanticity(A, E, settings.min_support, interval=False)
    return MatrixScored(
        ms=numbers(result.ms),
        support=tuple(result.support.tolist()),
        effective_support=numbers(result.effective_support),
        **vars(result.spread),
        undefined=result.undefined,
        baseline=number(result.baseline),
    )


def _source(given: str, workspace: Workspace, kind: str) -> Path:
    """A file or folder, else the name of a store in the workspace."""
    path = path_of(given)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    return workspace.existing(kind, given)

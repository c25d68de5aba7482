"""MS of any matrix of activations against any embeddings: the command ``saetui ms``."""

from pathlib import Path

from engine.config import MsSettings
from engine.errors import UserError
from engine.metrics.by_group import mean_ms
from engine.metrics.monosemanticity import monosemanticity, number, numbers
from engine.neurons.asked import matrix_source
from engine.neurons.results import MatrixScored
from engine.reporter import Reporter, StageBegan
from engine.settings import check
from engine.workspace import Workspace


def ms_files(settings: MsSettings, workspace: Workspace, reporter: Reporter | None = None) -> MatrixScored:
    """MS of a matrix file (or activation store) against another: per column, and in sum.

    UserError for what no MS can be made of, as for stores of different images.
    """
    from engine.activations.matrix_files import read_matrix

    reporter = reporter or Reporter()
    check(settings)
    reporter.event(StageBegan("read"))
    activations = matrix_source(settings.activations, workspace, "activations")
    embeddings = matrix_source(settings.embeddings, workspace, "embeddings")
    if activations.is_dir() and embeddings.is_dir():
        _check_images(activations, embeddings)
    A, E = read_matrix(activations), read_matrix(embeddings)
    reporter.event(StageBegan("score"))
    result = monosemanticity(A, E, settings.min_support, interval=False)
    mean, _ = mean_ms(result.ms)
    return MatrixScored(
        ms=numbers(result.ms),
        support=tuple(result.support.tolist()),
        effective_support=numbers(result.effective_support),
        **vars(result.spread),
        low=mean.low,
        high=mean.high,
        undefined=result.undefined,
        baseline=number(result.baseline),
    )


def _check_images(activations: Path, embeddings: Path) -> None:
    """UserError where a row of one store is of another image than that row of the other: MS of these says nothing."""
    from engine.activations.store import Store

    ours, theirs = Store.open(activations), Store.open(embeddings)
    for store in (ours, theirs):
        store.check_listed()
    for one, other in dict.fromkeys(zip(ours.image.tolist(), theirs.image.tolist(), strict=False)):
        image, judged = ours.images[one], theirs.images[other]
        known = image.sha256 and judged.sha256
        if image.sha256 != judged.sha256 if known else image.path != judged.path:
            raise UserError(
                f"{activations} has rows of {image.path} where {embeddings} has those of {judged.path}: give stores of "
                "the same images."
            )

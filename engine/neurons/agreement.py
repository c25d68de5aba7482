"""The benchmark of human agreement of arXiv 2504.02821: the command ``saetui agreement``. Costs no torch.

A folder with three tables of its authors:

    pairs.csv           k_x, k_y, R_user, and MS_x_NAME and MS_y_NAME of each judge: pairs of latents, and the choice
    top16_images.csv    k, x_1 ... x_16: the numbers of each latent's top images
    activations.csv     k, a_1 ... a_N: its activations on N images

The first alone says how the published scores agree. With embeddings of the N images so does MS, and, where the second
is there, the mean cosine of all pairs of top images.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from engine.config import AgreementSettings
from engine.errors import UserError, counted, reason
from engine.files import path_of
from engine.images.lists import read_text
from engine.metrics.agreement import agreement
from engine.metrics.monosemanticity import monosemanticity, unit_rows
from engine.neurons.agreement_results import Agreed, ScoreAgreement
from engine.neurons.asked import matrix_source
from engine.numbers import typed
from engine.regular import open_regular
from engine.reporter import Reporter, StageBegan
from engine.settings import check
from engine.workspace import Workspace

PAIRS, TOP_IMAGES, ACTIVATIONS = "pairs.csv", "top16_images.csv", "activations.csv"
_COLUMNS = ("k_x", "k_y", "R_user")
_TOGETHER = 256  # latents that are scored together
Scores = dict[int, float]


def agree(settings: AgreementSettings, workspace: Workspace, reporter: Reporter | None = None) -> Agreed:
    """How scores agree with what people chose: those in the tables, in a file, and MS where embeddings are given.

    UserError, which names file and line, for tables of another layout.
    """
    reporter = reporter or Reporter()
    check(settings)
    folder = path_of(settings.folder)
    reporter.event(StageBegan("read"))
    pairs = _Pairs(folder / PAIRS, settings.first)
    latents = set(pairs.k.ravel().tolist())
    found = [ScoreAgreement(name, agreement(*both, pairs.first)) for name, both in pairs.given.items()]
    scored: dict[str, Scores] = {}
    if settings.scores:
        path = path_of(settings.scores)
        scored[path.name] = dict(_rows_of(path, ("k", "score")))
    if settings.embeddings:
        from engine.activations.matrix_files import read_matrix

        E = np.asarray(read_matrix(matrix_source(settings.embeddings, workspace, "embeddings")))
        reporter.event(StageBegan("score"))
        scored["MS"] = _ms(folder / ACTIVATIONS, E, latents, reporter)
        if (folder / TOP_IMAGES).is_file():
            scored["top images"] = _top_images(folder / TOP_IMAGES, E, latents)
    for name, scores in scored.items():
        if not latents & set(scores):
            raise UserError(f"{name} has scores of none of the latents in {folder / PAIRS}: give those of its latents.")
        x, y = np.array([[scores.get(k, np.nan) for k in both] for both in pairs.k.tolist()]).T
        found.append(ScoreAgreement(name, agreement(x, y, pairs.first)))
    return Agreed(pairs=len(pairs.k), undecided=pairs.undecided, scores=tuple(found))


class _Pairs:
    """``pairs.csv``, without the pairs of which people chose neither."""

    def __init__(self, path: Path, meant: str):
        rows = list(_table(path))
        header = rows[0][1] if rows else []
        if missing := [name for name in _COLUMNS if name not in header]:
            raise UserError(f"{path} has no column {missing[0]}: it must have {', '.join(_COLUMNS)}.")
        records = [(line, _record(path, line, header, row)) for line, row in rows[1:]]
        if not records:
            raise UserError(f"{path} has no pairs: it must have one a line below the names of its columns.")
        k = np.array([[_latent(path, line, record[name]) for name in _COLUMNS[:2]] for line, record in records])
        side = np.array(_sides(path, [record["R_user"] for _, record in records], k, meant))
        decided = side != 0
        self.undecided = int((~decided).sum())
        self.k, self.first = k[decided], side[decided] > 0
        self.given = {}
        for name in header:
            judge = name.removeprefix("MS_x_")
            if judge != name and f"MS_y_{judge}" in header:
                columns = (f"MS_x_{judge}", f"MS_y_{judge}")
                both = [[_score(path, line, record[one]) for one in columns] for line, record in records]
                x, y = np.array(both)[decided].T
                self.given[f"MS by {judge}"] = (x, y)


def _sides(path: Path, said: list[str], k: np.ndarray, meant: str) -> list[int]:
    """1 where people chose the first latent, -1 for the second, 0 for neither."""
    words = {"x": 1, "k_x": 1, "y": -1, "k_y": -1, "": 0}
    if all(one.lower() in words for one in said):
        return [words[one.lower()] for one in said]
    values = np.array([np.nan if (one := typed(text, float)) is None else one for text in said])
    if np.isnan(values).any():
        raise UserError(
            f"{path} has {said[int(np.isnan(values).argmax())]!r} in R_user: it must say x or y, the latent's "
            "number, or a number for each."
        )
    if not meant and (values[:, None] == k).any(axis=1).all() and len(set(values.tolist())) > 2:
        return np.where(values == k[:, 0], 1, -1).tolist()
    middle = (values.min() + values.max()) / 2
    first = typed(meant, float) if meant else None
    if first is None or first == middle or values.min() == values.max():
        told = ", ".join(f"{value:g}" for value in np.unique(values)[:4])
        raise UserError(f"{path} has {told} in R_user: say with --first which of them means that k_x was chosen.")
    return np.sign((values - middle) * (first - middle)).astype(int).tolist()


def _ms(path: Path, E: np.ndarray, latents: set[int], reporter: Reporter) -> Scores:
    found: Scores = {}
    numbers: list[int] = []
    columns: list[np.ndarray] = []

    def score() -> None:
        if numbers:
            ms = monosemanticity(np.stack(columns, axis=1), E, interval=False).ms
            found.update(zip(numbers, ms.tolist(), strict=True))
            numbers.clear()
            columns.clear()
            reporter.progress(len(found), len(latents), "latents")
            reporter.check()

    for line, latent, values in _long_rows(path, latents):
        if len(values) != len(E):
            raise UserError(
                f"{path} has {counted(len(values), 'activation')} in line {line}, and the embeddings "
                f"{counted(len(E), 'row')}: give those of its images, in their order."
            )
        numbers.append(latent)
        columns.append(values.astype(np.float32))
        if len(numbers) == _TOGETHER:
            score()
    score()
    return found


def _top_images(path: Path, E: np.ndarray, latents: set[int]) -> Scores:
    """Mean cosine of all pairs of top images, (|sum e|^2 - n) / (n (n - 1)) for n unit embeddings e."""
    unit, found = unit_rows(E), {}
    for line, latent, values in _long_rows(path, latents):
        images = values.astype(np.int64)
        n = len(images)
        if (images != values).any() or images.min() < 0 or images.max() >= len(E) or n < 2:
            raise UserError(f"{path} has no numbers of images below {len(E):,} in line {line}: correct it.")
        total = unit[images].sum(axis=0)
        found[latent] = float((total @ total - n) / (n * (n - 1)))
    return found


def _long_rows(path: Path, latents: set[int]) -> Iterator[tuple[int, int, Float[np.ndarray, " n"]]]:
    """Line, latent and values of each row that is of ``latents``; the file may have gigabytes."""
    try:
        with io.TextIOWrapper(open_regular(path), "utf-8-sig") as file:
            for line, text in enumerate(file, 1):
                name, _, rest = text.partition(",")
                if line == 1 and name.strip().strip('"') == "k":
                    continue
                if not text.strip():
                    continue
                latent = _latent(path, line, name)
                if latent in latents:
                    values = np.loadtxt([rest], delimiter=",", ndmin=1)
                    if not np.isfinite(values).all():
                        raise ValueError("not finite")
                    yield line, latent, values
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: a benchmark has it beside {PAIRS}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}): give a table of numbers.") from error
    except ValueError as error:
        raise UserError(f"{path} is no row of numbers in line {line}: a row has k and one number an image.") from error


def _rows_of(path: Path, columns: tuple[str, str]) -> Iterator[tuple[int, float]]:
    rows = _table(path)
    _, header = next(rows, (0, []))
    if missing := [name for name in columns if name not in header]:
        raise UserError(f"{path} has no column {missing[0]}: it must have {' and '.join(columns)}.")
    for line, row in rows:
        record = _record(path, line, header, row)
        yield _latent(path, line, record[columns[0]]), _score(path, line, record[columns[1]])


def _table(path: Path) -> Iterator[tuple[int, list[str]]]:
    if not path.is_file():
        raise UserError(f"{path} does not exist: give the folder of the benchmark, with {PAIRS} in it.")
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        for row in reader:
            if any(row):
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise UserError(f"{path} is no table ({reason(error)}): give a .csv.") from error


def _record(path: Path, line: int, header: list[str], row: list[str]) -> dict[str, str]:
    if len(row) != len(header):
        raise UserError(f"{path} has {counted(len(row), 'value')} in line {line}, not {len(header)}: correct it.")
    return dict(zip(header, row, strict=True))


def _latent(path: Path, line: int, text: str) -> int:
    value = typed(text.strip().strip('"'), float)
    if value is None or value != int(value) or value < 0:
        raise UserError(f"{path} has {text.strip()[:20]!r} for a latent in line {line}: give its number.")
    return int(value)


def _score(path: Path, line: int, text: str) -> float:
    if not text or text.lower() == "nan":
        return float("nan")
    value = typed(text, float)
    if value is None:
        raise UserError(f"{path} has {text[:20]!r} for a score in line {line}: give a number.")
    return value

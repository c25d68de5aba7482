"""MonoSemanticity score (MS): do the images that activate a latent look alike?

Definition (arXiv 2504.02821). For one latent, ``a_i`` are its activations over N images, min-max normalised over them,
and ``e_i`` unit embeddings of the same images from an independent encoder:

    MS = sum_{i<j} a_i a_j <e_i, e_j> / sum_{i<j} a_i a_j        in [-1, 1]

Exact closed form (arXiv 2602.12403), linear in the images that fire: with ``S = sum a_i e_i``, ``s = sum a_i``,
``q = sum a_i^2``, MS = (|S|^2 - q) / (s^2 - q). Written like that it cancels when one image dominates. So the
image with the largest activation, 1 after normalisation, is kept apart; R, r, q are the sums over the others:

    MS = (2 <e_top, R> + |R|^2 - q) / (2 r + r^2 - q)

Here ``q <= r`` because no activation exceeds 1, so the denominator is at least ``r + r^2``, and the rounding error of
the numerator, of the order of float64's epsilon times ``r + r^2``, leaves MS exact to a few epsilon for any
activations, lopsided ones included.

Sparse columns with a negative minimum m give every image that is not stored the value ``z = -m / range``: it enters
through the sums over all images, ``R = sum_stored (a_i - z) e_i + z sum_all e_i``, and nothing is densified.

The interval (:mod:`engine.metrics.intervals`) rests on the delete-one jackknife over the N images, the normalisation
held fixed. Without image i

    MS_(-i) = (n - 2 a_i (<e_i, S> - a_i)) / (d - 2 a_i (s - a_i))        n, d: numerator and denominator above

which is MS itself where ``a_i = 0``; so one product <e_i, S> per firing image gives the exact jackknife.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from engine.errors import UserError, counted
from engine.metrics import intervals
from engine.metrics.results import Spread

Matrix = Any  # dense ndarray, or any scipy sparse matrix or array

_BLOCK_COLUMNS = 1024  # sparse columns whose sums are held together
_BLOCK_NONZEROS = 1 << 20
_GATHER = 256  # embeddings copied together: they stay in the processor's cache
_DENSE_BYTES = 1 << 26  # of one float64 block of dense columns
_SPARSE_SHARE = 0.05  # dense columns with fewer non-zeros than this go the sparse way


@dataclass(frozen=True)
class MS:
    """Scores of w columns over N images. NaN where a score is undefined."""

    ms: Float[np.ndarray, " w"]  #: monosemanticity; NaN for constant columns and below the minimum support
    support: Int[np.ndarray, " w"]  #: images whose normalised activation is above 0
    effective_support: Float[np.ndarray, " w"]  #: s^2 / q: how many equal activations would carry as much; 0 if none
    low: Float[np.ndarray, " w"]  #: 95 % interval, of the sampling of images; NaN below three firing images
    high: Float[np.ndarray, " w"]
    baseline: float  #: mean cosine over all pairs of images: what a column that fires on everything would score

    @property
    def undefined(self) -> int:
        return int(np.isnan(self.ms).sum())

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.ms)) if self.undefined < len(self.ms) else float("nan")

    @property
    def best(self) -> float:
        return float(np.nanmax(self.ms)) if self.undefined < len(self.ms) else float("nan")

    @property
    def worst(self) -> float:
        return float(np.nanmin(self.ms)) if self.undefined < len(self.ms) else float("nan")

    @property
    def std(self) -> float:
        """Over the columns that have a score, with n - 1; NaN for fewer than two."""
        return float(np.nanstd(self.ms, ddof=1)) if self.undefined < len(self.ms) - 1 else float("nan")

    @property
    def spread(self) -> Spread:
        return Spread(number(self.mean), number(self.best), number(self.worst), std=number(self.std))


def monosemanticity(A: Matrix, E: Matrix, min_support: int = 2, interval: bool = True) -> MS:
    """MS of every column of ``A`` (N, w), signed or not, dense or sparse, judged by the embeddings ``E`` (N, D).

    Columns are min-max normalised here (values that a sparse matrix does not store are zeros like any other) and
    rows of ``E`` scaled to length 1; all sums are float64. Cost: non-zeros x D for sparse columns, N x w x D for dense
    ones; ``interval=False`` halves it. Undefined (NaN): constant columns (up to two units of the last place of A's
    type) and columns that fire on fewer than ``min_support`` images.

    UserError: shapes that do not fit, NaN or infinity in either matrix, an embedding of length 0.
    """
    if min_support < 2:
        raise UserError(f"A minimum support of {min_support} has no meaning: a score needs pairs, so give 2 or more.")
    A = checked(A, "activations")
    E = checked(E.toarray() if sparse.issparse(E) else E, "embeddings")
    if A.shape[0] != E.shape[0]:
        raise UserError(
            f"The activations have {counted(A.shape[0], 'row')} and the embeddings {E.shape[0]}: "
            "both need one row per image."
        )
    if A.shape[0] < 2:
        raise UserError("A score needs pairs of images: give two or more rows.")
    return _Scorer(unit_rows(E), A.shape[1], interval).score(A, min_support)


def unit_rows(E: np.ndarray) -> Float[np.ndarray, "N D"]:
    """Rows of ``E`` scaled to length 1, in float64. UserError for a row of length 0: it has no direction."""
    unit = E.astype(np.float64)
    largest = np.abs(unit).max(axis=1, initial=0.0)
    if not largest.all():
        row = int(np.flatnonzero(largest == 0)[0])
        raise UserError(f"Row {row} of the embeddings is all zeros and has no direction: leave that image out.")
    unit /= largest[:, None]  # squares of tiny or huge embeddings would leave float64's range
    unit /= np.sqrt(np.einsum("nd,nd->n", unit, unit))[:, None]
    return unit


def number(value: float) -> float | None:
    """``value`` for JSON: None where it is undefined."""
    return None if np.isnan(value) else float(value)


def numbers(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(number(value) for value in values.tolist())


def checked(matrix: Matrix, name: str) -> Matrix:
    """``matrix`` as a 2-D array or sparse matrix of finite real numbers, or a UserError that names the fault."""
    if not sparse.issparse(matrix):
        matrix = np.asarray(matrix)
    if matrix.ndim != 2:
        raise UserError(f"The {name} have shape {tuple(matrix.shape)}: a matrix with one row per image is needed.")
    if matrix.dtype.kind not in "fiub":
        raise UserError(f"The {name} hold {matrix.dtype} values: real numbers are needed.")
    if matrix.dtype.kind == "f":
        _check_finite(matrix, name)
    return matrix


def _check_finite(matrix: Matrix, name: str) -> None:
    if sparse.issparse(matrix):
        stored = matrix.tocoo()
        bad = np.flatnonzero(~np.isfinite(stored.data))
        where = [(stored.row[i], stored.col[i], stored.data[i]) for i in bad[:1]]
    else:
        where = []
        step = max(1, _DENSE_BYTES // max(1, matrix.shape[1]))
        for start in range(0, matrix.shape[0], step):
            finite = np.isfinite(matrix[start : start + step])
            if not finite.all():
                row, column = np.argwhere(~finite)[0]
                where = [(start + row, column, matrix[start + row, column])]
                break
    if where:
        row, column, value = where[0]
        raise UserError(f"The {name} hold {value} at row {row}, column {column}: repair or leave out that image.")


class _Scorer:
    """The scores of one call, filled in block of columns after block."""

    def __init__(self, E: Float[np.ndarray, "N D"], w: int, interval: bool):
        self.E, self.interval = E, interval
        self.total = E.sum(axis=0)
        self._gram: np.ndarray | None = None
        self.ms, self.variance = np.full(w, np.nan), np.full(w, np.nan)
        self.support, self.effective = np.zeros(w, np.int64), np.zeros(w)

    @property
    def gram(self) -> Float[np.ndarray, "D D"]:
        if self._gram is None:
            self._gram = self.E.T @ self.E
        return self._gram

    def score(self, A: Matrix, min_support: int) -> MS:
        if sparse.issparse(A):
            self._score_sparse(by_columns(A), np.arange(A.shape[1]))
        else:
            self._score_dense(A)
        N = len(self.E)
        ms = np.where(self.support >= min_support, self.ms, np.nan)
        baseline = (self.total @ self.total - N) / (N * (N - 1.0))
        low, high = intervals.interval(ms, self.variance, self.support, self.effective)
        return MS(ms, self.support, self.effective, low, high, float(baseline))

    def _score_dense(self, A: np.ndarray) -> None:
        step = max(1, _DENSE_BYTES // (8 * len(self.E)))
        for start in range(0, A.shape[1], step):
            block = A[:, start : start + step]
            columns = np.arange(start, start + block.shape[1])
            if np.count_nonzero(block) < _SPARSE_SHARE * block.size:
                self._score_sparse(by_columns(block), columns)
            else:
                self._dense_block(block.astype(np.float64), columns, noise(A.dtype))

    def _score_sparse(self, A: sparse.csc_array, into: np.ndarray) -> None:
        """``into``: where the results of A's columns go."""
        N = len(self.E)
        stored = np.diff(A.indptr)
        lowest, highest = np.zeros(len(stored)), np.zeros(len(stored))
        some = np.flatnonzero(stored)
        if len(some):
            lowest[some] = np.minimum.reduceat(A.data, A.indptr[some])
            highest[some] = np.maximum.reduceat(A.data, A.indptr[some])
        missing = stored < N
        lowest[missing] = np.minimum(lowest[missing], 0.0)
        highest[missing] = np.maximum(highest[missing], 0.0)
        varying = varies(lowest, highest, noise(A.dtype))
        # Where nearly every value is stored, the background cancels in the sums: such columns go the dense way.
        full = varying & (lowest != 0) & (stored > N // 4)
        empty = stored == 0  # without effect on the sums, and common: better than to interrupt a run
        highest[empty] = 1.0
        for run in _runs(A.indptr, np.flatnonzero((varying & ~full) | empty)):
            self._sparse_block(A, run, lowest[run], highest[run], into[run])
        crowded, step = np.flatnonzero(full), max(1, _DENSE_BYTES // (8 * N))
        for start in range(0, len(crowded), step):
            some = crowded[start : start + step]
            self._dense_block(A[:, some].toarray().astype(np.float64), into[some], noise(A.dtype))

    def _sparse_block(
        self, A: sparse.csc_array, columns: slice, lowest: np.ndarray, highest: np.ndarray, into: np.ndarray
    ) -> None:
        first, last = A.indptr[columns.start], A.indptr[columns.stop]
        rows = A.indices[first:last]
        stored = np.diff(A.indptr[columns.start : columns.stop + 1])
        c, implicit = len(stored), len(self.E) - stored
        column = np.repeat(np.arange(c), stored)
        width = highest - lowest
        a = (A.data[first:last].astype(np.float64) - lowest[column]) / width[column]
        z = -lowest / width  # of the images that are not stored
        # Where only images that are not stored reach the maximum, three quarters of all do: none needs to stand apart.
        at_top = np.flatnonzero(a == 1.0)
        with_top, where = np.unique(column[at_top], return_index=True)
        top, has_top = at_top[where], np.bincount(with_top, minlength=c)
        a0 = a.copy()
        a0[top] = 0.0

        weights = sparse.csr_array(
            (a0 - z[column], rows, A.indptr[columns.start : columns.stop + 1] - first), (c, len(self.E))
        )
        R = weights @ self.E + z[:, None] * self.total  # not through BLAS, whose threads cost more than this work
        E_top = np.zeros_like(R)
        E_top[with_top] = self.E[rows[top]]

        sums = _Sums(
            r=np.bincount(column, a0, c) + z * implicit,
            q=np.bincount(column, a0**2, c) + z**2 * implicit,
            R_squared=np.einsum("cd,cd->c", R, R),
            top_dot=np.einsum("cd,cd->c", R, E_top),
            top=has_top,
        )
        support = np.bincount(column, a > 0, c).astype(np.int64) + implicit * (z > 0)
        shift, twice = np.zeros((2, c)), np.zeros(c)  # sums over images of MS_(-i) - MS, and of its square; Q
        if self.interval:
            S = R + E_top
            x = self._products(rows, S, column)
            deviation = sums.without(a, x, column)
            deviation[top] = sums.without_top()[with_top]
            shift[0] = np.bincount(column, deviation, c)
            shift[1] = np.bincount(column, deviation**2, c)
            if z.any():
                x_sum = S @ self.total - np.bincount(column, x, c)
                x_squares = np.einsum("cd,cd->c", S @ self.gram, S) - np.bincount(column, x**2, c)
                shift += sums.without_background(z, implicit, x_sum, x_squares)
            twice = np.where(z == 0, sums.paired(a, rows, np.append(0, np.cumsum(stored)), self.E, S), 0.0)
        self._store(into, sums, support, shift, twice)

    def _products(self, rows: np.ndarray, S: np.ndarray, column: np.ndarray) -> Float[np.ndarray, " stored"]:
        """``<e_i, S>`` of each stored image i with the sum of its own column."""
        x = np.empty(len(rows))
        for start in range(0, len(rows), _GATHER):
            part = slice(start, start + _GATHER)
            np.einsum("nd,nd->n", self.E[rows[part]], S[column[part]], out=x[part])
        return x

    def _dense_block(self, a: Float[np.ndarray, "N b"], into: np.ndarray, noise: float) -> None:
        """``a``: raw columns, overwritten."""
        lowest, highest = a.min(axis=0), a.max(axis=0)
        varying = np.flatnonzero(varies(lowest, highest, noise))
        if len(varying) < a.shape[1]:
            a, lowest, highest, into = a[:, varying], lowest[varying], highest[varying], into[varying]
        if not len(varying):
            return
        a -= lowest
        a /= highest - lowest
        top, each = a.argmax(axis=0), np.arange(a.shape[1])
        support = np.count_nonzero(a, axis=0)
        a[top, each] = 0.0
        R, E_top = a.T @ self.E, self.E[top]
        sums = _Sums(
            r=a.sum(axis=0),
            q=np.einsum("nb,nb->b", a, a),
            R_squared=np.einsum("bd,bd->b", R, R),
            top_dot=np.einsum("bd,bd->b", R, E_top),
            top=np.ones(len(each)),
        )
        shift, twice = np.zeros((2, len(each))), np.zeros(len(each))
        if self.interval:
            deviation = sums.without(a, self.E @ (R + E_top).T, slice(None))
            deviation[top, each] = sums.without_top()
            shift[0], shift[1] = deviation.sum(axis=0), np.einsum("nb,nb->b", deviation, deviation)
            a[top, each] = 1.0
            firing = sparse.csc_array(np.where(lowest == 0, a, 0.0))
            twice = sums.paired(firing.data, firing.indices, firing.indptr, self.E, R + E_top)
        self._store(into, sums, support, shift, twice)

    def _store(
        self, into: np.ndarray, sums: "_Sums", support: np.ndarray, shift: np.ndarray, twice: np.ndarray
    ) -> None:
        N = len(self.E)
        self.ms[into] = np.clip(sums.ms, -1, 1)
        self.support[into] = support
        s, q = sums.top + sums.r, sums.top + sums.q
        self.effective[into] = np.divide(s**2, q, out=np.zeros_like(q), where=q > 0)
        if self.interval:
            variance = np.maximum((N - 1) / N * (shift[1] - shift[0] ** 2 / N), 0.0)
            self.variance[into] = np.where(support > 2, np.maximum(variance - twice, variance / 2), np.nan)


@dataclass
class _Sums:
    """The sums over the images of c columns, the top image (activation 1) kept apart; ``top`` is 0 where none is."""

    r: np.ndarray  # sum of the activations
    q: np.ndarray  # sum of their squares
    R_squared: np.ndarray  # |sum a_i e_i|^2
    top_dot: np.ndarray  # <e_top, sum a_i e_i>
    top: np.ndarray

    def __post_init__(self) -> None:
        self.numerator = 2 * self.top_dot + self.R_squared - self.q
        self.denominator = 2 * self.top * self.r + self.r**2 - self.q
        with np.errstate(invalid="ignore", divide="ignore"):
            self.ms = np.where(self.denominator > 0, self.numerator / self.denominator, np.nan)

    def paired(
        self, a: np.ndarray, images: np.ndarray, start: np.ndarray, E: np.ndarray, S: np.ndarray
    ) -> Float[np.ndarray, " c"]:
        """Q of every column, 0 where there is no MS; ``S``: sum a_i e_i."""
        s = self.top + self.r
        means = S / np.where(s > 0, s, 1.0)[:, None]
        return intervals.paired(a, images, start, E, means, self.denominator)

    def without(self, a: np.ndarray, x: np.ndarray, column: Any) -> np.ndarray:
        """MS without one image of activation ``a`` and ``x = <e_i, S>``, minus MS; ``column``: whose image it is."""
        numerator = self.numerator[column] - 2 * a * (x - a)
        denominator = self.denominator[column] - 2 * a * ((self.top + self.r)[column] - a)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip(numerator / denominator, -1, 1) - self.ms[column]

    def without_top(self) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip((self.R_squared - self.q) / (self.r**2 - self.q), -1, 1) - self.ms

    def without_background(
        self, z: np.ndarray, implicit: np.ndarray, x_sum: np.ndarray, x_squares: np.ndarray
    ) -> np.ndarray:
        """The sums of :meth:`without` and of its square over the images with activation ``z``, (2, c).

        It is linear in x, as all of them share one denominator: alpha - beta x.
        """
        denominator = self.denominator - 2 * z * (self.top + self.r - z)
        with np.errstate(invalid="ignore", divide="ignore"):
            alpha = (self.numerator + 2 * z**2) / denominator - self.ms
            beta = 2 * z / denominator
        first = implicit * alpha - beta * x_sum
        return np.stack([first, implicit * alpha**2 - 2 * alpha * beta * x_sum + beta**2 * x_squares])


def by_columns(A: Matrix) -> sparse.csc_array:
    """``A`` by columns, each image stored at most once."""
    columns = sparse.csc_array(A)
    if not columns.has_canonical_format:
        columns = columns.copy()
        columns.sum_duplicates()
    return columns


def noise(dtype: np.dtype) -> float:
    """Relative spread up to which a column counts as constant: rounding of its own type."""
    return 2 * float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0


def varies(lowest: np.ndarray, highest: np.ndarray, noise: float) -> np.ndarray:
    return highest - lowest > noise * np.maximum(np.abs(lowest), np.abs(highest))


def _runs(indptr: np.ndarray, columns: np.ndarray) -> Iterator[slice]:
    """``columns`` (ascending) in runs of neighbours, few enough for their sums to be held together."""
    start = stop = begin = -1
    for k, first, last in zip(columns.tolist(), indptr[columns].tolist(), indptr[columns + 1].tolist(), strict=True):
        if k != stop or k - start >= _BLOCK_COLUMNS or last - begin > _BLOCK_NONZEROS:
            if stop > start:
                yield slice(start, stop)
            start, begin = k, first
        stop = k + 1
    if stop > start:
        yield slice(start, stop)

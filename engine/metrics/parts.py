"""MS where the units are parts of images, as crops around patches, rather than whole images.

Parts of one image overlap and show the same things, so pairs of parts of one image say little of what a latent stands
for, and are left out. For a latent with activations a_u >= 0 of parts u, min-max normalised, their unit embeddings e_u,
and S_I = sum a_u e_u, s_I = sum a_u over the parts of image I:

    MS = sum_{I<J} <S_I, S_J> / sum_{I<J} s_I s_J = (|S|^2 - sum_I |S_I|^2) / (s^2 - sum_I s_I^2)

with S, s the sums over all images. It is the MS of engine.metrics.monosemanticity where every image has one part. As
there, the image with the largest s_I (then 1) is kept apart, so that nothing cancels where one dominates. Where the
parts of an image are a random sample of fixed size, both sums are, but for one factor, unbiased estimates of those over
all of its parts.

If all parts had the embedding of their image, S_I would be s_I e_I: the MS of the images, their activations pooled by
the sum. Patches judged by their whole image are no choice of their own, therefore: they are ``mean`` over tokens.

What is drawn at random are images, so the interval rests on the jackknife that leaves out an image with all its parts,

    MS_(-I) = (n - 2 (<S_I, S> - |S_I|^2)) / (d - 2 s_I (s - s_I))        n, d: numerator and denominator above,

with the mends of engine.metrics.intervals for images of activation s_I and embedding S_I / s_I. It holds the population
value in 93 to 97 of 100 samples of 7 to 1,000 images of four parts each, a third of which fire nothing, in the
populations named there; so with lopsided activations (7 images 96, 50: 97, 100: 96, 200: 96, 500: 96, 1,000: 95). Where
one in twenty images is unlike the others, in 89 to 93 of 20 to 200.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from engine.errors import UserError, counted
from engine.metrics import intervals
from engine.metrics.monosemanticity import MS, Matrix, by_columns, checked, monosemanticity, noise, unit_rows, varies

_BYTES = 1 << 22  # of the sums S_I of a block of columns: they stay in the processor's cache
_DENSE_BYTES = 1 << 26  # of a block of dense columns
_GATHER = 256  # of them multiplied together: they stay in the processor's cache


def ms_of_units(
    A: Matrix,
    E: Matrix,
    image: Int[np.ndarray, " units"] | None = None,
    min_support: int = 2,
    interval: bool = True,
) -> MS:
    """MS of every column of ``A`` (units, w), judged by ``E`` (units, D); ``image``: that of each unit, in order, where
    units are parts of images, None where they are images.

    The support of parts counts parts, at least ``min_support`` of two images. Cost: non-zeros x D. UserError as
    :func:`engine.metrics.monosemanticity.monosemanticity`.
    """
    if image is None:
        return monosemanticity(A, E, min_support, interval)
    A = checked(A, "activations")
    E = checked(E.toarray() if sparse.issparse(E) else E, "embeddings")
    if not A.shape[0] == E.shape[0] == len(image):
        raise UserError(
            f"The activations have {counted(A.shape[0], 'row')}, the embeddings {E.shape[0]} and the images "
            f"{len(image)}: each needs one a part."
        )
    owner = np.unique(image, return_inverse=True)[1]
    if (np.diff(owner) < 0).any():
        raise ValueError("the parts of an image stand together, images in rising order")
    if not len(owner) or not owner[-1]:
        raise UserError("A score needs pairs of images: give parts of two or more.")
    scorer = _Scorer(unit_rows(E), owner, A.shape[1], interval)
    if interval or sparse.issparse(A):
        for columns, activations in _normalised(A, max(1, _BYTES // (8 * E.shape[1]))):
            scorer.score(sparse.csc_array(activations), columns)
    else:
        for columns, activations in _normalised(A, _DENSE_BYTES // 8):
            scorer.score_dense(activations, columns)
    return scorer.result(min_support)


def _normalised(A: Matrix, room: int) -> Iterator[tuple[Int[np.ndarray, " c"], Matrix]]:
    """Numbers of columns, and they, min-max normalised: about ``room`` values at a time, constant ones empty."""
    units, w = A.shape
    plain = np.zeros(w, bool)  # whose minimum is that of units that are not stored: 0
    if sparse.issparse(A):
        A = by_columns(A)
        stored, lowest = np.diff(A.indptr), np.zeros(w)
        some = np.flatnonzero(stored)
        lowest[some] = np.minimum.reduceat(A.data, A.indptr[some]) if len(some) else 0
        plain = (lowest >= 0) & (stored < units)
        for columns in _blocks(np.flatnonzero(plain), stored[plain], room):
            block = A[:, columns].astype(np.float64)
            block.eliminate_zeros()
            highest = block.max(axis=0).toarray().ravel()
            block.data /= np.repeat(highest, np.diff(block.indptr))
            yield columns, block
    others = np.flatnonzero(~plain)
    for columns in _blocks(others, np.full(len(others), units), room):
        block = A[:, columns]
        block = (block.toarray() if sparse.issparse(block) else block).astype(np.float64)
        low, high = block.min(axis=0), block.max(axis=0)
        varying = varies(low, high, noise(A.dtype))
        yield columns, np.where(varying, (block - low) / np.where(varying, high - low, 1.0), 0.0)


def _blocks(columns: np.ndarray, sizes: np.ndarray, room: int) -> Iterator[np.ndarray]:
    """Neighbours among ``columns``, so many that their ``sizes`` are about ``room`` together."""
    ends = np.cumsum(sizes)
    cuts = np.searchsorted(ends, np.arange(room, ends[-1:].sum(), room))
    yield from (block for block in np.split(columns, cuts) if len(block))


class _Scorer:
    """The scores of one call, filled in block of columns after block."""

    def __init__(self, E: Float[np.ndarray, "units D"], owner: Int[np.ndarray, " units"], w: int, interval: bool):
        self.E, self.owner, self.interval = E, owner, interval
        self.N = int(owner[-1]) + 1
        self.ms, self.variance = np.full(w, np.nan), np.full(w, np.nan)
        self.support, self.images = np.zeros((2, w), np.int64)
        self.effective, self.effective_images = np.zeros((2, w))

    def result(self, min_support: int) -> MS:
        ms = np.where(self.support >= min_support, self.ms, np.nan)
        low, high = intervals.interval(ms, self.variance, self.images, self.effective_images)
        first = np.flatnonzero(np.diff(self.owner, prepend=-1))
        sums, parts = np.add.reduceat(self.E, first), np.diff(np.append(first, len(self.E)))
        whole = sums.sum(axis=0)
        pairs = len(self.E) ** 2.0 - float((parts.astype(np.float64) ** 2).sum())
        baseline = float((whole @ whole - np.einsum("id,id->", sums, sums)) / pairs)
        return MS(ms, self.support, self.effective, low, high, baseline)

    def score(self, A: sparse.csc_array, into: np.ndarray) -> None:
        """``into``: where the results of the columns of ``A`` go."""
        c, column = A.shape[1], np.repeat(np.arange(A.shape[1]), np.diff(A.indptr))
        a, rows, image = A.data, A.indices, self.owner[A.indices]
        self.support[into] = np.bincount(column, minlength=c)
        self.effective[into] = _ratio(np.bincount(column, a, c) ** 2, np.bincount(column, a**2, c), 0.0)
        if not len(a):
            return
        # One run for each image that fires a column.
        first = np.flatnonzero((np.diff(column, prepend=-1) != 0) | (np.diff(image, prepend=-1) != 0))
        of, s = column[first], np.add.reduceat(a, first)
        begin = np.searchsorted(of, np.arange(c + 1))
        fires = np.flatnonzero(np.diff(begin))
        peak = np.ones(c)
        peak[fires] = np.maximum.reduceat(s, begin[:-1][fires])
        s /= peak[of]
        at_top = np.flatnonzero(s == 1.0)
        top = at_top[np.unique(of[at_top], return_index=True)[1]]  # one a column that fires
        bounds = np.append(first, len(a))
        S_I = sparse.csr_array((a / peak[column], rows, bounds), (len(first), len(self.E))) @ self.E

        others = np.ones(len(s))
        others[top] = 0.0
        R = sparse.csr_array((others, np.arange(len(s)), begin), (c, len(s))) @ S_I
        S_top = np.zeros_like(R)
        S_top[fires] = S_I[top]
        square = np.einsum("rd,rd->r", S_I, S_I)
        r, q = np.bincount(of, others * s, c), np.bincount(of, others * s**2, c)
        rest = np.einsum("cd,cd->c", R, R) - np.bincount(of, others * square, c)  # numerator without the top image
        numerator, denominator = 2 * np.einsum("cd,cd->c", R, S_top) + rest, 2 * r + r**2 - q
        ms = np.clip(_ratio(numerator, denominator), -1, 1)
        self.ms[into], self.images[into] = ms, np.diff(begin)
        self.effective_images[into] = np.where(np.diff(begin) > 0, (1 + r) ** 2 / (1 + q), 0.0)
        if not self.interval:
            return
        S, whole = R + S_top, 1 + r
        x = np.empty(len(s))
        for start in range(0, len(s), _GATHER):
            part = slice(start, start + _GATHER)
            np.einsum("rd,rd->r", S_I[part], S[of[part]], out=x[part])
        without = _ratio(numerator[of] - 2 * (x - square), denominator[of] - 2 * s * (whole[of] - s))
        without[top] = _ratio(rest[fires], (r**2 - q)[fires])
        shift = np.clip(without, -1, 1) - ms[of]
        sums, squares = np.bincount(of, shift, c), np.bincount(of, shift**2, c)
        variance = np.maximum((self.N - 1) / self.N * (squares - sums**2 / self.N), 0.0)
        means = S / whole[:, None]
        twice = intervals.paired(s, np.arange(len(s)), begin, S_I / s[:, None], means, denominator)
        self.variance[into] = np.where(np.diff(begin) > 2, np.maximum(variance - twice, variance / 2), np.nan)

    def score_dense(self, a: Float[np.ndarray, "units c"], into: np.ndarray) -> None:
        """The same without interval, by dense products. ``sum_I |S_I|^2`` is ``sum_u a_u sum_v a_v <e_u, e_v>`` over
        the parts v of the same image, so no S_I is held."""
        self.support[into] = np.count_nonzero(a, axis=0)
        self.effective[into] = _ratio(a.sum(axis=0) ** 2, np.einsum("uc,uc->c", a, a), 0.0)
        s = np.add.reduceat(a, np.flatnonzero(np.diff(self.owner, prepend=-1)), axis=0)
        self.images[into] = np.count_nonzero(s, axis=0)
        peak = s.max(axis=0)
        top, scale = s.argmax(axis=0), np.where(peak > 0, peak, 1.0)
        s /= scale
        at_top = self.owner[:, None] == top
        S_top = sparse.csr_array(np.where(at_top, a / scale, 0.0).T) @ self.E
        others = np.where(at_top, 0.0, a / scale)
        R = others.T @ self.E
        rest = np.einsum("cd,cd->c", R, R) - np.einsum("uc,uc->c", others, self._near @ others)
        s[top, np.arange(len(top))] = 0.0
        r, q = s.sum(axis=0), np.einsum("ic,ic->c", s, s)
        denominator = np.where(peak > 0, 2 * r + r**2 - q, 0.0)
        self.ms[into] = np.clip(_ratio(2 * np.einsum("cd,cd->c", R, S_top) + rest, denominator), -1, 1)

    @cached_property
    def _near(self) -> sparse.csr_array:
        """<e_u, e_v> of parts of one image, (units, units)."""
        parts = np.bincount(self.owner)
        first = np.repeat(np.cumsum(parts) - parts, parts**2)
        place = np.arange(len(first)) - np.repeat(np.cumsum(parts**2) - parts**2, parts**2)
        each = np.repeat(parts, parts**2)
        u, v = first + place // each, first + place % each
        values = np.empty(len(u))
        for start in range(0, len(u), _GATHER):
            part = slice(start, start + _GATHER)
            np.einsum("nd,nd->n", self.E[u[part]], self.E[v[part]], out=values[part])
        return sparse.csr_array((values, (u, v)), (len(self.E), len(self.E)))


def _ratio(above: np.ndarray, below: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    return np.divide(above, below, out=np.full(len(above), otherwise), where=below > 0)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, special

from engine.errors import UserError
from engine.metrics.monosemanticity import monosemanticity


def normalised(column):
    """Min-max normalised float64 column; None where it is constant."""
    column = np.asarray(column, np.float64)
    width = column.max() - column.min()
    return None if width == 0 else (column - column.min()) / width


def ms_by_pairs(a, E):
    """The definition: a sum over pairs i < j of normalised activations."""
    unit = E / np.linalg.norm(E.astype(np.float64), axis=1, keepdims=True)
    upper = np.triu(np.ones((len(a), len(a))), 1)
    weights = np.outer(a, a) * upper
    return (weights * (unit @ unit.T)).sum() / weights.sum()


def reference(A, E, min_support=2):
    A = A.toarray() if sparse.issparse(A) else A
    scores, support = [], []
    for column in A.T:
        a = normalised(column)
        support.append(0 if a is None else int((a > 0).sum()))
        scores.append(ms_by_pairs(a, E) if support[-1] >= min_support else np.nan)
    return np.array(scores), np.array(support)


def interval_by_leaving_out(a, E, zero):
    """As it is written: the set scored again without each image in turn, pairs looked at one by one, Fisher's scale.

    ``zero``: whether the column was 0 on some image before it was normalised.
    """
    N, ms, unit = len(a), ms_by_pairs(a, E), E / np.linalg.norm(E, axis=1, keepdims=True)
    left_out = np.array([ms_by_pairs(np.delete(a, i), np.delete(E, i, axis=0)) for i in range(N)])
    variance = (N - 1) / N * ((left_out - left_out.mean()) ** 2).sum()
    mean, d = a @ unit / a.sum(), a.sum() ** 2 - (a**2).sum()
    apart = ((unit - mean) @ (unit - mean).T) * np.outer(a, a) / d
    pairs = sum(apart[i, j] ** 2 for i in range(N) for j in range(N) if i != j)
    variance = max(variance - pairs * zero, variance / 2)
    freedom = max(a.sum() ** 2 / (a**2).sum() * (1 - 1 / (a > 0).sum()), 1)
    reach, part = special.stdtrit(freedom, 0.975) * np.sqrt(variance), max(ms, 0)
    slope = (1 - part) / ((1 + part) * max(part, reach))  # by which a larger MS varies more, on Fisher's scale
    ends = np.roots([1, -(reach**2) * slope, -(reach**2)])  # where x^2 = reach^2 (1 + slope x)
    return np.tanh(np.arctanh(ms) + np.sort(ends.real) / (1 - ms**2))


def sparse_activations(rng, N, w, density, signed=False):
    A = sparse.random(N, w, density, "csr", rng=rng, data_rvs=lambda n: rng.exponential(size=n))
    if signed:
        A.data *= rng.choice([-1, 1], len(A.data))
    return A


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("offset", [0.0, 30.0, -30.0])
def test_dense_signed_equals_the_sum_over_pairs(rng, dtype, offset):
    A = (rng.normal(size=(40, 9)) + offset).astype(dtype)
    E = (rng.normal(size=(40, 6)) + 0.3).astype(dtype)
    scores, support = reference(A, E)
    result = monosemanticity(A, E)
    np.testing.assert_allclose(result.ms, scores, rtol=1e-10)
    np.testing.assert_array_equal(result.support, support)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("density", [0.03, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dense"])
def test_sparse_equals_the_sum_over_pairs(rng, density, signed, form):
    A = sparse_activations(rng, 60, 30, density, signed)
    A = A.toarray() if form == "dense" else A.asformat(form)
    E = rng.normal(size=(60, 5)) + 0.3
    scores, support = reference(A, E)
    result = monosemanticity(A, E)
    np.testing.assert_allclose(result.ms, scores, rtol=1e-10)
    np.testing.assert_array_equal(result.support, support)
    assert result.undefined == np.isnan(scores).sum()
    defined = scores[~np.isnan(scores)]
    np.testing.assert_allclose([result.mean, result.best, result.worst], [defined.mean(), defined.max(), defined.min()])


def test_many_columns_and_long_ones(rng):
    """Runs of columns, interrupted by others, and columns longer than what is gathered at once."""
    A = sparse_activations(rng, 700, 2500, 0.005, signed=False).tolil()
    A[:, 5] = rng.exponential(size=(700, 1))
    A[:, 7] = -rng.exponential(size=(700, 1))
    A[:, 9] = 2.0
    A[:100, 11] = -1.0
    E = rng.normal(size=(700, 4)) + 0.2
    picked = [0, 1, 4, 5, 6, 7, 8, 9, 11, 1030, 2499]
    scores, support = reference(A.tocsc()[:, picked], E)
    result = monosemanticity(A, E)
    np.testing.assert_allclose(result.ms[picked], scores, rtol=1e-10)
    np.testing.assert_array_equal(result.support[picked], support)


@pytest.mark.parametrize("small", [1e-5, 1e-7, 1e-12, 1e-100])
@pytest.mark.parametrize("sparsely", [True, False])
def test_lopsided_columns_are_exact(rng, small, sparsely):
    A = np.zeros((50, 4))
    A[[3, 8], 0] = 1.0, small
    A[[3, 8, 9], 1] = small, 5.0, small / 3
    A[[1, 4, 30, 31], 2] = 7.0, small, small * 1e-3, small * 1e-6
    A[:, 3] = small * rng.random(50)
    A[17, 3] = 2.0
    E = rng.normal(size=(50, 16))
    unit = E / np.linalg.norm(E, axis=1, keepdims=True)
    result = monosemanticity(sparse.csr_array(A) if sparsely else A, E)
    assert result.ms[0] == pytest.approx(unit[3] @ unit[8], rel=1e-13)
    scores, _ = reference(A, E)
    np.testing.assert_allclose(result.ms, scores, rtol=1e-11)


def test_negative_background_beside_one_image_that_dominates(rng):
    A = sparse.lil_array((40, 2))
    A[3, 0], A[5, 0] = 1.0, -1e-7
    A[3, 1], A[5, 1] = -1.0, -1e-7
    E = rng.normal(size=(40, 8)) + 0.1
    np.testing.assert_allclose(monosemanticity(A, E).ms, reference(A, E)[0], rtol=1e-9)


def test_undefined_columns_and_supports(rng):
    A = np.zeros((30, 7))
    A[:, 1] = 3.0
    A[:, 2] = 0.1 + 1e-17 * rng.integers(-1, 2, 30)
    A[4, 3] = 2.0
    A[[4, 9], 4] = 2.0, 1.0
    A[:10, 5] = 1.0
    A[:, 6] = rng.normal(size=30)
    E = rng.normal(size=(30, 8))
    for matrix in (A, sparse.csr_array(A)):
        result = monosemanticity(matrix, E)
        assert np.isnan(result.ms).tolist() == [True, True, True, True, False, False, False]
        assert result.undefined == 4
        assert result.support.tolist() == [0, 0, 0, 1, 2, 10, 29]
        assert result.effective_support[[0, 3, 4, 5]].tolist() == pytest.approx([0, 1, 9 / 5, 10])
        assert np.isnan(result.low).tolist() == [True] * 5 + [False] * 2
        assert np.isnan(monosemanticity(matrix, E, min_support=11).ms).tolist() == [True] * 6 + [False]


def test_float32_noise_is_constant_but_small_activations_are_not(rng):
    column = np.full(20, 0.3, np.float32)
    column[::2] = np.nextafter(np.float32(0.3), np.float32(1))
    firing = np.zeros(20, np.float32)
    firing[:5] = 1e-30
    result = monosemanticity(np.stack([column, firing], axis=1), rng.normal(size=(20, 3)))
    assert np.isnan(result.ms[0])
    assert result.support.tolist() == [0, 5]


def test_nothing_defined_gives_nan_everywhere(rng):
    result = monosemanticity(np.zeros((5, 3)), rng.normal(size=(5, 2)))
    assert np.isnan([result.mean, result.best, result.worst]).all()
    assert result.undefined == 3


def test_baseline_is_the_mean_cosine_over_pairs(rng):
    E = rng.normal(size=(25, 4)) + 1
    assert monosemanticity(np.ones((25, 1)), E).baseline == pytest.approx(ms_by_pairs(np.ones(25), E), rel=1e-12)


@pytest.mark.parametrize("density", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("sparsely", [True, False])
def test_interval_equals_leaving_out_each_image(rng, density, signed, sparsely):
    N = {0.1: 40, 0.3: 24, 1.0: 16}[density]  # so that all pairs are looked at
    A = sparse_activations(rng, N, 12, density, signed)
    E = rng.normal(size=(N, 5)) + 0.5
    result = monosemanticity(A if sparsely else A.toarray(), E)
    checked = 0
    for k, column in enumerate(A.toarray().T):
        if result.support[k] > 2:
            expected = interval_by_leaving_out(normalised(column), E, column.min() == 0)
            np.testing.assert_allclose([result.low[k], result.high[k]], expected, rtol=1e-8)
            checked += 1
    assert checked > 8


def test_interval_shrinks_with_more_images(rng):
    E = rng.normal(size=(400, 8)) + 0.5
    A = np.zeros((400, 2))
    A[:8, 0], A[:, 1] = 1, rng.random(400)
    result = monosemanticity(A, E)
    assert (result.low < result.ms).all() and (result.ms < result.high).all()
    few, many = result.high - result.low
    assert many < few / 5


def test_without_interval_the_scores_stay(rng):
    A, E = rng.normal(size=(20, 3)), rng.normal(size=(20, 4))
    with_interval, without = monosemanticity(A, E), monosemanticity(A, E, interval=False)
    np.testing.assert_array_equal(with_interval.ms, without.ms)
    assert np.isnan(without.low).all()


def test_the_callers_matrices_stay_as_they_are(rng):
    doubled = sparse.csc_array((np.ones(4), np.array([2, 2, 0, 1]), np.array([0, 3, 4])), shape=(5, 2))
    E = rng.normal(size=(5, 3))
    dense = doubled.toarray()
    result, before = monosemanticity(doubled, E), E.copy()
    assert doubled.nnz == 4 and (before == E).all()
    np.testing.assert_allclose(result.ms, reference(dense, E)[0])


numbers = st.floats(-1e3, 1e3, width=32)


@st.composite
def inputs(draw):
    N, w, D = draw(st.integers(3, 12)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(N, w)) * (rng.random((N, w)) < draw(st.floats(0.2, 1)))
    return A, rng.normal(size=(N, D)), rng


@settings(max_examples=60)
@given(inputs(), st.floats(1e-6, 1e6))
def test_scale_and_order_of_images_do_not_matter(data, factor):
    A, E, rng = data
    A = np.abs(A)
    result = monosemanticity(A, E)
    order = rng.permutation(len(A))
    lengths = rng.uniform(0.1, 10, (len(A), 1))
    other = monosemanticity(factor * A[order], (E * lengths)[order])
    np.testing.assert_allclose(other.ms, result.ms, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(other.support, result.support)


@settings(max_examples=60)
@given(inputs(), numbers)
def test_signed_columns_do_not_feel_an_offset_and_stay_in_range(data, offset):
    A, E, _ = data
    result, shifted = monosemanticity(A, E), monosemanticity(A + offset, E)
    np.testing.assert_allclose(shifted.ms, result.ms, rtol=1e-6, atol=1e-9)
    defined = ~np.isnan(result.ms)
    assert (np.abs(result.ms[defined]) <= 1).all()
    assert (result.effective_support <= result.support + 1e-9).all()


@settings(max_examples=60)
@given(inputs())
def test_dense_and_sparse_agree(data):
    A, E, _ = data
    one, other = monosemanticity(A, E), monosemanticity(sparse.coo_array(A), E)
    np.testing.assert_allclose(one.ms, other.ms, rtol=1e-9, atol=1e-13)
    np.testing.assert_array_equal(one.support, other.support)
    np.testing.assert_allclose(one.high, other.high, rtol=1e-6, atol=1e-7)


def test_mistakes_are_named(rng):
    A, E = np.ones((6, 3)), rng.normal(size=(6, 2))
    with pytest.raises(UserError, match="6 rows and the embeddings 5"):
        monosemanticity(A, E[:5])
    A[4, 1] = np.nan
    for matrix in (A, sparse.csr_array(A)):
        with pytest.raises(UserError, match="activations hold nan at row 4, column 1"):
            monosemanticity(matrix, E)
    E[2, 1] = -np.inf
    with pytest.raises(UserError, match="embeddings hold -inf at row 2, column 1"):
        monosemanticity(np.ones((6, 3)), E)
    E[2] = 0
    with pytest.raises(UserError, match="Row 2 of the embeddings"):
        monosemanticity(np.ones((6, 3)), E)
    with pytest.raises(UserError, match="shape"):
        monosemanticity(np.ones(6), E)
    with pytest.raises(UserError, match="complex"):
        monosemanticity(np.ones((6, 1), complex), E)
    with pytest.raises(UserError, match="minimum support of 1"):
        monosemanticity(np.ones((6, 1)), E, min_support=1)
    with pytest.raises(UserError, match="two or more rows"):
        monosemanticity(np.ones((1, 1)), np.ones((1, 1)))

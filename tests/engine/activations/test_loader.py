import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.activations.loader import Loader, Permutation, Rows
from engine.config import TrainSettings
from engine.errors import UserError
from engine.settings import check
from tests.support.stores import write_store

CPU = torch.device("cpu")


def numbered(path, images=40, tokens=3, **options):
    """A store whose row r holds the values r, r + .5."""
    rows = np.arange(images * tokens, dtype=np.float32)
    return write_store(path, np.stack([rows, rows + 0.5], 1), tokens, **options)


@settings(max_examples=60)
@given(n=st.integers(1, 3000), key=st.lists(st.integers(0, 2**40), max_size=3))
def test_a_permutation_is_a_bijection_and_addressed_by_position(n, key):
    permutation = Permutation(n, *key)
    order = permutation(np.arange(n))
    assert np.array_equal(np.sort(order), np.arange(n))
    assert permutation(np.array([n // 2]))[0] == order[n // 2]


def test_permutations_of_huge_ranges_need_no_memory():
    n = 10**15 + 7
    order = Permutation(n, 0)(np.arange(1000))
    assert len(set(order.tolist())) == 1000
    assert order.min() >= 0 and order.max() < n
    assert 0.4 < order.mean() / n < 0.6


def test_every_place_is_equally_likely():
    n, seeds = 20, 1500
    counts = np.zeros((n, n))
    for seed in range(seeds):
        counts[np.arange(n), Permutation(n, seed)(np.arange(n))] += 1
    expected = seeds / n
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_squared - (n - 1) ** 2) < 6 * np.sqrt(2 * (n - 1) ** 2)


def test_every_epoch_shows_every_training_row_once_in_a_new_order(tmp_path):
    store = numbered(tmp_path / "s")
    loader = Loader(store, batch_size=8, seed=5, holdout=0.1)
    n = len(loader.train)
    assert n == 36 * 3
    walked = np.concatenate([loader.rows_of_batch(step) for step in range(3 * n // 8)])
    epochs = walked[: len(walked) // n * n].reshape(-1, n)
    held = set(loader.held_out[np.arange(len(loader.held_out))].tolist())
    for epoch in epochs:
        assert set(epoch.tolist()) == set(range(store.rows)) - held
    assert not np.array_equal(epochs[0], epochs[1])
    orders = [Loader(store, 8, seed=seed, holdout=0.0).rows_of_batch(0).tolist() for seed in (5, 5, 6)]
    assert orders[0] == orders[1] != orders[2]


def test_every_batch_is_from_all_over_the_store(tmp_path):
    """Not shuffled shard by shard, nor in a buffer: neighbours in a store are of one image, or of one class."""
    loader = Loader(numbered(tmp_path / "s", images=500, shard_images=50), batch_size=100, seed=0, holdout=0.1)
    n = len(loader.train)
    for step in range(2 * n // 100):
        places = loader.rows_of_batch(step) / loader.store.rows
        assert 0.35 < places.mean() < 0.65 and 0.2 < places.std() < 0.38  # of a uniform draw .5 and .29
        assert len(set((places * 10).astype(int).tolist())) == 10, "a row of every shard"


def test_the_split_is_by_image_and_a_function_of_seed_and_share(tmp_path):
    store = numbered(tmp_path / "s")
    split = [Loader(store, 4, seed=seed, holdout=0.25).held_out.images for seed in (0, 0, 1)]
    assert len(split[0]) == 10
    assert np.array_equal(split[0], split[1]) and not np.array_equal(split[0], split[2])
    loader = Loader(store, 4, seed=0, holdout=0.25)
    trained = store.image[loader.train[np.arange(len(loader.train))]]
    assert not set(trained.tolist()) & set(split[0].tolist())
    held = loader.held_out[np.arange(len(loader.held_out))]
    assert np.array_equal(store.image[held], loader.held_out.image_of(np.arange(len(held))))


def test_images_without_rows_are_no_images_here(tmp_path):
    store = numbered(tmp_path / "s", images=4, tokens=2)
    store.__dict__["image"] = np.array([0, 0, 0, 2, 7, 7, 7, 7], np.int32)  # images 1, 3, 4, 5, 6 were broken
    loader = Loader(store, 4, seed=0, holdout=0.4)
    assert sorted([*loader.train.images, *loader.held_out.images]) == [0, 2, 7]
    rows = np.concatenate([part[np.arange(len(part))] for part in (loader.train, loader.held_out)])
    assert sorted(rows.tolist()) == list(range(8))


@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    size=st.integers(1, 20),
)
def test_rows_in_pieces_of_whole_images(counts, size):
    count = np.array(counts)
    rows = Rows(np.cumsum(count) - count, count, np.arange(len(count)))
    pieces = list(rows.by_image(size))
    assert np.array_equal(np.concatenate(pieces), np.arange(len(rows)))
    for piece in pieces:
        images = rows.image_of(piece)
        assert len(piece) <= size or len(set(images.tolist())) == 1
        assert len(piece) == count[np.unique(images)].sum()
    head = rows.head(size)
    assert len(head.images) == 1 or len(head) <= size


def test_batches_run_ahead_and_start_anywhere(tmp_path):
    store = numbered(tmp_path / "s", shard_images=7)
    loader = Loader(store, 16, seed=1, holdout=0.1)
    whole = list(loader.batches(0, 12, CPU))
    assert all(torch.equal(batch[:, 0] + 0.5, batch[:, 1]) for batch in whole)
    later = list(loader.batches(9, 12, CPU))
    assert len(later) == 3
    assert all(torch.equal(a, b) for a, b in zip(whole[9:], later, strict=True))


def test_a_store_smaller_than_a_batch_fills_it_from_several_epochs(tmp_path):
    loader = Loader(numbered(tmp_path / "s", images=3, tokens=1), 20, seed=0, holdout=0.0)
    values, counts = np.unique(loader.rows_of_batch(0), return_counts=True)
    assert values.tolist() == [0, 1, 2]
    assert counts.min() >= 6


def test_the_reader_ends_when_nobody_listens(tmp_path):
    loader = Loader(numbered(tmp_path / "s"), 4, seed=0, holdout=0.1)
    batches = loader.batches(0, 10_000, CPU)
    next(batches)
    batches.close()
    assert "loader" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_store_and_row(tmp_path, value):
    x = np.zeros((60, 2), np.float32)
    x[17, 1] = value
    loader = Loader(write_store(tmp_path / "broken", x), 64, seed=0, holdout=0.0)
    with pytest.raises(UserError, match=r"broken has a value that is not a finite number in row 17\b"):
        list(loader.batches(0, 1, CPU))


def test_large_values_that_are_finite_pass(tmp_path):
    x = np.full((60, 2), 3e38, np.float32)
    loader = Loader(write_store(tmp_path / "s", x), 64, seed=0, holdout=0.0)
    assert torch.equal(loader.batch(0), torch.full((64, 2), 3e38))


def test_settings_that_make_no_sense(tmp_path):
    for wrong in ({"batch_size": 0}, {"holdout": 1.0}, {"holdout": -0.1}):
        with pytest.raises(UserError):
            check(TrainSettings(activations="s", name="n", **wrong))
    store = numbered(tmp_path / "s", images=2, tokens=1)
    assert len(Loader(store, 4, 0, 0.9).train) == 1
    with pytest.raises(UserError, match="no rows"):
        Loader(write_store(tmp_path / "none", np.empty((0, 3), np.float32)), 4, 0, 0.1)

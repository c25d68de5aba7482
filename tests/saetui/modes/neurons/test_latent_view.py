"""What stands beside a latent is its own: its pictures, each with its map, and the patch that is looked at."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.workspace import Workspace
from saetui.modes.neurons.image_search import Patches
from saetui.modes.neurons.latent_view import _support, called, tiles
from saetui.scores import Scores
from saetui.terminal.heat import box
from tests.support.scores import as_crops
from tests.support.synthetic import write_synthetic

W = 64


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    place = write_synthetic(tmp_path_factory.mktemp("made") / "study", w=W, images=60)
    return Scores.open(place / "neurons" / "synthetic--drawn.h5", Workspace(place))


def test_a_tile_is_one_top_image_with_the_map_of_that_latent_on_it(scores):
    neurons = scores.neurons
    several = [k for k in range(W) if len(neurons.top(k)) > 4]
    for latent in several[:5]:
        shown, maps = tiles(scores, latent, 5), neurons.maps(latent)
        assert len(shown) == 5 and len({tile.name for tile in shown}) > 1
        for place, (tile, top) in enumerate(zip(shown, neurons.top(latent), strict=False)):
            assert tile.caption == f"{top.activation:.3g}" and tile.name == called(neurons.images[top.image])
            assert np.array_equal(tile.load(), scores.thumbnails.load(top.path))
            assert np.array_equal(tile.heat(), maps[place]) and tile.heat_maximum == neurons.maximum[latent]
    assert any((neurons.maps(k)[0] != neurons.maps(k)[1]).any() for k in several)


def test_where_patches_were_scored_a_tile_has_the_crop_around_its_strongest_patch(scores, tmp_path):
    latent = next(k for k in range(W) if len(scores.neurons.top(k)) > 4)
    assert {tile.frame() for tile in tiles(scores, latent, 5)} == {None}
    assert _support(scores.neurons.summary, 7, "12%") == "fires on 7 images, 12%"
    path = shutil.copy(scores.path, tmp_path / "synthetic--crops.h5")
    as_crops(Path(path), crops=4)
    crops = Scores.open(Path(path), Workspace(tmp_path))
    shown = tiles(crops, latent, 5)
    frames = crops.neurons.frames(latent)[:5]
    assert [tile.frame() for tile in shown] == frames and None not in frames
    assert _support(crops.neurons.summary, 7, "12%") == "fires on 7 of 240 patches, 12% of images   frames: crops"
    crops.neurons.close()


def test_a_patch_is_looked_at_row_by_row_where_rows_are_no_columns():
    picture = Patches()
    picture.size_of_grid, picture.patch = (2, 3), (1, 2)
    assert box(picture.mark[:2], picture.mark[2:], 40, 60) == (slice(20, 40), slice(40, 60))

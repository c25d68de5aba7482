"""Pictures and maps of a report: each picture once, and no more than there is room for."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from engine.report.pictures import GRID, SIDE, Album, heat_of, levels, reduced
from engine.reporter import Reporter
from tests.support.extractions import write_pictures


@pytest.fixture
def source(tmp_path):
    return write_pictures(tmp_path / "images", 6)


def names(source):
    """Of those that can be read."""
    return sorted(str(path.relative_to(source)) for path in source.rglob("*.png"))[:-1]


def test_a_picture_is_there_once(source):
    album, paths = Album(str(source)), names(source)
    album.fill([*paths, *paths], Reporter())
    assert album.paths == paths and [album.place(path) for path in paths] == list(range(len(paths)))
    picture = Image.open(io.BytesIO(base64.b64decode(album.data[0])))
    assert picture.format == "WEBP" and max(picture.size) <= SIDE


def test_what_has_no_room_is_counted(source):
    full = Album(str(source), limit=0)
    full.fill(names(source), Reporter())
    assert full.data == [] and full.unread == {} and full.left_out == len(names(source))


def test_pictures_that_are_gone_are_told(source):
    album, paths = Album(str(source)), names(source)
    (source / paths[0]).unlink()
    album.fill(paths, Reporter())
    assert list(album.unread) == paths[:1] and "no longer in" in album.unread[paths[0]]
    assert album.place(paths[0]) is None and album.place(paths[1]) == 0


def test_maps_share_a_scale_and_say_their_strongest_patch():
    maps = np.zeros((2, 2, 3), np.float32)
    maps[0, 1, 2], maps[1, 0, 0] = 8.0, 4.0
    first, second = heat_of(maps)
    assert first == ("00000f", 5, 8.0)
    assert second == ("800000", 0, 4.0)


def test_fine_maps_keep_their_largest_values():
    fine = np.zeros((24, 40), np.float32)
    fine[23, 39] = 1.0
    small = reduced(fine)
    assert small.shape == (GRID, GRID) and small[-1, -1] == 1.0 and small.sum() == 1.0


def test_a_map_that_never_fires_is_dark():
    assert levels(np.zeros((2, 2), np.float32), 0.0) == "0000"
    assert reduced(np.array([[np.nan, 1.0]], np.float32)).tolist() == [[0.0, 1.0]]

import tarfile

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from engine.images import open_image

COLOURS = {"a.png": (200, 10, 10), "deep/b.png": (10, 200, 10), "deep/c::d.png": (10, 10, 200)}


@pytest.fixture
def tree(tmp_path):
    for name, colour in COLOURS.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4), colour).save(tmp_path / "tree" / name)
    return tmp_path / "tree"


def colour(image):
    return tuple(np.asarray(image)[0, 0].tolist())


@pytest.mark.parametrize("name", COLOURS)
def test_files_of_a_tree(tree, name):
    assert colour(open_image(str(tree / name))) == colour(open_image(f"{tree}::{name}")) == COLOURS[name]


def test_members_of_a_shard(tree, tmp_path):
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(tree, ".")
    for name, expected in COLOURS.items():
        assert colour(open_image(f"{tmp_path / 'shard.tar'}::shard.tar/{name}")) == expected


def test_entries_of_a_list_that_grows(tree, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("tree/a.png\n")
    assert colour(open_image(f"{listed}::tree/a.png")) == COLOURS["a.png"]
    with pytest.raises(UserError, match=r"no image tree/deep/b\.png in .*list\.txt"):
        open_image(f"{listed}::tree/deep/b.png")
    listed.write_text("tree/a.png\ntree/deep/b.png\n")
    assert colour(open_image(f"{listed}::tree/deep/b.png")) == COLOURS["deep/b.png"]


def test_plain_colours():
    assert open_image("blank") == (255, 255, 255)
    assert open_image("blank:#0080ff") == (0, 128, 255)
    with pytest.raises(UserError, match="no colour 'octarine'"):
        open_image("blank:octarine")


def test_what_is_no_image_is_one_sentence(tree):
    (tree / "broken.png").write_bytes(b"no picture")
    for spec, says in (
        (str(tree / "none.png"), "There is no image .* after a move run saetui relink OLD NEW"),
        (str(tree), "Cannot read the image"),
        (f"{tree}::none.png", "There is no image none.png"),
        (f"{tree}::broken.png", "not an image that can be read"),
        (f"{tree / 'deep'}::../a.png", "There is no image ../a.png"),
        (f"{tree}/none::a.png", "No images at"),
        (f"{tree / 'a.png'}::x", "There is no image x"),
    ):
        with pytest.raises(UserError, match=says) as error:
            open_image(spec)
        assert "\n" not in str(error.value)

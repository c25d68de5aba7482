"""Masks and tables of boxes, as they lie beside pictures."""

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from engine.images.objects import Boxes, open_objects

SIZE = (20, 10)


def write_mask(path, values, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(values, np.uint8))
    if mode == "P":
        image = image.copy()
        image.putpalette([channel for value in range(256) for channel in (value, 255 - value, 7)])
    (image.convert("1") if mode == "1" else image).save(path)


def on(mask):
    return np.asarray(mask) > 0


@pytest.mark.parametrize("mode", ["L", "P"])
def test_each_value_of_a_mask_is_a_kind_of_object(tmp_path, mode):
    values = np.zeros((10, 20))
    values[:4, :5], values[6:, 10:], values[5, 5] = 3, 9, 255
    write_mask(tmp_path / "masks/a/one.png", values, mode)
    found = open_objects(str(tmp_path / "masks")).of("a/one.jpg", SIZE)
    assert list(found) == ["3", "9"], "255 beside others is nobody's"
    for kind, mask in found.items():
        np.testing.assert_array_equal(on(mask), values == int(kind))


def test_255_alone_and_1_bit_are_an_object_and_all_black_is_none(tmp_path):
    values = np.zeros((10, 20))
    write_mask(tmp_path / "masks/none.png", values)
    values[2:5] = 255
    write_mask(tmp_path / "masks/two.png", values)
    write_mask(tmp_path / "masks/bit.png", values, "1")
    objects = open_objects(str(tmp_path / "masks"))
    assert objects.of("none.png", SIZE) == {}
    for name, kind in (("two.png", "255"), ("bit.png", "1")):
        np.testing.assert_array_equal(on(objects.of(name, SIZE)[kind]), values > 0)


def test_nothing_is_known_of_what_has_no_mask_and_masks_may_be_smaller(tmp_path):
    write_mask(tmp_path / "masks/a.png", np.ones((5, 10)))
    objects = open_objects(str(tmp_path / "masks"))
    assert objects.of("b.png", SIZE) is None
    assert objects.of("a.png", SIZE)["1"].size == (10, 5)


def test_masks_that_cannot_be_are_refused(tmp_path):
    write_mask(tmp_path / "masks/tall.png", np.ones((20, 10)))
    Image.new("RGB", SIZE, "red").save(tmp_path / "masks/red.png")
    (tmp_path / "masks/bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    objects = open_objects(str(tmp_path / "masks"))
    for name, words in (("tall", "same proportions"), ("red", "colours"), ("bad", "cannot be read")):
        with pytest.raises(UserError, match=words):
            objects.of(f"{name}.jpg", SIZE)
    with pytest.raises(UserError, match="No images at"):
        open_objects(str(tmp_path / "nowhere"))


def boxes(tmp_path, text):
    (tmp_path / "boxes.csv").write_text(text)
    return open_objects(str(tmp_path / "boxes.csv"))


def test_boxes_of_one_name_are_one_object(tmp_path):
    found = boxes(
        tmp_path,
        "path,left,top,width,height,name\na/x.png,0,0,3,2,cup\na/x.png,10,5,2,1,cup\na/x.png,-4,8,6,9,hat\n",
    )
    assert isinstance(found, Boxes) and found.of("a/y.png", SIZE) is None
    masks = found.of("a/x.jpg", SIZE)
    cup, hat = np.zeros((10, 20), bool), np.zeros((10, 20), bool)
    cup[:2, :3] = cup[5, 10:12] = hat[8:, :2] = True
    np.testing.assert_array_equal(on(masks["cup"]), cup)
    np.testing.assert_array_equal(on(masks["hat"]), hat)


def test_a_box_outside_its_picture_covers_nothing(tmp_path):
    found = boxes(tmp_path, "path,left,top,width,height\nx.png,-9,-9,3,3\nx.png,50,0,3,3\n")
    assert not on(found.of("x.png", SIZE)["object"]).any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,x,y,w,h\na,0,0,1,1\n", "no column left"),
        ("", "no column path"),
        ("path,left,top,width,height\na,0,0,1,1\nb,0,zero,1,1\n", "Line 3 of"),
        ("path,left,top,width,height\na,0,0,0,1\n", "Line 2 of"),
        ("path,left,top,width,height\na,0,0,nan,1\n", "Line 2 of"),
        ("path,left,top,width,height\na,0\n", "Line 2 of"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        boxes(tmp_path, text)

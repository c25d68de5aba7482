import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.demo import world
from engine.demo.talk import CAPTION
from engine.demo.words import BACKGROUNDS, COLOURS, FILLS, GROUPS, KINDS, TAXONOMY
from engine.demo.world import SIDE, Scene, Thing, draw, scene, scenes
from engine.reporter import Reporter


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def alone(kind: str, colour: str = "red", fill: str = "solid", size: int = 48, background: str = "white") -> Scene:
    return Scene((Thing(kind, colour, fill, 8, 8, size),), background)


def test_the_world_is_as_large_as_promised():
    assert len(KINDS) >= 24 and len(set(KINDS)) == len(KINDS)
    assert len(COLOURS) == 8 and len(FILLS) == 3 and len(BACKGROUNDS) >= 4
    assert not set(COLOURS) & set(BACKGROUNDS)


@given(seed=st.integers(0, 10**6), index=st.integers(0, 10**6))
@settings(max_examples=30)
def test_a_scene_depends_on_seed_and_index_alone(seed, index):
    again = list(scenes(3, seed, start=max(0, index - 1)))
    assert scene(seed, index) == again[1 if index else 0]
    assert draw(scene(seed, index)).tobytes() == draw(scene(seed, index)).tobytes()


def test_seeds_and_indices_give_different_pictures():
    assert len({draw(one).tobytes() for one in scenes(300, 4)}) > 290
    assert [scene(1, i) for i in range(20)] != [scene(2, i) for i in range(20)]


def test_the_first_scenes_never_change():
    """Shipped scores and labels on other people's disks hang on them."""
    assert [CAPTION.say(one.statement()) for one in scenes(4, 0)] == PINNED


PINNED = [
    "a dotted pink car on a black background",
    "a solid blue sun on a beige background",
    "a solid pink heart on a black background",
    "a dotted pink cloud on a grey background",
]


def test_shares_of_blank_and_double_pictures():
    counts = np.bincount([len(one.objects) for one in scenes(4000, 7)], minlength=3) / 4000
    assert counts == pytest.approx([0.08, 0.80, 0.12], abs=0.02)


def boxes(one: Scene) -> list[tuple[slice, slice]]:
    return [(slice(t.y, t.y + t.size), slice(t.x, t.x + t.size)) for t in one.objects]


@given(index=st.integers(0, 10**6))
@settings(max_examples=60)
def test_pixels_are_those_of_the_labels(index):
    """Each object's own colour lies in its box, the tint too unless it is solid, and outside there is background."""
    one = scene(12, index)
    picture = pixels(draw(one))
    ground = np.clip(np.array(BACKGROUNDS[one.background]) + one.shade, 0, 255)
    outside = np.ones((SIDE, SIDE), bool)
    for thing, box in zip(one.objects, boxes(one), strict=True):
        assert thing.x >= 0 and thing.y >= 0 and thing.x + thing.size <= SIDE and thing.y + thing.size <= SIDE
        inside = picture[box].reshape(-1, 3)
        colour = np.array(COLOURS[thing.colour])
        tint = np.round(colour + world.TINT * (255 - colour))
        assert (inside == colour).all(1).sum() >= 8
        assert ((inside == tint).all(1).sum() >= 3) == (thing.fill != "solid")
        for other in COLOURS.values():
            assert other == COLOURS[thing.colour] or not (inside == np.array(other)).all(1).sum() > 2
        outside[box] = False
    assert (picture[outside] == ground).all()


def test_cover_is_counted_in_the_picture():
    """Of each patch, the share of its pixels that are not background: but for smooth edges, that of the silhouette."""
    for one in (one for one in scenes(200, 14) if one.objects):
        changed = (pixels(draw(one)) != pixels(draw(replace(one, objects=())))).any(2)
        for side in (4, 8):
            counted = changed.reshape(side, SIDE // side, side, SIDE // side).mean((1, 3)).ravel()
            covered = np.array(world.covers(one, side))
            assert covered.shape == (len(one.objects), side**2)
            apart = np.abs(covered.sum(0) - counted)
            assert apart.max() < 0.45 and apart.mean() < 0.06


def test_two_objects_are_told_from_left_to_right():
    for one in scenes(400, 13):
        if len(one.objects) == 2:
            left, right = one.objects
            assert left.x + left.size <= SIDE // 2 <= right.x and left.kind != right.kind


def test_every_kind_is_drawn_differently():
    """Any two silhouettes with their inner lines differ in a tenth of what they cover together."""
    drawn = {kind: pixels(draw(alone(kind))) != pixels(draw(Scene((), "white"))) for kind in KINDS}
    ink = {kind: pixels(draw(alone(kind))) for kind in KINDS}
    for i, one in enumerate(KINDS):
        assert 0.15 < drawn[one].any(2).mean() * SIDE**2 / 48**2 < 0.95, one
        for other in KINDS[:i]:
            covered = (drawn[one] | drawn[other]).any(2)
            assert (np.abs(ink[one] - ink[other]).max(2) > 60)[covered].mean() > 0.1, (one, other)


@pytest.mark.parametrize("size", [26, 58])
def test_fills_differ_for_every_kind(size):
    for kind in KINDS:
        looks = [pixels(draw(alone(kind, fill=fill, size=min(size, 56)))) for fill in FILLS]
        for i in range(3):
            for j in range(i):
                covered = (looks[i] != pixels(world.blank())).any(2)
                assert (np.abs(looks[i] - looks[j]).max(2) > 60)[covered].mean() > 0.1, (kind, FILLS[i], FILLS[j])


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_blank_picture_has_one_colour(background):
    picture = world.blank(background)
    assert picture.size == (SIDE, SIDE) and picture.mode == "RGB"
    assert len(picture.getcolors()) == 1
    assert Scene((), background).statement().blank


def test_the_taxonomy_has_three_levels_and_unique_leaves():
    assert len(TAXONOMY) == len(KINDS) * len(FILLS) == len(set(TAXONOMY.values()))
    for (kind, fill), (group, thing, variety) in TAXONOMY.items():
        assert (thing, variety) == (kind, fill) and kind in GROUPS[group]


def test_written_images_are_the_scenes_and_their_labels(tmp_path):
    folder = world.write_images(tmp_path / "images", 60, seed=5)
    lines = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    assert len(lines) == 60 == len(list(folder.rglob("*.png")))
    for index, line in enumerate(lines):
        one = scene(5, index)
        assert line["caption"] == CAPTION.say(one.statement()) and line["index"] == index
        labels = ("kinds", "colours", "fills", "background", "blank")
        assert [line[name] for name in labels] == [getattr(one.statement(), name) for name in labels]
        with Image.open(folder / line["path"]) as picture:
            assert picture.tobytes() == draw(one).tobytes()
        number, *taxon = line["path"].split("/")[0].split("_")
        assert number.isdigit() and tuple(taxon) == one.taxon()
        assert world.read_scene(line["scene"]) == one


def test_writing_again_continues_and_changes_nothing(tmp_path):
    world.write_images(tmp_path, 20, seed=5)
    lost = sorted(tmp_path.rglob("*.png"))[3]
    content = lost.read_bytes()
    lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    world.write_images(tmp_path, 20, seed=5)
    assert lost.read_bytes() == content
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".png", ".jsonl")]


def test_masks_lie_under_the_names_of_their_pictures(tmp_path):
    """Where a mask has a number, it is that of the object's kind, and there the silhouette covers half of the pixel."""
    pictures = world.write_images(tmp_path / "images", 40, seed=5)
    masks = world.write_masks(tmp_path / "masks", 40, seed=5)
    names = [path.relative_to(pictures) for path in sorted(pictures.rglob("*.png"))]
    assert names == [path.relative_to(masks) for path in sorted(masks.rglob("*.png"))]
    for path in names:
        one = scene(5, int(path.stem))
        with Image.open(masks / path) as mask:
            values = np.asarray(mask)
        expected = np.zeros((SIDE, SIDE), int)
        for thing, cover in zip(one.objects, world.covers(one, SIDE), strict=True):
            expected[np.array(cover).reshape(SIDE, SIDE) >= 128 / 255] = KINDS.index(thing.kind) + 1
        assert (values == expected).all()


class Stopping(Reporter):
    """Ends the work after some pictures."""

    def __init__(self):
        self.done = 0

    def progress(self, done, total, unit):
        self.done, self.total = done, total

    def check(self):
        if self.done == 7:
            raise KeyboardInterrupt


def test_drawing_can_be_stopped_and_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        world.write_images(tmp_path, 20, 5, stopping := Stopping())
    assert stopping.total == 20 and len(list(tmp_path.rglob("*.png"))) == 7
    assert len(list(world.write_images(tmp_path, 20, 5).rglob("*.png"))) == 20


def test_the_world_needs_no_torch():
    code = "import sys, engine.demo, engine.demo.world; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

import json

import numpy as np
import pytest

from engine.demo.pipeline import Concept, beside_objects, choose, localised, names_both
from engine.demo.words import COLOURS, KINDS
from engine.demo.world import blank, covers, draw, scenes, write_images
from engine.errors import UserError
from engine.neurons.file import Neurons
from engine.neurons.results import TopImage

CONCEPTS = len(KINDS) + len(COLOURS)


def test_a_latent_is_chosen_on_one_split_and_measured_on_the_other():
    labels = np.eye(CONCEPTS, dtype=bool)
    found = choose(labels[:, ::-1] * np.float32(3), labels, labels[:, ::-1] * np.float32(5), labels)
    assert [c.latent for c in found] == list(range(CONCEPTS))[::-1]
    assert all(c.auroc == 1 and c.maximum == 3 for c in found)
    blind = choose(labels.astype(np.float32), labels, np.zeros_like(labels, np.float32), labels)
    assert all(c.auroc == 0.5 for c in blind), "the training images' figure is never reported"


def test_too_few_pictures_are_said_in_words():
    labels = np.eye(CONCEPTS, dtype=bool)
    values = labels.astype(np.float32)
    with pytest.raises(UserError, match=r"fish.*--pictures"):
        choose(values, labels, values, labels & (np.arange(CONCEPTS) > 0))


class Seen(Neurons):
    """What ``localised`` asks of a neurons file: one latent, its top images and their maps."""

    def __init__(self, paths, maps):
        self.paths, self.shown = paths, maps

    def top(self, latent):
        return [TopImage(number, path, None, 1.0) for number, path in enumerate(self.paths)]

    def maps(self, latent):
        spare = np.zeros_like(self.shown[:1])  # a latent may fire on fewer images than there is room for
        return np.concatenate([self.shown, spare])


def test_maps_are_measured_on_the_silhouettes_of_their_kind(tmp_path):
    """A map that is the silhouette points at it; one of the rest never does, nor one of a picture without the kind."""
    folder = write_images(tmp_path, 60, 3)
    index, one = next((i, one) for i, one in enumerate(scenes(60, 3)) if len(one.objects) == 2)
    line = json.loads((folder / "labels.jsonl").read_text().splitlines()[index])
    kind, paths = one.objects[1].kind, [line["path"]]
    cover = np.array([covers(one, 8)[1]]).reshape(1, 8, 8)
    concept = Concept(kind, "object", 0, 1.0, 1.0)
    right = localised(Seen(paths, cover), [concept], folder)
    assert right.peak == 1 and right.mass == pytest.approx((cover**2).sum() / cover.sum())
    assert right.chance_mass == pytest.approx(cover.mean())
    assert localised(Seen(paths, (cover == 0).astype(float)), [concept], folder).peak == 0
    absent = Concept(next(k for k in KINDS if k not in line["kinds"]), "object", 0, 1.0, 1.0)
    assert localised(Seen(paths, cover), [absent], folder).peak == 0
    assert localised(Seen([], cover[:0]), [concept], folder) is None


def test_free_patches_show_nothing_of_the_object(tmp_path):
    """Painted over with background, the free columns of a picture are as they were: nothing of the object is there."""
    pictures = beside_objects(write_images(tmp_path, 80, 3))
    single = [one for one in scenes(80, 3) if len(one.objects) == 1]
    assert 5 < len(pictures) < len(single)
    for one in pictures:
        assert len(one.tokens) >= 16 and sorted(set(one.tokens)) == list(one.tokens)
        scene = next(s for s in single if draw(s).tobytes() == one.image.tobytes())
        assert scene.objects[0].kind == one.kind
        cover = np.array(covers(scene, 8)[0])
        assert (cover[list(one.tokens)] == 0).all()
        empty, shown = np.asarray(blank(scene.background, scene.shade)), np.asarray(one.image)
        for token in one.tokens:
            row, column = divmod(token, 8)
            here = slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8)
            assert (shown[here] == empty[here]).all()


@pytest.mark.parametrize(
    ("answer", "both"),
    [
        ("a red cat and a blue fish on a white background", True),
        ("a blue fish and a cat", True),
        ("a red cat on a white background", False),
        ("a red cat and an object", False),
        ("a red cat and a blue hat", False),
        ("cat fish", False),
    ],
)
def test_both_are_named_by_a_whole_answer_alone(answer, both):
    assert names_both(answer, "cat", "fish") == both

"""Which latents are drawn, and what they stand for."""

import numpy as np
import pytest

from engine.config import SteerabilitySettings
from engine.errors import UserError
from engine.neurons.file import Neurons
from engine.neurons.results import ScoredImage
from engine.steer.steerability.asked import parse_given, strength
from engine.steer.steerability.subjects import draw
from tests.support.scores import write_scores

W, WORDS = 40, ("red", "fish", "tree")


@pytest.fixture
def neurons(tmp_path):
    """Latent k fires on k images, those from 30 on have no name; each has two top images of its own."""
    names = np.array([[k % 3] if k < 30 else [-1] for k in range(W)])
    path = write_scores(
        tmp_path / "neurons" / "s--val.h5",
        W,
        images=[ScoredImage(f"{n}.png", None, (), f"{n:064x}") for n in range(2 * W)],
        words=WORDS,
        support=np.arange(W),
        maximum=np.arange(W) / 10,
        names=names,
        name_scores=np.where(names < 0, np.nan, 0.5),
        top_images=np.arange(2 * W).reshape(W, 2),
        top_activations=np.ones((W, 2)),
        distinct=np.full(W, 2),
        word_latents=np.zeros((3, 1)),
        word_scores=np.zeros((3, 1)),
    )
    with Neurons.open(path) as found:
        yield found


def asked(**changes):
    return SteerabilitySettings(**{"sae": "s", "vlm": "demo", "count": 5, "min_support": 4, **changes})


def latents(drawn):
    return [one.latent for one in drawn.subjects]


def test_more_of_a_seed_are_the_same_and_more(neurons):
    few, many = draw(neurons, {}, (), asked()), draw(neurons, {}, (), asked(count=12))
    assert latents(many)[:5] == latents(few) and len(set(latents(many))) == 12
    assert few.drawn_from == 26, "of 4 to 29"
    assert set(latents(many)) <= set(range(4, 30))
    assert latents(draw(neurons, {}, (), asked(seed=1))) != latents(few)
    assert sorted(latents(draw(neurons, {}, (), asked(count=99)))) == list(range(4, 30))


def test_each_group_gives_as_many(neurons):
    drawn = draw(neurons, {}, (8, 16, W), asked(draw="group", count=9))
    groups = [one.group for one in drawn.subjects]
    assert groups == [0, 1, 2] * 3
    assert all(one.group == (one.latent >= 8) + (one.latent >= 16) for one in drawn.subjects)
    every = draw(neurons, {}, (8, 16, W), asked(draw="group", count=99))
    assert sorted(latents(every)) == list(range(4, 30)), "a group that has no more gives none"


def test_the_concept_is_what_a_person_says_else_a_label_else_a_name(neurons):
    given = draw(neurons, {5: "sea"}, (), asked(latent=("4", "5", "35=things that shine", "7 = hat")))
    said = [(one.latent, one.concept, one.concept_from) for one in given.subjects]
    assert said == [
        (4, "fish", "name"),
        (5, "sea", "label"),
        (35, "things that shine", "given"),
        (7, "hat", "given"),
    ]
    first = given.subjects[0]
    assert first.maximum == pytest.approx(0.4) and [image.path for image in first.top] == ["8.png", "9.png"]
    assert draw(neurons, {35: "shine"}, (), asked()).drawn_from == 27, "a label is a concept too"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"latent": ("x",)}, "is not LATENT or LATENT=CONCEPT"),
        ({"latent": ("4", "4=hat")}, "given twice"),
        ({"latent": ("99",)}, "no latent 99"),
        ({"latent": ("35",)}, "neither label nor name"),
        ({"latent": ("0=hat",)}, "fired on none"),
        ({"min_support": 30}, "no latent with a name that 30 images fire"),
    ],
)
def test_mistakes(neurons, changes, says):
    with pytest.raises(UserError, match=says):
        draw(neurons, {}, (), asked(**changes))


def test_strengths():
    assert strength("2x", 1.5) == 3 and strength(" 100 ", 1.5) == 100 and strength("-1x", 1.5) == -1.5
    for wrong in ("", "x", "2y", "two", "1=2"):
        with pytest.raises(UserError, match="no strength"):
            strength(wrong, 1.0)
    assert parse_given(("3=a=b",)) == {3: "a=b"}

"""What can be asked of latents."""

import pytest

from engine.errors import UserError
from engine.neurons.quantities import BEST, QUANTITIES, SORTS
from engine.neurons.query import LATENTS, PROPERTIES
from engine.query import All, Condition, Not, Words


@pytest.mark.parametrize(
    ("line", "means"),
    [
        ("raw<.1", Condition("matched", "<", 0.1)),
        ("ms>.1 n>100", All((Condition("ms", ">", 0.1), Condition("support", ">", 100.0)))),
        ("images>=10 #=2", All((Condition("support", ">=", 10.0), Condition("latent", "=", 2.0)))),
        ("±<.02 freq<1%", All((Condition("half_width", "<", 0.02), Condition("frequency", "<", 0.01)))),
        ("Marked labeled=0", All((Condition("marked", "=", 1.0), Condition("labelled", "=", 0.0)))),
        ("class=pencil NOT dead", All((Condition("class", "=", "pencil"), Not(Condition("dead", "=", 1.0))))),
        ('"dead" alive', All((Words("dead"), Condition("alive", "=", 1.0)))),
        ("4", Words("4")),
    ],
)
def test_what_latents_are_asked(line, means):
    assert LATENTS.parse(line) == means


def test_every_heading_is_a_field_and_an_order():
    headings = {shown.title.replace(" ", "") for one in QUANTITIES for shown in (one.column, one.printed) if shown}
    for heading in (*headings, "#", "latent", "names"):
        field = LATENTS.named[heading.lower()]
        assert field in SORTS, heading
        assert LATENTS.parse(f"{heading}=1"), heading
    assert set(SORTS) - {BEST} <= set(LATENTS.kinds)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("freqency<.1", "Latents have no 'freqency' to compare: use frequency"),
        ("beauty>1", "use ms or low or high"),
        ("ms>>3", "'>3' is no number after ms>"),
        ("class<b", "class is text and has no order"),
    ],
)
def test_a_mistake_is_named(line, says):
    with pytest.raises(UserError, match=says):
        LATENTS.parse(line)


def test_a_property_alone_is_a_condition():
    for name, others in PROPERTIES.items():
        assert all(LATENTS.parse(one) == Condition(name, "=", 1.0) for one in (name, name.upper(), *others))

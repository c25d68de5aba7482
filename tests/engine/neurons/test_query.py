import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from engine.neurons.query import ALIASES, OPERATORS, Condition, Query


@pytest.mark.parametrize(
    ("text", "conditions", "words"),
    [
        ("", [], ""),
        ("ms>.5 freq<.01 pencil", [("ms", ">", 0.5), ("frequency", "<", 0.01)], "pencil"),
        ("red  gain>0\tcar", [("gain", ">", 0)], "red car"),
        ("images>=10 group=2", [("support", ">=", 10), ("group", "=", 2)], ""),
        ("max > 5 car", [("maximum", ">", 5)], "car"),
        ("freq<1% ms<=50%", [("frequency", "<", 0.01), ("ms", "<=", 0.5)], ""),
        ("depth>-1.5e-1 matched!=+.1", [("depth", ">", -0.15), ("matched", "!=", 0.1)], ""),
        ("Marked DEAD labeled=0", [("marked", "=", 1), ("dead", "=", 1), ("labelled", "=", 0)], ""),
        ('"dead" alive', [("alive", "=", 1)], "dead"),
        ('ms>1"a = b" image_frequency=1', [("ms", ">", 1), ("frequency", "=", 1)], "a = b"),
        ('"never closed ms>1', [], "never closed ms>1"),
        ("4", [], "4"),
        ("well-lit ü [b]", [], "well-lit ü [b]"),
    ],
)
@pytest.mark.parametrize("typing", [False, True])
def test_parsing(text, conditions, words, typing):
    assert Query.parse(text, typing) == Query(tuple(Condition(*one) for one in conditions), words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ms>", r"a number is missing after ms>: write it like ms>\.5"),
        ("ms> ", "a number is missing"),
        ("ms>.", r"'\.' is no number after ms>"),
        ("ms>.5x", "is no number"),
        ("ms>nan", "is no number"),
        ("freq<%", "is no number"),
        ("ms>=-", "is no number"),
        ("ms=>5", "'>5' is no number"),
        ("freqency<.1", "no 'freqency' to compare: use frequency"),
        ("beauty>1", "use ms or gain or low"),
    ],
)
def test_a_mistake_is_named_and_left_out_while_typing(text, message):
    with pytest.raises(UserError, match=message):
        Query.parse(text)
    query = Query.parse(f"{text} car group=1" if not text.endswith(" ") else f"{text}car group=1", typing=True)
    assert (query.conditions, query.text) == ((Condition("group", "=", 1),), "car")
    with pytest.raises(UserError) as raised:
        Query.parse(text)
    assert query.mistakes == (str(raised.value),)


@given(st.text(max_size=40) | st.text('ms<>=! .5%"', max_size=12))
def test_whatever_is_typed_is_no_accident(text):
    query = Query.parse(text, typing=True)
    if query.mistakes:
        with pytest.raises(UserError):
            Query.parse(text)
    else:
        assert Query.parse(text) == query


NAMES = [name for field, others in ALIASES.items() for name in (field, *others)]


@given(st.sampled_from(NAMES), st.sampled_from(sorted(OPERATORS)), st.floats(allow_nan=False, allow_infinity=False))
def test_every_field_takes_every_comparison(name, sign, value):
    (condition,) = Query.parse(f"{name}{sign}{value!r}").conditions
    assert condition.field == name or name in ALIASES[condition.field]
    assert (condition.operator, condition.value) == (sign, value)


SYMBOLS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}


@given(st.lists(st.sampled_from([np.nan, -1.0, 0.0, 0.5, 1.0]), max_size=6), st.sampled_from(sorted(SYMBOLS)))
def test_undefined_satisfies_nothing(values, sign):
    found = Condition("ms", sign, 0.5).holds(np.array(values, np.float64))
    assert found.tolist() == [not np.isnan(value) and SYMBOLS[sign](value, 0.5) for value in values]

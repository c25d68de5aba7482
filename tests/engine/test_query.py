"""The filter line of every table: understood as a whole, or refused as a whole."""

import math
import operator
import string
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from engine.query import (
    ALL,
    OPERATORS,
    All,
    Condition,
    Either,
    Language,
    Not,
    RowField,
    Rows,
    Words,
    holds,
    texts,
)

KINDS = {"ms": "number", "size": "size", "left": "time", "state": "text", "dead": "property"}
TABLE = Language("Rows", KINDS, {"ms": ("MS", "±", "ms%"), "dead": ("☠",)})
MS, DEAD, CAR, PEN = Condition("ms", ">", 0.5), Condition("dead", "=", 1.0), Words("car"), Words("pen")


@pytest.mark.parametrize(
    ("line", "means"),
    [
        ("", ALL),
        ("  ", ALL),
        ("car", CAR),
        ("ms>.5", MS),
        ("ms > .5", MS),
        ("ms>.5 car", All((MS, CAR))),
        ("red  ms>.5\tcar", All((Words("red car"), MS))),
        ("red AND car", All((Words("red"), CAR))),
        ("ms>.5 OR car", Either((MS, CAR))),
        ("ms>.5 car OR dead", Either((All((MS, CAR)), DEAD))),
        ("ms>.5 (car OR dead)", All((MS, Either((CAR, DEAD))))),
        ("(ms>.5 (dead))", All((MS, DEAD))),
        ("NOT dead car", All((Not(DEAD), CAR))),
        ("NOT NOT dead", Not(Not(DEAD))),
        ("NOT (car OR pen) ms>.5", All((Not(Either((CAR, PEN))), MS))),
        ("black or white and not grey", Words("black or white and not grey")),
        ('"OR" "NOT dead"', Words("OR NOT dead")),
        ("ms%>10 ms%>10%", All((Condition("ms", ">", 0.1), Condition("ms", ">", 0.1)))),
        ("ms≥50% ±≠1", All((Condition("ms", ">=", 0.5), Condition("ms", "!=", 1.0)))),
        ("MS<=-1.5e-1", Condition("ms", "<=", -0.15)),
        ("size>1.5GB size<2 kB", All((Condition("size", ">", 1.5e9), Condition("size", "<", 2.0), Words("kB")))),
        ("left<1:30 left>1:00:00", All((Condition("left", "<", 90.0), Condition("left", ">", 3600.0)))),
        ('state=f* state!="not yet"', All((Condition("state", "=", "f*"), Condition("state", "!=", "not yet")))),
        ('ms>1"a = b"', All((Condition("ms", ">", 1.0), Words("a = b")))),
        ('"never closed ms>1', Words("never closed ms>1")),
        ("f(x) well-lit [b] hey!", Words("f(x) well-lit [b] hey!")),
        ("DEAD=0", Condition("dead", "=", 0.0)),
    ],
)
def test_what_a_line_means(line, means):
    assert TABLE.parse(line) == means


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ms>", r"a number is missing after ms>: write it like ms>\.5 or ms>1%\."),
        ("ms> ", "a number is missing"),
        ("ms>>3", r"'>3' is no number after ms>"),
        ("ms=>5", "'>5' is no number after ms="),
        ("ms>0,5", r"'0,5' is no number after ms>: write it like ms>\.5"),
        *[(f"ms>{text}", "is no number after ms>") for text in (".", ".5x", "nan", "inf", "-", "%", "1k", "0x10", "٥")],
        ("ms>.1,dead", r"'\.1,dead' is no number"),
        ("size>1XB", "is no number after size>: write it like size>1.5GB"),
        ("left>1:99", "is no number after left>: write it like left>1:30"),
        ("state=", r"a text is missing after state=: write it like state=word or state=word\*"),
        ('state=""', "a text is missing"),
        ("state<b", "state is text and has no order: write state=word"),
        ("stat=done", "Rows have no 'stat' to compare: use state, or put"),
        ("rows>3", "Rows have no 'rows' to compare: use"),
        (".1<ms", r"Rows have no '\.1' to compare"),
        (">3", "'>3' compares nothing"),
        ("car =", "Rows have no 'car' to compare"),
        ("NOT", "Nothing stands behind NOT"),
        ("ms>1 NOT OR dead", "Nothing stands behind NOT"),
        ("OR dead", "Nothing stands beside OR"),
        ("dead OR", "Nothing stands beside OR"),
        ("dead AND AND ms>1", "Nothing stands beside AND"),
        ("()", r"Nothing stands beside \("),
        ("(dead", r"A \( is not closed"),
        ("dead)", r"A \) closes nothing"),
        ("NOT " * 99 + "dead", "nested too deeply"),
        ("(" * 5000 + "dead", "nested too deeply"),
    ],
)
def test_what_is_not_understood_is_said(line, says):
    with pytest.raises(UserError, match=says) as raised:
        TABLE.parse(line)
    assert str(raised.value).endswith(".")


@given(st.text(max_size=40) | st.text('ms<>=!() .5%"ORNT', max_size=14))
def test_whatever_is_typed_is_understood_or_refused(line):
    try:
        found = TABLE.parse(line)
    except UserError:
        return
    assert TABLE.parse(str(found)) == found
    conditions = [one for one in "<>=" if one in line.replace('"', "")]
    assert not conditions or '"' in line or "ms" in str(found) or "dead" in str(found), "none is passed over"


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(string.ascii_letters + " ()<>=*?[!%", min_size=1, max_size=8).map(str.strip).filter(bool)
LEAVES = (
    st.builds(Condition, st.sampled_from(["ms", "size", "left", "dead"]), st.sampled_from(sorted(OPERATORS)), NUMBERS)
    | st.builds(Condition, st.just("state"), st.sampled_from(["=", "!="]), TEXTS)
    | st.builds(Words, TEXTS)
)


def _joined(kind, parts):
    """``parts`` as the parser gives them: none of their own kind among them."""
    flat = [one for part in parts for one in (part.of if isinstance(part, kind) else (part,))]
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


def _expressions(leaves):
    return st.recursive(
        leaves,
        lambda one: (
            st.builds(Not, one)
            | st.lists(one, min_size=2, max_size=4).map(lambda parts: _joined(All, parts))
            | st.lists(one, min_size=2, max_size=4).map(lambda parts: _joined(Either, parts))
        ),
        max_leaves=10,
    )


@given(_expressions(LEAVES))
def test_what_is_printed_means_the_same(expression):
    assert TABLE.parse(str(expression)) == expression


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "ms": st.sampled_from([math.nan, -1.0, 0.0, 0.335, 0.3449, 0.3451, 0.5, 1.0]),
            "size": st.sampled_from([0.0, 1e9]),
            "left": st.sampled_from([math.nan, 90.0]),
            "dead": st.booleans(),
            "state": st.sampled_from(["", "done", "Done", "failed", "a car", "fr_Done-it\na_car"]),
        }
    ),
    max_size=8,
)
SYMBOLS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq}
SYMBOLS["!="] = operator.ne
VALUES, PATTERNS = (
    st.sampled_from([0.0, 0.5, 0.34, 90.0, 1e9]),
    st.sampled_from(["done", "FAILED", "*a*", "d?ne", "[d]one", "fr done*", "a-CAR"]),
)
FEW = _expressions(
    st.builds(Condition, st.sampled_from(["ms", "size", "left", "dead"]), st.sampled_from(sorted(OPERATORS)), VALUES)
    | st.builds(Condition, st.just("state"), st.sampled_from(["=", "!="]), PATTERNS)
    | st.builds(Words, st.sampled_from(["car", "done", "a d"]))
)


def _plain(text: str) -> str:
    return text.lower().replace("_", " ").replace("-", " ")


def naive(one, row) -> bool:
    """One row at a time, by the sentences of the docstring."""
    match one:
        case Condition(field, sign, str() as pattern):
            before, *after = _plain(pattern).split("*")
            lines = _plain(row[field]).split("\n")
            same = [line == before if not after else line.startswith(before) and after[0] in line for line in lines]
            return row[field] != "" and any(same) == (sign == "=")
        case Condition(field, sign, value):
            fraction = repr(value).removesuffix(".0").partition(".")[2]
            if sign in ("=", "!=") and fraction and "e" not in fraction:
                off = abs(Decimal(repr(float(row[field]))) - Decimal(repr(value))) if row[field] == row[field] else None
                return off is not None and (off <= Decimal(5).scaleb(-len(fraction) - 1)) == (sign == "=")
            return row[field] == row[field] and SYMBOLS[sign](float(row[field]), value)
        case Words(text):
            return all(word in row["state"].lower() for word in text.split())
        case Not(of):
            return not naive(of, row)
        case All(of):
            return all(naive(part, row) for part in of)
        case Either(of):
            return any(naive(part, row) for part in of)


@given(FEW, ROWS)
def test_what_is_listed_is_what_the_line_asks_for(expression, rows):
    fields = {name: RowField(kind, operator.itemgetter(name)) for name, kind in KINDS.items()}
    found = Rows("Rows", fields).filtered(rows, str(expression))
    assert [id(row) for row in found] == [id(row) for row in rows if naive(expression, row)]


def test_texts_that_must_not_be_found_rank_nothing():
    assert texts(TABLE.parse("car NOT pen OR (hat dead)")) == ["car", "hat"]


def test_rows_are_sorted_by_any_name_of_a_field_the_undefined_last():
    fields = {"ms": RowField("number", operator.itemgetter("ms"), ("MS",))}
    table = Rows("Rows", fields | {"state": RowField("text", operator.itemgetter("state"))})
    values = [(None, "b"), (2, "C"), (math.nan, None), (1, "a")]
    rows = [{"ms": ms, "state": state} for ms, state in values]
    assert [row["ms"] for row in table.sorted(rows, "MS")][:2] == [1, 2]
    assert [row["ms"] for row in table.sorted(rows, "ms", descending=True)][:2] == [2, 1]
    assert [row["state"] for row in table.sorted(rows, "state")] == ["a", "b", "C", None]
    assert len(table.filtered(rows, "ms>0 OR NOT ms>0")) == 4
    assert holds(ALL, lambda _: np.zeros(2), lambda _: np.zeros(2, bool), 2).tolist() == [True, True]


@pytest.mark.parametrize(
    ("line", "listed"),
    [
        ("ms=.34", [0.335, 0.34, 0.345]),
        ("ms!=.34", [0.3349, 0.3451]),
        ("ms=.340", [0.335, 0.34, 0.345]),
        ("ms%=34.2%", []),
        ("ms=0", []),
    ],
)
def test_a_fraction_equals_what_rounds_to_it(line, listed):
    values = np.array([0.3349, 0.335, 0.34, 0.345, 0.3451, math.nan])
    assert list(values[TABLE.parse(line).holds(values)]) == listed

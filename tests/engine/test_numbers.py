"""What is printed is the number that there is, and what is typed is taken as it stands or refused."""

import math
import re
from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.numbers import (
    UNDEFINED,
    alike,
    count,
    duration,
    exact,
    number,
    percent,
    rate,
    short,
    signed,
    significant,
    size,
    times,
    typed,
)

UNITS = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "%": -2, "x": 0, " B": 0, " kB": 3, " MB": 6, " GB": 9, " TB": 12}
PARTS = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+|\d*)(?:\.(\d+))?(?:e(-?\d+))?([kMGT]?[%x]?|/s| [kMGT]?B)")


def read(text: str) -> tuple[Decimal, Decimal]:
    """The value of a printed number, and the unit of its last digit."""
    found = PARTS.fullmatch(text)
    assert found and (found[2] or found[3]), text
    unit = found[5].removesuffix("/s")
    power = UNITS[unit] if unit in UNITS else sum(UNITS[part] for part in unit)
    decimals = found[3] or ""
    last = Decimal(1).scaleb(power + int(found[4] or 0) - len(decimals))
    digits = Decimal(found[2].replace(",", "") + decimals)
    return (-digits if found[1] == "-" else digits) * last, last


FORMATTERS = [
    pytest.param(number, id="number"),
    pytest.param(lambda value: number(value, 3, 5), id="number in five"),
    pytest.param(lambda value: number(value, 2, 4), id="number in four"),
    pytest.param(lambda value: percent(value, 1, 6), id="percent"),
    pytest.param(percent, id="whole percent"),
    pytest.param(short, id="short"),
    pytest.param(significant, id="significant"),
    pytest.param(lambda value: significant(value, 6), id="six digits"),
    pytest.param(signed, id="signed"),
    pytest.param(lambda value: signed(value, 6), id="signed in six"),
    pytest.param(lambda value: times(value, 5), id="times"),
    pytest.param(lambda value: alike([value, 47.9])[0], id="alike"),
]


@pytest.mark.parametrize("say", FORMATTERS)
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(10.10)
@example(-20.05)
@example(100.0)
@example(0.0)
@example(-0.0)
@example(-0.001)
@example(5e-324)
@example(1.7976931348623157e308)
@example(999.5)
@example(999_999.9)
def test_what_is_printed_is_the_value_to_half_a_unit_of_its_last_digit(say, value):
    said, last = read(say(value))
    with localcontext() as context:
        context.prec = 2000
        assert abs(said - Decimal(value)) <= last / 2


@given(st.integers())
@example(10**400)
@example(-(10**5000))
@example(999_999)
def test_whole_numbers_of_any_size(value):
    for say in (count, short, number, significant, percent):
        said, last = read(say(value))
        with localcontext() as context:
            context.prec, context.Emax = 6000, 999_999
            assert abs(said - Decimal(value)) <= last / 2
    said, last = read(count(value, 6))
    assert abs(said - value) <= last / 2 if abs(value) < 10**1000 else True


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 3), st.integers(3, 12))
def test_a_number_keeps_its_width_or_is_longer_and_right(value, digits, width):
    for text in (number(value, digits, width), percent(value, digits, width), count(value, width)):
        read(text)
        assert len(text) <= width or len(text) <= len("-1e-308%")


def test_numbers_of_everyday_size_keep_their_columns():
    assert [number(value, width=4) for value in (0.61, 1, 10.1, 100, -0.61, 999.7, 12_345)] == [
        *(".61", "1.00", "10.1", "100", "-.61", "1000", "12k")
    ]
    assert [count(value, 6) for value in (0, 99_999, 100_000, 1_234_567)] == ["0", "99,999", "100k", "1.23M"]
    assert [percent(share, 1, 6) for share in (0.123, 1, 12.5)] == ["12.3%", "100.0%", "1250%"]


def test_numbers_that_stand_together_have_the_same_decimals():
    assert alike([5.1, 4.79, 0.004]) == ["5.10", "4.79", ".00"]
    assert alike([511.2, math.nan, 3]) == ["511", UNDEFINED, "3"] and alike([]) == []


def test_strengths_have_three_digits():
    assert [signed(value) for value in (4.789, -47.89, 478.9, 0.25, -12_345)] == [
        *("+4.79", "-47.9", "+479", "+0.25", "-12345")
    ]


def test_what_stood_in_for_other_numbers():
    assert [number(value) for value in (10.10, 20.05, 100, 0.61, -0.61, -0.001)] == [
        *("10.10", "20.05", "100.00", ".61", "-.61", ".00")
    ]


@pytest.mark.parametrize("say", [number, percent, count, short, significant])
def test_what_is_no_number_is_said_to_be_none(say):
    assert say(math.nan) == UNDEFINED
    assert say(math.inf).startswith("inf") and say(-math.inf).startswith("-inf")
    assert number(None) == percent(None) == UNDEFINED


@given(st.integers(0, 10**16))
def test_sizes_and_rates(value):
    for text in (size(value), rate(value)):
        said, last = read(text)
        assert abs(said - value) <= last / 2


def test_times():
    seconds = [0, 59.6, 3599.6, 3600, 359_999, 360_000, -3, math.nan, math.inf]
    assert [duration(one) for one in seconds] == [
        *("0:00", "1:00", "1:00:00", "1:00:00", "99:59:59", "4 d 4 h", "0:00", UNDEFINED, UNDEFINED)
    ]


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**300), 10**300))
def test_a_value_in_a_form_comes_back_as_it_was(value):
    assert typed(exact(value), type(value)) == value


@pytest.mark.parametrize(
    ("text", "whole", "fraction"),
    [
        ("1000", 1000, 1000.0),
        (" 5 ", 5, 5.0),
        ("+5", 5, 5.0),
        ("-3", -3, -3.0),
        ("1_000", 1000, 1000.0),
        ("1e-3", None, 0.001),
        ("2E5", None, 2e5),
        (".5", None, 0.5),
        ("5.", None, 5.0),
        *[(text, None, None) for text in ("0,002", "1,000", "1.000,5", "٥", "²", "0x10", "inf", "-nan", "1k", "1 000")],
        *[(text, None, None) for text in ("", ".", "-", "1__0", "_1", "1_", "1e", "1e999", "5 %", "½", "0b1", "1j")],
        ("9" * 5000, None, None),
    ],
)
def test_one_rule_for_what_is_typed(text, whole, fraction):
    assert (typed(text, int), typed(text, float)) == (whole, fraction)

"""Tables for other programs: numbers as they are, texts that no spreadsheet and no terminal obeys."""

import csv
import io
import json
import math
import os
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from engine.tables import DIGITS, TableOfValues, write_table

EVIL = ["=1+1", "+SUM(A1)", "-cmd|' /C calc'!A0", "@x", "\t=1", " =1", "\n=1", "＝1+1", '=HYPERLINK("http://x","y")']


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("text", EVIL)
def test_what_a_spreadsheet_would_run_is_kept_as_text_in_cells_and_headings(text):
    heading, cell = (row[0] for row in read(TableOfValues([text], [[text]]).csv()))
    assert heading.startswith("'") and cell.startswith("'")


@pytest.mark.parametrize("text", ["-5", "+3.5", "-2e-3", "pencil", "a=b", "", "x-y", "7"])
def test_other_texts_stay_as_they_are(text):
    assert read(TableOfValues(["t", "n"], [[text, 1]]).csv())[1][0] == text


@given(st.floats())
def test_numbers_come_back_and_undefined_ones_are_empty(value):
    (text,) = read(TableOfValues(["x", "y"], [[value, 1]]).csv())[1][:1]
    if math.isfinite(value):
        assert float(text) == pytest.approx(value, rel=10.0 ** (1 - DIGITS)) and len(text) <= 14
        assert json.loads(TableOfValues(["x"], [[value]]).json()) == [{"x": value}]
    else:
        assert text == ""
        assert json.loads(TableOfValues(["x"], [[value]]).json()) == [{"x": None}]


@given(st.lists(st.text(string.printable + "é★,;\"'"), min_size=2, max_size=2))
def test_any_text_comes_back_as_one_cell(texts):
    (row,) = read(TableOfValues(["a", "b"], [texts]).csv())[1:]
    assert len(row) == 2
    assert not any(character in cell for cell in row for character in "\x0b\x0c\x1b")


def test_no_escape_sequence_goes_into_a_file():
    table = TableOfValues(["a"], [["\x1b[31mred"]])
    assert "\x1b" not in table.csv() + table.json()
    assert json.loads(table.json()) == [{"a": "\x1b[31mred"}]


def test_a_file_is_what_its_name_says_and_follows_the_umask(tmp_path):
    table = TableOfValues.of([{"n": 1, "names": ["a", "b"]}, {"n": 2, "match": 0.5, "names": []}])
    before = os.umask(0o002)
    try:
        for name in ("t.csv", "t.JSON"):
            write_table(tmp_path / name, table)
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(before)
    assert (tmp_path / "t.csv").read_text() == "n,names,match\n1,a · b,\n2,,0.5\n"
    assert json.loads((tmp_path / "t.JSON").read_text())[1] == {"n": 2, "names": [], "match": 0.5}
    with pytest.raises(UserError, match=r"neither .csv nor .json: give a file"):
        write_table(tmp_path / "t.xlsx", table)

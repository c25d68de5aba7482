"""Texts that are cut stay apart."""

import pytest
from rich.cells import cell_len

from engine.errors import counted
from saetui.formatting import fit_ends
from saetui.widgets.gallery import Tile
from saetui.widgets.table import Column, Table


def test_names_that_begin_alike_stay_apart():
    names = ["00012_Animalia_Chordata_Aves_columba_livia", "00012_Animalia_Chordata_Aves_columba_palumbus"]
    shown = [fit_ends(name, 16) for name in names]
    assert shown == ["00012_An…a_livia", "00012_An…alumbus"]
    assert fit_ends("short", 5) == "short"


@pytest.mark.parametrize("width", range(1, 12))
def test_cut_texts_have_the_width_asked_for(width):
    assert cell_len(fit_ends("abcdefghijklmnop", width)) == width
    assert cell_len(fit_ends("種類の名前が長い", width)) == width, "characters that take two cells"


def test_a_table_cuts_a_column_where_it_is_told_to():
    table = Table((Column("a", 9, "left", ends=True), Column("b", 0, "left")), lambda row: ())
    shown = table._strip(["face-smiling", "face-smiling"], 22, "").text
    assert shown.split() == ["face…ling", "face-smil…"]


def test_a_picture_keeps_its_number_and_both_ends_of_its_class():
    tile = Tile(0, "17.5", lambda: None, name="face-smiling")
    assert [tile.words(width) for width in (30, 14, 9, 5, 4, 3)] == [
        "17.5 face-smiling",
        "17.5 face…ling",
        "17.5",
        "17.5",
        "17.5",
        "17…",
    ]


def test_one_is_not_many():
    assert [counted(number, "latent") for number in (0, 1, 1234)] == ["0 latents", "1 latent", "1,234 latents"]

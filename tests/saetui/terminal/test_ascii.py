"""What stands in for characters that are not ASCII."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from saetui.terminal.ascii import STAND_INS, plain


def test_likenesses():
    assert plain("MS .38 ±.02 · piñata …") == "MS .38 ~.02 . pinata ~"
    assert plain("▸▁█│猫e\u0301") == ">.@|??e"
    assert all(len(chr(code)) == len(ascii) == 1 for code, ascii in STAND_INS.items())


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_it_is_ascii_and_each_character_keeps_its_cells(text):
    assert plain(text).isascii()
    assert [len(plain(character)) for character in text] == [cell_len(character) for character in text]

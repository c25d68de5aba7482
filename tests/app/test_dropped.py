import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saetui.dropped import dropped_path

names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1).filter(lambda name: "/" not in name)


@given(st.lists(names, min_size=1, max_size=4))
def test_a_quoted_path_and_a_file_address_are_read_back(parts):
    path = "/nowhere/at all/" + "/".join(parts)
    assert dropped_path(shlex.quote(path) + " \n") == str(Path(path))
    assert dropped_path(Path(path).as_uri() + "\r\n") == str(Path(path))


@pytest.mark.parametrize(
    "name", ["a cat.png", "it's.png", 'say "hi".png', "back\\slash.png", "ünï  code.png", "%41.png"]
)
def test_a_file_that_is_there_is_found_however_it_is_pasted(tmp_path, name):
    file = tmp_path / name
    file.touch()
    path = str(file)
    escaped = "".join(c if c.isalnum() or c in "/._-" else f"\\{c}" for c in path)
    for pasted in (
        path,
        f" {path}\n",
        shlex.quote(path),
        escaped,
        file.as_uri(),
        file.as_uri().replace("://", "://localhost"),
    ):
        assert dropped_path(pasted) == path


def test_of_several_files_the_first_is_taken(tmp_path):
    first, second = tmp_path / "a 1.png", tmp_path / "b.png"
    assert dropped_path(f"'{first}' '{second}'") == str(first)
    assert dropped_path(f"{first.as_uri()}\r\n{second.as_uri()}") == str(first)


def test_home_is_expanded_and_nonsense_is_kept():
    assert dropped_path("~/x.png") == str(Path.home() / "x.png")
    assert dropped_path("an 'unfinished") == "an 'unfinished"
    assert dropped_path("  \n") == ""
    assert dropped_path("x" * 100_000) == "x" * 100_000

import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saetui.terminal.dropped_files import dropped_path

names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20).filter(
    lambda name: "/" not in name and name.strip() == name and name not in (".", "..")
)


def ways(path: Path) -> list[str]:
    """How terminals paste ``path``."""
    escaped = "".join(c if c.isalnum() or c in "/._-" else f"\\{c}" for c in str(path))
    address = path.as_uri()
    return [str(path), f" {path}\n", shlex.quote(str(path)), escaped, address, address.replace("://", "://localhost")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(name=names)
def test_a_file_of_any_name_is_found_however_it_is_pasted(tmp_path, name):
    file = tmp_path / name
    file.touch()
    for pasted in ways(file):
        assert dropped_path(pasted) == file
    file.unlink()


@pytest.mark.parametrize("name", ["a cat.png", "it's.png", 'say "hi".png', "back\\slash.png", "%41.png", "a#b?c.png"])
def test_names_that_are_easily_misread(tmp_path, name):
    (tmp_path / name).touch()
    for pasted in ways(tmp_path / name):
        assert dropped_path(pasted) == tmp_path / name


def test_of_several_files_the_first_is_taken(tmp_path):
    first, second = tmp_path / "a 1.png", tmp_path / "b.png"
    first.touch()
    assert dropped_path(f"'{first}' '{second}'") == first
    assert dropped_path(f"{first.as_uri()}\r\n{second.as_uri()}\r\n") == first


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.png").touch()
    assert dropped_path("~/x.png") == tmp_path / "x.png"


@pytest.mark.parametrize(
    "text", ["", " \n", "an 'unfinished", "no such file", "~nobody-of-that-name/x", "x" * 100_000, "a\0b"]
)
def test_what_is_no_file_is_none(text):
    assert dropped_path(text) is None

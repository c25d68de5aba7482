"""What ARCHITECTURE.md says of the house is so."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
HOUSE = TEXT[TEXT.index("## The house") : TEXT.index("## Ground rules")]
CHANGES = re.findall(r"^\| (?!to change)(\w.*?) \| (.*) \|$", TEXT[TEXT.index("## To change") :], re.MULTILINE)
# Of the repository, not of a workspace: within one of its folders, or a document or setting beside them.
PATH = r"`((?:engine|saetui|tests|assets)/[^`\s]*|(?:pyproject\.toml|Makefile|[A-Z]+\.md))`"


def is_there(path: str) -> bool:
    return (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()


def folders() -> list[str]:
    """Every folder with code of ours."""
    found = {path.parent.relative_to(ROOT) for top in ("engine", "saetui") for path in (ROOT / top).rglob("*.py")}
    return sorted(f"{folder.as_posix()}/" for folder in found)


def test_every_path_exists():
    named = re.findall(PATH, TEXT)
    assert len(named) > 50
    assert sorted({path for path in named if not is_there(path)}) == []


@pytest.mark.parametrize("folder", folders())
def test_every_folder_has_its_sentence(folder):
    assert re.search(rf"^\| `{folder}` \| \w", HOUSE, re.MULTILINE), f"{folder} is not in the table of the house"


@pytest.mark.parametrize(("change", "places"), CHANGES, ids=[change for change, _ in CHANGES])
def test_a_change_touches_three_files_at_most(change, places):
    files = [path for path in re.findall(PATH, places) if not path.endswith("/")]
    assert 1 <= len(files) <= 3, change
    assert change == "which folder may import which" or any(path.startswith("tests/") for path in files), change


def test_what_a_class_lacks_is_seen_before_it_runs():
    """What a subclass has to give is an argument or an abstract method, which mypy misses, not an error at run time."""
    sources = [path for top in ("engine", "saetui") for path in (ROOT / top).rglob("*.py")]
    assert [str(path) for path in sources if "NotImplementedError" in path.read_text(encoding="utf-8")] == []

"""A command's output, whoever reads it and whatever it can show: the work counts, and its exit code."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from saetui.cli.streams import print_json
from tests.support.shell import ENVIRONMENT, command_of

OLD = Path(__file__).parents[2] / "old_workspace"
LATIN, ASCII = {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}


def shell(line: str, place: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A shell's ``line``, in which $S is saetui; the exit code is that of the first command of a pipe."""
    script = f"S={' '.join(command_of([]))!r}; set -o pipefail; {line}"
    return subprocess.run(["bash", "-c", script], cwd=place, env={**ENVIRONMENT, **variables}, capture_output=True)


@pytest.mark.parametrize("reader", ["head -1", "true"])
@pytest.mark.parametrize("command", ["neurons jump --top 0", "neurons jump --json", "jobs", "--help", "show jump"])
def test_a_reader_who_left_is_no_fault(command: str, reader: str) -> None:
    done = shell(f"$S {command} | {reader}", OLD)
    assert done.returncode == 0 and done.stderr == b""


def test_nor_is_one_of_progress_and_mistakes() -> None:
    done = shell("$S nosuch 2> >(true); echo $?; $S nosuch 2>&-; echo $?; $S nosuch 2>/dev/full; echo $?", OLD)
    assert done.stdout.split() == [b"2", b"2", b"2"]


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-", "<&-"])
def test_closed_streams_lead_nowhere(closed: str, tmp_path: Path) -> None:
    done = shell(f"$S neurons jump {closed}", OLD)
    assert done.returncode == 0 and done.stderr == b""
    done = shell(f"$S doctor {closed}", tmp_path)
    assert done.returncode == 0 and done.stderr == b""


def test_a_full_disk_is_said_when_the_work_is_done() -> None:
    done = shell("$S neurons jump > /dev/full", OLD)
    assert done.returncode == 2
    assert done.stderr == (
        b"saetui: The disk is full while writing the standard output: free some space and run the same command again, "
        b"it continues.\n"
    )


@pytest.mark.parametrize("variables", [ASCII, LATIN], ids=["ascii", "latin-1"])
def test_what_an_encoding_lacks_is_replaced(variables: dict[str, str]) -> None:
    done = shell("$S neurons jump --images", OLD, **variables)
    assert done.returncode == 0 and done.stderr == b"" and b"matched raw neurons" in done.stdout


@pytest.mark.parametrize("variables", [{}, ASCII, LATIN], ids=["utf-8", "ascii", "latin-1"])
def test_names_that_are_no_utf_8(variables: dict[str, str], tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    images = tmp_path / "images"
    images.mkdir()
    (images / name).write_bytes(b"broken")
    (images / "é.png").write_bytes((next((OLD / "images").rglob("*.png"))).read_bytes())
    line = "$S extract --model demo:encoder --images images --at last --tokens cls --name a"
    done = shell(
        f"{line} --json; echo $?; {line}; echo $?; $S jobs; $S jobs --json; $S show a --json", tmp_path, **variables
    )
    assert done.stderr.count(b"Skipped") == 1 and b"Traceback" not in done.stderr, done.stderr
    extracted, code, *_, jobs, shown = done.stdout.splitlines()
    assert code == b"0" and list(json.loads(extracted)["broken"]) == [name]
    assert b"\n0\n" in done.stdout.partition(extracted)[2][3:]
    assert list(json.loads(jobs)[0]["result"]["broken"]) == [name]
    assert [one["path"] for one in json.loads(shown)["broken"]] == [name]


def test_json_has_no_numbers_that_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [float("nan"), 1.5], "b": (float("inf"),)})
    assert capsys.readouterr().out == '{"a": [null, 1.5], "b": [null]}\n'


def test_output_that_another_program_made_not_wait_is_written_whole(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen(command_of(["jobs", "--json"]), cwd=OLD, stdout=writer, env=ENVIRONMENT) as process:
        os.close(writer)
        with open(reader, "rb") as file:
            text = file.read()
    assert process.returncode == 0 and len(json.loads(text)) == 9

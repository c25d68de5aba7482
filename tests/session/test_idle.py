"""What a workbench costs that nobody touches, in a workspace in which much has been done."""

import os
import sys
import time
from pathlib import Path

import pytest

from engine.workspace import Workspace
from tests.support.ended_runs import write_runs
from tests.support.tmux import SAETUI, Terminal, interface

RUNS, SECONDS, MOST = 1_000, 30, 0.02


def seconds_of_processor(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("mode", ["1", "2", "3"])
def test_a_thousand_runs_cost_two_hundredths_of_a_processor(mode: str, tmp_path: Path) -> None:
    place = Workspace(tmp_path / "workspace")
    place.root.mkdir()
    (place.root / "workspace.toml").touch()
    write_runs(place, RUNS)
    with Terminal(tmp_path, 80, 24) as terminal:
        terminal.run(f"{SAETUI} {place.root}")
        terminal.until("saetui")
        time.sleep(3)
        terminal.press(mode)
        time.sleep(10)  # logs are read once
        pid = interface(place.root)
        before = seconds_of_processor(pid)
        time.sleep(SECONDS)
        used = (seconds_of_processor(pid) - before) / SECONDS
        terminal.press("q")
    print(f"mode {mode}: {used:.1%}", file=sys.stderr)
    assert used <= MOST

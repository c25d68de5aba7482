"""Steered answers in a report: from runs and from the workbench, of this SAE alone, each once."""

import json

from engine.config import SteerSettings
from engine.records import to_json
from engine.report.transcripts import changes, transcripts
from engine.steer.results import Steered
from saetui.modes.steer.setup import Setup, Slot
from saetui.modes.steer.versions import Version
from tests.support.reports import write_steered

SAID = Steered("a fish", "a fish", "a red pencil")


def texts(one):
    return [" ".join(part.text for part in answer.parts) for answer in one.answers]


def test_new_words_are_marked_against_the_answer_above():
    assert [(part.text, part.new) for part in changes("a green fish here", "a red fish here")] == [
        ("a", False),
        ("red", True),
        ("fish here", False),
    ]
    assert list(changes("a", "")) == []


def test_a_run_is_told_with_all_of_its_controls(workspace):
    write_steered(workspace, SteerSettings(sae="s", vlm="demo", latent=("5=2x", "9=0")), SAID)
    (found,) = transcripts(workspace, "s", "")
    assert texts(found) == ["a fish", "a fish", "a red pencil"]
    assert [answer.title for answer in found.answers][1] == "SAE attached, nothing changed"
    assert found.latents == ("5=2x", "9=0") and found.numbers == (5, 9)
    assert found.source.startswith("runs/") and "clamp" in found.setting and found.picture


def test_answers_of_another_sae_and_damaged_runs_are_left_out(workspace):
    write_steered(workspace, SteerSettings(sae="other", vlm="demo"), SAID)
    write_steered(workspace, SteerSettings(sae="s", vlm="demo"), SAID)
    run = max(workspace.runs.iterdir())
    (run / "status.json").write_text("{")
    assert transcripts(workspace, "s", "") == []


def test_answers_of_the_workbench_are_told_once(workspace, tmp_path):
    rack = (Slot(5, 20.0, True, 10.0, "pencil"), Slot(9, 1.0, False))
    asked = [Version(Setup("s", "demo", "", rack=rack), SAID, time) for time in (1e9, 2e9)]
    asked.append(Version(Setup("other", "demo"), SAID, 3e9))
    kept = tmp_path / "versions.jsonl"
    kept.write_text("".join(json.dumps(to_json(one)) + "\n" for one in asked) + '{"torn')
    (found,) = transcripts(workspace, "s", str(kept))
    assert found.latents == ("5=20 (2x its maximum)",) and found.time == 2e9
    assert texts(found) == ["a fish", "a fish", "a red pencil"]


def test_an_image_that_is_gone_leaves_the_words(workspace, tmp_path):
    write_steered(workspace, SteerSettings(sae="s", vlm="demo", image=str(tmp_path / "gone.png")), SAID)
    (found,) = transcripts(workspace, "s", "")
    assert found.picture == "" and found.image.endswith("gone.png")

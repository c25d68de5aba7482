"""Plans that are no plans are refused in a sentence, before anything starts."""

import pytest

from engine.config import PlanSettings
from engine.errors import UserError
from engine.runs.plan import check_plan, read_plan, run_plan


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ("train = 3", r"train is 3: write its settings under \[\[train\]\]"),
        ("train = [1, 2]", r"write its settings under \[\[train\]\]"),
        ("[[trein]]\nk = 3", "a table 'trein'"),
        ("", "has no stages"),
    ],
)
def test_what_is_no_plan_is_refused(plan, says, workspace, tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(plan)
    with pytest.raises(UserError, match=says):
        read_plan(path, workspace)


TRAIN = """
[[train]]
activations = "a"
name = "clip-x{expansion}"
expansion = [4, 8]
"""


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('[[score]]\nsae = "*-x"\nimages = "i"\nembed_with = "demo"', r"called '\*-x': it trains clip-x4, clip-x8"),
        ('[[score]]\nsae = "clip-x16"\nimages = "i"\nembed_with = "demo"', r"score\]\]: No SAE named 'clip-x16'"),
        ('[[score]]\nsae = "*"\nimages = ["a/val", "b/val"]\nembed_with = "demo"', r"clip-x4--val.h5 twice"),
        ('[[steer]]\nrecipe = "hat"', "There is no recipe hat"),
        ('[[train]]\nactivations = "b"\nname = "c"', "No activations named 'b'"),
    ],
)
def test_what_would_fail_in_the_end_is_refused_in_the_beginning(more, says, workspace, tmp_path):
    (workspace.root / "activations/a").mkdir(parents=True)
    path = tmp_path / "plan.toml"
    path.write_text(TRAIN + more)
    with pytest.raises(UserError, match=says):
        run_plan(PlanSettings(plan=str(path)), workspace)


def test_stars_mean_some_of_the_saes_and_paths_are_from_the_workspace(workspace, tmp_path, monkeypatch):
    (workspace.root / "activations/a").mkdir(parents=True)
    path = tmp_path / "plan.toml"
    path.write_text(TRAIN + '[[score]]\nsae = "*-x8"\nimages = "val"\nembed_with = "./judge"')
    monkeypatch.chdir("/")
    *_, scored = stages = read_plan(path, workspace)
    check_plan(stages, workspace, path)
    asked = scored.settings
    assert (asked.sae, asked.images) == ("clip-x8", str(workspace.root / "val"))
    assert asked.embed_with == str(workspace.root / "judge")

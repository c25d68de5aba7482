"""Plans that are no plans are refused in a sentence, before anything starts."""

import pytest

from engine.errors import UserError
from engine.runs.plan import read_plan


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

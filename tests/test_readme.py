"""What the README says is so."""

import re
from pathlib import Path

import pytest

from engine.config import ExtractSettings, ScoreSettings, SteerSettings, TrainSettings
from engine.demo.world import write_images

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_dozen_lines_of_python_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_images("images", 300, seed=3)
    (code,) = blocks("python")
    exec(code, {})
    assert capsys.readouterr().out.strip(), "it printed an answer"


def test_the_plan_is_a_plan(tmp_path):
    from engine.plan import read_plan
    from engine.workspace import Workspace

    (plan,) = blocks("toml")
    (tmp_path / "plan.toml").write_text(plan)
    stages = read_plan(tmp_path / "plan.toml", Workspace(tmp_path))
    assert [stage.task for stage in stages] == ["extract"] + ["train"] * 6 + ["score"] * 6
    assert stages[1].name == "batchtopk-x4"


@pytest.mark.parametrize("settings", [ExtractSettings, TrainSettings, ScoreSettings, SteerSettings])
def test_flags_in_the_readme_exist(settings):
    command = settings.__name__.removesuffix("Settings").lower()
    known = {"--" + name.replace("_", "-") for name in settings.__dataclass_fields__}
    known |= {"--workspace", "--json", "--detach", "--help"}
    for line in re.findall(rf"saetui {command} .*", "\n".join(blocks("sh") + blocks("console"))):
        used = set(re.findall(r"(--[a-z-]+)", line))
        assert used <= known, line

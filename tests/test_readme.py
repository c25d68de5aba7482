"""What the README says is so."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.config import ExtractSettings, ScoreSettings, SteerSettings, TrainSettings
from engine.demo.world import write_images
from engine.neurons.quantities import FIELDS, SORTS
from engine.neurons.query import LATENTS, PROPERTIES
from engine.query import Condition
from saetui.cli.app import app
from tests.pictures import MODES, with_keys
from tests.support.shell import in_pipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_dozen_lines_of_python_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_images("images", 300, seed=3)
    (code,) = blocks("python")
    exec(code, {})
    assert capsys.readouterr().out.strip(), "it printed an answer"


def test_own_pictures_get_from_a_folder_to_a_steered_answer(tmp_path):
    """The walk-through as it is typed, with fewer pictures and steps, and a latent that they have."""
    write_images(tmp_path / "photos", 60, seed=3)
    (walk,) = [block for block in blocks("console") if "--images photos" in block]
    said = {}
    for line in re.findall(r"^\$ saetui (.*)$", walk, re.MULTILINE):
        command, *words = shlex.split(line)
        if command == "train":
            words += ["--steps", "40"]
        elif command == "neurons":
            words[words.index("--search") + 1] = "red"
        elif command == "steer":
            latent = re.search(r"^ +(\d+) ", said["neurons"].rpartition("names")[2], re.MULTILINE)
            words = [re.sub(r"^\d+=", f"{latent[1]}=", word) for word in words]
        done = in_pipe(command, *words, cwd=tmp_path)
        assert done.code == 0, (line, done)
        said[command] = done.out
    assert list(said) == ["extract", "train", "score", "neurons", "steer"]
    assert "3,840 rows of 192 at layer:4" in said["extract"] and "matched raw" in said["score"]
    assert "untouched" in said["steer"] and "steered" in said["steer"]


def test_the_plan_is_a_plan(tmp_path):
    from engine.runs.plan import read_plan
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


def test_the_keys_are_those_of_the_bindings():
    assert with_keys(README) == README, "python tests/pictures.py writes them anew"


def test_the_pictures_are_there_small_and_of_no_machine():
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    report, figure = "assets/pictures/report.png", "assets/pictures/ms.svg"
    assert sorted(shown) == sorted([report, figure, *(f"assets/pictures/{mode}.svg" for mode in MODES)])
    assert (ROOT / report).read_bytes().startswith(b"\x89PNG") and (ROOT / report).stat().st_size < 350_000
    for name in set(shown) - {report}:
        picture = (ROOT / name).read_text()
        assert len(picture) < 350_000
        assert not re.search(r"/(tmp|home|Users|root)/", picture), name
        assert "font-face" not in picture


def test_the_fields_of_filters_are_told():
    told = README[README.index("### Filters") : README.index("### Settings")]
    named = re.search(r"Fields are (.+?); `saetui neurons --help` lists them all", told, re.DOTALL)[1]
    for name in set(re.findall(r"[a-z_]+", re.sub(r"\(MS .*?\)", "", named))) - {"and"}:
        assert isinstance(LATENTS.parse(f"{name}=0"), Condition)
    assert [name for name in PROPERTIES if not re.search(rf"\b{name}\b", told)] == []
    shown = " ".join(CliRunner().invoke(app, ["neurons", "--help"]).output.split())
    assert f"Fields: {', '.join(FIELDS)}." in shown and f"{', '.join(SORTS)}." in shown


def test_the_settings_are_those_of_the_interface(tmp_path):
    from saetui.preferences import read_preferences

    (settings,) = blocks("ini")
    (tmp_path / "config.toml").write_text(settings)
    read = read_preferences(tmp_path / "config.toml")
    assert read.keys == {"neurons.steer": "s,f5"} and read.theme == "graphite"


def test_a_wheel_has_the_models_and_no_pictures():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {f"assets/{path.name}" for path in (ROOT / "assets").iterdir() if path.name != "pictures"}
    assert set(build["force-include"]) == needed
    for source, target in build["force-include"].items():
        assert target == f"engine/models/{source}"

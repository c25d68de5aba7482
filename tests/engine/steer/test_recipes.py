import subprocess
import sys
import tomllib

import pytest

from engine.config import SteerSettings
from engine.errors import UserError
from engine.steer.recipes import load_recipe, save_recipe, with_recipe
from engine.workspace import Source, Workspace

FISH = SteerSettings(
    sae="clip-x8",
    vlm="demo",
    prompt='Say "hello",\n\tC:\\fish → 魚?',
    latent=("1203=30", "88=-5"),
    mode="add",
    keep_error=True,
    max_new_tokens=7,
    save_recipe="fish",
)


def test_round_trip(workspace):
    source = Source("sae", "clip-x8", str(workspace.sae("clip-x8")), "ab" * 32)
    path = save_recipe(workspace, FISH, [source])
    assert path == workspace.root / "recipes" / "fish.toml"
    document = tomllib.loads(path.read_text())
    assert (document["format"], document["version"]) == ("saetui-recipe", 1)
    assert document["made_from"][0]["path"] == "saes/clip-x8"
    assert load_recipe(workspace, "fish").made_from == (source,)
    replayed = with_recipe(workspace, SteerSettings(recipe="fish"))
    expected = {**vars(FISH), "save_recipe": "", "recipe": "fish"}
    assert vars(replayed) == expected


def test_a_recipe_keeps_what_differs_from_the_defaults(workspace):
    path = save_recipe(workspace, SteerSettings(sae="a", vlm="demo", latent=("3=1",), save_recipe="short"))
    assert tomllib.loads(path.read_text())["settings"] == {"sae": "a", "vlm": "demo", "latent": ["3=1"]}


def test_settings_that_differ_from_the_defaults_override(workspace):
    save_recipe(workspace, FISH)
    flags = SteerSettings(recipe="fish", latent=("5=1",), max_new_tokens=3, mode="clamp")
    replayed = with_recipe(workspace, flags)
    assert (replayed.latent, replayed.max_new_tokens) == (("5=1",), 3)
    assert (replayed.mode, replayed.sae) == ("add", "clip-x8")  # clamp is the default: not an override


def test_without_a_recipe_nothing_changes(workspace):
    assert with_recipe(workspace, FISH) is FISH


def test_a_recipe_by_its_path(workspace, tmp_path):
    path = save_recipe(workspace, FISH)
    moved = path.rename(tmp_path / "elsewhere.toml")
    assert with_recipe(workspace, SteerSettings(recipe=str(moved))).sae == "clip-x8"


def test_the_same_recipe_again_and_another_under_its_name(workspace):
    before = save_recipe(workspace, FISH).read_bytes()
    assert save_recipe(workspace, FISH).read_bytes() == before
    other = SteerSettings(sae="clip-x8", vlm="demo", save_recipe="fish")
    with pytest.raises(UserError, match="recipe fish with other settings: take another name"):
        save_recipe(workspace, other)
    assert (workspace.root / "recipes" / "fish.toml").read_bytes() == before


def test_the_same_recipe_of_another_sae_of_that_name_is_refused(workspace):
    path = save_recipe(workspace, FISH, [Source("sae", "clip-x8", str(workspace.sae("clip-x8")), "ab" * 32)])
    before = path.read_bytes()
    with pytest.raises(UserError, match="fish, saved with another SAE of this name: take another name"):
        save_recipe(workspace, FISH, [Source("sae", "clip-x8", str(workspace.sae("clip-x8")), "cd" * 32)])
    assert path.read_bytes() == before


def test_pictures_and_models_are_found_from_anywhere(workspace, tmp_path, monkeypatch):
    """Also in a workspace that was moved, if they lie in it."""
    (workspace.root / "images").mkdir(parents=True)
    monkeypatch.chdir(workspace.root)
    asked = SteerSettings(sae="a", vlm="llava", image="images::a/b.png", latent=("3=1",), save_recipe="r")
    path = save_recipe(workspace, asked)
    assert tomllib.loads(path.read_text())["settings"]["vlm"] == "./llava"
    moved = Workspace(workspace.root.rename(tmp_path / "moved"))
    monkeypatch.chdir("/")
    found = load_recipe(moved, "r").settings
    assert (found.image, found.vlm) == (f"{moved.root}/images::a/b.png", str(moved.root / "llava"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = ", "not valid TOML"),
        ('format = "other"\nversion = 1', "not a steering recipe"),
        ('format = "saetui-recipe"\nversion = 2\n[settings]', "version 2, this saetui reads up to 1"),
        ('format = "saetui-recipe"\nversion = 1', "no table"),
        ('format = "saetui-recipe"\nversion = 1\nmade_from = [{kind = 3}]\n[settings]', "is damaged"),
        ('format = "saetui-recipe"\nversion = 1\n[settings]\nlatents = ["3=1"]', "did you mean latent"),
        ('format = "saetui-recipe"\nversion = 1\n[settings]\nmode = "wild"', "choose one of clamp"),
    ],
)
def test_damaged_and_newer_recipes(workspace, text, says):
    path = workspace.recipe("bad")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        with_recipe(workspace, SteerSettings(recipe="bad"))


def test_a_recipe_that_is_not_there(workspace):
    with pytest.raises(UserError, match=r"no recipe fish in .*: save one with --save-recipe"):
        load_recipe(workspace, "fish")
    save_recipe(workspace, FISH)
    with pytest.raises(UserError, match=r"no recipe fsh in .*: it has fish"):
        load_recipe(workspace, "fsh")


def test_reading_recipes_and_interventions_costs_no_torch():
    code = (
        "import sys, engine.steer, engine.steer.recipes, engine.steer.interventions as i; "
        "i.parse_latent('3=2x', 'clamp'); i.Intervention(); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

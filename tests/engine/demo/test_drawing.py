"""Pictures that are drawn by the command: those that are there are kept, and nothing else is touched."""

import pytest

from engine.config import DrawSettings
from engine.demo.drawing import draw_pictures
from engine.demo.world import write_images
from engine.errors import UserError


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "drawn.json"
    }


def test_they_are_those_of_the_world_and_drawn_once(workspace, tmp_path):
    asked = DrawSettings(images=str(tmp_path / "drawn"), pictures=7, seed=5)
    result = draw_pictures(asked, workspace)
    write_images(tmp_path / "same", 7, 5)
    assert contents(tmp_path / "drawn") == contents(tmp_path / "same")
    assert (result.images, result.made) == (7, True)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "drawn").rglob("*")}
    assert draw_pictures(asked, workspace).made is False
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "drawn").rglob("*")}


def test_an_interrupted_drawing_goes_on(workspace, tmp_path):
    asked = DrawSettings(images=str(tmp_path / "drawn"), pictures=7, seed=5)
    draw_pictures(asked, workspace)
    whole = contents(tmp_path / "drawn")
    (tmp_path / "drawn/labels.jsonl").unlink()
    next((tmp_path / "drawn").rglob("*.png")).unlink()
    assert draw_pictures(asked, workspace).made
    assert contents(tmp_path / "drawn") == whole


def test_a_folder_of_something_else_is_left_alone(workspace, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.png").write_text("mine")
    with pytest.raises(UserError, match="is not empty, and not drawn by this command"):
        draw_pictures(DrawSettings(images=str(tmp_path / "photos")), workspace)
    draw_pictures(DrawSettings(images=str(tmp_path / "drawn"), pictures=2), workspace)
    with pytest.raises(UserError, match=r"has pictures of .* not of"):
        draw_pictures(DrawSettings(images=str(tmp_path / "drawn"), pictures=3), workspace)

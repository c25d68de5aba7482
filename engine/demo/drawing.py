"""``saetui draw``: pictures of the demo's world, for plans and for trying things out."""

from engine.config import DrawSettings
from engine.demo.results import DrawnPictures
from engine.demo.world import write_images
from engine.errors import UserError
from engine.files import path_of, read_json, write_json
from engine.links import check_own
from engine.reporter import Reporter, StageBegan
from engine.settings import check
from engine.workspace import Workspace


def draw_pictures(settings: DrawSettings, workspace: Workspace, reporter: Reporter | None = None) -> DrawnPictures:
    """Draw ``settings.pictures`` pictures into class folders, with ``labels.jsonl``. Those that are there are kept.

    UserError for a folder that holds something else, or pictures of another seed.
    """
    reporter = reporter or Reporter()
    check(settings)
    folder = path_of(settings.images)
    check_own(folder)
    labels, seen = folder / "labels.jsonl", folder / "drawn.json"
    asked = {"pictures": settings.pictures, "seed": settings.seed}
    if seen.is_file():
        before = read_json(seen)
        if before != asked:
            raise UserError(f"{folder} has pictures of {before}, not of {asked}: give another folder.")
        if labels.is_file():
            return DrawnPictures(path=str(folder), images=settings.pictures, made=False)
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty, and not drawn by this command: give another folder.")
    reporter.event(StageBegan("drawing"))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(seen, asked)
    write_images(folder, settings.pictures, settings.seed, reporter)
    return DrawnPictures(path=str(folder), images=settings.pictures)

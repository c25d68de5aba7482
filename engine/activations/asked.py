"""What is asked of an extraction, checked before anything is loaded. Costs no torch.

``made``, here and in the modules of this name: what will be there by then, as folder and name, though it is not yet.
"""

import glob
import os
from collections.abc import Collection
from pathlib import Path

from engine.activations.manifest import FILE, read_manifest
from engine.activations.store import Store
from engine.config import ExtractSettings
from engine.errors import UserError, counted
from engine.files import path_of
from engine.images.sources import check_images
from engine.links import check_own
from engine.models import HookPoint, TokenPolicy
from engine.models.asked import check_device, check_encoder, check_hook, check_vlm, rows_of
from engine.settings import about, check
from engine.workspace import Workspace, store_names

UNASKED = ("last",)
"""The hook points where none are given."""
Made = Collection[tuple[str, str]]


def check_extract(settings: ExtractSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    check(settings)
    with about("device"):
        check_device(settings.device)
    with about("for_steering"):
        check_purpose(settings)
        if settings.for_steering:
            check_vlm(settings.for_steering)
    with about("at"):
        hooks = list(dict.fromkeys(map(HookPoint.parse, settings.at)))
    with about("tokens"):
        policy = TokenPolicy.parse(settings.tokens)
    with about("name"):
        for hook in hooks:
            check_own(store_of(settings, str(hook), workspace))
    with about("model"):
        check_encoder(settings.model)
    with about("images"):
        if ("images", settings.images) not in made:
            check_images(settings.images)
    if settings.for_steering:  # its hook point is known when it is loaded
        return
    for hook in hooks:
        with about("at"):
            check_hook(settings.model, hook)
        with about("tokens"):
            rows = rows_of(settings.model, hook, policy) or 1
        with about("embeddings" if settings.embeddings else "shard_rows"):
            check_rows(settings, rows)
    with about("name"):
        for hook in hooks:
            _check_same(settings, store_of(settings, str(hook), workspace), hook)


def check_purpose(settings: ExtractSettings) -> None:
    if settings.for_steering and settings.at != UNASKED:
        raise UserError("--for-steering chooses the hook point: give it alone, or --at alone.")


def check_rows(settings: ExtractSettings, rows: int) -> None:
    """UserError where so many ``rows`` an image are too many."""
    if settings.embeddings and rows > 1:
        raise UserError("Embeddings have one row an image: set --at to last, or --tokens to cls or mean.")
    batch = settings.batch_size * rows
    if batch > settings.shard_rows:
        raise UserError(
            f"A batch has {counted(batch, 'row')} and --shard-rows is {settings.shard_rows}: "
            "raise it or lower --batch-size."
        )


def _check_same(settings: ExtractSettings, folder: Path, hook: HookPoint) -> None:
    """UserError where the name is taken by a store that was plainly made otherwise."""
    if not (folder / FILE).exists():
        return
    before = read_manifest(folder)
    names = ["dtype", "precision", "batch_size", "transparency", *([] if hook.pooled else ["tokens"])]
    other = [
        f"{name.replace('_', ' ')} {getattr(before, name)}, not {getattr(settings, name)}"
        for name in names
        if getattr(before, name) != getattr(settings, name)
    ]
    if before.hook != str(hook):
        other.insert(0, f"hook {before.hook}, not {hook}")
    if other:
        raise MadeOtherwise(folder, "; ".join(other))


class MadeOtherwise(UserError):
    """A store was made with something else than what is asked for: ``why`` says with what."""

    def __init__(self, folder: Path, why: str):
        self.why = why
        super().__init__(f"{folder} was made with {why}: give another --name.")


def store_of(settings: ExtractSettings, hook: str, workspace: Workspace) -> Path:
    """The folder of the store of one hook point."""
    hooks = list(dict.fromkeys(str(HookPoint.parse(at)) for at in settings.at))
    home = workspace.embeddings if settings.embeddings else workspace.activations
    return home(dict(zip(hooks, store_names(settings.name, hooks), strict=True))[hook])


def opened(kind: str, given: str, workspace: Workspace, made: Made) -> Store | None:
    """The store that is read; None where it is yet to be made. UserError where it is neither."""
    if (kind, given) in made:
        return None
    store = Store.open(workspace.existing(kind, given))
    store.check_filled()
    return store


def globbed(source: str) -> tuple[Path, list[Path]]:
    """The place, and what a glob stands for; nothing where ``source`` is none."""
    place = path_of(source)
    if os.path.lexists(place) or not glob.has_magic(source):
        return place, []
    pattern = os.path.join(glob.escape(str(place.parent)), place.name) if place.parent.is_dir() else str(place)
    found = [Path(one) for one in glob.glob(pattern) if Path(one).is_file()]
    if not found:
        raise UserError(f"{source} stands for no file: check the folder and the quotes around it.")
    return place.parent, found

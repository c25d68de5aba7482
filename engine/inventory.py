"""What a workspace has to extract from and with, and what has been extracted. Costs no torch and reads no images."""

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.activations.store import KINDS, read_head
from engine.config import ExtractSettings, from_words
from engine.errors import UserError
from engine.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class StoreEntry:
    """An activation store, finished or not, by the head of its manifest."""

    kind: str
    """The folder of the workspace that it is in: activations or embeddings."""
    path: Path
    problem: str = ""
    """Why its manifest cannot be read; then nothing below is known."""
    head: dict[str, Any] = field(default_factory=dict)
    """The manifest without its list of images."""
    complete: bool = False
    rows: int = 0
    bytes: int = 0
    """Size of its finished shards."""
    model: str = ""
    source: str = ""
    """Where its images come from, as for ``open_images``."""
    images: int = 0
    """Images of the source when the extraction began."""
    images_done: int = 0
    """Images of finished shards."""

    @property
    def name(self) -> str:
        return self.path.name

    def settings(self) -> ExtractSettings:
        """Those of the command that made it. UserError when the manifest does not tell it."""
        words = shlex.split(str(self.head.get("command") or ""))
        if words[:2] != ["saetui", "extract"]:
            raise UserError(f"{self.path} does not say what command made it: start its extraction anew.")
        return from_words(ExtractSettings, words[2:], str(self.path))


@dataclass(frozen=True)
class Inventory:
    sources: list[str]
    """Where images come from, as for ``open_images``: those of workspace.toml first."""
    encoders: list[str]
    """Model specs, as for ``load_encoder``: those of workspace.toml first."""
    stores: list[StoreEntry]


def inventory(workspace: Workspace) -> Inventory:
    """The image sources, encoders and stores that workspace.toml and the manifests name. Damaged ones say so."""
    defaults: dict[str, Any] = {}
    with contextlib.suppress(UserError):  # whoever starts something with these defaults hears of it
        defaults = workspace.defaults()
    stores = [_entry(kind, path) for kind in KINDS for path in _folders(workspace.root / kind)]
    return Inventory(
        _distinct([defaults.get("images"), *(store.source for store in stores)]),
        _distinct([defaults.get("model"), defaults.get("embed_with"), *(store.model for store in stores)]),
        stores,
    )


def _entry(kind: str, path: Path) -> StoreEntry:
    try:
        head = read_head(path)
        source, shards = head.get("source") or {}, list(head["shards"])
        return StoreEntry(
            kind=kind,
            path=path,
            head=head,
            complete=bool(head["complete"]),
            rows=int(head["rows"]),
            bytes=sum(int(shard["bytes"]) for shard in shards),
            model=str(head["model"]["spec"]),
            source=str(source.get("spec", "")),
            images=int(source.get("images", 0)),
            images_done=sum(int(shard["next_image"]) - int(shard["first_image"]) for shard in shards),
        )
    except (UserError, OSError) as error:
        return StoreEntry(kind=kind, path=path, problem=str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return StoreEntry(
            kind=kind, path=path, problem=f"{path / 'manifest.json'} is damaged ({error!r}): make it again."
        )


def _folders(folder: Path) -> list[Path]:
    """Stores in ``folder``; one of which not even the first shard is finished has no manifest and is left out."""
    try:
        return sorted(path for path in folder.iterdir() if (path / "manifest.json").exists())
    except OSError:
        return []


def _distinct(values: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(value for value in values if isinstance(value, str) and value))

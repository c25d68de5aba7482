"""Which class reads an artefact of a kind. A kind is described in ``engine.kinds``, what is read of it there."""

from pathlib import Path

from engine.artefacts.entries import Entry, NeuronsEntry, RecipeEntry, RunEntry, SAEEntry, StoreEntry
from engine.artefacts.results import RESULTS
from engine.errors import UserError
from engine.kinds import ARTEFACTS, Kind

ENTRIES: tuple[type[Entry], ...] = (
    StoreEntry,
    SAEEntry,
    NeuronsEntry,
    *RESULTS,
    RecipeEntry,
    RunEntry,
)
ENTRY_OF: dict[Kind, type[Entry]] = {kind: entry for entry in ENTRIES for kind in entry.KINDS}


def kind_of(path: Path) -> type[Entry]:
    """What kind of artefact ``path`` is. UserError when it is none."""
    for entry in ENTRIES:
        if entry.is_at(path):
            return entry
    folders = ", ".join(f"{kind.folder}/" for kind in ARTEFACTS)
    raise UserError(f"{path} is no artefact of saetui: give what lies in {folders} of a workspace.")


def identity(path: Path) -> str:
    """The content hash by which other artefacts name this one."""
    return kind_of(path).identity(path)

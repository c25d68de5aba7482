"""The rows of mode Data without a terminal."""

from pathlib import Path

import pytest

from engine.activations.manifest import Listed, Manifest, Model
from engine.activations.shards import Shard
from engine.artefacts.entries import StoreEntry
from engine.models.hookpoints import KINDS as HOOK_KINDS
from engine.runs.watch import RunSnapshot
from engine.workspace import Workspace
from saetui.modes.data.extract_form import first_values, known_values
from saetui.modes.data.listing import COLUMNS, KINDS, Extractions, Found, Listing, Selected, makes

ROOT = Path("/w")


def entry(name: str, folder: str = "activations", images: int = 6, **more: object) -> StoreEntry:
    """A store of 8 images of which ``images`` are done, one row each."""
    shards = (Shard("shard-00000.h5", images, 2500, "", 0, images),)
    manifest = Manifest(
        model=Model("demo"), hook="layer:1", tokens="all", dtype="float16", d=4, source=Listed("/w/images/a", 8),
        rows=images, complete=images == 8, shards=shards,
    )  # fmt: skip
    state = "complete" if images == 8 else "unfinished"
    return StoreEntry(path=ROOT / folder / name, **{"state": state, "manifest": manifest, **more})


def run(name: str, state: str = "running", **more: object) -> RunSnapshot:
    return RunSnapshot(id=f"1-{name}", task="extract", name=name, state=state, **more)


@pytest.fixture
def listing() -> Listing:
    listing = Listing(ROOT)
    stores = [entry("half"), entry("whole", images=8), entry("e", "embeddings", images=8), entry("bad", error="gone")]
    listing.found = Found(["/w/images/a", "/b"], {"/w/images/a": 8, "/b": None}, ["demo"], stores, {"seed": 3, "x": 1})
    return listing


def test_every_row_has_a_cell_a_column(listing: Listing) -> None:
    cells = {kind: [listing.cells(kind, row) for row in range(len(listing.rows(kind)))] for kind in KINDS}
    assert all(len(row) == len(COLUMNS[kind]) for kind in KINDS for row in cells[kind])
    assert cells["source"] == [("images/a", "8", "4"), ("/b", "", "")] and cells["encoder"] == [("demo", "4")]
    assert cells["store"][:3] == [
        ("half", "6", "2.5 kB", "all", "at 75%"),
        ("whole", "8", "2.5 kB", "all", "ready"),
        ("e", "8", "2.5 kB", "image", "ready"),
    ]
    assert cells["store"][3][-1] == "damaged"


def test_numbers_take_the_room_that_they_need(listing: Listing) -> None:
    for kind in KINDS:
        for place, (column, widest) in enumerate(zip(listing.columns(kind), COLUMNS[kind], strict=True)):
            cells = [listing.cells(kind, row)[place] for row in range(len(listing.rows(kind)))]
            assert column.title == widest[0].title and column.width <= widest[0].width
            assert not column.width or all(len(cell) <= column.width for cell in cells)
    assert {column.title: column.width for column in listing.columns("store")}["rows"] == len("rows")


def test_a_store_whose_first_shard_is_being_written_is_listed(listing: Listing) -> None:
    listing.extractions.see([run("new", done=1, total=4), run("whole", state="paused", done=1, total=2)])
    assert listing.names("store")[-1] == "activations/new" and listing.cells("store", 4)[-1] == "● 25%"
    assert listing.cells("store", 1)[-1] == "Ⅱ 50%"
    assert listing.store(Selected("store", "activations/new")) == StoreEntry(path=ROOT / "activations" / "new")
    assert listing.store(Selected("source", "activations/new")) is None


def test_the_workspace_is_looked_through_when_an_extraction_begins_ends_and_now_and_then() -> None:
    extractions = Extractions()
    assert not extractions.see([])
    assert extractions.see([run("a")])
    looks = [extractions.see([run("a")]) for _ in range(2 * Extractions.LOOKS)]
    assert sum(looks) == 2
    assert extractions.see([run("a", state="done")]) and not extractions.see([run("a", state="done")])


def test_an_extraction_makes_a_store_for_each_hook() -> None:
    assert makes("a", "a") and makes("a", "a-layer3")
    assert all(makes("a", f"a-{kind}") for kind in HOOK_KINDS)
    assert not makes("a", "ab") and not makes("a", "a-test")


def test_the_form_starts_from_what_is_selected(listing: Listing) -> None:
    assert first_values(listing, None) == {"seed": 3, "images": "/w/images/a", "model": "demo", "name": "a"}
    assert first_values(listing, Selected("source", "/b"))["images"] == "/b"
    store = first_values(listing, Selected("store", "activations/half"))
    assert (store["at"], store["tokens"], store["images"]) == (["layer:1"], "all", "/w/images/a")
    listing.found = Found(stores=[entry("a"), entry("a-2")])
    assert first_values(listing, Selected("source", "/w/a"))["name"] == "a-3"
    assert known_values(listing)["at"] == ["last", "layer:1"]


def test_what_a_session_remembers_may_be_anything() -> None:
    assert Selected.of({"kind": "store", "name": "activations/a"}) == Selected("store", "activations/a")
    assert Selected.of({"kind": "other", "name": "a"}) is Selected.of({"kind": "store", "name": 3}) is None


def test_a_workspace_file_that_cannot_be_read_is_told_and_the_rest_is_listed(workspace: Workspace) -> None:
    workspace.root.mkdir()
    (workspace.root / "workspace.toml").write_text("images = [")
    found = Found.look(workspace, ["/b", "/b"])
    assert "workspace.toml is not valid TOML" in found.problem and found.sources == ["/b"] and found.defaults == {}

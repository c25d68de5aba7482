"""Mode Data on a real workspace: what is seen, and what each key does."""

import asyncio
import json
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from engine.activations.extract import extract
from engine.activations.store import Store
from engine.errors import Stopped
from engine.files import write_json, write_text
from engine.runs.run import Run
from engine.workspace import MARKER, Workspace
from saetui.app import Workbench
from saetui.modes.data.extract_form import ExtractForm
from saetui.modes.data.screen import DataMode
from saetui.widgets.picture import Picture
from saetui.widgets.table import Table
from tests.support.extractions import Recorder, ask, saved_model, write_pictures
from tests.support.pilots import rows, screen_text, until

WIDE, NARROW = (130, 40), (80, 24)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One complete store, one of which a shard is finished, of 14 pictures of which one is broken."""
    root = tmp_path_factory.mktemp("made") / "study"
    model, images = saved_model(root / "clip"), write_pictures(root / "pictures", 14, broken=(3,))
    place = Workspace(root)
    extract(ask(model, images, name="whole"), place)
    with pytest.raises(Stopped):
        extract(ask(model, images, name="half"), place, Recorder(2))
    write_text(root / MARKER, 'model = "./clip"\nimages = "pictures"\n')
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Workspace:
    """A copy to write to; its manifests name the sources and the model that were copied with it."""
    return Workspace(Path(shutil.copytree(made, tmp_path / "study")))


def drive(
    place: Workspace, scenario: Callable[[Pilot[Any], Any], Awaitable[None]], size: tuple[int, int] = WIDE
) -> None:
    async def run() -> None:
        app = Workbench(place, mode="data")
        async with app.run_test(size=size) as pilot:
            await until(
                pilot, lambda: isinstance(app.screen, DataMode) and app.screen.query_one("#stores", Table).rows >= 0
            )
            await scenario(pilot, app.screen)

    asyncio.run(run())


def table(pane: DataMode, name: str) -> Table:
    return pane.query_one(f"#{name}", Table)


def test_what_there_is(place: Workspace) -> None:
    async def scenario(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: table(pane, "stores").rows == 2)
        assert [row.split() for row in rows(table(pane, "sources"))] == [["pictures", "14", "2"]]
        assert [row.split() for row in rows(table(pane, "encoders"))] == [["clip", "2"]]
        half, whole = (row.split() for row in rows(table(pane, "stores")))
        assert half[:2] == ["half", "136"] and half[-2:] == ["at", "57%"]
        assert whole[:2] == ["whole", f"{13 * 17}"] and whole[-1] == "ready"
        await pilot.press("G")
        await until(pilot, lambda: "13 × " not in screen_text(pilot) and "layer:1 · the residual" in screen_text(pilot))
        text = screen_text(pilot)
        for words in ("221 of 32 float16", "in 2 shards", "0003.png: not an image", "saetui extract --model"):
            assert words in text, text
        await until(pilot, lambda: sum(picture.key is not None for picture in pane.query(Picture)) >= 2)

    drive(place, scenario)


def test_more_pictures_come_round(place: Workspace) -> None:
    async def scenario(pilot: Pilot[Any], pane: DataMode) -> None:
        first = pane.query(Picture).first()
        await until(pilot, lambda: first.key is not None)
        seen = {first.key}
        for _ in range(14):
            before = first.key
            await pilot.press("n")
            await until(pilot, lambda before=before: first.key != before)
            seen.add(first.key)
        assert len(seen) > 3

    drive(place, scenario)


def test_narrow_shows_one_part_at_a_time(place: Workspace) -> None:
    async def scenario(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: table(pane, "stores").rows == 2 and table(pane, "stores").has_focus)
        assert not pane.query_one("#right").display
        await pilot.press("enter")
        await until(pilot, lambda: "the residual stream" in screen_text(pilot))
        assert not pane.query_one("#left").display
        await pilot.press("escape")
        assert pane.query_one("#left").display and table(pane, "stores").has_focus
        assert max(map(len, screen_text(pilot).splitlines())) == 80

    drive(place, scenario, NARROW)


def test_every_byte_is_checked_on_a_key(place: Workspace) -> None:
    shard = place.activations("whole") / "shard-00000.h5"

    async def scenario(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: table(pane, "stores").rows == 2)
        assert not pane.check_action("verify", ()), "an unfinished store cannot be checked"
        await pilot.press("G", "v")
        await until(pilot, lambda: "every byte is as it was written" in screen_text(pilot))
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        await pilot.press("v")
        await until(pilot, lambda: "shard-00000.h5 has wrong values in rows 0-135." in screen_text(pilot))
        await pilot.press("v", "escape")
        await until(pilot, lambda: "cancelled: v checks again" in screen_text(pilot))

    drive(place, scenario)


def test_an_extraction_is_estimated_started_and_followed(place: Workspace) -> None:
    async def scenario(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: table(pane, "stores").rows == 2)
        await pilot.press("G", "e")
        form = pilot.app.screen
        assert isinstance(form, ExtractForm)
        given = {name: form.query_one(f"#f-{name}", Input).value for name in ("images", "name", "at", "tokens")}
        assert given["images"].endswith("pictures") and (given["at"], given["tokens"]) == ("layer:1", "all")
        assert given["name"] == "pictures"
        form.query_one("#f-tokens", Input).value = "cls"
        await until(pilot, lambda: "14 rows of 32 from 14 images" in screen_text(pilot), 60)
        text = screen_text(pilot)
        assert "1.01 kB" in text and "free" in text and "images/s" in text
        await pilot.press("ctrl+s")
        await until(pilot, lambda: not isinstance(pilot.app.screen, ExtractForm))
        await until(pilot, lambda: any("pictures" in row and "ready" in row for row in rows(table(pane, "stores"))), 60)

    drive(place, scenario)
    assert Store.open(place.activations("pictures")).manifest.tokens == "cls"


def test_a_form_that_closes_ends_its_estimate(place: Workspace) -> None:
    async def scenario(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: table(pane, "stores").rows == 2)
        await pilot.press("G", "e", "f2")
        form = pilot.app.screen
        assert isinstance(form, ExtractForm) and form._asked is not None
        asked = form._asked
        await until(pilot, lambda: asked._process is not None)
        await pilot.press("escape")
        await until(pilot, lambda: asked._process is not None and asked._process.poll() is not None)
        assert asked.cancelled and isinstance(pilot.app.screen, DataMode)

    drive(place, scenario)


def test_what_makes_no_sense_is_said_in_the_form(place: Workspace) -> None:
    async def scenario(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: table(pane, "stores").rows == 2)
        await pilot.press("e")
        form = pilot.app.screen
        form.query_one("#f-batch_size", Input).value = "many"
        await pilot.press("ctrl+s")
        assert "batch size is 'many': it must be a whole number, as 1000." in screen_text(pilot)
        assert form.query_one("#f-batch_size", Input).has_focus
        form.query_one("#f-batch_size", Input).value = "4"
        form.query_one("#f-name", Input).value = ""
        await pilot.press("ctrl+s")
        assert "name is missing: fill it in." in screen_text(pilot)
        assert form.query_one("#f-name", Input).has_focus

    drive(place, scenario, NARROW)


def test_an_unfinished_store_goes_on(place: Workspace) -> None:
    async def scenario(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: table(pane, "stores").rows == 2)
        assert pane.check_action("continue", ())
        await pilot.press("c")
        await until(
            pilot, lambda: any(row.startswith("half") and "ready" in row for row in rows(table(pane, "stores"))), 60
        )
        assert not pane.check_action("continue", ())

    drive(place, scenario)
    assert Store.open(place.activations("half")).rows == Store.open(place.activations("whole")).rows


def test_progress_of_a_store_that_is_being_written(place: Workspace) -> None:
    run = Run.create(place, "extract", {"name": "new"}, ["extract"])
    write_json(run.path / "status.json", {"state": "running", "started": time.time(), "progress": progress(30)})
    held = run.hold()

    async def scenario(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: any("new" in row and "● 30%" in row for row in rows(table(pane, "stores"))))
        await pilot.press("G")
        await until(pilot, lambda: "30 of 100 images" in screen_text(pilot))
        write_json(run.path / "status.json", {"state": "running", "started": time.time(), "progress": progress(60)})
        await until(pilot, lambda: "60 of 100 images" in screen_text(pilot) and "left" in screen_text(pilot))
        held.close()
        write_json(run.path / "status.json", {"state": "stopped", "started": time.time(), "progress": progress(60)})
        await until(pilot, lambda: table(pane, "stores").rows == 2)

    drive(place, scenario)


def progress(done: int) -> dict[str, Any]:
    return {"done": done, "total": 100, "unit": "images"}


def test_sources_are_added_and_remembered(place: Workspace, tmp_path: Path) -> None:
    more = write_pictures(tmp_path / "more", 3, broken=())

    async def add(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: table(pane, "sources").rows == 1)
        await pilot.press("a", *"nowhere", "enter")
        await until(pilot, lambda: "There is nothing at nowhere" in screen_text(pilot))
        pilot.app.screen.query_one(Input).value = str(more)
        await pilot.press("enter")
        await until(pilot, lambda: table(pane, "sources").rows == 2 and "none yet: e extracts" in screen_text(pilot))
        await until(pilot, lambda: table(pane, "sources").cursor == 1)

    async def again(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: table(pane, "sources").rows == 2)
        await until(pilot, lambda: "none yet: e extracts" in screen_text(pilot) and table(pane, "sources").has_focus)
        assert table(pane, "sources").cursor == 1

    drive(place, add)
    drive(place, again)


def test_an_empty_workspace_teaches_and_takes_its_first_images(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "w")
    write_text(place.root / MARKER, "# nothing\n[labels]\n")
    pictures = write_pictures(tmp_path / "pictures", 3, broken=())

    async def scenario(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: "No stores yet: e extracts" in screen_text(pilot))
        assert "No images yet: a adds" in screen_text(pilot)
        await pilot.press("a")
        pilot.app.screen.query_one(Input).value = str(pictures)
        await pilot.press("enter")
        await until(pilot, lambda: table(pane, "sources").rows == 1)
        await until(pilot, lambda: any(picture.key is not None for picture in pane.query(Picture)))

    drive(place, scenario)
    assert place.defaults() == {"images": str(pictures), "labels": {}}
    assert (place.root / MARKER).read_text().endswith("# nothing\n[labels]\n")


@pytest.mark.parametrize("damage", ["{", "newer", "gone", "shard"])
def test_damage_is_a_sentence(damage: str, place: Workspace) -> None:
    path = place.activations("whole") / "manifest.json"

    async def scenario(pilot: Pilot[Any], pane: DataMode) -> None:
        await until(pilot, lambda: table(pane, "stores").rows == 2)
        if damage == "shard":
            (path.parent / "shard-00000.h5").write_bytes(b"")
        elif damage == "gone":
            shutil.rmtree(path.parent)
        else:
            path.write_text(damage if damage == "{" else json.dumps({"format": "saetui-activations", "version": 99}))
        if damage == "shard":
            await pilot.press("G")
            await until(pilot, lambda: "is damaged" in screen_text(pilot))
            return
        await pilot.press("2", "1", "G")
        if damage == "gone":
            await until(pilot, lambda: table(pane, "stores").rows == 1)
        else:
            await until(pilot, lambda: "damaged" in rows(table(pane, "stores"))[1])
            await until(pilot, lambda: ("upgrade saetui" if damage == "newer" else "make it") in screen_text(pilot))

    drive(place, scenario, (400, 40))  # so that no sentence is wrapped

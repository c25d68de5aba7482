"""Activations of other tools by form: what is at the source, its questions, and the import that follows."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.activations.store import Store
from engine.demo.world import write_images
from engine.workspace import Workspace
from saetui.app import Workbench
from saetui.modes.data.screen import DataMode
from saetui.modes.forms import ImportForm
from tests.support.foreign import write_saelens
from tests.support.pilots import screen_text, until


def drive(place: Workspace, scenario: Any, size: tuple[int, int]) -> None:
    async def run() -> None:
        app = Workbench(place, mode="data")
        async with app.run_test(size=size) as pilot:
            assert isinstance(app.screen, DataMode)
            await pilot.press("i")
            form = app.screen
            assert isinstance(form, ImportForm)
            await scenario(pilot, form)

    asyncio.run(run())


@pytest.mark.parametrize("size", ((160, 50), (80, 24)))
def test_activations_are_imported_with_their_images(tmp_path: Path, size: tuple[int, int]) -> None:
    place = Workspace(tmp_path / "study")
    images = write_images(place.root / "images" / "drawn", 6, seed=0)
    np.save(tmp_path / "acts.npy", np.ones((12, 8), np.float16))

    async def scenario(pilot: Any, form: ImportForm) -> None:
        form.editor("source").value = str(tmp_path / "acts.npy")
        await until(pilot, lambda: form.answered, 30)
        await pilot.pause()
        said = str(form.note.content)
        assert "12 rows, 8 wide, float16, in 1 file of npy" in said and "to write" in said
        assert "Its files do not say:" in said and "model (asked)" in screen_text(pilot)
        for name, answer in (("model", "demo:encoder"), ("hook", "layer:4"), ("tokens", "all")):
            form.editor(name).value = answer
        await until(pilot, lambda: "tokens per image" in str(form.note.content), 30)
        await pilot.press("ctrl+s")
        assert pilot.app.screen is form and form.focused is form.editor("tokens_per_image")
        form.editor("images").value = str(images)
        await until(pilot, lambda: "Nothing more is asked." in str(form.note.content), 30)
        assert form.editor("name").value == "acts"
        await pilot.press("ctrl+s")
        pane = pilot.app.screen
        await until(pilot, lambda: [one.state for one in pane.listing.found.stores] == ["complete"], 60)
        assert Store.open(place.activations("acts")).rows == 12
        await until(pilot, lambda: "acts" in screen_text(pilot) and "ready" in screen_text(pilot))

    drive(place, scenario, size)


def test_what_is_no_activations_is_said(tmp_path: Path) -> None:
    sae = write_saelens(tmp_path / "theirs")
    (tmp_path / "empty").mkdir()

    async def scenario(pilot: Any, form: ImportForm) -> None:
        form.editor("source").value = str(sae)
        await until(pilot, lambda: "imported in Train (2), by i" in str(form.note.content), 30)
        form.editor("source").value = str(tmp_path / "empty")
        await until(pilot, lambda: "holds no SAE, and no activations" in str(form.note.content), 30)
        form.editor("name").value = "x"
        await pilot.press("ctrl+s")
        assert pilot.app.screen is form and not (tmp_path / "study" / "runs").exists()

    drive(Workspace(tmp_path / "study"), scenario, (80, 24))

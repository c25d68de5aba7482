"""Trainings that are no finished SAE are removed, and put back as they were."""

import asyncio

from engine.settings import to_mapping
from engine.workspace import Workspace
from saetui.app import Workbench
from tests.support.pilots import until
from tests.support.stores import write_store
from tests.support.trainings import activations, begin, chosen, perform


def test_what_is_put_back_is_selected_again(tmp_path):
    place = Workspace(tmp_path)
    write_store(place.activations("a"), activations()[0], tokens=4)
    for name in ("first", "second", "third"):
        perform(begin(place, **to_mapping(chosen(name=name))), stop_after=2)

    async def run():
        app = Workbench(place, mode="train")
        async with app.run_test(size=(120, 34)) as pilot:
            pane = app.screen
            await until(pilot, lambda: len(pane.trainings.rows) == 3)
            await pilot.press("g", "j")
            gone = pane.selected.name
            await pilot.press("d")
            await until(pilot, lambda: len(pane.trainings.rows) == 2)
            assert pane.selected.name != gone and not place.sae(gone).exists()
            await pilot.press("u")
            await until(pilot, lambda: len(pane.trainings.rows) == 3 and pane.selected.name == gone)
            assert pane.table.cursor == 1

    asyncio.run(run())

"""Drives mode Neurons of a synthetic workspace."""

import asyncio

from engine.workspace import Workspace
from saetui.app import Workbench
from tests.support.pilots import until

W = 600  # latents


def scenario(test, place, size=(130, 40), **options):
    async def run():
        app = Workbench(Workspace(place), mode="neurons", **options)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.screen.scores is not None or not list((place / "neurons").glob("*.h5")))
            await pilot.pause()
            await test(app, pilot)
        return app

    return asyncio.run(run())

"""After F9 everything is as if the workbench had been started in the other theme."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from engine.workspace import Workspace
from tests.saetui.test_snapshots import opened, still
from tests.support.study import remember_answers, write_study

SIZE = (160, 50)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("themes")
    with contextlib.chdir(folder):
        yield write_study(folder)


@pytest.mark.parametrize(("colours", "modes"), [("truecolor", "31245"), ("mono", "3")])
def test_f9_repaints_everything(study, colours, modes):
    """The modes that were shown before as well."""

    async def walk(theme: str, *keys: str) -> list:
        remember_answers(study)
        seen = []
        async with opened(study, SIZE, colours=colours, theme=theme) as pilot:
            for key in keys:
                await pilot.press(key)
                seen.append(await still(pilot))
        return seen

    async def scenario() -> None:
        wanted = await walk("paper", *modes)
        found = await walk("graphite", *modes[::-1], "f9", *modes[1:])
        for mode, one, other in zip(modes, wanted, found[len(modes) :], strict=True):
            pairs = [pair for lines in zip(one, other, strict=True) for pair in zip(*lines, strict=True)]
            wrong = [(place, *pair) for place, pair in enumerate(pairs) if pair[0] != pair[1]]
            assert not wrong, (mode, len(wrong), wrong[:3])

    asyncio.run(scenario())

"""Tables: which columns stand, and how much room their texts have."""

import asyncio

import pytest
from textual.app import App

from saetui.widgets.table import ROOM, Column, Table

COLUMNS = [Column("n", 4), Column("class", 9, "left", ends=True, spare=True), Column("names", 0, "left")]
NEEDED = 2 + 5 + 10 + ROOM  # cells in which the names have ROOM beside the others


@pytest.mark.parametrize(
    ("width", "head", "row"),
    [
        (NEEDED, "    n class     names", "    1 penc…rown pencil · …"),
        (NEEDED - 1, "    n names", "    1 pencil · grey · be…"),
        (12, "    n names", "    1 penc…"),
    ],
)
def test_a_spare_column_makes_room_for_the_names(width: int, head: str, row: str) -> None:
    async def run() -> list[str]:
        table = Table(COLUMNS, lambda _: ("1", "pencil brown", "pencil · grey · beige"))
        app: App[None] = App()
        async with app.run_test(size=(width, 4)) as pilot:
            await app.mount(table)
            table.show(1)
            await pilot.pause()
            return [table.render_line(y).text.rstrip() for y in range(2)]

    assert asyncio.run(run()) == [head, row]

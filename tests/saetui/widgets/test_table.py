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


async def test_a_row_is_not_drawn_again_when_it_scrolls() -> None:
    table = Table(COLUMNS, lambda row: (str(row), "pencil", "grey"))
    app: App[None] = App()
    async with app.run_test(size=(40, 6)) as pilot:
        await app.mount(table)
        table.focus()
        table.show(20)
        await pilot.pause()
        above = [table.render_line(y) for y in range(1, 5)]
        await pilot.press(*"jjjjjj")
        await pilot.pause()
        assert table.scroll_offset.y == 2
        assert [table.render_line(y) is above[y + 1] for y in (1, 2)] == [True, True]
        table.set_columns(COLUMNS[:1] + COLUMNS[2:])
        table._cells = lambda row: (str(row), "beige")
        assert "beige" in table.render_line(1).text


def test_the_mark_of_the_order_moves_no_heading() -> None:
    """Behind a title that fills its column it takes the blank that parts it from the next one."""
    columns = [Column("long title", 10, field="a"), Column("b", 4), Column("c", 0, "left"), Column("d", 3)]

    async def run() -> list[str]:
        table = Table(columns, lambda _: ("1", "2", "three", "4"))
        app: App[None] = App()
        async with app.run_test(size=(40, 4)) as pilot:
            await app.mount(table)
            await pilot.pause()
            heads = [table.render_line(0).text]
            for sorts in ("a", "b", "c", "d"):
                table.order = lambda one, by=sorts: by in "ab" if one == by else None
                heads.append(table.render_line(0).text)
            return heads

    plain, *marked = asyncio.run(run())
    assert [line.replace("▾", " ").replace("▴", " ") for line in marked] == [plain] * 4
    assert ["long title▾" in marked[0], "b▾" in marked[1], "c▴" in marked[2], marked[3].endswith("d▴")] == [True] * 4


def test_columns_make_room_one_after_the_other_the_last_first() -> None:
    columns = [Column("a", 4), Column("b", 4, spare=True), Column("c", 4, spare=True), Column("names", 0, "left")]

    async def head(width: int) -> list[str]:
        table = Table(columns, lambda _: ("1", "2", "3", "pencil"))
        app: App[None] = App()
        async with app.run_test(size=(width, 4)) as pilot:
            await app.mount(table)
            await pilot.pause()
            return table.render_line(0).text.split()

    whole = 2 + 15 + ROOM
    heads = [asyncio.run(head(width)) for width in (whole, whole - 1, whole - 5, whole - 6, 12)]
    fewer = ["a", "b", "names"]
    assert heads == [["a", "b", "c", "names"], fewer, fewer, ["a", "names"], ["a", "names"]]


@pytest.mark.parametrize("cursor", [0, 3, 12, 19])
async def test_the_row_that_a_table_opens_with_is_in_sight(cursor: int) -> None:
    """Also where its rows came just now, and no bar stands beside them yet."""
    table = Table(COLUMNS, lambda row: (str(row), "pencil", "grey"))
    app: App[None] = App()
    async with app.run_test(size=(40, 6)) as pilot:
        await app.mount(table)
        await pilot.pause()
        table.show(20, cursor)
        await pilot.pause()
        shown = [table.render_line(y).text.split()[0] for y in range(1, 6)]
        assert str(cursor) in shown and shown == [str(n) for n in range(int(shown[0]), int(shown[0]) + 5)]

"""The tree as a table, against a naive walk over the same tree."""

import asyncio
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from saetui.widgets.table import Column
from saetui.widgets.tree_table import Branch, Place, TreeTable

KEYS = ["j", "k", "l", "h", "g", "G", "o"]


def branches(names: list[str], above: Place, shape: list) -> list[Branch]:
    """A branch for each item of ``shape``: a list of such items, its children; every third stands for no latent."""
    return [
        Branch((*above, name), (name, str(i)), branches(names, (*above, name), inner), count=i % 3)
        for i, (name, inner) in enumerate(zip(names, shape, strict=False))
    ]


shapes = st.recursive(st.just([]), lambda inner: st.lists(inner, max_size=4), max_leaves=25)


class Trees(App[None]):
    def __init__(self, roots: list[Branch]):
        super().__init__()
        self.roots = roots

    def compose(self) -> ComposeResult:
        yield TreeTable([Column("name", 0, "left"), Column("n", 4)])

    def on_mount(self) -> None:
        self.query_one(TreeTable).grow(self.roots)
        self.query_one(TreeTable).focus()


def in_sight(roots: list[Branch], opened: set[Place], hide: bool) -> list[Place]:
    """Places of the rows, by recursion."""
    found: list[Place] = []
    for branch in roots:
        found.append(branch.place)
        if branch.place in opened:
            found += in_sight([one for one in branch.children if one.count or not hide], opened, hide)
    return found


@settings(max_examples=12)
@given(shape=st.lists(shapes, min_size=1, max_size=4), keys=st.lists(st.sampled_from(KEYS), max_size=25))
def test_what_is_in_sight_is_what_was_opened(shape: list, keys: list[str]) -> None:
    asyncio.run(opening(branches(["a", "b", "c", "d"], (), shape), keys))


async def opening(roots: list[Branch], keys: list[str]) -> None:
    opened: set[Place] = {root.place for root in roots} if len(roots) == 1 else set()
    cursor, hide, known = 0, False, {branch.place: branch for branch in every(roots)}
    app = Trees(roots)
    async with app.run_test(size=(40, 10)) as pilot:
        tree = app.query_one(TreeTable)
        for key in keys:
            places = in_sight(roots, opened, hide)
            here = places[cursor]
            has_children = any(one.count or not hide for one in known[here].children)
            if key == "o":
                hide = not hide
                tree.hide(hide)
                now = in_sight(roots, opened, hide)
                cursor = next(now.index(here[:n]) for n in range(len(here), 0, -1) if here[:n] in now)
            else:
                await pilot.press(key)
            if key in "jk":
                cursor = min(max(cursor + (1 if key == "j" else -1), 0), len(places) - 1)
            elif key in "gG":
                cursor = 0 if key == "g" else len(places) - 1
            elif key == "l" and has_children:
                cursor += here in opened
                opened.add(here)
            elif key == "h" and here in opened and has_children:
                opened.discard(here)
            elif key == "h" and len(here) > 1:
                cursor = places.index(here[:-1])
            now = in_sight(roots, opened, hide)
            assert [branch.place for branch, _ in tree._shown] == now
            assert tree.cursor == cursor and tree.branch is known[now[cursor]]


def every(branches: list[Branch]) -> list[Branch]:
    return [one for branch in branches for one in (branch, *every(branch.children))]


async def test_a_place_is_revealed_and_kept_when_the_tree_grows_anew() -> None:
    roots = branches(["a", "b", "c"], (), [[[], [[], []]], []])
    app = Trees(roots)
    async with app.run_test(size=(40, 10)):
        tree = app.query_one(TreeTable)
        tree.reveal(("a", "b", "a"))
        assert tree.branch is not None and tree.branch.place == ("a", "b", "a")
        tree.grow(branches(["a", "b", "c"], (), [[[], [[], []]], []]))
        assert tree.branch is not None and tree.branch.place == ("a", "b", "a") and tree.branch is not roots[0]
        tree.grow(branches(["a", "b", "c"], (), [[[]], []]))
        assert tree.branch.place == ("a",), "the nearest that is left"
        assert [cell for cell in tree._cells(0)] == ["▾ a", "0"]


async def test_ten_thousand_children_cost_what_is_in_sight() -> None:
    leaves = [Branch(("all", f"{i}"), (f"species {i}", "1"), count=1) for i in range(10_000)]
    app = Trees([Branch(("all",), ("all", "10000"), leaves, count=10_000)])
    async with app.run_test(size=(60, 24)) as pilot:
        tree = app.query_one(TreeTable)
        assert tree.rows == 10_001
        began = time.perf_counter()
        for key in "jGgjj":
            await pilot.press(key)
        tree.action_close()
        assert time.perf_counter() - began < 2
        assert tree.cursor == 0

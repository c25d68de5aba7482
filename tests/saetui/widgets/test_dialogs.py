"""What dialogs show has the room that there is."""

from textual.app import App

from saetui.widgets.dialogs import Pick
from tests.support.pilots import screen_text


async def test_a_list_to_pick_from_is_as_wide_as_its_longest_line_where_there_is_room():
    longest = "class_share  share of its top images that are of their commonest class"
    for columns, whole in ((100, True), (80, True), (60, False)):
        app: App[None] = App()
        async with app.run_test(size=(columns, 24)) as pilot:
            await app.push_screen(Pick("Sort by", {"best": "best", "class_share": longest}))
            await pilot.pause()
            assert (longest in screen_text(pilot)) == whole, columns

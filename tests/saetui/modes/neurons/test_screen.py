"""Mode 3 on a synthetic workspace: table, filter, labels, pictures, search by text and image, comparison."""

import asyncio
import io
import os
import shlex
import shutil
import tomllib

import h5py
import numpy as np
import pytest
from textual.geometry import Size
from textual.widgets import Input

from engine.config import SteerSettings
from engine.neurons.latents import of_other_weights
from engine.neurons.seal import unsealed, write_sealed
from engine.settings import from_words
from engine.steer.interventions import parse_latent
from engine.workspace import Workspace
from saetui.app import Workbench
from saetui.messages import ShowLatents
from saetui.modes.neurons.compare import CompareScreen
from saetui.modes.neurons.latent_view import histogram
from saetui.widgets.gallery import Gallery, Grid
from tests.support.neurons_screen import W, scenario
from tests.support.pilots import screen_text, until
from tests.support.scores import changing


def test_the_table_shows_every_score_beside_its_control(place, truth):
    async def test(app, pilot):
        pane = app.screen
        assert pane.latents == truth.order() and pane.table.rows == W
        shown, best = screen_text(pilot), pane.latents[0]
        assert "matched raw" in shown and "beaten by" in shown
        cells = pane.table._cells_of(0)
        assert cells[0] == str(best)
        assert cells[1] == f"{truth.ms[best]:.2f}".replace("0.", ".")
        assert cells[3] == f"{truth.matched[best]:.2f}".replace("0.", ".")
        assert cells[4] == f"{truth.ms[best] - truth.matched[best]:.2f}".replace("0.", ".")
        assert cells[5] == f"{truth.support[best]:,}"
        await pilot.press("j", "j", "down")
        assert pane.latent == pane.latents[3]
        await pilot.press("k", "up", "G")
        assert pane.table.cursor == W - 1
        await pilot.press("g", "ctrl+d")
        half = pane.table.cursor
        assert half > 5
        await pilot.press("ctrl+u", "pagedown", "pageup")
        assert pane.table.cursor == 0

    scenario(test, place)


def outdated(app):
    return [toast.message for toast in app._notifications if "with other weights than it has now" in toast.message]


def train_anew(place):
    """Give the SAE other weights."""
    weights = place / "saes/synthetic/sae.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")


@pytest.mark.parametrize("mode", ["neurons", "hierarchy", "steer"])
def test_scores_of_other_weights_than_the_sae_has_are_said_to_be_so(place, mode):
    train_anew(place)

    async def run():
        app = Workbench(Workspace(place), mode=mode)
        async with app.run_test(size=(130, 40), notifications=True) as pilot:
            await until(pilot, lambda: outdated(app))
            told = outdated(app)
            assert told == [of_other_weights("synthetic")] and "saetui score synthetic --images DIR" in told[0]
            app.screen.arrive()
            await pilot.pause(0.3)
            assert outdated(app) == told, "once"

    asyncio.run(run())


def test_weights_that_change_meanwhile_are_told_where_one_comes_back(place):
    async def test(app, pilot):
        await until(pilot, lambda: app.screen._outdated)
        assert not outdated(app)
        train_anew(place)
        await pilot.press("2", "3")
        await until(pilot, lambda: outdated(app))

    scenario(test, place)


def test_the_filter_narrows_as_one_types_and_esc_restores(place, truth):
    word = truth.names_of(truth.order()[3])[0]

    async def test(app, pilot):
        pane = app.screen
        await pilot.press("slash", *f"ms>.2 {word}")
        assert pane.latents == truth.order(search=f"ms>.2 {word}") and 0 < len(pane.latents) < W
        assert "best match first" in screen_text(pilot), "what a word finds is not sorted by a column"
        await pilot.press("enter")
        assert app.focused is pane.table
        first = pane.latent
        await pilot.press("n")
        assert pane.table.cursor == 1 % len(pane.latents)
        await pilot.press("N")
        assert pane.latent == first
        await pilot.press("escape")
        assert "best first" in screen_text(pilot)
        assert len(pane.latents) == W and pane.latent == first, "the selected latent stays selected"
        await pilot.press("slash", *"xyzzy", "enter")
        assert pane.latents == [] and "esc clears" in screen_text(pilot)
        for key in ("s", "e", "v", "r", "c", "y", "I", "enter", "asterisk"):
            await pilot.press(key)  # nothing is selected, and nothing happens
        await pilot.press("escape")
        assert len(pane.latents) == W

    scenario(test, place)


def test_what_the_same_key_leads_to_is_drawn_ahead(place):
    async def test(app, pilot):
        pane = app.screen
        await pilot.press("j")
        assert pane.table.ahead()[:2] == [pane.latents[2], pane.latents[0]]
        await pilot.press("ctrl+d")
        here, half = pane.table.cursor, pane.table.cursor - 1
        assert half > 1 and pane.table.ahead()[:2] == [pane.latents[here + half], pane.latents[1]]
        assert {pane.latents[here + 1], pane.latents[here - 1]} <= set(pane.table.ahead())

    scenario(test, place)


def test_any_sort_in_both_directions(place, truth):
    async def test(app, pilot):
        pane = app.screen
        await pilot.press("o")
        await pilot.press("j", "enter")
        assert pane.listed.sort == "ms" and pane.latents == truth.order("ms")
        await pilot.press("O")
        assert pane.latents == truth.order("ms", descending=False)
        await pilot.press("colon", *"sort support", "enter")
        await pilot.pause()
        assert pane.latents == truth.order("support", descending=False)

    scenario(test, place)


def test_latents_of_copies_are_set_aside_where_they_are_counted(place, truth):
    """The first screen is not one picture sixteen times; nothing is hidden without a word."""
    copied = [latent for latent in truth.order()[:3]]
    with changing(place / "neurons" / "synthetic--drawn.h5") as file:
        file["latents/distinct"] = np.where(np.isin(np.arange(W), copied), 1, 16).astype(np.int32)

    async def test(app, pilot):
        pane = app.screen
        assert pane.latents == truth.order()[3:] and f"{W - 3} of {W} latents, 3 set aside (A)" in screen_text(pilot)
        await pilot.press("A")
        assert pane.latents == truth.order() and "set aside" not in screen_text(pilot)
        await pilot.press("A", "slash", *"copies", "enter")
        assert pane.latents == copied
        await pilot.press("escape", "colon", *f"goto {copied[1]}", "enter")
        await until(pilot, lambda: pane.latent == copied[1])

    scenario(test, place)


def test_labels_and_marks_are_saved_at_once_and_undone(place):
    async def test(app, pilot):
        pane, path = app.screen, place / "labels" / "synthetic.toml"
        latent = pane.latent
        await pilot.press("e", *"any pencil", "enter")
        assert tomllib.loads(path.read_text())["text"] == {str(latent): "any pencil"}
        assert "any pencil" in screen_text(pilot)
        await pilot.press("asterisk")
        assert tomllib.loads(path.read_text())["marked"] == [latent]
        await pilot.press("j", "space", "u", "u")
        assert tomllib.loads(path.read_text())["marked"] == [] and pane.latent == latent, "back at what was undone"
        await pilot.press("ctrl+r")
        assert tomllib.loads(path.read_text())["marked"] == [latent]
        await pilot.press("slash", *"any pencil", "enter")
        assert pane.latents == [latent]
        await pilot.press("escape", "slash", *"marked", "enter")
        assert pane.latents == [latent]
        await pilot.press("escape", "e", "escape")
        assert tomllib.loads(path.read_text())["text"] == {str(latent): "any pencil"}, "esc keeps the label"

    scenario(test, place)


def test_a_label_that_cannot_be_saved_is_not_lost(place):
    async def test(app, pilot):
        pane, folder = app.screen, place / "labels"
        folder.write_text("a file where the folder should be")
        latent = pane.latent
        await pilot.press("e", *"kept", "enter")
        assert pane.scores.labels.text(latent) == "kept" and app._notifications
        folder.unlink()
        await pilot.press("asterisk")
        assert tomllib.loads((folder / "synthetic.toml").read_text())["text"] == {str(latent): "kept"}

    scenario(test, place)


def test_labels_that_someone_damages_are_told_once_and_stay(place):
    async def test(app, pilot):
        pane, path = app.screen, place / "labels" / "synthetic.toml"
        latent = pane.latent
        await pilot.press("e", *"kept", "enter")
        good = path.read_text()
        path.write_text(good[: len(good) // 2])
        before = len(app._notifications)
        for _ in range(3):
            pane.runs_changed([])
            await pilot.pause()
        assert len(app._notifications) == before + 1 and pane.scores.labels.text(latent) == "kept"
        await pilot.press("j", "asterisk")
        assert path.read_text() == good[: len(good) // 2], "what cannot be read is not written over"
        path.write_text(good.replace("kept", "mended"))
        pane.runs_changed([])
        assert pane.scores.labels.text(latent) == "mended" and pane.scores.labels.marked(pane.latent)

    scenario(test, place)


def test_undo_with_nothing_to_undo_says_so(place):
    async def test(app, pilot):
        await pilot.press("u", "ctrl+r")
        assert sum("nothing to" in toast.message for toast in app._notifications) == 2

    scenario(test, place)


def gallery_text(gallery):
    return "\n".join("".join(s.text for s in gallery.render_line(y)) for y in range(gallery.size.height))


def test_pictures_captions_and_heat_maps(place, truth):
    full = next(k for k in truth.order() if (truth.top_images[k] >= 0).all())

    async def test(app, pilot):
        pane, gallery = app.screen, app.screen.view.gallery
        await pilot.press("colon", *f"goto {full}", "enter")
        await until(pilot, lambda: gallery.tiles and gallery.tiles[0].key[2] == full)
        await until(pilot, lambda: "▀" in gallery_text(gallery))
        top = truth.top(pane.latent)
        assert f"{top[0].activation:.3g}" in gallery_text(gallery)
        await pilot.press("m")
        await until(pilot, lambda: gallery.show_heat and "heat" in screen_text(pilot))
        assert f"{truth.maximum[pane.latent]:.2f}" in screen_text(pilot), "the legend has numbers"
        await pilot.press("m", "right", "l")
        assert gallery.chosen == 2
        await pilot.press("h", "left", "left")
        assert gallery.chosen == 0
        many = len(gallery.tiles)
        await pilot.press("minus", "minus")
        await until(pilot, lambda: len(gallery.tiles) == 4 < many)
        await pilot.press("plus", "plus")
        await until(pilot, lambda: len(gallery.tiles) == many)

    scenario(test, place)


def test_pictures_that_are_gone_are_sentences(place, made, tmp_path):
    async def test(app, pilot):
        await until(pilot, lambda: "No images" in gallery_text(app.screen.view.gallery))
        await pilot.press("v")
        assert app._notifications

    hidden = made / "images" / "hidden"
    (made / "images" / "drawn").rename(hidden)
    try:
        scenario(test, place)
    finally:
        hidden.rename(made / "images" / "drawn")


def test_narrow_shows_the_table_then_the_latent(place):
    async def test(app, pilot):
        pane = app.screen
        assert pane.table.display and not pane.view.display
        lines = screen_text(pilot).splitlines()
        assert all(len(line) == 80 for line in lines)
        await pilot.press("enter")
        await pilot.pause()
        assert pane.view.display and not pane.query_one("#list").display
        await until(pilot, lambda: "▀" in gallery_text(pane.view.gallery))
        await pilot.press("escape")
        assert pane.table.display and app.focused is pane.table

    scenario(test, place, size=(80, 24))


def test_related_latents_are_listed_with_their_scores(place, truth):
    async def test(app, pilot):
        pane = app.screen
        latent = next(k for k in pane.latents if truth.neighbours(k).near)
        await pilot.press("colon", *f"goto {latent}", "enter")
        await pilot.pause()
        assert pane.latent == latent
        await pilot.press("r")
        related = truth.neighbours(latent)
        assert set(pane.latents) == {latent, *(k for k, _ in [*related.near, *related.cofiring])}
        assert "related" in screen_text(pilot)
        await pilot.press("escape")
        assert len(pane.latents) == W and pane.latent == latent
        await pilot.press("colon", *f"goto {W}", "enter")
        await pilot.pause()
        assert any(str(W - 1) in toast.message for toast in app._notifications)
        for odd in ("²", "9" * 5000):
            assert not pane.obey("goto", odd) and not pane.obey(odd, "")

    scenario(test, place)


def test_the_command_that_steers_a_latent_is_copied(place, monkeypatch):
    """It means this workspace wherever it is pasted, and needs not say so where the workbench was started in it."""

    async def test(app, pilot):
        copied = []
        app.copy = lambda text, what: copied.append(text)
        latent = app.screen.latents[1]
        await pilot.press("j", "Y")
        monkeypatch.chdir(place)
        await pilot.press("Y")
        command = ["saetui", "steer", "synthetic", "--latent", f"{latent}=2x"]
        assert [shlex.split(line) for line in copied] == [[*command, "--workspace", str(place.resolve())], command]
        settings = from_words(SteerSettings, command[3:], "it")
        assert parse_latent(settings.latent[0], settings.mode) == (latent, 2.0, True)

    scenario(test, place)


def test_other_modes_can_list_latents_here(place, truth):
    async def test(app, pilot):
        pane = app.screen
        await pilot.press("r")  # another list, which says by what each was found
        assert pane.listed.matches
        pane.receive(ShowLatents([5, 3, 8], "of a node"))
        await pilot.pause()
        best = [latent for latent in truth.order() if latent in (5, 3, 8)]
        assert pane.latents == best and "of a node" in screen_text(pilot)
        await pilot.press("escape")
        assert len(pane.latents) == W

    scenario(test, place)


def test_the_filter_is_put_aside_while_it_does_not_hold(place):
    async def test(app, pilot):
        pane = app.screen
        await pilot.press("slash", *"ms>.1", "enter")
        held = pane.latents
        pane.receive(ShowLatents([5, 3, 8], "of a node"))
        await pilot.pause()
        assert set(pane.latents) == {5, 3, 8} and pane.filter.value == "", "these were not found by it"
        await pilot.press("escape")
        assert pane.latents == held and pane.filter.value == "ms>.1"
        pane.receive(ShowLatents([5], "of a node"))
        await pilot.press("slash", *"ms>.2", "enter")
        assert pane.filter.value == "ms>.2" and pane.latents and set(pane.latents) < set(held)

    scenario(test, place)


def test_the_place_is_remembered(place):
    async def first(app, pilot):
        await pilot.press("slash", *"ms>.1", "enter", "j", "j", "m", "minus")
        await pilot.pause(0.4)
        first.latent = app.screen.latent

    async def second(app, pilot):
        pane = app.screen
        assert pane.latent == first.latent and pane.query_one("#filter", Input).value == "ms>.1"
        assert pane.view.gallery.show_heat and pane.pictures == 8

    scenario(first, place)
    scenario(second, place)


def backwards(path, other):
    """The scores in ``path`` with the last latent first, as ``other``."""
    with h5py.File(io.BytesIO(unsealed(path)), "r+") as file:
        for values in file["latents"].values():
            values[...] = values[...][::-1]
        file.flush()
        content = file.id.get_file_image()
    write_sealed(other, content)


def test_two_results_are_compared_side_by_side(place, truth):
    backwards(place / "neurons" / "synthetic--drawn.h5", place / "neurons" / "other--drawn.h5")
    os.utime(place / "neurons" / "other--drawn.h5", (1, 1))

    async def test(app, pilot):
        await pilot.press("o", "j", "enter")
        latent = app.screen.latent
        await pilot.press("c", "enter")
        assert isinstance(app.screen, CompareScreen)
        screen = app.screen
        await until(pilot, lambda: screen.found)
        assert screen.found[0] == (W - 1 - latent, 1.0), "the same latent has the same images"
        await until(pilot, lambda: str(screen.right.view.head.render()).startswith(f"{W - 1 - latent} "))
        assert str(screen.left.view.head.render()).startswith(f"{latent} ")
        shown = screen_text(pilot)
        assert shown.count("matched raw") >= 4, "every mean and every score with its control"
        await pilot.press("j")
        await until(pilot, lambda: (W - 1 - screen.latents[1], 1.0) in screen.found)
        await pilot.press("l", "h", "m", "k", "escape")
        assert app.screen.MODE == "neurons"

    scenario(test, place)


def test_nothing_to_compare_with_is_a_sentence(place):
    async def test(app, pilot):
        await pilot.press("c")
        assert any("score another SAE" in toast.message for toast in app._notifications)

    scenario(test, place)


def test_without_scores_it_teaches(place):
    shutil.rmtree(place / "neurons")

    async def test(app, pilot):
        await until(pilot, lambda: "No scores yet" in screen_text(pilot))
        for key in ("slash", "escape", "s", "o", "escape", "f", "t", "escape", "i", "escape", "c", "y"):
            await pilot.press(key)

    scenario(test, place)


def test_scores_that_appear_are_opened_and_new_ones_replace_them(place, made):
    kept = place / "neurons" / "synthetic--drawn.h5"
    kept.unlink()

    async def test(app, pilot):
        pane = app.screen
        await until(pilot, lambda: "No scores yet" in screen_text(pilot))
        shutil.copy(made / "neurons" / "synthetic--drawn.h5", kept)
        await until(pilot, lambda: pane.scores is not None)
        await pilot.press("j", "j")
        before, latent = pane.scores, pane.latent
        shutil.copy(made / "neurons" / "synthetic--drawn.h5", place / "new.h5")
        (place / "new.h5").rename(kept)
        await until(pilot, lambda: pane.scores is not before)
        await pilot.pause()
        assert pane.latent == latent

    scenario(test, place)


@pytest.mark.parametrize("damage", ["truncate", "other"])
def test_damaged_scores_are_one_sentence_and_the_old_ones_stay(place, damage):
    async def test(app, pilot):
        pane, path = app.screen, place / "neurons" / "synthetic--drawn.h5"
        whole = path.read_bytes()
        (place / "new.h5").write_bytes(whole[: len(whole) // 3] if damage == "truncate" else b"no HDF5")
        (place / "new.h5").rename(path)
        await until(pilot, lambda: any("score again" in toast.message for toast in app._notifications))
        latent = pane.latent
        await pilot.press("j", "e", *"still here", "enter")
        assert pane.latent != latent and pane.scores.labels.text(pane.latent) == "still here"
        assert len([t for t in app._notifications if "score again" in t.message]) == 1, "said once"

    scenario(test, place)


def test_a_workspace_that_is_deleted_while_open(place):
    async def test(app, pilot):
        pane = app.screen
        shutil.rmtree(place)
        await pilot.press("j", "j", "k")
        await pilot.press("e", *"label", "enter")
        await pilot.pause(1.2)
        assert pane.scores.labels.text(pane.latent) == "label"
        assert (place / "labels" / "synthetic.toml").exists(), "the label has a folder again"
        for key in "12345":
            await pilot.press(key)
            await pilot.pause()
        assert app.is_running

    scenario(test, place)


def test_what_is_copied_tells_the_whole_latent(place, tmp_path):
    async def test(app, pilot):
        await pilot.press("y")
        await pilot.pause()
        test.latent = app.screen.latent

    scenario(test, place)
    text = (tmp_path / "state" / "saetui" / "copied.txt").read_text()
    assert f"latent {test.latent}" in text and "matched raw" in text


@pytest.mark.parametrize("room", [(0, 0), (3, 2), (40, 9), (80, 20), (94, 44), (300, 12)])
@pytest.mark.parametrize("tiles", [1, 5, 16])
def test_the_grid_stays_inside_its_room(room, tiles):
    grid = Grid.best(Size(*room), tiles)
    assert grid.columns * (grid.share + 2) - 2 <= max(room[0], 0) or grid.rows == 0
    if grid.rows:
        assert grid.width <= grid.share and room[0] - grid.columns * (grid.share + 2) + 2 < grid.columns, "all is used"
    assert grid.rows * (grid.height + 1) <= room[1]
    if room[0] >= 40 and room[1] >= 9:
        assert grid.columns * grid.rows >= 1 and abs(grid.width - 2 * grid.height) <= 1, "squares on the screen"


def test_a_histogram_shows_every_count():
    assert histogram(np.array([0, 1, 500, 1000])) == " ▁▄█"
    assert histogram([]) == "" and histogram([0, 0]) == "  "


def test_the_gallery_serves_the_latest_wish(place):
    async def test(app, pilot):
        gallery: Gallery = app.screen.view.gallery
        for _ in range(60):
            await pilot.press("j")
        latent = app.screen.latent
        await until(pilot, lambda: gallery.tiles and gallery.tiles[0].key[2] == latent)
        await until(pilot, lambda: "▀" in gallery_text(gallery))

    scenario(test, place)

"""Mode Steer with a tiny LLaVA, a random SAE and scores with names, as a person uses it."""

import asyncio
import json
import os
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from textual import events
from textual.widgets import Input, TextArea

from engine.files import file_sha256
from engine.neurons.results import ScoredImage
from engine.records import to_json
from engine.steer.recipes import load_recipe
from engine.steer.results import Fired, Steered, SweepPoint
from engine.workspace import Workspace
from saetui.app import Workbench
from saetui.modes.steer.dose_response import DoseSweep
from saetui.modes.steer.recipes_screen import RecipesScreen
from saetui.modes.steer.screen import SteerMode
from saetui.modes.steer.setup import Setup
from saetui.modes.steer.token_painter import TokenPainter
from saetui.modes.steer.versions import Version
from saetui.modes.steer.versions_screen import VersionsScreen
from saetui.preferences import state_folder
from saetui.widgets.dialogs import Ask, Pick
from saetui.widgets.picture import Picture
from tests.support import scores
from tests.support.pilots import screen_text, until
from tests.support.tiny_llava import LATENTS, picture, random_sae, save_llava

MAXIMUM = 5.0
WORDS = ["cat", "[red] car", "tree"]
NAMED = {7: 0, 9: 1, 11: 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Workspace:
    """An SAE ``s`` with scores on three pictures, and a model that never stops by itself."""
    root = tmp_path_factory.mktemp("steer")
    workspace = Workspace(root / "work")
    model = save_llava(root / "llava")
    settings = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": None}))
    random_sae().save(workspace.sae("s"))
    images = workspace.root / "images" / "val"
    images.mkdir(parents=True)
    for seed in range(3):
        picture(seed).save(images / f"{seed}.png")
    (workspace.root / "workspace.toml").write_text(f'vlm = "{model}"\n')
    write_scores(workspace)
    return workspace


def write_scores(workspace):
    sha256 = file_sha256(workspace.sae("s") / "sae.safetensors")
    pictures = replace(scores.SUMMARY.settings, images=str(workspace.root / "images" / "val"))
    return scores.write_scores(
        workspace.neurons("s", "val"),
        LATENTS,
        replace(scores.SUMMARY, settings=pictures),
        origin=scores.made_from("s", sha256),
        images=[ScoredImage(f"{seed}.png", None, (), "") for seed in range(3)],
        words=WORDS,
        word_latents=np.array([[7, -1], [11, 9], [-1, -1]]),
        word_scores=np.array([[0.9, 0.0], [0.8, 0.7], [0.0, 0.0]]),
        maximum=np.full(LATENTS, MAXIMUM),
        names=np.array([[NAMED.get(latent, -1)] for latent in range(LATENTS)]),
        name_scores=np.full((LATENTS, 1), 0.5),
        top_images=np.array([[2, 0, -1]] * LATENTS),
        top_activations=np.zeros((LATENTS, 3)),
    )


@asynccontextmanager
async def steer(place, size=(120, 34)):
    app = Workbench(place, mode="steer")
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        assert isinstance(app.screen, SteerMode)
        yield pilot, app.screen


@asynccontextmanager
async def without_model(place, size=(120, 34)):
    """No model is named, so that no key asks one."""
    async with steer(place, size) as (pilot, pane):
        pane.editor.setup = Setup(sae=pane.setup.sae, neurons=pane.setup.neurons)
        pane.rack.take((), "clamp")
        yield pilot, pane


def state(pane) -> str:
    return str(pane.query_one("#state").content)


async def streaming(pane):
    """Wait until words come. (A pilot's own pause ends only when no more do.)"""
    deadline = time.monotonic() + 60
    while "tok/s · esc stops" not in state(pane):
        assert time.monotonic() < deadline, state(pane)
        await asyncio.sleep(0.005)


async def say(pilot, text):
    """Type ``text`` into the line that is open, and enter it."""
    await until(pilot, lambda: pilot.app.screen.query(Input))
    pilot.app.screen.query_one(Input).value = text
    await pilot.press("enter")
    await pilot.pause()


def test_ask_raise_sweep_keep_die_and_restore(place):
    async def first():
        async with steer(place) as (pilot, pane):
            assert "a adds a latent" in screen_text(pilot)
            await pilot.press("r")
            await until(pilot, lambda: "esc cancels" in state(pane))
            await pilot.press("escape")
            await until(pilot, lambda: state(pane) == "Stopped: r asks again.")

            pane.rack.add(7, "s", str(place.neurons("s", "val")), ("cat", MAXIMUM))
            await pilot.press("L", "right", "left")
            assert [(slot.latent, slot.value, slot.on) for slot in pane.setup.rack] == [(7, 2 * MAXIMUM, True)]
            await until(pilot, lambda: pane.answers.texts.get("steered") and state(pane) == "", 60)
            said = dict(pane.answers.texts)
            assert set(said) == {"untouched", "attached", "steered"} and said["steered"] != said["attached"]
            assert "‹" in screen_text(pilot) and "new word" in screen_text(pilot) and "+10" in screen_text(pilot)

            await pilot.press("H", "space")  # off: as if there were no latent
            await until(pilot, lambda: pane.answers.texts["steered"] == said["attached"] and state(pane) == "")
            assert "same as attached" in screen_text(pilot) and "off" in screen_text(pilot)
            await pilot.press("u")
            await until(pilot, lambda: pane.setup.rack[0].on)

            await pilot.press("D")
            await say(pilot, "0 1 2")
            await until(pilot, lambda: len(pane.dose.points) == 5 and pane.conversation.sweeping is None)
            assert [point.value for point in pane.dose.points] == [None, None, 0, MAXIMUM, 2 * MAXIMUM]
            assert pane.dose.points[-1].answer == said["steered"] and pane.dose.points[-1].damage > 0
            await pilot.press("G", "enter")
            assert pane.setup.rack[0].times == 2
            await until(pilot, lambda: pane.answers.texts["steered"] == said["steered"] and state(pane) == "")
            assert "earlier setup" not in pane.dose.border_title
            await pilot.press("E", "u")
            await pilot.press("b")
            assert "earlier setup" in pane.dose.border_title
            await pilot.press("u")
            assert "earlier setup" not in pane.dose.border_title
            await until(pilot, lambda: pane.answers.texts["steered"] == said["steered"] and state(pane) == "")
            await pilot.press("escape")
            assert not pane.dose.display

            await pilot.press("y")
            copied = (state_folder() / "copied.txt").read_text()
            assert f"steered: {said['steered']}" in copied and "7=10  cat" in copied

            length = pane.setup.max_new_tokens
            await pilot.press(*["greater_than_sign"] * 16)
            await streaming(pane)
            os.kill(pilot.app.models.server.pid, signal.SIGKILL)
            await until(pilot, lambda: "was killed by signal 9" in state(pane))
            assert "r asks again" in state(pane) and pane.query_one("#state").has_class("-wrong")
            await pilot.press("u")  # a single step, as the presses were of one kind
            assert pane.setup.max_new_tokens == length
            await until(pilot, lambda: pane.answers.texts["steered"] == said["steered"] and state(pane) == "", 60)
            return pane.setup, said

    async def second(setup, said):
        async with steer(place) as (pilot, pane):
            assert pane.setup == setup and pane.answers.texts == said and len(pane.dose.points) == 5
            await pilot.press("v")
            await until(pilot, lambda: isinstance(pilot.app.screen, VersionsScreen))
            versions = pilot.app.screen.rows
            assert versions[0].answers == Steered(**said) and any(not v.setup.rack[0].on for v in versions)
            off = next(i for i, v in enumerate(versions) if not v.setup.rack[0].on)
            await pilot.press(*["j"] * off, "enter")
            await until(pilot, lambda: pane.answers.texts["steered"] == said["attached"])
            assert not pane.setup.rack[0].on
            await asyncio.sleep(0.3)
            assert pilot.app.models.server is None, "nothing of this asks the model"

    asyncio.run(second(*asyncio.run(first())))


def test_what_is_going_on_can_be_stopped_gives_way_and_fails_in_words(place):
    async def scenario():
        async with steer(place) as (pilot, pane):
            pane.editor.change(Setup(sae="s", vlm=pane.setup.vlm, max_new_tokens=200))
            await streaming(pane)
            pilot.app.simulate_key("escape")
            await until(pilot, lambda: state(pane) == "Stopped: r asks again.")
            assert "steered" not in pane.answers.texts

            pane.rack.add(7, "s", "", ("", 0.0))
            assert pane.setup.rack[0].value == 10, "raw units without scores"
            await pilot.press("d", "r")
            await until(pilot, lambda: pane.conversation.sweeping is None and pane.conversation.answering is None)
            assert pane.answers.texts["steered"] and len(pane.dose.points) < 13

            await pilot.press("M")
            await say(pilot, "/nowhere/[b]at/all")
            await until(pilot, lambda: "no directory /nowhere/[b]at/all" in screen_text(pilot))
            assert pilot.app.screen.query_one(Input).value == "/nowhere/[b]at/all", "the question stays"
            await pilot.press("escape")
            assert pilot.app.screen is pane and pane.setup.vlm != "/nowhere/[b]at/all"

    asyncio.run(scenario())


def test_images(place, tmp_path):
    async def scenario():
        async with without_model(place) as (pilot, pane):
            source = str(place.root / "images" / "val")
            shown = pane.query_one(Picture)
            for keys, image in (("b", "blank:black"), ("n", f"{source}::0.png"), ("n", f"{source}::1.png")):
                await pilot.press(keys)
                await until(pilot, lambda image=image: pane.setup.image == image == shown.key)
            await pilot.press("N", "N")
            await until(pilot, lambda: pane.setup.image == f"{source}::2.png" == shown.key)
            assert "2.png" in screen_text(pilot) and " x " in screen_text(pilot)

            await pilot.press("t")
            assert pane.setup.image == f"{source}::2.png", "no latent, no top image"
            pane.rack.add(7, "s", str(place.neurons("s", "val")), ("cat", MAXIMUM))
            for expected in ("0.png", "2.png"):
                await pilot.press("t")
                await until(pilot, lambda expected=expected: pane.setup.image == f"{source}::{expected}")

            dropped = tmp_path / "a [red] cat.png"
            picture(5).save(dropped)
            await pilot.press("o")
            await say(pilot, f"'{dropped}'")
            await until(pilot, lambda: pane.setup.image == str(dropped) == shown.key)
            assert "a [red] cat.png" in screen_text(pilot)
            await pilot.press("b")
            pane.post_message(events.Paste(str(dropped).replace(" ", "\\ ") + " "))
            await until(pilot, lambda: pane.setup.image == str(dropped))

            await pilot.press("o")
            await say(pilot, "nowhere.png")
            await until(pilot, lambda: "There is no image nowhere.png" in screen_text(pilot))
            assert isinstance(pilot.app.screen, Ask), "what was typed is there to be mended"
            await pilot.press("escape")

            broken = tmp_path / "broken.png"
            broken.write_bytes(b"no image")
            await pilot.press("o")
            await say(pilot, str(broken))
            await until(pilot, lambda: "not an image" in screen_text(pilot))
            assert pane.setup.image == str(dropped)
            dropped.unlink()
            await pilot.press("b")
            await until(pilot, lambda: shown.key == "blank")
            await pilot.press("u")
            await until(pilot, lambda: "There is no image" in screen_text(pilot))

            await pilot.press("i")
            await until(pilot, lambda: isinstance(pilot.app.screen, Pick))
            await pilot.press("enter")
            await until(pilot, lambda: pane.setup.image == f"{source}::0.png")

    asyncio.run(scenario())


def test_patches_are_painted_where_their_grid_is_known(place):
    async def scenario():
        async with without_model(place) as (pilot, pane):
            pane.image.take_fired(Fired((4, 4), ()))
            await pilot.press("T")
            await until(pilot, lambda: isinstance(pilot.app.screen, TokenPainter))
            await pilot.press("a", "b", "right", "pagedown", "b", "enter")
            assert pane.setup.tokens == "0-1,4-5,8-9,12-13" and "tokens 0-1,4-5" in screen_text(pilot)
            await pilot.press("T")
            await until(pilot, lambda: isinstance(pilot.app.screen, TokenPainter))
            await pilot.press("a", "escape")
            assert pane.setup.tokens == "0-1,4-5,8-9,12-13"
            await pilot.press("u")
            assert pane.setup.tokens == "all"

    asyncio.run(scenario())


def test_the_question_and_its_keys(place):
    async def scenario():
        async with without_model(place) as (pilot, pane):
            await pilot.press("p")
            pilot.app.screen.query_one(TextArea).text = "What [b]is[/b] it?"
            await pilot.press("enter")
            assert pane.setup.prompt == "What [b]is[/b] it?" and "What [b]is[/b] it?" in screen_text(pilot)
            for mode in ("add", "scale", "ablate", "clamp"):
                await pilot.press("m")
                assert pane.setup.mode == mode and f"mode {mode}" in screen_text(pilot)
            await pilot.press("T")
            await say(pilot, "3,0-x")
            assert pane.setup.tokens == "all" and "does not name patch tokens" in screen_text(pilot)
            await pilot.press("T")
            await say(pilot, "0-3")
            assert pane.setup.tokens == "0-3" and "tokens 0-3" in screen_text(pilot)
            await pilot.press("greater_than_sign", "greater_than_sign", "less_than_sign")
            assert pane.setup.max_new_tokens == 32
            await pilot.press(*["less_than_sign"] * 9)
            assert pane.setup.max_new_tokens == 8
            await pilot.press("E")
            assert pane.setup.keep_error and "error kept" in screen_text(pilot)
            await pilot.press("u", "u")
            assert not pane.setup.keep_error and pane.setup.max_new_tokens == 24
            await pilot.press("ctrl+r")
            assert pane.setup.max_new_tokens == 8
            await pilot.press("s")
            await until(pilot, lambda: isinstance(pilot.app.screen, Pick))
            await pilot.press("enter")
            assert pane.setup.sae == "s"
            for line in ("prompt Why?", "latent 9", "nonsense"):
                await pilot.press("colon")
                await say(pilot, line)
            assert pane.setup.prompt == "Why?" and "no command 'nonsense'" in screen_text(pilot)
            await until(pilot, lambda: [slot.latent for slot in pane.setup.rack] == [9])
            await pilot.press("colon")
            await say(pilot, "strength 3x")
            assert pane.setup.rack[0].value == 3 * MAXIMUM

    asyncio.run(scenario())


def test_the_rack_and_its_keys(place):
    async def scenario():
        async with without_model(place) as (pilot, pane):
            await pilot.press("a")
            await say(pilot, "car")
            await until(pilot, lambda: isinstance(pilot.app.screen, Pick))
            assert "[red] car" in screen_text(pilot)
            await pilot.press("enter")
            await pilot.press("a")
            await say(pilot, "cat")
            await until(pilot, lambda: len(pane.setup.rack) == 2)
            assert [slot.latent for slot in pane.setup.rack] == [11, 7], "the best match first"
            assert pane.rack.slot.latent == 7 and all(slot.value == MAXIMUM for slot in pane.setup.rack)
            await pilot.press("k", "l", "right", "L", "shift+right", "shift+left", "h")
            assert pane.setup.rack[0].times == 2.1 and pane.setup.rack[1].times == 1
            await pilot.press("enter")
            await say(pilot, "much")
            assert "is no strength" in screen_text(pilot)
            for typed, value in (("-3x", -3 * MAXIMUM), ("2.5", 2.5)):
                await pilot.press("enter")
                await say(pilot, typed)
                assert pane.setup.rack[0].value == value
            await pilot.press("m", "m")
            assert pane.setup.latents[0] == "11=0.5", "in mode scale a strength is a factor"
            await pilot.press("x")
            assert [slot.latent for slot in pane.setup.rack] == [7]
            await pilot.press("u")
            assert [slot.latent for slot in pane.setup.rack] == [11, 7] and pane.rack.rows == 2
            await pilot.press("a")
            await say(pilot, "zebra")
            await until(pilot, lambda: "No latent is called zebra" in screen_text(pilot))
            pane.editor.setup = replace(pane.setup, vlm="demo", mode="ablate")
            await pilot.press("d")
            assert "nothing to sweep" in screen_text(pilot) and pilot.app.models.server is None

            pane.rack.add(9, "s", str(place.neurons("s", "val")))
            await until(pilot, lambda: len(pane.setup.rack) == 3)
            assert pane.setup.rack[-1].name == "[red] car" and pane.setup.rack[-1].maximum == MAXIMUM

    asyncio.run(scenario())


def test_recipes_are_saved_and_opened(place):
    async def scenario():
        async with without_model(place) as (pilot, pane):
            await pilot.press("e")
            assert "w saves one" in screen_text(pilot)
            pane.rack.add(7, "s", str(place.neurons("s", "val")), ("cat", MAXIMUM))
            kept = pane.setup
            await pilot.press("w")
            await until(pilot, lambda: pilot.app.screen.query(Input))
            assert pilot.app.screen.query_one(Input).value == "cat+1x"
            await pilot.press("enter")
            await until(pilot, lambda: place.recipe("cat+1x").is_file())
            kept_as = load_recipe(place, "cat+1x")
            assert kept_as.settings.latent == ("7=5",) and kept_as.made_from[0].name == "s"
            await pilot.press("L", "b", "w")
            await say(pilot, "cat+1x")
            await until(pilot, lambda: "with other settings" in screen_text(pilot))
            await pilot.press("e")
            await until(pilot, lambda: isinstance(pilot.app.screen, RecipesScreen))
            await pilot.press("enter")
            await until(pilot, lambda: pane.setup == kept)
            place.recipe("cat+1x").write_text("damaged [")
            await pilot.press("e")
            await until(pilot, lambda: isinstance(pilot.app.screen, RecipesScreen))
            await pilot.press("enter")
            await until(pilot, lambda: any("not valid TOML" in toast.message for toast in pilot.app._notifications))
            place.recipe("cat+1x").unlink()

    asyncio.run(scenario())


def test_what_was_kept_may_be_damaged_and_files_may_vanish(place, tmp_path):
    async def scenario():
        async with without_model(place) as (_, pane):
            pane.rack.add(7, "s", str(tmp_path / "gone.h5"), ("cat", MAXIMUM))
            version = to_json(Version(pane.setup, Steered("", "", "x")))
            pane.remember(version=version | {"answers": 3}, sweep={"points": 1})
        async with steer(place) as (pilot, pane):
            assert pane.setup.rack[0].name == "cat" and pane.answers.texts == {}
            for keys in ("t", "n"):
                await pilot.press(keys)
                await until(pilot, lambda: "There are no scores at" in screen_text(pilot))
            pane.remember(setup={"rack": "nonsense", "sae": 3})
        async with steer(place) as (pilot, pane):
            assert pane.setup.rack == () and pane.setup.sae == "s"

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (20, 5)])
def test_every_size_can_be_used(place, size):
    async def scenario():
        async with without_model(place, size) as (pilot, pane):
            pane.rack.add(7, "s", str(place.neurons("s", "val")), ("cat " * 30, MAXIMUM))
            pane.answers.put(Steered("a cat", "a cat", "a red cat"))
            await pilot.press("L", "tab", "tab", "z", "z")
            assert pane.setup.rack[0].times == 2
            pane.dose.show_sweep(DoseSweep("dose", MAXIMUM, "clamp", 7, ""))
            pane.dose.hear(SweepPoint("steered", 5.0, "a [red] cat", 0.5, 0.25))
            pane.add_class("-dose")
            await pilot.pause()
            if size != (20, 5):
                text = screen_text(pilot)
                assert "a [red] cat" in text and ".25" in text and "+10" in text
                pane.dose.table.focus()
                await pilot.press("y")
                assert pilot.app.clipboard.splitlines()[-1].split("  ")[1:] == ["1.0x", "a [red] cat", ".25", ".50"]
                pane.rack.focus()
                await pilot.press("y")
                assert "steered: a red cat" in pilot.app.clipboard
                await pilot.press("escape")
                await pilot.pause()
                assert "a ‹red› cat" in screen_text(pilot) and not pane.dose.display

    asyncio.run(scenario())


def test_an_empty_workspace_teaches(tmp_path):
    place = Workspace(tmp_path / "empty")
    place.root.mkdir()
    (place.root / "workspace.toml").write_text("vlm = [1")

    async def scenario():
        async with steer(place) as (pilot, _):
            assert "There is no SAE to steer with" in screen_text(pilot)
            for keys in (
                "r",
                "a",
                "d",
                "t",
                "n",
                "i",
                "s",
                "w",
                "e",
                "v",
                "u",
                "ctrl+r",
                "y",
                "x",
                "space",
                "right",
                "enter",
            ):
                await pilot.press(keys)
            random_sae().save(place.sae("new"))
            await pilot.press("1", "4")
            await until(pilot, lambda: pilot.app.screen.setup.sae == "new")

    asyncio.run(scenario())


def test_a_prompt_of_several_lines_is_typed_pasted_and_found_again(place):
    async def scenario():
        async with without_model(place) as (pilot, pane):
            await pilot.press("p")
            area = pilot.app.screen.query_one(TextArea)
            area.text = ""
            await pilot.press(*"one", "ctrl+j", *"two", "space")
            pilot.app.post_message(events.Paste("three\nfour\n"))
            await pilot.pause()
            await pilot.press("enter")
            await pilot.pause()
            assert pane.setup.prompt == "one\ntwo three\nfour"
            assert "one ⏎ two three ⏎ four" in screen_text(pilot)
            assert pane.setup.settings(device="cpu", dtype="auto").prompt == pane.setup.prompt
            await pilot.press("p")
            pilot.app.screen.query_one(TextArea).text = "other"
            await pilot.press("enter", "p", "pageup", "enter")
            await pilot.pause()
            assert pane.setup.prompt == "one\ntwo three\nfour"
            await pilot.press("p", *"x", "escape")
            assert pane.setup.prompt == "one\ntwo three\nfour"

    asyncio.run(scenario())


def test_enter_asks_the_same_question_too(place):
    async def scenario():
        async with without_model(place) as (pilot, pane):
            pane.tell("")
            await pilot.press("p", "enter")
            await until(pilot, lambda: state(pane) == pane.setup.lacks)

    asyncio.run(scenario())


def test_where_the_rack_fires_is_drawn_over_the_image(place):
    async def test():
        async with without_model(place) as (pilot, pane):
            picture, fired = pane.query_one(Picture), Fired((2, 2), ((7, (0.0, 5.0, 0.0, 1.0)),))
            pane.image.choose(f"{place.root}/images/val::0.png")
            await until(pilot, lambda: picture.key and "0.png" in str(pane.image._caption.content))
            plain = list(picture._current())
            pane.rack.add(7, "s", str(place.neurons("s", "val")), ("cat", MAXIMUM))
            pane.take_fired(fired)
            await pilot.pause()
            laid = list(picture._current())
            assert laid != plain and str(pane.image._caption.content).startswith("7 peak 5 ")
            await pilot.press("f")
            assert list(picture._current()) == plain
            await pilot.press("f")
            assert list(picture._current()) == laid
            pane.editor.become(replace(pane.setup, rack=tuple(replace(slot, on=False) for slot in pane.setup.rack)))
            assert list(picture._current()) == plain
            pane.editor.become(replace(pane.setup, image=f"{place.root}/images/val::1.png"))
            assert pane.image._fired is None, "that was another image"

    asyncio.run(test())


@pytest.mark.parametrize("size", [(160, 50), (120, 34), (80, 24), (40, 12)])
def test_answers_and_doses_have_the_room(place, size):
    async def test():
        async with without_model(place, size) as (pilot, pane):
            await pilot.pause()
            picture = pane.query_one(Picture).size
            assert picture.width <= 32 and picture.height <= 16 and pane.answers.size.height >= 4
            if size[1] > 24:
                assert pane.answers.size.height >= picture.height + 2
            pane.add_class("-dose")
            await pilot.pause()
            assert pane.dose.size.height >= 4
            if size[1] > 24:
                assert pane.dose.size.height + pane.answers.size.height > 1.2 * picture.height

    asyncio.run(test())

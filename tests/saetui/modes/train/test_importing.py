"""SAEs of other tools are brought in by a form of mode Train, which says what it reads from their files."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.runs.run import runs
from engine.sae.config import read_config
from saetui.modes.forms import ImportForm
from saetui.modes.train.training_table import details
from saetui.widgets.form import Form
from tests.support.foreign import READS, write_published, write_saelens
from tests.support.pilots import rows, screen_text, until
from tests.support.training_screen import NARROW, WIDE, choose, drive
from tests.support.trainings import begin, perform


async def ask_for_import(pilot: Pilot[Any], source: Path) -> ImportForm:
    """The form, when it has said what is at the source."""
    await pilot.press("i")
    form = pilot.app.screen
    assert isinstance(form, ImportForm)
    form.editor("source").value = str(source)
    await until(pilot, lambda: form.answered, 30)
    await pilot.pause()
    return form


@pytest.mark.parametrize("size", (WIDE, NARROW))
def test_an_sae_is_imported_by_the_form_with_what_is_proposed_and_confirmed(place, tmp_path, size):
    source = write_published(tmp_path)

    async def scenario(pilot, pane):
        form = await ask_for_import(pilot, source)
        said = str(form.note.content)
        assert "matryoshka-batchtopk of dictionary_learning, 16 -> 24 latents, 3 active" in said
        assert "to write" in said and "tokens random:2, proposed: it lies below random_k_2" in said
        assert "hook (proposed)" in screen_text(pilot)
        values = form.values()
        assert (values["hook"], values["tokens"]) == ("layer:22", "random:2")
        form.editor("hook").focus()
        await pilot.pause()
        assert "Proposed (its path holds" in screen_text(pilot)
        form.editor("model").value, form.editor("check").value = "demo:encoder", "a"
        await until(pilot, lambda: "model (proposed)" not in screen_text(pilot))
        assert "hook (proposed)" in screen_text(pilot)
        name = form.editor("name").value
        await pilot.press("ctrl+s")
        await until(pilot, lambda: pane.selected and pane.selected.name == name and pane.selected.state == "done", 60)
        config = read_config(place.sae(name))
        assert (config.model, config.hook, config.tokens) == ("demo:encoder", "layer:22", "random:2")
        assert any(name in text and "import" in text for text in rows(pane.table))
        await pilot.press("enter")
        await until(pilot, lambda: "its config" in screen_text(pilot))
        said = screen_text(pilot)
        assert "random:2 of layer:22 of demo:encoder" in said and "FVE" in said and "trainer_0" in said
        await pilot.press("r")
        assert any("cannot be trained further" in note.message for note in pilot.app._notifications)
        await pilot.press("s")
        assert isinstance(pilot.app.screen, Form) and pilot.app.screen.editor("sae").value == name

    drive(place, scenario, size)


def test_a_question_that_nothing_answers_has_to_be_answered_in_the_form(place, tmp_path):
    source = write_saelens(tmp_path / "theirs")

    async def scenario(pilot, pane):
        form = await ask_for_import(pilot, source)
        assert "model (asked)" in screen_text(pilot) and "Its files do not say" in screen_text(pilot)
        await pilot.press("ctrl+s")
        assert pilot.app.screen is form and form.focused is form.editor("model")
        assert "Its files do not say the model: fill it in." in screen_text(pilot)
        for name, answer in READS.items():
            form.editor(name).value = answer
        await until(pilot, lambda: "Nothing more is asked." in screen_text(pilot), 30)
        assert "(asked)" not in screen_text(pilot) and form.editor("name").value == "theirs"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: pane.selected and pane.selected.name == "theirs", 30)

    drive(place, scenario)


def test_what_cannot_be_imported_is_said_in_the_form_as_the_command_says_it(place, tmp_path):
    source = write_saelens(tmp_path / "two")
    shutil.copy(source / "sae_weights.safetensors", source / "sae.safetensors")
    published = write_published(tmp_path)

    async def scenario(pilot, pane):
        form = await ask_for_import(pilot, tmp_path / "nowhere")
        assert f"{tmp_path / 'nowhere'} does not exist" in str(form.note.content)
        form.editor("name").value = "x"
        await pilot.press("ctrl+s")
        assert pilot.app.screen is form and len(runs(place)) == 2
        form.editor("source").value = str(published)
        await until(pilot, lambda: "hook (proposed)" in screen_text(pilot), 30)
        form.editor("source").value = str(source)
        await until(pilot, lambda: "looks like saelens and sparsify" in str(form.note.content), 30)
        assert "(proposed)" not in screen_text(pilot) and form.editor("hook").value == ""
        form.editor("format").value = "saelens"
        await until(pilot, lambda: "relu of saelens" in screen_text(pilot), 30)

    drive(place, scenario)


def test_a_refused_import_is_a_row_and_is_asked_for_again(place, tmp_path):
    source = write_saelens(tmp_path / "theirs")
    asked = {"source": str(source), "name": "theirs", "model": "demo:encoder"}

    async def scenario(pilot, pane):
        await choose(pilot, pane, "theirs")
        told = details(pane.selected, scored=False)  # on the screen it is broken where its path lets it
        assert "does not say what it reads" in told.splitlines()[-1]
        assert "c asks for it again." in screen_text(pilot)
        await pilot.press("c")
        form = pilot.app.screen
        assert isinstance(form, ImportForm)
        values = form.values()
        assert {name: values[name] for name in asked} == asked | {"name": "theirs-2"}

    assert perform(begin(place, "import", **asked)) == 2
    drive(place, scenario)


def test_paths_are_completed_by_tab(place, tmp_path):
    (tmp_path / "models" / "inner").mkdir(parents=True)
    (tmp_path / "models" / "inner" / "ae.pt").touch()

    async def scenario(pilot, pane):
        await pilot.press("i")
        form = pilot.app.screen
        source = form.editor("source")
        source.value = f"{tmp_path}/mod"
        source.cursor_position = len(source.value)
        await pilot.press("tab", "i", "tab", "a", "tab")
        assert source.value == f"{tmp_path}/models/inner/ae.pt" and form.focused is source
        await pilot.press("tab")
        assert form.focused is form.editor("name")

    drive(place, scenario)

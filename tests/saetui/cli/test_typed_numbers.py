"""No number is repaired by guessing: forms, commands, workspace.toml and plans refuse the same by one sentence."""

import asyncio
from pathlib import Path

import pytest
from textual.app import App
from textual.widgets import Input
from typer.testing import CliRunner

from engine.config import TrainSettings
from engine.errors import UserError
from engine.runs.plan import read_plan
from engine.settings import from_mapping, from_words, to_mapping
from engine.steer.interventions import parse_latent
from engine.workspace import Workspace
from saetui.cli.app import app
from saetui.modes.steer.setup import parse_doses
from saetui.widgets.form import Form

WHOLE, POINT = "it must be a whole number, as 1000.", "it must be a number, its decimals after a point, as 0.5 or 2e-3."
WRONG = ["0,002", "1,000", "1.000,5", "٥", "0x10", "1k", "1 000", "1__0", "½", "--5", "1e999"]
NO_WHOLE = [*WRONG, "1e3", ".5", "5.", "2.0"]
BASE = {"activations": "a", "name": "s"}


def refusals(setting: str, text: str, root: Path) -> dict[str, str]:
    """What each place says of ``text`` for ``setting``, without what it says of itself."""
    said = {"command": str(CliRunner().invoke(app, ["train", "a", "--name", "s", f"--{setting}={text}"]).exception)}
    with pytest.raises(UserError) as worded:
        from_words(TrainSettings, [*("--activations", "a", "--name", "s"), f"--{setting}", text], "words")
    with pytest.raises(UserError) as mapped:
        from_mapping(TrainSettings, BASE | {setting: text}, "workspace.toml")
    (root / "plan.toml").write_text(f'[[train]]\nactivations = "a"\nname = "s"\n{setting} = "{text}"\n')
    with pytest.raises(UserError) as planned:
        read_plan(root / "plan.toml", Workspace(root))
    said |= {"words": str(worded.value), "toml": str(mapped.value), "plan": str(planned.value)}
    told = {place: sentence.partition(": ")[2].removeprefix("[[train]]: ") for place, sentence in said.items()}
    return {place: sentence.removeprefix("--") for place, sentence in told.items()}


@pytest.mark.parametrize(
    ("setting", "text", "says"),
    [*(("lr", text, POINT) for text in WRONG), *(("steps", text, WHOLE) for text in NO_WHOLE)],
)
def test_one_sentence_everywhere(setting: str, text: str, says: str, tmp_path: Path) -> None:
    sentences = refusals(setting, text, tmp_path)
    assert set(sentences.values()) == {f"{setting} is {text!r}: {says}"}
    assert list(tmp_path.iterdir()) == [tmp_path / "plan.toml"], "nothing was begun"
    asyncio.run(form_refuses(setting, text, f"{setting} is {text!r}: {says}"))


async def form_refuses(setting: str, text: str, sentence: str) -> None:
    form = Form("New training", TrainSettings, BASE)
    async with App[None]().run_test() as pilot:
        await pilot.app.push_screen(form)
        form.query_one(f"#f-{setting}", Input).value = text
        await pilot.press("ctrl+s")
        assert pilot.app.screen is form and str(form.note.content) == sentence
        assert form.query_one(f"#f-{setting}", Input).has_focus


@pytest.mark.parametrize(("text", "value"), [(" 5 ", 5.0), ("1_000", 1000.0), ("1e-3", 1e-3), (".5", 0.5), ("5.", 5.0)])
def test_what_is_plain_is_taken_everywhere(text: str, value: float) -> None:
    words = ["--activations", "a", "--name", "s", "--lr", text]
    assert from_words(TrainSettings, words, "words").lr == value


@pytest.mark.parametrize("text", ["inf", "-inf", "nan"])
def test_what_is_not_finite_is_refused_as_in_toml(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(f'[[train]]\nactivations = "a"\nname = "s"\nlr = {text}\n')
    with pytest.raises(UserError, match=f"lr is {text}: give a finite number"):
        read_plan(tmp_path / "plan.toml", Workspace(tmp_path))
    said = CliRunner().invoke(app, ["train", "a", "--name", "s", f"--lr={text}"]).exception
    assert str(said) == f"train: --lr is {text}: give a finite number."


def test_lists_of_numbers_are_refused_by_one_sentence_too(tmp_path: Path) -> None:
    says = "groups is 'b': give numbers with commas between them, decimals after a point."
    said = CliRunner().invoke(app, ["train", "a", "--name", "s", "--groups", "1,b"]).exception
    assert str(said) == f"train: --{says}"
    with pytest.raises(UserError, match=says):
        from_mapping(TrainSettings, BASE | {"groups": [1.0, "b"]}, "workspace.toml")
    asyncio.run(form_refuses("groups", "1, b", says))


def test_a_decimal_comma_in_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('[[train]]\nname = "s"\nlr = 0,002\n')
    with pytest.raises(UserError, match=r"is not valid TOML .*: write decimals after a point, not a comma"):
        read_plan(tmp_path / "plan.toml", Workspace(tmp_path))
    (tmp_path / "plan.toml").write_text('[[train]]\nname = "s\n')
    with pytest.raises(UserError, match=r"is not valid TOML .*: correct it"):
        read_plan(tmp_path / "plan.toml", Workspace(tmp_path))


def test_a_form_gives_back_the_values_that_it_was_given() -> None:
    exactly = TrainSettings(activations="a", name="s", lr=0.00012345678, expansion=1 / 3, groups=(0.1234567, 1.0))

    async def scenario() -> None:
        form = Form("New training", TrainSettings, to_mapping(exactly))
        async with App[None]().run_test() as pilot:
            await pilot.app.push_screen(form)
            assert from_mapping(TrainSettings, form.values(), "form") == exactly

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [("arch", "topk2", "arch is 'topk2': choose one of"), ("keep_state", "no way", "it must be true or false")],
)
def test_a_form_puts_no_option_in_the_place_of_a_wrong_one(setting: str, value: str, says: str) -> None:
    async def scenario() -> None:
        form = Form("New training", TrainSettings, BASE | {setting: value})
        async with App[None]().run_test() as pilot:
            await pilot.app.push_screen(form)
            await pilot.press("ctrl+s")
            assert pilot.app.screen is form and says in str(form.note.content)

    asyncio.run(scenario())


def test_names_of_a_grid_hold_its_numbers_whole(tmp_path: Path) -> None:
    lines = 'activations = "a"\nname = "s-{steps}-{lr}"\nsteps = [1234567, 1234568]\nlr = [0.00012345678]\n'
    (tmp_path / "plan.toml").write_text(f"[[train]]\n{lines}")
    names = [stage.name for stage in read_plan(tmp_path / "plan.toml", Workspace(tmp_path))]
    assert names == ["s-1234567-0.00012345678", "s-1234568-0.00012345678"]


@pytest.mark.parametrize("text", ["0,5", "1,2,3", "-1..4,5", "-1..4 by 0,5", "٥", "inf", "0x1", "1k"])
def test_strengths_are_not_guessed(text: str) -> None:
    with pytest.raises(UserError, match="is no range of strengths"):
        parse_doses(text)
    with pytest.raises(UserError, match=r"is not LATENT=VALUE"):
        parse_latent(f"7={text}", "clamp")


def test_strengths_that_are_plain() -> None:
    assert parse_doses("0 1.5  -2") == parse_doses("0, 1.5, -2") == (0.0, 1.5, -2.0)
    assert parse_doses("-1..1 by .5") == (-1.0, -0.5, 0.0, 0.5, 1.0)

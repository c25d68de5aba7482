import dataclasses
import shlex
from datetime import date

import pytest

from engine import config
from engine.config import ExtractSettings, TrainSettings
from engine.errors import UserError
from engine.runs.tasks import TASKS
from engine.settings import from_mapping, from_words, to_mapping


def test_round_trip_through_plain_values():
    settings = TrainSettings(activations="a", name="s", groups=(0.25, 1.0), steps=7)
    assert from_mapping(TrainSettings, to_mapping(settings), "test") == settings


def test_options_of_a_command_become_settings():
    words = shlex.split("--model demo --images 'a b' --name A --at layer:1 --at last --batch-size 7 --embeddings")
    wanted = ExtractSettings(
        model="demo", images="a b", name="A", at=("layer:1", "last"), batch_size=7, embeddings=True
    )
    assert from_words(ExtractSettings, words, "x") == wanted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model demo --images a --name A --batch-size many", "batch_size is 'many'"),
        ("--modl demo", "no setting 'modl'"),
        ("--model demo --images a", "lacks name"),
    ],
)
def test_options_that_make_no_sense_are_named(words, said):
    with pytest.raises(UserError, match=said):
        from_words(ExtractSettings, shlex.split(words), "x")


@pytest.mark.parametrize("task", TASKS)
def test_every_setting_explains_itself(task):
    for field in dataclasses.fields(TASKS[task].settings):
        assert field.metadata["help"].endswith((".", ")")), field.name


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "s", "activations": "a", "stepz": 3}, ["stepz", "steps"]),
        ({"name": "s", "activations": "a", "steps": "many"}, ["steps", "'many'", "whole number"]),
        ({"name": "s", "activations": "a", "steps": True}, ["steps", "whole number"]),
        ({"name": "s", "activations": "a", "arch": "tpok"}, ["arch", "tpok", "topk"]),
        ({"name": "s"}, ["activations"]),
    ],
)
def test_a_wrong_value_is_named(values, words):
    with pytest.raises(UserError) as error:
        from_mapping(TrainSettings, values, "plan.toml")
    assert all(word in str(error.value) for word in ["plan.toml", *words])


def test_whole_numbers_serve_as_numbers_and_single_values_as_lists():
    settings = from_mapping(TrainSettings, {"name": "s", "activations": "a", "expansion": 4}, "test")
    assert settings.expansion == 4.0 and isinstance(settings.expansion, float)
    extract = from_mapping(config.ExtractSettings, {"model": "m", "images": "i", "name": "n", "at": "last"}, "test")
    assert extract.at == ("last",)


class Huge:  # pytest cannot name the number itself
    value = int("f" * 5000, 16)


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("lr", float("inf"), "lr is inf: give a finite number"),
        ("lr", float("nan"), "lr is nan: give a finite number"),
        ("lr", "9" * 5000, "it must be a number"),
        ("groups", [0.5, float("inf")], "groups is inf: give a finite number"),
        ("steps", 1 << 63, "steps is 9223372036854775808: give a number below 2\\^63"),
        ("steps", Huge, "steps is a number of thousands of digits: give a number below 2\\^63"),
        ("name", Huge, "name is a number of thousands of digits: it must be text"),
        ("steps", date(2020, 1, 1), 'steps is "2020-01-01": it must be a whole number'),
        ("name", {"a": True}, 'name is {"a": true}: it must be text'),
    ],
)
def test_numbers_that_are_none_and_values_of_python(setting: str, value: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        from_mapping(
            TrainSettings, {"activations": "a", "name": "s", setting: Huge.value if value is Huge else value}, "toml"
        )

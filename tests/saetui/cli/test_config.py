"""saetui config: every setting once, what it is, and where it comes from."""

import json
from dataclasses import fields

import pytest

from engine.config import ExtractSettings, ScoreSettings, SteerSettings, TrainSettings
from saetui.bindings import mistakes
from saetui.cli import main
from saetui.preferences import Preferences, config_path


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in ("NO_COLOR", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workspace.toml").write_text('vlm = "demo"\nseed = 3\n')
    config_path().parent.mkdir(parents=True)
    config_path().write_text('theme = "paper"\n[keys]\n"neurons.steer" = "f5"\n')
    return tmp_path


def asked(capsys, *argv):
    with pytest.raises(SystemExit) as ended:
        main(["config", *argv])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def known(capsys, *argv):
    code, out, _ = asked(capsys, *argv, "--json")
    assert code == 0
    told = json.loads(out)
    found = {(one["group"], one["name"]): (one["value"], one["source"]) for one in told["settings"]}
    assert len(found) == len(told["settings"])
    return found, told


def test_each_source_is_told(place, capsys, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    found, told = known(capsys, "--no-mouse")
    assert found["workbench", "theme"] == ("paper", "file")
    assert found["workbench", "picture"] == ("auto", "default")
    assert found["workbench", "mouse"] == (False, "flag")
    assert found["workbench", "colours"] == ("mono", "environment")
    assert found["keys", "neurons.steer"] == ("f5", "file")
    assert found["steer", "vlm"] == ("demo", "file")
    assert found["train", "seed"] == (3, "file") and found["train", "k"] == (20, "default")
    assert found["extract", "model"] == ("", "required")
    assert told["files"]["config"] == str(config_path())
    assert told["files"]["workspace"] == str(place / "workspace.toml") and told["problems"] == []


def test_every_setting_is_there(place, capsys):
    found, _ = known(capsys)
    for command, kind in (
        ("workbench", Preferences),
        ("extract", ExtractSettings),
        ("train", TrainSettings),
        ("score", ScoreSettings),
        ("steer", SteerSettings),
    ):
        missing = {one.name for one in fields(kind) if not one.metadata.get("positional")} - {"keys"}
        assert not missing - {name for group, name in found if group == command}


def test_the_table_has_heads_and_the_paths_of_its_files(place, capsys):
    code, out, err = asked(capsys)
    assert code == 0 and err == ""
    lines = out.splitlines()
    assert str(config_path()) in lines[0] and str(place / "workspace.toml") in lines[1]
    heads = [line for line in lines if line.split()[1:] == ["value", "from"]]
    assert {head.split()[0] for head in heads} >= {"workbench", "keys", "extract", "train", "score", "steer"}
    start = lines.index(heads[0])
    column = heads[0].index("value")
    assert all(line[column - 1] == " " != line[column] for line in lines[start : start + 5])


def test_a_key_that_is_bound_twice_is_said_and_an_id_of_nothing(place, capsys):
    config_path().write_text('[keys]\n"neurons.steer" = "o"\n"neurons.stee" = "f6"\n"table.down" = "f7,q"\n')
    _, told = known(capsys)
    (unknown, *twice) = told["problems"]
    assert "neurons.stee" in unknown and "did you mean neurons.steer" in unknown
    assert any(one.startswith("q is bound to both app.quit and table.down: give one") for one in twice)
    assert any(one.startswith("o is bound to both neurons.sort and neurons.steer") for one in twice)
    _, _, err = asked(capsys)
    assert all(one in err for one in told["problems"])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"neurons.steer": "f5"}, 0),
        ({"neurons.steer": "o", "neurons.sort": "s"}, 0),  # they change places
        ({"train.new": "s"}, 1),
        ({"rack.more": "u"}, 1),
        ({"data.add": "J"}, 1),
        ({"form.submit": "s"}, 0),
    ],
)
def test_only_keys_that_can_meet_clash(keys, said):
    assert len(mistakes(keys)) == said


def test_a_default_that_no_command_knows_is_said(place, capsys):
    (place / "workspace.toml").write_text('modle = "demo"\n')
    _, told = known(capsys)
    assert told["problems"] == [
        f"{place / 'workspace.toml'} has 'modle', which no command knows: did you mean mode or model?"
    ]


@pytest.mark.parametrize(
    ("config", "workspace", "argv"),
    [
        ('theme = "dark"\n', "", ()),
        ("", "k = 'many'\n", ()),
        ("", "", ("--theme", "dark")),
        ("theme = [", "", ()),
    ],
)
def test_what_is_wrong_is_said_with_its_place(place, capsys, config, workspace, argv):
    config_path().write_text(config)
    (place / "workspace.toml").write_text(workspace)
    code, _, err = asked(capsys, *argv)
    assert code == 2 and err.count("\n") == 1
    assert (str(config_path()) if config else "workspace.toml" if workspace else "--theme") in err

import json
import multiprocessing
import os
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.activations.shards import ImageRecord, ShardWriter, read_records
from engine.config import TrainSettings
from engine.errors import UserError
from engine.files import atomic_path, check_version, lock, read_json, to_toml, utf8, write_json
from engine.reporter import Warned
from engine.runs.events import EventLog, read_events
from engine.workspace import Workspace, check_name, free_name, slug

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts
tables = st.dictionaries(texts, scalars | st.lists(scalars), max_size=4)


@given(plain=tables, table=tables, rows=st.lists(tables, min_size=1, max_size=3))
def test_what_is_written_as_toml_is_read_back(plain, table, rows):
    document = {**plain, "a table": table, "rows": rows}
    assert tomllib.loads(to_toml(document)) == document


def test_a_name_that_is_taken_gets_a_number():
    assert free_name("x", set()) == "x" and free_name("x", {"x", "x-2"}) == "x-3"


def test_default_images_stand_before_every_table_and_defaults_are_picked_by_kind(tmp_path):
    place = Workspace(tmp_path)
    (tmp_path / "workspace.toml").write_text('steps = 3\n[table]\nkey = "of it"\n')
    place.set_images('C:\\my "pictures"')
    assert place.defaults() == {"images": str(Path.cwd() / 'C:\\my "pictures"'), "steps": 3, "table": {"key": "of it"}}
    assert place.defaults_of(TrainSettings) == {"steps": 3}


def test_find_walks_up_to_the_marker(tmp_path, monkeypatch):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert Workspace.find().root == inner
    (tmp_path / "workspace.toml").write_text('device = "cpu"')
    assert Workspace.find().root == tmp_path
    assert Workspace.find().defaults() == {"device": "cpu"}
    assert Workspace.find(inner).root == inner


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden", "a b", "a\n"])
def test_names_that_are_not_file_names_are_refused(name):
    with pytest.raises(UserError):
        check_name(name, "an SAE")


@pytest.mark.parametrize("text", ["a b/c", "layer:3", "..", "", "ä"])
def test_a_slug_is_a_name(text):
    assert check_name(slug(text), "an SAE")


def test_existing_names_what_there_is(tmp_path):
    (tmp_path / "saes" / "one").mkdir(parents=True)
    workspace = Workspace(tmp_path)
    assert workspace.existing("saes", "one") == tmp_path / "saes" / "one"
    with pytest.raises(UserError, match="it has one"):
        workspace.existing("saes", "two")


def test_newer_formats_are_refused(tmp_path):
    check_version(1, 1, tmp_path)
    with pytest.raises(UserError, match="upgrade"):
        check_version(2, 1, tmp_path)
    with pytest.raises(UserError, match="damaged"):
        check_version(None, 1, tmp_path)


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "m.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"m\.json is damaged"):
        read_json(tmp_path / "m.json")


@given(st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from('\udc80\udcff\\"\n'))))
def test_any_file_name_survives_json(name):
    assert json.loads(utf8(json.dumps([name], ensure_ascii=False))) == [name]


def test_a_file_name_that_is_not_utf8_is_kept(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    write_json(tmp_path / "m.json", {"path": name, "other": "café"})
    assert read_json(tmp_path / "m.json") == {"path": name, "other": "café"}
    log = EventLog(tmp_path / "events.jsonl")
    log.append(Warned(name))
    log.close()
    assert read_events(tmp_path / "events.jsonl")[0][0].event.message == name
    shard = ShardWriter(tmp_path / "s.h5", 1, "float32")
    shard.append(np.ones((1, 1), np.float32), np.zeros(1), np.zeros(1))
    shard.commit([ImageRecord(name)])
    assert read_records(tmp_path / "s.h5") == [ImageRecord(name)]


def _hold(folder, seconds):
    with lock(folder):
        time.sleep(seconds)


def test_a_lock_waits_for_a_dying_writer_and_not_for_a_living_one(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path, 3))
    process.start()
    while not (tmp_path / ".lock").exists():
        time.sleep(0.01)
    time.sleep(0.3)
    with pytest.raises(UserError, match="another process"), lock(tmp_path, patience=0.1):
        pass
    with lock(tmp_path, patience=10):
        pass
    process.join()

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from engine.neurons.labels import Labels

texts = st.text(st.characters())  # lone surrogates too: a terminal may send anything
edits = st.lists(st.tuples(st.integers(0, 5), texts | st.none(), st.booleans() | st.none()), max_size=12)


@pytest.fixture
def path(workspace):
    return workspace.labels("demo")


def state(labels):
    return dict(labels.texts), set(labels.marks)


def test_no_file_is_no_labels_and_writes_nothing(path):
    labels = Labels.open(path)
    assert state(labels) == ({}, set()) and labels.text(3) == "" and not labels.marked(3)
    assert not path.exists() and labels.undo() is None and labels.redo() is None


def test_a_change_is_in_the_file_at_once_and_easy_to_read(path):
    labels = Labels.open(path)
    labels.set(1203, text="  pencil ")
    labels.set(17, text='red "things"', marked=True)
    assert path.read_text() == (
        'format = "saetui-labels"\nversion = 1\nmarked = [17]\n\n[text]\n17 = "red \\"things\\""\n1203 = "pencil"\n'
    )
    assert state(Labels.open(path)) == ({17: 'red "things"', 1203: "pencil"}, {17})
    labels.set(17, text=" ", marked=False)
    assert state(Labels.open(path)) == ({1203: "pencil"}, set())


@given(edits)
def test_what_was_set_is_read_back(changes):
    with tempfile.TemporaryDirectory() as folder:
        labels = Labels.open(Path(folder) / "labels.toml")
        for latent, text, marked in changes:
            labels.set(latent, text, marked)
            assert text is None or labels.text(latent).splitlines() in ([], [labels.text(latent)])
            assert marked is None or labels.marked(latent) == marked
        assert state(Labels.open(labels.path)) == state(labels)


@given(edits)
def test_undo_and_redo_walk_through_every_state(changes):
    with tempfile.TemporaryDirectory() as folder:
        labels = Labels.open(Path(folder) / "labels.toml")
        states, touched = [state(labels)], []
        for latent, text, marked in changes:
            labels.set(latent, text, marked)
            if state(labels) != states[-1]:
                states.append(state(labels))
                touched.append(latent)
        for latent, expected in zip(reversed(touched), reversed(states[:-1]), strict=True):
            assert labels.undo() == latent
            assert state(labels) == state(Labels.open(labels.path)) == expected
        assert labels.undo() is None
        for latent, expected in zip(touched, states[1:], strict=True):
            assert labels.redo() == latent
            assert state(labels) == state(Labels.open(labels.path)) == expected
        assert labels.redo() is None


def test_a_new_change_forgets_what_was_undone(path):
    labels = Labels.open(path)
    labels.set(1, text="a")
    labels.undo()
    labels.set(2, text="b")
    assert labels.redo() is None and labels.texts == {2: "b"}


def test_changes_of_others_are_kept_and_seen(path):
    mine, other = Labels.open(path), Labels.open(path)
    mine.set(1, text="mine")
    other.set(2, text="theirs", marked=True)
    assert state(Labels.open(path)) == ({1: "mine", 2: "theirs"}, {2})
    assert mine.text(2) == "" and mine.reload() and mine.text(2) == "theirs" and not mine.reload()
    other.set(1, text="no, mine")
    mine.set(3, marked=True)
    assert state(mine) == ({1: "no, mine", 2: "theirs"}, {2, 3})
    mine.undo()
    assert mine.undo() == 1 and state(Labels.open(path)) == ({2: "theirs"}, {2})


def test_edits_by_hand(path):
    labels = Labels.open(path)
    labels.set(4, text="cat")
    path.write_text(path.read_text().replace('"cat"', '"big\\ncat"').replace("marked = []", "marked = [9]"))
    assert labels.reload() and state(labels) == ({4: "big cat"}, {9})


WRITER = """
import sys
from engine.neurons.labels import Labels
labels = Labels.open(sys.argv[1])
for latent in range(int(sys.argv[2]), 120, 2):
    labels.set(latent, text=f"{sys.argv[2]} says {latent}", marked=latent % 3 == 0)
assert "torch" not in sys.modules
"""


def test_two_processes_lose_nothing(path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, str(first)]) for first in (0, 1)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    labels = Labels.open(path)
    assert labels.texts == {latent: f"{latent % 2} says {latent}" for latent in range(120)}
    assert labels.marks == set(range(0, 120, 3))


def test_a_deleted_workspace_is_made_again_with_everything(path, workspace):
    labels = Labels.open(path)
    labels.set(1, text="a", marked=True)
    shutil.rmtree(workspace.root)
    assert not labels.reload() and labels.text(1) == "a"
    labels.set(2, text="b")
    assert state(Labels.open(path)) == ({1: "a", 2: "b"}, {1})


def test_what_cannot_be_saved_is_saved_later(path):
    labels = Labels.open(path)
    path.parent.parent.mkdir(parents=True)
    path.parent.write_text("a file where the folder should be")
    with pytest.raises(UserError, match="Cannot save labels"):
        labels.set(1, text="a")
    assert labels.text(1) == "a"
    path.parent.unlink()
    Labels.open(path).set(2, text="b")
    assert labels.reload() and state(labels) == ({1: "a", 2: "b"}, set())
    labels.set(1, text="a")  # nothing new, but something unsaved
    assert state(Labels.open(path)) == ({1: "a", 2: "b"}, set())


FULL = """
import resource, signal, sys
from engine.errors import UserError
from engine.neurons.labels import Labels
labels = Labels.open(sys.argv[1])
labels.set(1, text="kept")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
try:
    labels.set(2, text="too much")
    sys.exit("saved on a full disk")
except UserError as error:
    assert "File too large" in str(error), error
assert Labels.open(sys.argv[1]).texts == {1: "kept"}
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
labels.set(3, marked=True)
"""


def test_a_full_disk_harms_nothing(path):
    subprocess.run([sys.executable, "-c", FULL, path], check=True)
    assert state(Labels.open(path)) == ({1: "kept", 2: "too much"}, {3})
    assert sorted(os.listdir(path.parent)) == [".lock", "demo.toml"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("marked = [", "not valid TOML"),
        ('a = "b"', "format = 'saetui-labels'"),
        ('format = "saetui-labels"', "no format version"),
        ('format = "saetui-labels"\nversion = 2', "upgrade saetui"),
        ('format = "saetui-labels"\nversion = 1\n[text]\ncat = "7"', "cat = '7' is not a latent's number"),
        ('format = "saetui-labels"\nversion = 1\n[text]\n7 = 7', "its text in quotes"),
        ('format = "saetui-labels"\nversion = 1\nmarked = [true]', "True in marked"),
        ('format = "saetui-labels"\nversion = 1\nmarked = 3', "marked a list"),
    ],
)
def test_a_damaged_file_is_named_and_never_overwritten(path, content, message):
    labels = Labels.open(path)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        Labels.open(path)
    with pytest.raises(UserError, match="your change is only here"):
        labels.set(1, text="a")
    assert path.read_text() == content
    path.unlink()
    labels.set(2, text="b")
    assert tomllib.loads(path.read_text())["text"] == {"1": "a", "2": "b"}


def test_latents_are_numbered_from_0(path):
    with pytest.raises(UserError, match="no latent -1"):
        Labels.open(path).set(-1, text="a")


def test_what_a_person_wrote_around_the_labels_stays(tmp_path):
    path = tmp_path / "labels" / "s.toml"
    path.parent.mkdir()
    path.write_text(
        '# mine\nformat = "saetui-labels"\nversion = 1\nowner = "me"\n'
        'marked = [3]  # to look at again\n\n[text]\n# animals\n1 = "cat"  # sure\n2 = "dog"\n# plants\n8 = "oak"\n'
    )
    labels = Labels.open(path)
    labels.set(1, "a cat")
    labels.set(9, marked=True)
    labels.set(2, "")
    labels.set(5, "ant")
    assert path.read_text() == (
        '# mine\nformat = "saetui-labels"\nversion = 1\nowner = "me"\n'
        'marked = [3, 9]  # to look at again\n\n[text]\n# animals\n1 = "a cat"  # sure\n'
        '5 = "ant"\n# plants\n8 = "oak"\n'
    )


def test_labels_of_another_sae_of_the_same_name_lie_apart(tmp_path):
    path = tmp_path / "labels/s.toml"
    Labels.open(path, "1" * 64).set(3, "pencil")
    other = Labels.open(path, "2" * 64)
    assert other.texts == {} and Labels.open(path, "1" * 64).texts == {3: "pencil"}
    other.set(3, "fish")
    assert Labels.open(path, "1" * 64).text(3) == "pencil" and Labels.open(path, "2" * 64).text(3) == "fish"
    assert sorted(one.name for one in path.parent.glob("*.toml")) == ["s-22222222.toml", "s.toml"]


def test_labels_that_do_not_say_their_sae_are_of_the_first_that_writes_them(tmp_path):
    path = tmp_path / "labels/s.toml"
    Labels.open(path).set(3, "pencil")
    Labels.open(path, "1" * 64).set(4, "fish")
    assert Labels.open(path, "1" * 64).texts == {3: "pencil", 4: "fish"} and Labels.open(path, "2" * 64).texts == {}

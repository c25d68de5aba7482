import json
import re
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import UserError
from engine.neurons.file import Neurons, write_neurons
from engine.neurons.quantities import KEPT
from engine.neurons.query import LATENTS
from engine.neurons.results import Listed, Related, ScoredImage
from engine.neurons.seal import unsealed
from tests.support.scores import SUMMARY, made_from

W, TOP = 6, 4
ARRAYS = {name: quantity.dtype for name, quantity in KEPT.items() if not quantity.optional}
WORDS = ["cat", "scarf", "car", "red car"]


@pytest.fixture
def contents():
    rng = np.random.default_rng(0)
    latents = {name: rng.random(W).astype(dtype) for name, dtype in ARRAYS.items()}
    latents |= {
        "ms": np.array([0.1, 0.5, np.nan, 0.3, 0.9, 0.2]),
        "matched": np.array([0.1, 0.1, np.nan, np.nan, 0.8, 0.0]),
        "support": np.array([5, 4, 0, 9, 2, 7]),
        "histogram": rng.integers(0, 9, (W, 24)),
        "top_images": np.array([[2, 0, 1, -1]] * W),
        "top_activations": np.array([[3.0, 2, 1, 0]] * W),
        "maps": rng.random((W, TOP, 2, 3)).astype(np.float16),
        "names": np.array([[0, 1], [1, 0], [-1, -1], [3, 2], [0, 2], [1, 3]]),
        "name_scores": np.array([[0.9, 0.1], [0.8, 0.2], [np.nan] * 2, [0.7, 0.6], [0.5, 0.4], [0.3, -0.1]]),
    }
    images = [
        ScoredImage("a/1.png", "a", ("life", "a"), "0" * 64),
        ScoredImage("b/ü.png", None, (), "1" * 64),
        ScoredImage("b/\udcff.png", "b", ("life", "b"), "2" * 64),
    ]
    word_latents = np.array([[0, 4], [1, 5], [3, 0], [3, -1]])
    word_scores = np.array([[0.9, 0.5], [0.8, 0.3], [0.6, 0.05], [0.7, np.nan]])
    return dict(
        latents=latents,
        images=images,
        words=WORDS,
        word_latents=word_latents,
        word_scores=word_scores,
        summary=SUMMARY,
        provenance=made_from("s", "3"),
    )


@pytest.fixture
def neurons(contents, tmp_path):
    write_neurons(tmp_path / "n.h5", **contents)
    with Neurons.open(tmp_path / "n.h5") as opened:
        yield opened


def test_everything_written_is_read(neurons, contents):
    for name, dtype in ARRAYS.items():
        if name != "names":
            found = getattr(neurons, name)
            np.testing.assert_array_equal(found, contents["latents"][name].astype(dtype), err_msg=name)
            assert found.dtype == dtype
    assert neurons.w == W and neurons.words == WORDS and neurons.grid == (2, 3)
    assert neurons.names == [
        ["cat", "scarf"],
        ["scarf", "cat"],
        [],
        ["red car", "car"],
        ["cat", "car"],
        ["scarf", "red car"],
    ]
    assert neurons.images == contents["images"]
    assert neurons.summary == contents["summary"] and neurons.provenance == contents["provenance"]
    np.testing.assert_array_equal(neurons.maps(3), contents["latents"]["maps"][3])
    assert [row.path for row in neurons.top(1)] == ["b/\udcff.png", "a/1.png", "b/ü.png"]
    assert [row.activation for row in neurons.top(1)] == [3, 2, 1]


def test_latents_are_found_by_the_classes_of_their_images(contents, tmp_path):
    """The words name none of these; classes are searched at every level of their folders, whole words first."""
    contents["images"] = [
        ScoredImage("1.png", "Flags/country-flag", ("Flags", "country-flag"), ""),
        ScoredImage("2.png", "Smileys/face_smiling", ("Smileys", "face_smiling"), ""),
        ScoredImage("3.png", "surface", (), ""),
    ]
    contents["latents"] |= {"class_image": [0, 1, -1, 2, 0, -1], "class_share": [0.5, 1, np.nan, 0.25, 0.75, np.nan]}
    write_neurons(tmp_path / "n.h5", **contents)
    with Neurons.open(tmp_path / "n.h5") as neurons:
        assert neurons.order(search="flag") == [4, 0] and neurons.search("flag") == {0: 0.5, 4: 0.75}
        assert neurons.order(search="face") == [1] and neurons.order(search="face smiling") == [1]
        assert neurons.order(search="Smileys") == [1] and neurons.order(search="rface") == [3]
        assert neurons.order(search="class_share>=.5 country-flag") == [4, 0]
        asked = {"flags/country_flag": [0, 4], '"country flag"': [0, 4], "face*": [1], "flag": [], "face": []}
        assert {text: sorted(neurons.order(search=f"class={text}")) for text in asked} == asked, (
            "as tables show it, too"
        )
        assert neurons.order(search="flag", labels={2: "a flag"}) == [2, 4, 0], "labels stand before them"
        assert [neurons.class_of(n) for n in (1, 2)] == ["Smileys/face_smiling", ""]
        assert neurons.row(0).to_json()["class"] == "Flags/country-flag"
        assert [neurons.kind_of(n) for n in (0, 2, 3)] == ["country-flag", "", "surface"]
    bird = ScoredImage("4.png", "7_Animalia_Aves_Columba_livia", ("Animalia", "Aves", "Columba", "livia"), "")
    assert bird.kind == "Columba livia"


def test_latents_are_found_by_every_name_of_the_classes_of_their_images(contents, tmp_path):
    """The folder of a class that a file among the folders calls otherwise, and its synonyms."""
    contents["images"] = [
        ScoredImage("n01440764/1.png", "tench", (), "", ("n01440764", "Tinca tinca")),
        ScoredImage("n01440764/2.png", "tench", (), "", ("n01440764", "Tinca tinca")),
        ScoredImage("n02/3.png", "crane n02", (), "", ("n02", "crane")),
    ]
    contents["latents"] |= {"class_image": [0, 1, 2, -1, -1, -1], "class_share": [0.5, 1, 1, np.nan, np.nan, np.nan]}
    write_neurons(tmp_path / "n.h5", **contents)
    with Neurons.open(tmp_path / "n.h5") as neurons:
        assert neurons.images == contents["images"]
        for name in ("tench", "n01440764", "Tinca tinca"):
            asked = [f'class="{name}"', name]
            assert [sorted(neurons.order(search=one)) for one in asked] == [[0, 1], [0, 1]], name
        assert neurons.order(search="class=crane") == [2] and neurons.order(search="class!=n01440764") == [2]
        assert neurons.row(0).to_json()["class"] == "tench", "it is called by its name"


def test_files_that_are_older_than_classes_of_latents_have_them(neurons):
    """They are made from the top images and their labels, which are there: of two in two classes the strongest."""
    assert neurons.class_image.tolist() == [2] * W and neurons.class_share.tolist() == [1 / 3] * W
    assert neurons.class_of(0) == "b" and neurons.row(0).to_json()["class"] == "b"
    assert neurons.order(search="life") == list(np.argsort(-neurons.class_share, kind="stable"))
    assert not neurons.complete, "neighbours need the SAE"


def test_neighbours_and_directions(neurons, contents, tmp_path):
    assert neurons.neighbours(1) == Related([], []) and not neurons.complete
    assert neurons.directions is None and neurons.word_mean is None, "files of older versions have none"
    near, cosines = np.full((W, 3), -1), np.zeros((W, 3))
    near[1], cosines[1] = [4, 0, -1], [0.5, 0.25, 0]
    directions, mean = np.eye(W, 7), np.arange(7)
    contents["latents"] |= {name: np.zeros(W) for name, quantity in KEPT.items() if quantity.made_by}
    contents["latents"] |= {
        "near": near,
        "near_cosines": cosines,
        "cofiring": near[::-1],
        "cofiring_scores": -cosines[::-1],
        "directions": directions,
    }
    write_neurons(tmp_path / "more.h5", **contents, word_mean=mean)
    with Neurons.open(tmp_path / "more.h5") as more:
        assert more.complete and more.neighbours(1) == Related([(4, 0.5), (0, 0.25)], [])
        assert more.neighbours(4) == Related([], [])
        np.testing.assert_array_equal(more.directions, directions.astype(np.float16))
        np.testing.assert_array_equal(more.word_mean, mean)
        with pytest.raises(UserError, match="not 6"):
            more.neighbours(6)


def test_matches_in_other_results(neurons, contents, tmp_path):
    assert neurons.match(neurons, 3) == [(latent, 1.0) for latent in range(W)]
    images = contents["images"]
    contents |= {"images": [replace(images[2], path="moved.png"), images[0], replace(images[1], sha256="9" * 64)]}
    contents["latents"]["top_images"] = np.array([[0, 1, -1, -1], [2, -1, -1, -1], [1, 2, -1, -1]] * 2)
    write_neurons(tmp_path / "other.h5", **contents)
    with Neurons.open(tmp_path / "other.h5") as other:
        assert neurons.match(other, 0) == [(0, 2 / 3), (3, 2 / 3), (2, 1 / 4), (5, 1 / 4)]
        assert neurons.match(other, 0, n=1) == [(0, 2 / 3)]
        assert other.match(neurons, 1) == []
        assert len(neurons.match(other, 5)) == 4


def test_paths_of_latents(contents, tmp_path):
    contents["latents"]["top_images"] = np.array([[0, 2, -1, -1], [0] * 4, [-1] * 4, [1] * 4, [0] * 4, [0] * 4])
    contents["images"][1] = replace(contents["images"][1], label="b")
    write_neurons(tmp_path / "n.h5", **contents)
    with Neurons.open(tmp_path / "n.h5") as opened:
        found = [opened.path_of(latent) for latent in range(4)]
        assert found == [(("life",), 1.0), (("life", "a"), 1.0), ((), 0.0), (("b",), 1.0)]
        assert opened.taxonomy.tree(opened.top_images).find(("life",)).below() == [0, 1, 4, 5]


def test_same_contents_same_bytes(contents, tmp_path):
    write_neurons(tmp_path / "one.h5", **contents)
    write_neurons(tmp_path / "other.h5", **contents)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "other.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.h5", "other.h5"]


def test_without_maps_and_names(contents, tmp_path):
    del contents["latents"]["maps"]
    contents["latents"]["names"] = contents["latents"]["name_scores"] = np.empty((W, 0))
    contents |= {"words": [], "word_latents": np.empty((0, 0)), "word_scores": np.empty((0, 0))}
    write_neurons(tmp_path / "n.h5", **contents)
    opened = Neurons.open(tmp_path / "n.h5")
    assert opened.grid is None and opened.maps(0) is None
    assert opened.names == [[]] * W and opened.search("cat") == {}


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("", [1, 5, 4, 0, 2, 3]),
        ("best", [1, 5, 4, 0, 2, 3]),
        ("ms", [4, 1, 3, 5, 0, 2]),
        ("gain", [1, 5, 4, 0, 2, 3]),
        ("support", [3, 5, 0, 1, 4, 2]),
        ("latent", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_sorted_with_undefined_last(neurons, sort, order):
    assert neurons.order(sort) == order
    assert [row.latent for row in neurons.table(sort, top=3)] == order[:3]
    assert len(neurons.table(sort, top=0)) == W


def test_the_best_stand_first_where_enough_images_fire_them(neurons):
    assert neurons.order("best", support=5) == [5, 0, 1, 4, 2, 3], "of 5 images and more, then of fewer, then undefined"
    assert neurons.order("best", support=5, descending=False) == [0, 5, 4, 1, 2, 3]
    assert [row.latent for row in neurons.table(top=2, support=5)] == [5, 0]


def test_latents_of_copies_are_set_aside_and_counted(contents, tmp_path):
    contents["latents"]["top_images"] = np.array([[2, 0, 1, -1]] * 5 + [[2, -1, -1, -1]])
    contents["latents"]["distinct"] = np.array([3, 1, 2, 1, 3, 1])
    write_neurons(tmp_path / "n.h5", **contents)
    with Neurons.open(tmp_path / "n.h5") as neurons:
        assert np.flatnonzero(neurons.copies).tolist() == [1, 3], "one image alone is no copy"
        listed = neurons.listed("ms")
        assert listed.latents == [4, 5, 0, 2] and listed.aside == (1, 3)
        assert neurons.order("ms") == [4, 1, 3, 5, 0, 2], "nothing is dropped where nothing says so"
        assert neurons.listed("ms", copies=True) == Listed(neurons.order("ms"), ())
        assert neurons.listed("ms", "copies") == Listed([1, 3], ()), "who asks for them sees them"
        assert neurons.listed("ms", "copies=0") == Listed([4, 5, 0, 2], ())
        assert neurons.listed("ms", "latent=3") == Listed([3], ()), "nothing stands before it"
        assert [row.latent for row in neurons.table("ms", 2)] == [4, 5]


def test_ascending_still_has_undefined_last(neurons):
    assert neurons.order("ms", descending=False) == [0, 5, 3, 1, 4, 2]


def test_search_takes_whole_words_first(neurons):
    assert neurons.search("car") == pytest.approx({3: 0.7, 4: 0.4, 0: 0.05})
    assert set(neurons.search("SCAR")) == {0, 1, 5}
    assert neurons.search("rhinoceros") == {} and neurons.search("  ") == {}
    assert neurons.search("4") == {4: 2.0} and neurons.search("99") == {}
    assert neurons.order(search="car") == [3, 4, 0]
    assert neurons.order("ms", search="car") == [4, 3, 0]
    assert neurons.table(search="car", top=1)[0].match == pytest.approx(0.7)


def test_a_row_says_by_which_word_it_was_found(neurons):
    """Through "car", latent 0 is found by a word that is none of its names; 3 by its nearest of two."""
    through = {3: "red car", 4: "car", 0: "car"}
    assert neurons.found_through(LATENTS.parse("car")) == through
    rows = neurons.table(search="car ms>0")
    assert (
        {row.latent: row.through for row in rows} == through == {row.latent: row.to_json()["through"] for row in rows}
    )
    assert {row.latent: row.called for row in rows} == {
        3: ["red car", "car"],
        4: ["car", "cat"],
        0: ["car", "cat", "scarf"],
    }
    assert neurons.found_through(LATENTS.parse("cat OR rf"))[0] == "cat", "that which is asked first"
    assert neurons.found_through(LATENTS.parse("2")) == {}
    assert all(row.called == row.names for row in neurons.table())


def test_a_persons_labels_go_first(neurons):
    rows = neurons.table(search="car", labels={2: "old car", 77: "car"})
    assert [row.latent for row in rows] == [2, 3, 4, 0]
    assert rows[0].label == "old car" and rows[0].values["ms"] is None


ASKED = ["ms>.1", "ms!=.5", "gain>0", "matched<.1", "support>=5", "freq<50%", "max>.5", "group=0", "depth<.6"]
ASKED += ["latent>=2", "marked", "labelled", "alive", "dead", "marked=0", "low<=.5", "high>.3", "mean<.5", "tokens>.2"]


def satisfies(row, asked, marks):
    """Whether a table's row is what the condition ``asked`` asks for, read anew and latent by latent."""
    if asked in ("marked", "marked=0"):
        return (row["latent"] in marks) == (asked == "marked")
    if asked in ("alive", "dead"):
        return (row["token_frequency"] > 0) == (asked == "alive")
    if asked == "labelled":
        return row["label"] != ""
    field, sign, value = re.fullmatch(r"(\w+?)([<>=!]+)(.*)", asked).groups()
    named = {"freq": "frequency", "max": "maximum", "tokens": "token_frequency"}
    found = row[named.get(field, field)]
    limit = float(value.strip("%")) / (100 if "%" in value else 1)
    return found is not None and eval(f"{found!r} {'==' if sign == '=' else sign} {limit!r}")


@given(st.lists(st.sampled_from(ASKED), max_size=3), st.sampled_from(["", "car", "cat", "s", "4"]), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_query_is_its_conditions_and_its_text(neurons, asked, text, descending):
    labels, marks = {1: "my car", 3: "", 5: "scarf"}, {0, 1, 99}
    rows = [neurons.row(latent, labels).to_json() for latent in range(W)]
    query = " ".join([*asked, text])
    found = neurons.search(text, labels) if text else range(W)
    expected = [row["latent"] for row in rows if row["latent"] in found]
    expected = [latent for latent in expected if all(satisfies(rows[latent], one, marks) for one in asked)]
    ordered = [latent for latent in neurons.order("gain", text, labels, descending) if latent in expected]
    assert neurons.order("gain", query, labels, descending, marks) == ordered
    assert sorted(neurons.order(search=LATENTS.parse(query), labels=labels, marks=marks)) == expected
    listed = neurons.table("gain", 0, query, labels, descending, marks)
    assert [row.latent for row in listed] == ordered
    assert all(row.match == (found[row.latent] if text else None) for row in listed)


def test_either_and_not_are_sets_of_what_they_join(neurons):
    labels, marks = {1: "my car", 3: "", 5: "scarf"}, {0, 1}
    found = {line: set(neurons.order(search=line, labels=labels, marks=marks)) for line in [*ASKED, "car", "cat"]}
    for first, second in [("ms>.1", "car"), ("cat", "car"), ("marked", "dead"), ("NOT ms>.1", "cat")]:
        left = found.get(first, set(range(W)) - found["ms>.1"])
        either = neurons.order(search=f"{first} OR {second}", labels=labels, marks=marks)
        assert set(either) == left | found[second]
        both = neurons.order(search=f"({first}) AND NOT ({second})", labels=labels, marks=marks)
        assert set(both) == left - found[second]
    best = {
        latent: max(neurons.search(text, labels).get(latent, 0.0) for text in ("cat", "car")) for latent in range(W)
    }
    by_match = neurons.order(search="cat OR car", labels=labels)
    assert [best[latent] for latent in by_match] == sorted((best[latent] for latent in by_match), reverse=True)
    rows = neurons.table(search="cat OR latent=5", labels={})
    assert {row.latent: row.match for row in rows if row.latent == 5} == {5: neurons.search("cat").get(5)}


def test_texts_are_compared_and_sorted(neurons):
    labels, marks = {1: "zebra", 2: "Ant"}, {4}
    names = [labels.get(latent) or " · ".join(neurons.names_of(latent)) for latent in range(W)]
    assert neurons.order(search="names=z*", labels=labels) == [1] == neurons.order(search="label!=ant", labels=labels)
    known = sorted((latent for latent in range(W) if names[latent]), key=lambda latent: names[latent].casefold())
    nameless = [latent for latent in range(W) if not names[latent]]
    assert neurons.order("names", labels=labels) == known + nameless
    assert sorted(neurons.order("names", labels=labels, descending=False)[: len(known)]) == sorted(known)
    assert neurons.order("marked", marks=marks)[0] == 4
    assert neurons.order("raw") == neurons.order("matched") and neurons.order("#") == list(range(W))


def test_a_search_reads_its_words_anew_for_each_pattern(neurons, contents):
    """Against the definition, word by word and latent by latent."""
    latents = contents["latents"]
    for text in ("car", "CAT", "ar", "red", "red car", "c", "x", ".", "scarf"):
        expected = {}
        for pattern in (rf"\b{re.escape(text)}\b", re.escape(text)):
            for n, word in enumerate(WORDS):
                if not re.search(pattern, word, re.IGNORECASE):
                    continue
                pairs = [*zip(contents["word_latents"][n], contents["word_scores"][n], strict=True)]
                pairs += [(k, latents["name_scores"][k][latents["names"][k] == n].sum()) for k in range(W)]
                for latent, score in pairs:
                    if latent >= 0 and score > 0:
                        expected[int(latent)] = max(expected.get(int(latent), 0), score)
            if expected:
                break
        assert neurons.search(text) == pytest.approx(expected), text


def test_numbers_that_are_no_latents_find_none(neurons):
    assert neurons.search("²") == {} and neurons.search("9" * 5000) == {} and neurons.search("00004") == {}
    with pytest.raises(UserError, match="no 'mss' to compare: use mass or ms"):
        neurons.order(search="mss>.5")


def test_rows_are_json(neurons):
    rows = [row.to_json() for row in neurons.table("ms", top=0)]
    assert json.loads(json.dumps(rows, allow_nan=False))[0]["names"] == ["cat", "car"]


def test_mistakes_are_named(neurons, contents, tmp_path):
    with pytest.raises(UserError, match="sorted by 'beauty'"):
        neurons.table("beauty")
    with pytest.raises(UserError, match="'match'"):
        neurons.table("match")
    with pytest.raises(UserError, match="latents 0 to 5, not 6"):
        neurons.maps(6)
    with pytest.raises(UserError, match=r"no scores at .*nothing\.h5"):
        Neurons.open(tmp_path / "nothing.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(UserError, match=r"other\.h5 is no neurons file"):
        Neurons.open(tmp_path / "other.h5")
    write_neurons(tmp_path / "new.h5", **contents)
    (tmp_path / "new.h5").write_bytes(unsealed(tmp_path / "new.h5"))
    with h5py.File(tmp_path / "new.h5", "a") as file:
        file.attrs["version"] = 2
    with pytest.raises(UserError, match="version 2"):
        Neurons.open(tmp_path / "new.h5")
    with h5py.File(tmp_path / "new.h5", "a") as file:
        file.attrs["version"] = 1
        del file["latents/ms"]
    with pytest.raises(UserError, match=r"new\.h5 is damaged"):
        Neurons.open(tmp_path / "new.h5")


def test_a_damaged_file_gives_user_errors_only(contents, tmp_path):
    write_neurons(tmp_path / "n.h5", **contents)
    whole = (tmp_path / "n.h5").read_bytes()
    for length in (0, 100, len(whole) // 3, len(whole) // 2, len(whole) - 200):
        (tmp_path / "cut.h5").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.h5"):
            opened = Neurons.open(tmp_path / "cut.h5")
            opened.table(top=0, search="car")
            opened.maps(5)


def test_a_disk_that_refuses_leaves_the_old_file(contents, tmp_path, monkeypatch):
    write_neurons(tmp_path / "n.h5", **contents)
    before = (tmp_path / "n.h5").read_bytes()
    code = """
import pickle, resource, sys
from pathlib import Path
from engine.errors import UserError
from engine.neurons.file import write_neurons
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    write_neurons(Path(sys.argv[1]), **pickle.load(sys.stdin.buffer))
except UserError as error:
    assert "n.h5" in str(error)
    sys.exit(0)
sys.exit(1)
"""
    import pickle

    subprocess.run([sys.executable, "-c", code, tmp_path / "n.h5"], input=pickle.dumps(contents), check=True)
    assert (tmp_path / "n.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["n.h5"]


def test_reading_costs_no_torch(contents, tmp_path):
    write_neurons(tmp_path / "n.h5", **contents)
    code = """
import sys
from engine.neurons.file import Neurons
Neurons.open(sys.argv[1]).table(search="car")
assert not {"torch", "transformers", "open_clip", "scipy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "n.h5"], check=True)

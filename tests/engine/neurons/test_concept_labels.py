import numpy as np
import pytest

from engine.errors import UserError
from engine.neurons.concept_labels import concepts, read_labels
from engine.neurons.results import ScoredImage

IMAGES = [
    ScoredImage("a/0.png", "animal/cat", ("animal", "cat"), ""),
    ScoredImage("a/1.png", "animal/dog", ("animal", "dog"), ""),
    ScoredImage("b/2.png", "thing/hat", ("thing", "hat"), ""),
    ScoredImage("b/3.png", None, (), ""),
]


def test_classes_and_taxa_are_concepts_once():
    names, has = concepts(IMAGES)
    assert names == ["class=animal/cat", "animal", "class=animal/dog", "class=thing/hat"]
    np.testing.assert_array_equal(has[:, 1], [True, True, False, False])


def test_a_table_adds_what_it_says(tmp_path):
    table = tmp_path / "more.csv"
    table.write_text(
        "path,colour,caption,blank,size\na/0.png,red,one,no,3\na/1.png,red,two,yes,4\nb/3.png,blue,three,YES,5\n"
    )
    found = read_labels(str(table))
    assert found == {
        "a/0.png": ("colour=red",),
        "a/1.png": ("colour=red", "blank"),
        "b/3.png": ("colour=blue", "blank"),
    }
    names, has = concepts(IMAGES, found)
    assert has[:, names.index("blank")].tolist() == [False, True, False, True]


def test_lines_of_json_may_have_lists(tmp_path):
    table = tmp_path / "labels.jsonl"
    table.write_text(
        '{"path": "a/0.png", "kinds": ["cat", "fish"], "blank": false, "scene": {"x": 1}}\n\n'
        '{"path": "b/2.png", "kinds": ["fish"], "blank": true, "index": 4}\n'
    )
    found = read_labels(str(table))
    assert found == {"a/0.png": ("kinds=cat", "kinds=fish"), "b/2.png": ("kinds=fish", "blank")}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.csv", "file,colour\na.png,red\n", "no column path"),
        ("x.csv", "path,size\na.png,3\n", "names no concepts"),
        ("x.jsonl", '{"colour": "red"}\n', "names no path in line 1"),
        ("x.jsonl", "red\n", "no JSON in line 1"),
        ("x.jsonl", "[1]\n", "names no path in line 1"),
        ("x.csv", "", "no column path"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_labels(str(tmp_path / name))

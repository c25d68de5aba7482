import os
import subprocess
import sys

import pytest

from engine.errors import UserError
from engine.images.taxonomies import ParentTable, open_taxonomy
from engine.neurons.results import ScoredImage
from engine.neurons.taxonomy import placed
from engine.reporter import Reporter


class Listener(Reporter):
    def __init__(self):
        self.said = []

    def event(self, event):
        self.said.append(event.message)


def table(folder, text):
    (folder / "parents.csv").write_text(text)
    return ParentTable(str(folder / "parents.csv"))


def test_a_class_is_followed_to_its_root(tmp_path):
    found = table(tmp_path, "child,parent,note\nn02123045,cat,x\ncat,animal,\nhat , thing,\ncat,animal,again\n")
    assert found.path("n02123045") == ("animal", "cat", "n02123045")
    assert found.path("train/cat") == ("animal", "cat"), "by its last folder"
    assert found.path("animal") == ("animal",)
    assert found.path("hat") == ("thing", "hat")
    assert found.path("dog") == () == found.path(None)
    assert len(found.sha256) == 64


def test_a_name_under_two_kingdoms_is_refused_and_two_names_are_two(tmp_path):
    with pytest.raises(UserError, match=r"gives 'Oenanthe' a second parent in line 3, 'Plantae' after 'Animalia'"):
        table(tmp_path, "child,parent\nOenanthe,Animalia\nOenanthe,Plantae\n")
    found = table(tmp_path, "child,parent\nOenanthe (bird),Animalia\nOenanthe (plant),Plantae\n")
    assert found.path("Oenanthe (bird)")[0] != found.path("Oenanthe (plant)")[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n", "no column child"),
        ("child,parent\n", "has no rows"),
        ("child,parent\n,b\n", "names no child in line 2"),
        ("child,parent\na,b\nb,c\nc,a\n", "makes 'a' an ancestor of its own"),
        ("child,parent\na,a\n", "makes 'a' an ancestor of its own"),
        ("", "no column child"),
    ],
)
def test_what_is_no_tree_is_refused(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        table(tmp_path, text)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv does not exist"):
        ParentTable(str(tmp_path / "none.csv"))


def test_a_long_chain_is_no_recursion(tmp_path):
    found = table(tmp_path, "child,parent\n" + "".join(f"{i},{i + 1}\n" for i in range(5000)))
    assert len(found.path("0")) == 5001


def test_images_get_the_place_of_their_class(tmp_path):
    found, listener = table(tmp_path, "child,parent\ncat,animal\n"), Listener()
    images = [
        ScoredImage("0", "x/cat", ("x", "cat"), ""),
        ScoredImage("1", "dog", (), ""),
        ScoredImage("2", None, (), ""),
    ]
    assert [one.taxonomy for one in placed(images, found, listener)] == [("animal", "cat"), (), ()]
    assert listener.said == ["The taxonomy has no place for 1 of the 2 classes of the images: dog."]
    with pytest.raises(UserError, match="none of the images' classes"):
        placed(images[1:], found, listener)


def test_a_class_in_words_is_found_by_the_folder_of_its_images(tmp_path):
    found = table(tmp_path, "child,parent\nn01,fish\ncrane n02,bird\n")
    images = [
        ScoredImage("n01/0.png", "tench", (), ""),
        ScoredImage("n02/0.png", "crane n02", (), ""),
        ScoredImage("n01/1.png", None, (), ""),
    ]
    places = [one.taxonomy for one in placed(images, found, Listener())]
    assert places == [("fish", "n01"), ("bird", "crane n02"), ()]


def test_a_class_is_found_by_another_name_of_it(tmp_path):
    found = table(tmp_path, "child,parent\nTinca tinca,fish\nfish,animal\n")
    assert found.path("tench", "", ("n01440764", "Tinca tinca")) == ("animal", "fish", "Tinca tinca")
    assert found.path("tench", "", ("n01440764",)) == found.path(None, "", ("Tinca tinca",)) == ()


def test_one_taxonomy_is_asked_for(tmp_path):
    assert open_taxonomy("", False) is None
    with pytest.raises(UserError, match="give --taxonomy or --wordnet"):
        open_taxonomy("parents.csv", True)


def test_without_nltk_or_its_data_wordnet_is_refused():
    """In a process of its own, as nltk keeps where it looks."""
    program = (
        "import sys\nfrom engine.images.taxonomies import open_taxonomy\nfrom engine.errors import UserError\n"
        "try:\n    open_taxonomy('', True)\nexcept UserError as error:\n    sys.exit(str(error))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"NLTK_DATA": "/nowhere", "HOME": "/nowhere"}, text=True,
        capture_output=True,
    )  # fmt: skip
    if done.returncode == 0:
        pytest.skip("WordNet is installed")
    assert "WordNet" in done.stderr and "give a table to --taxonomy" in done.stderr and "Traceback" not in done.stderr


NOUNS = {  # by their names: those above each; cat has two ways up
    "entity": [],
    "animal": ["entity"],
    "pet": ["animal"],
    "feline": ["animal"],
    "big_feline": ["feline"],
    "cat": ["big_feline", "pet"],
}


def wordnet(folder):
    """A database of WordNet's own layout, of nouns alone. Returns the number of each synset, its place in the file."""
    folder.mkdir(parents=True)
    lines, at = {}, {}
    for _ in range(2):  # places are known once the lines have their length
        offset = 0
        for name, above in NOUNS.items():
            pointers = "".join(f"@ {at.get(one, 0):08d} n 0000 " for one in above)
            lines[name] = f"{offset:08d} 03 n 01 {name} 0 {len(above):03d} {pointers}| a {name}  \n"
            at[name], offset = offset, offset + len(lines[name])
    (folder / "data.noun").write_text("".join(lines.values()))
    (folder / "index.noun").write_text(
        "".join(
            f"{name} n 1 {1 if above else 0} {'@ ' if above else ''}1 0 {at[name]:08d}  \n"
            for name, above in NOUNS.items()
        )
    )
    for part in ("verb", "adj", "adv"):
        (folder / f"data.{part}").write_text("")
        (folder / f"index.{part}").write_text("")
        (folder / f"{part}.exc").write_text("")
    (folder / "noun.exc").write_text("cats cat\n")
    names = ["adj.all", "adj.pert", "adv.all", "noun.Tops"]
    (folder / "lexnames").write_text("".join(f"{n:02d}\t{name}\t1\n" for n, name in enumerate(names)))
    (folder / "index.sense").write_text("")
    return at


def test_wordnet_gives_the_shortest_way_up(tmp_path, monkeypatch):
    nltk = pytest.importorskip("nltk", reason="nltk is not installed")
    at = wordnet(tmp_path / "corpora/wordnet")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    found = open_taxonomy("", True)
    up = ("entity.n.01", "animal.n.01", "pet.n.01", "cat.n.01")
    assert found.path("val/cat") == found.path("cat") == found.path(f"n{at['cat']:08d}") == up
    assert found.path("unicorn", f"n{at['cat']:08d}") == up, "a class in words, in a folder with its number"
    assert found.path("big feline")[-1] == "big_feline.n.01"
    assert found.path("unicorn") == found.path("n99999999") == found.path(None) == ()

from importlib import resources

import numpy as np
import pytest

from engine.errors import UserError
from engine.images.sources import ImageEntry
from engine.neurons.names import (
    Words,
    class_texts,
    class_words,
    is_word,
    name_latents,
    rank_text,
    read_vocabulary,
    vocabulary,
)


@pytest.fixture
def scene():
    """Images that show one of four things, in a space where each word has its axis and all share a large part."""
    rng = np.random.default_rng(0)
    shown = np.repeat(np.arange(4), 10)
    shared = 5 * np.ones(8)
    embeddings = shared + np.eye(8)[shown] + 0.05 * rng.normal(size=(40, 8))
    words = ["fish", "tree", "red", "car", "nothing"]
    text = -shared + 2 * np.eye(8)[[0, 1, 2, 3, 4]] + 0.05 * rng.normal(size=(5, 8))
    return embeddings, words, lambda asked: np.stack([text[words.index(word)] for word in asked])


def test_latents_are_named_after_what_their_images_share(scene):
    embeddings, words, embed_text = scene
    top_images = np.array([[20, 21, 22, -1], [0, 1, 2, 3], [-1] * 4, [30, 35, 36, 37], [0, 1, 10, 11]])
    names = name_latents(top_images, embeddings, Words.embedded(words, embed_text), names=2, found=2)
    first = [words[n] if n >= 0 else None for n in names.of_latent[:, 0]]
    assert first[:4] == ["red", "fish", None, "car"]
    assert {words[n] for n in names.of_latent[4]} == {"fish", "tree"}
    assert (names.scores[[0, 1, 3], 0] > 0.8).all() and np.isnan(names.scores[2]).all()
    assert (np.diff(names.scores[[0, 1, 3, 4]], axis=1) <= 0).all()
    assert names.latents[words.index("fish")].tolist() == [1, 4]
    assert names.latents[words.index("tree"), 0] == 4


def test_scores_are_the_cosines_of_the_definition(scene):
    embeddings, words, embed_text = scene
    rng = np.random.default_rng(1)
    top_images = np.stack([rng.choice(40, 5, replace=False) for _ in range(30)])
    top_images[::3, 3:] = -1
    names = name_latents(top_images, embeddings, Words.embedded(words, embed_text), names=5, found=30)

    def unit(v):
        return v / np.linalg.norm(v, axis=-1, keepdims=True)

    images, text = unit(embeddings), unit(embed_text(words))
    text = unit(text - text.mean(axis=0))
    for k, row in enumerate(top_images):
        cosines = text @ unit(images[row[row >= 0]].mean(axis=0) - images.mean(axis=0))
        np.testing.assert_allclose(names.scores[k], np.sort(cosines)[::-1], atol=1e-5)
        np.testing.assert_allclose(names.scores[k], cosines[names.of_latent[k]], atol=1e-5)
    for n in range(5):
        column = [names.scores[k][names.of_latent[k] == n][0] for k in names.latents[n]]
        np.testing.assert_allclose(names.latent_scores[n], column, atol=1e-5)
        assert sorted(names.latents[n].tolist()) == list(range(30))
        assert (np.diff(names.latent_scores[n]) <= 0).all()


def test_free_text_is_ranked_as_the_words_are(scene, monkeypatch):
    embeddings, words, embed_text = scene
    rng = np.random.default_rng(3)
    top_images = np.stack([rng.choice(40, 5, replace=False) for _ in range(30)])
    top_images[7] = -1
    names = name_latents(top_images, embeddings, Words.embedded(words, embed_text), names=5)
    monkeypatch.setattr("engine.neurons.names._BLOCK", 7)
    ranked = rank_text(embed_text(words), names.directions.astype(np.float16), names.mean)
    assert ranked.shape == (5, 30) and (ranked[:, 7] == 0).all()
    for latent in set(range(30)) - {7}:
        np.testing.assert_allclose(ranked[names.of_latent[latent], latent], names.scores[latent], atol=2e-3)


def test_latents_in_blocks_and_more_asked_than_there_are(scene, monkeypatch):
    embeddings, words, embed_text = scene
    rng = np.random.default_rng(2)
    top_images = np.stack([rng.choice(40, 4, replace=False) for _ in range(23)])
    whole = name_latents(top_images, embeddings, Words.embedded(words, embed_text), names=50, found=50)
    monkeypatch.setattr("engine.neurons.names._BLOCK", 5)
    parts = name_latents(top_images, embeddings, Words.embedded(words, embed_text), names=50, found=50)
    assert whole.of_latent.shape == (23, 5) and whole.latents.shape == (5, 23)
    assert whole.of_latent.tolist() == parts.of_latent.tolist()
    assert whole.latents.tolist() == parts.latents.tolist()


def test_no_latent_with_images_leaves_words_without_latents(scene):
    embeddings, words, embed_text = scene
    names = name_latents(np.full((3, 4), -1), embeddings, Words.embedded(words, embed_text))
    assert (names.of_latent == -1).all() and (names.latents == -1).all() and np.isnan(names.latent_scores).all()


def test_the_built_in_vocabulary():
    words = read_vocabulary()
    path = resources.files("engine.neurons").joinpath("vocabulary.txt")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert 3000 < len(words) < 5000 and lines == words == sorted(set(words)) == [word.lower() for word in words]
    assert {"flag", "face", "smiley", "violin", "zebra", "granite", "hexagon", "wrench", "ankle", "volcano"} <= set(
        words
    )
    assert {"fish", "pencil", "umbrella", "red", "striped", "circle", "beach", "sky"} <= set(words)
    assert not any(word.startswith("#") or word != word.strip() for word in words)


def test_classes_of_the_images_join_the_built_in_words(tmp_path):
    kinds = [
        ("Flags/country-flag", ("Flags", "country-flag")),
        ("00012_Animalia_Aves_Columba_livia", ("Animalia", "Aves", "Columba", "livia")),
        ("n01440764", ()),
        ("7", ()),
        (None, ()),
        ("Fish", ()),
        ("Quxling", ()),
        ("Flags/country-flag", ("Flags", "country-flag")),
    ]
    images = [ImageEntry(f"{n}.png", 1, label, taxonomy) for n, (label, taxonomy) in enumerate(kinds)]
    flags, taxa = ["Flags", "country flag"], ["Animalia", "Aves", "Columba", "livia"]
    assert class_words(images) == [*flags, *taxa, "Fish", "Quxling"] and class_words(images, 2) == flags
    words, built_in = vocabulary("", images), read_vocabulary()
    assert words[: len(built_in)] == built_in and words[-1] == "Quxling" and "Fish" not in words
    (tmp_path / "words.txt").write_text("cat")
    assert vocabulary(str(tmp_path / "words.txt"), images) == ["cat"], "words of one's own are all"


@pytest.mark.parametrize(
    ("classes", "texts"),
    [
        ({"pets/tabby_cat": (), "pets/dog": ()}, ["tabby cat", "dog"]),
        ({"wild/cat": (), "pets/cat": ()}, ["wild cat", "pets cat"]),
        ({"00_Felis_catus": ("Felis", "catus"), "01_Canis_lupus": ("Canis", "lupus")}, ["catus", "lupus"]),
        ({"0": ("Felis", "sp"), "1": ("Canis", "sp"), None: ()}, ["Felis sp", "Canis sp"]),
        ({"tabby-cat": (), "tabby_cat": ()}, ["tabby cat", "tabby cat"]),
        ({}, []),
    ],
)
def test_classes_are_told_in_as_few_words_as_tell_them_apart(classes, texts):
    images = [ImageEntry(f"{n}.png", 1, label, taxonomy) for n, (label, taxonomy) in enumerate(classes.items())]
    assert list(class_texts(images).values()) == texts
    assert set(class_texts(images)) == {label for label in classes if label}
    assert all(map(is_word, texts)) and not is_word("n01440764") and not is_word("3")


def test_a_vocabulary_of_ones_own(tmp_path):
    (tmp_path / "words.txt").write_text("# mine\ncat\n\n dog \ncat\nCat\n")
    assert read_vocabulary(tmp_path / "words.txt") == ["cat", "dog"]
    (tmp_path / "empty.txt").write_text("\n# none\n")
    with pytest.raises(UserError, match=r"empty\.txt has no words"):
        read_vocabulary(tmp_path / "empty.txt")
    with pytest.raises(UserError, match=r"missing\.txt"):
        read_vocabulary(tmp_path / "missing.txt")


def test_words_that_the_tower_does_not_know_name_nothing(scene):
    embeddings, words, embed_text = scene
    unknown = embed_text(["fish"])[0] + 3

    def tower(asked):
        return np.stack([embed_text([word])[0] if word in words else unknown for word in asked])

    top_images = np.array([[20, 21, 22], [0, 1, 2]])
    names = name_latents(top_images, embeddings, Words.embedded(["qwx", *words, "xyz"], tower))
    assert names.words == words
    assert [words[n] for n in names.of_latent[:, 0]] == ["red", "fish"]
    nothing = name_latents(top_images, embeddings, Words.embedded(["qwx", "xyz"], tower))
    assert nothing.words == [] and nothing.of_latent.shape == (2, 0)

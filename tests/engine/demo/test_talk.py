"""What is said of the drawn world, and what the parser reads of it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.demo.talk import CAPTION, NOTHING, REQUESTS, THING, WORD, Mention, Statement, parse, plain
from engine.demo.words import BACKGROUNDS, COLOURS, FILLS, KINDS
from engine.demo.world import scene

mentions = st.builds(
    Mention,
    st.none() | st.sampled_from(KINDS),
    st.none() | st.sampled_from(list(COLOURS)),
    st.none() | st.sampled_from(FILLS),
)
statements = st.builds(
    Statement, st.lists(mentions, max_size=2).map(tuple), st.none() | st.sampled_from(list(BACKGROUNDS))
)


def sayable(statement: Statement, background: bool) -> Statement:
    """What an answer can state: no fills of two objects, and the background in captions only."""
    objects = statement.objects
    if len(objects) == 2:
        objects = tuple(replace(one, fill=None) for one in objects)
    return Statement(objects, statement.background if background else None)


@given(statement=statements, name=st.sampled_from([name for name in REQUESTS if name != "word"]))
@settings(max_examples=300)
def test_what_is_said_is_read(statement, name):
    request = REQUESTS[name]
    for answer in (request.say(statement), request.say(statement).lower(), plain(request.say(statement))):
        assert request.read(answer) == sayable(statement, background=name == "describe")


@given(statement=statements)
def test_one_word_says_the_first_kind(statement):
    said = WORD.say(statement)
    assert said == (statement.objects[0].kind or THING if statement.objects else NOTHING)
    assert WORD.read(said) == Statement(tuple(Mention(one.kind) for one in statement.objects[:1]))


@given(statement=statements, name=st.sampled_from(list(REQUESTS)), other=st.sampled_from(list(REQUESTS)))
@settings(max_examples=300)
def test_each_kind_of_text_is_told_from_the_others(statement, name, other):
    """But for the objects alone, which are a caption without its background, and nothing, which is a word."""
    plainest = {"describe", "short", "word"}
    if name != other and not {name, other} <= plainest:
        assert REQUESTS[other].read(REQUESTS[name].say(statement)) is None


def test_two_texts_of_one_picture_agree():
    """Where a text names its objects twice, it must name the same ones."""
    dialogue = REQUESTS["dialogue"]
    assert dialogue.read("Is it a red cat? Yes, it is a red cat!") == Statement((Mention("cat", "red"),))
    assert dialogue.read("Is it a red cat? Yes, it is a red fish!") is None


@pytest.mark.parametrize(
    "answer", ["", "a red", "red fish", "a solid red fish on a red background", "a fish fish", "an empty fish"]
)
def test_ungrammatical_answers_are_not_parsed(answer):
    assert parse(answer) is None
    assert all(request.read(answer) is None for request in REQUESTS.values())


@pytest.mark.parametrize("article", ["a", "an"])
def test_articles_are_those_of_the_next_word(article):
    assert (CAPTION.read(f"{article} orange cat") is None) == (article == "a")
    assert (CAPTION.read(f"{article} cat") is None) == (article == "an")


@given(index=st.integers(0, 10**6))
@settings(max_examples=60)
def test_captions_say_what_the_pictures_show(index):
    one = scene(11, index)
    stated = parse(CAPTION.say(one.statement()))
    assert stated is not None and stated.background == one.background
    assert stated.kinds == [thing.kind for thing in one.objects]
    assert stated.colours == [thing.colour for thing in one.objects]
    assert stated.fills == ([thing.fill for thing in one.objects] if len(one.objects) == 1 else [])


def test_there_are_ten_kinds_of_text_beside_captions():
    assert len(REQUESTS) == 13 and len({question for one in REQUESTS.values() for question in one.questions}) == sum(
        len(one.questions) for one in REQUESTS.values()
    )

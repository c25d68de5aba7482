from hypothesis import given
from hypothesis import strategies as st

from saetui.modes.steer.word_diff import changed_words, marked

sentences = st.text(st.sampled_from("ab \n"), max_size=40)


def longest_common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence, by the recurrence of textbooks."""
    row = [0] * (len(b) + 1)
    for x in a:
        row = [0, *row]
        before, row = row[1:], [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(row[j], before[j + 1]))
    return row[-1]


@given(sentences, sentences)
def test_what_is_not_new_stands_in_the_answer_before_in_the_same_order(before, after):
    pieces = changed_words(before, after)
    assert "".join(piece for piece, _ in pieces) == after
    assert not any(new and piece.isspace() for piece, new in pieces)
    kept = [piece for piece, new in pieces if not new and not piece.isspace()]
    assert longest_common(before.split(), kept) == len(kept)


@given(sentences)
def test_an_equal_answer_has_nothing_new(text):
    assert not any(new for _, new in changed_words(text, text))


def test_new_words_are_marked_even_without_colours():
    shown = marked("a white background", "a red pencil on a white background", "bold")
    assert shown.plain == "‹a› ‹red› ‹pencil› ‹on› a white background"
    assert [shown.plain[span.start : span.end] for span in shown.spans] == ["‹a›", "‹red›", "‹pencil›", "‹on›"]


def test_markup_and_escapes_of_a_model_are_shown_literally():
    shown = marked("", "[red]x[/] \x1b[2J", "bold")
    assert shown.plain == "‹[red]x[/]› ‹�[2J›"
    assert marked(None, "[b]", "bold").plain == "[b]"

"""Replies that come when keys are read already."""

import random
import time

import pytest
from textual import events

from saetui.terminal import late_replies
from saetui.terminal.late_replies import PatientParser

REPLIES = (
    "\x1bP>|kitty(0.35.2)\x1b\\\x1b_Gi=31;OK\x1b\\\x1bP1$r48:2:1:2:3m\x1b\\\x1b[6;16;8t\x1b[?62;4;22c",
    "\x1bP>|XTerm(379)\x1b\\\x1bP0$r\x1b\\\x1b[6;18;9t\x1b[?64;1;2;6;9;15;18;21;22c",
    "\x1b[?62;c",
)


def keys(parser: PatientParser, *pieces: str) -> list[str]:
    found = [message for piece in pieces for message in parser.feed(piece)] + list(parser.tick())
    return [message.key for message in found if isinstance(message, events.Key)]


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_is_no_key_however_it_arrives(reply: str) -> None:
    assert keys(PatientParser(), f"j{reply}k") == ["j", "k"]
    assert keys(PatientParser(), "j", *reply, "k") == ["j", "k"]
    chance = random.Random(0)
    for _ in range(50):
        cut = sorted(chance.sample(range(len(reply) + 1), 2))
        assert keys(PatientParser(), "j" + reply[: cut[0]], reply[cut[0] : cut[1]], reply[cut[1] :] + "k") == ["j", "k"]


def test_keys_that_begin_like_a_reply_come_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_replies, "_PAUSE", 0.05)
    monkeypatch.setattr(late_replies, "_KEY", 0.05)
    parser = PatientParser()
    assert keys(parser, "\x1bP") == []
    found, deadline = [], time.monotonic() + 10
    while not found and time.monotonic() < deadline:
        found = keys(parser)
    assert found
    assert keys(parser, "\x1b[A", "\x1b[6~", "\x1b[15~") == ["up", "pagedown", "f5"]


def test_after_the_last_reply_nothing_is_held_back() -> None:
    parser = PatientParser()
    assert keys(parser, REPLIES[0]) == [] and not parser._awaits
    assert keys(parser, "\x1b[6~") == ["pagedown"]

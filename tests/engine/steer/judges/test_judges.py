"""Judges of texts: each against its rule, spelt out."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.demo.judge import PROMPTS, ParserJudge
from engine.demo.talk import REQUESTS, Mention, Statement
from engine.errors import UserError
from engine.steer.judges import Case
from engine.steer.judges.endpoint import EndpointJudge, configured
from engine.steer.judges.questions import ASKS, question, read_reply
from engine.steer.judges.text import TextJudge

WORDS = ("red", "crimson", "fish", "tree", "car", "poem", "list", "love", "buy")
RNG = np.random.default_rng(0)
SPACE = {word: RNG.standard_normal(24) for word in WORDS}
SPACE["crimson"] = SPACE["red"] + 0.5 * SPACE["crimson"]
COMMON = 3 * RNG.standard_normal(24)
"""What all texts have in common."""


def embed(texts):
    """The mean of the words that are known, and the common part."""
    return np.stack([COMMON + sum(SPACE[w] for w in text.lower().split() if w in SPACE) for text in texts])


def unit(text):
    row = embed([text])[0]
    return row / np.linalg.norm(row)


def centred(text):
    return unit(text) - np.mean([unit(word) for word in WORDS], axis=0)


def cosine(one, other):
    return one @ other / (np.linalg.norm(one) * np.linalg.norm(other))


def judged(judge, **case):
    return judge.judge([Case(**{"concept": "red", "prompt": "p", **case})])[0]


@pytest.fixture(scope="module")
def text():
    return TextJudge(embed, "words", "0", WORDS)


def test_a_concept_appears_as_its_word_or_as_one_like_it(text):
    assert judged(text, kind="appeared", answer="a RED tree").score == 1
    found = judged(text, kind="appeared", answer="a crimson tree")
    expected = max(cosine(centred(word), centred("red")) for word in ("a", "crimson", "tree"))
    assert found.yes and found.score == pytest.approx(expected, abs=1e-3)
    assert judged(text, kind="appeared", answer="a tree").yes is False
    assert judged(text, kind="appeared", answer="").yes is False
    assert judged(text, kind="appeared", answer="reduced fish").yes is False, "a part of a word is none"
    two = judged(text, kind="appeared", concept="red car", answer="a red car")
    assert two.score == 1 and judged(text, kind="appeared", concept="red car", answer="a car, red").score < 1


def test_a_prompt_is_followed_where_its_own_answer_is_the_nearest(text):
    refs = {"untouched": "love poem fish", "others": ("list buy fish", "car fish")}
    assert judged(text, kind="followed", answer="love poem red", **refs).yes
    assert judged(text, kind="followed", answer="list buy red", **refs).yes is False
    assert judged(text, kind="followed", answer="love", untouched="love").yes is None, "there is nothing to choose from"
    found = judged(text, kind="followed", answer="love poem red", **refs)
    rows = [centred(one) for one in (refs["untouched"], *refs["others"])]
    middle = sum(rows) / 3
    answer = centred("love poem red") - middle
    own, *others = (cosine(answer, row - middle) for row in rows)
    assert found.score == pytest.approx(own - max(others), abs=1e-3)


def test_all_else_is_kept_where_the_rest_is_alike(text):
    assert judged(text, kind="kept", answer="fish tree", untouched="red fish tree").yes
    assert judged(text, kind="kept", answer="car", untouched="red fish tree").yes is False
    found = judged(text, kind="kept", answer="fish car", untouched="red fish tree")
    direction = centred("red") / np.linalg.norm(centred("red"))
    one, other = (row - row @ direction * direction for row in (centred("fish car"), centred("red fish tree")))
    assert found.score == pytest.approx(cosine(one, other), abs=1e-3)


@given(st.sampled_from(list(REQUESTS)), st.sampled_from(["cat", "boat"]), st.sampled_from(["red", "blue"]))
def test_the_demo_is_judged_exactly(kind, thing, colour):
    request, judge = REQUESTS[kind], ParserJudge()
    prompt = request.questions[0]
    said = request.say(Statement((Mention(thing, colour),)))
    case = {"prompt": prompt, "answer": said, "untouched": said}
    if kind == "word":
        assert judged(judge, kind="appeared", concept=thing, **case).yes
        return
    assert judged(judge, kind="appeared", concept=colour, **case).yes
    assert judged(judge, kind="appeared", concept="fish", **case).yes is False
    assert judged(judge, kind="followed", **case).yes
    assert judged(judge, kind="followed", prompt=prompt, answer=said + " and and").yes is False
    without = request.say(Statement((Mention(thing),)))
    other = request.say(Statement((Mention("key"),)))
    gone = {"prompt": prompt, "untouched": said}
    assert judged(judge, kind="kept", concept=colour, answer=without, **gone).yes
    assert judged(judge, kind="kept", concept=thing, answer=without, **gone).yes is False, "the colour is gone"
    assert judged(judge, kind="kept", concept=colour, answer=other, **gone).yes is False
    assert judged(judge, kind="kept", concept=colour, answer="and and", **gone).yes is False


def test_the_demo_does_not_judge_what_it_cannot():
    judge = ParserJudge()
    assert judged(judge, kind="appeared", concept="joy", answer="joy").yes is None
    assert judged(judge, kind="followed", prompt="Sing!", answer="la").yes is None
    assert judged(judge, kind="kept", prompt=PROMPTS[0], answer="x", untouched="x").yes is None
    assert len(PROMPTS) == len(set(PROMPTS)) == 10


def test_questions_hold_what_they_are_about_and_replies_are_read():
    case = Case("kept", "red {answer}", "Write {concept}.", "one\ntwo", "three")
    asked = question(case)
    assert all(part in asked for part in ("red {answer}", "Write {concept}.", "one\ntwo", "three"))
    assert set(ASKS) == {"appeared", "followed", "kept"}
    replies = ["Yes.", " no", "**Yes**, it does; no doubt", "Answer: NO", "yesterday", "", "I cannot say"]
    assert [read_reply(reply) for reply in replies] == [True, False, True, False, None, None, None]


class Server(HTTPServer):
    """Answers chat completions as ``replies`` say: a text, a status, or another place to go to."""

    def __init__(self):
        self.asked, self.replies = [], {}
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        text = body["messages"][0]["content"]
        reply = next((said for part, said in self.server.replies.items() if part in text), "yes")
        reply = reply.pop(0) if isinstance(reply, list) else reply
        status = reply if isinstance(reply, int) else 302 if reply.startswith("http") else 200
        content = (
            reply
            if status == 200 and reply.startswith("<")
            else json.dumps({"choices": [{"message": {"content": reply}}]})
        )
        self.send_response(status)
        if status == 302:
            self.send_header("Location", reply)
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    found = Server()
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def test_an_endpoint_is_asked_as_its_interface_says(server):
    server.replies = {"tree": "No.", "busy": [503, 429, "yes"]}
    pauses = []
    judge = EndpointJudge(server.url, "m", "secret", pauses.append)
    texts = ["a fish", "a tree", "busy"]
    found = judge.judge([Case("appeared", "red", "p", text) for text in texts])
    assert [one.yes for one in found] == [True, False, True] and found[1].said == "No."
    path, key, body = server.asked[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert body["model"] == "m" and body["temperature"] == 0 and len(pauses) == 2
    assert "secret" not in judge.model + judge.identity


@pytest.mark.parametrize(
    ("reply", "says"),
    [(401, "refuses .401"), (500, "refuses .500"), ("<html>", "does not answer as chat completions do")],
)
def test_what_an_endpoint_refuses_is_one_sentence(server, reply, says):
    server.replies = {"fish": reply}
    judge = EndpointJudge(server.url, "m", "secret", lambda _: None)
    with pytest.raises(UserError, match=says) as error:
        judge.judge([Case("appeared", "red", "p", "a fish")])
    assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_the_key_goes_nowhere_else(server):
    elsewhere = Server()
    thread = threading.Thread(target=elsewhere.serve_forever, daemon=True)
    thread.start()
    server.replies = {"fish": f"{elsewhere.url}/x"}
    with pytest.raises(UserError, match=r"refuses .302"):
        EndpointJudge(server.url, "m", "secret", lambda _: None).judge([Case("appeared", "red", "p", "a fish")])
    elsewhere.shutdown()
    thread.join()
    elsewhere.server_close()
    assert elsewhere.asked == []


def test_an_endpoint_that_is_not_there():
    judge = EndpointJudge("http://127.0.0.1:9/v1", "m", "", lambda _: None)
    with pytest.raises(UserError, match="does not answer"):
        judge.judge([Case("appeared", "red", "p", "a fish")])


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x/v1", "http://key@host/v1", "http://host/v1?key=1"])
def test_an_endpoint_is_configured_by_the_environment_alone(monkeypatch, url):
    monkeypatch.setenv("SAETUI_JUDGE_URL", url)
    monkeypatch.setenv("SAETUI_JUDGE_MODEL", "m")
    with pytest.raises(UserError, match="SAETUI_JUDGE_URL"):
        configured()
    monkeypatch.setenv("SAETUI_JUDGE_URL", "https://host/v1/")
    assert configured() == ("https://host/v1", "m")
    monkeypatch.delenv("SAETUI_JUDGE_MODEL")
    with pytest.raises(UserError, match="SAETUI_JUDGE_MODEL"):
        configured()

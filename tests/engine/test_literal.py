"""What is shown does not act, and what is written as JSON is what was said."""

import io
import json
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from engine.files import read_json, write_json
from engine.literal import LiteralStream, escaped, literal
from engine.reporter import Warned
from engine.runs.events import EventLog, read_events
from tests.support.hostile import ACTING, EVIL

texts = st.text(st.characters())  # lone surrogates too


@given(texts)
def test_json_is_read_back_as_it_was(text):
    shown = escaped(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(shown) == {text: text}
    assert literal(shown) == shown and shown.encode()


@given(texts)
def test_a_stream_shows_as_much_as_was_written(text):
    file = io.BytesIO()
    stream = LiteralStream(file, "utf-8", write_through=True)
    assert stream.write(text) == len(text)
    said = file.getvalue().decode()
    assert not ACTING.search(said) and "\x1b" not in said and "\r" not in said
    assert len(said) == len(text.replace("\r\n", "\n")) and said.count("\t") == text.count("\t")


def test_ordinary_text_stays():
    for text in ("é 漢字 שלום مرحبا", "می\u200cخواهم", "👩\u200d🚀 🏴\U000e0067\U000e007f", "a\n b", "\xad\u0600"):
        assert literal(text) == text
    assert literal(EVIL).startswith("[red]EVIL[/red]\ufffd[5;35m\ufffd]52;c;ZXZpbA==\ufffd\ufffd5m")


def test_files_that_terminals_show_do_not_act(tmp_path):
    write_json(tmp_path / "x.json", {"said": EVIL})
    log = EventLog(tmp_path / "events.jsonl")
    log.append(Warned(EVIL))
    log.close()
    for path in tmp_path.iterdir():
        assert not ACTING.search(path.read_text()) and "\x1b" not in path.read_text()
    assert read_json(tmp_path / "x.json") == {"said": EVIL}
    assert read_events(tmp_path / "events.jsonl")[0][0].event == Warned(EVIL)


def test_a_log_does_not_act():
    """What a worker or the model server and their libraries print, tracebacks too."""
    begin = "import sys; from engine.literal import log_literally; log_literally()"
    script = f"{begin}\nprint(sys.argv[1])\nraise ValueError(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", script, EVIL], capture_output=True, text=True)
    for said in (done.stdout, done.stderr):
        assert "[red]EVIL" in said and not ACTING.search(said) and "\x1b" not in said

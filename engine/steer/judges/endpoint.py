"""The judge behind a server with the chat interface of OpenAI, which many programs have. Costs no torch.

Where it is, what it is called and the key are in the environment alone, and none of it is contacted unless the judge
``endpoint`` is asked for: ``SAETUI_JUDGE_URL`` (as ``http://localhost:8000/v1``), ``SAETUI_JUDGE_MODEL`` and, where it
wants one, ``SAETUI_JUDGE_KEY``. The key is written nowhere.
"""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from engine.errors import UserError, reason
from engine.files import value_sha256
from engine.steer.judges import Case, Given, Verdict
from engine.steer.judges.questions import ASKS, IDENTITY, REPLY_TOKENS, question, read_reply

URL, MODEL, KEY = "SAETUI_JUDGE_URL", "SAETUI_JUDGE_MODEL", "SAETUI_JUDGE_KEY"
SECONDS = 60.0  # that one reply may take
PAUSES = (1.0, 4.0, 15.0)  # seconds before a question is asked again
AT_ONCE = 4
MOST = 1 << 20  # bytes of a reply
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}


def configured() -> tuple[str, str]:
    """Address and model. UserError where the environment does not say them."""
    url, model = os.environ.get(URL, "").rstrip("/"), os.environ.get(MODEL, "")
    if not url or not model:
        raise UserError(f"The judge endpoint is not configured: set {URL} and {MODEL} in the environment.")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise UserError(f"{URL} is no address of a server: write it as http://localhost:8000/v1, without a key in it.")
    return url, model


class _Stay(urllib.request.HTTPRedirectHandler):
    """The key goes where the user said, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


class EndpointJudge:
    """Asks the questions of :mod:`engine.steer.judges.questions`, at temperature 0."""

    name = "endpoint"
    asks = ASKS

    def __init__(self, url: str, model: str, key: str = "", pause: Callable[[float], None] = time.sleep):
        self._url, self._model, self._key, self._pause = url, model, key, pause
        self._opener = urllib.request.build_opener(_Stay)
        self.model = f"{model} at {url}"
        self.identity = value_sha256([IDENTITY, url, model])

    def judge(self, cases: Sequence[Case]) -> list[Verdict]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            replies = list(pool.map(self._reply, map(question, cases)))
        return [Verdict(read_reply(reply), reply.strip()) for reply in replies]

    def _reply(self, text: str) -> str:
        for pause in (*PAUSES, None):
            try:
                return self._ask(text)
            except urllib.error.HTTPError as error:
                if error.code not in _AGAIN or pause is None:
                    raise UserError(
                        f"The judge at {self._url} refuses ({error.code} {error.reason}): check {MODEL} and {KEY}, or "
                        "wait and run the same command again, it continues."
                    ) from None
            except (OSError, TimeoutError) as error:
                if pause is None:
                    raise UserError(
                        f"The judge at {self._url} does not answer ({reason(error)}): check {URL}, and run the same "
                        "command again, it continues."
                    ) from None
            self._pause(pause)
        raise AssertionError("the last try returns or raises")

    def _ask(self, text: str) -> str:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": REPLY_TOKENS,
        }
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        asked = urllib.request.Request(f"{self._url}/chat/completions", json.dumps(body).encode(), headers)
        with self._opener.open(asked, timeout=SECONDS) as answer:
            said = answer.read(MOST)
        try:
            return str(json.loads(said)["choices"][0]["message"]["content"] or "")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"The judge at {self._url} does not answer as chat completions do: check {URL}, which mostly "
                "ends in /v1."
            ) from error


def load(given: Given) -> EndpointJudge:
    return EndpointJudge(*configured(), os.environ.get(KEY, ""))

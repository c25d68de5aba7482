"""A real browser without a screen, driven by the DevTools protocol over two pipes: no port, no other package."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 30.0  # seconds


def browser_path() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


needs_browser = pytest.mark.skipif(browser_path() is None, reason="no chromium here: install it for these tests")


class Browser:
    """One page of a browser. ``asked``: every URL that the page wanted, pictures that it holds itself apart."""

    def __init__(self, process: "subprocess.Popen[bytes]", to: int, back: int):
        self._process, self._to = process, to
        self._numbers = itertools.count(1)
        self._answers: dict[int, Queue[dict[str, Any]]] = {}
        self.asked: list[str] = []
        self.errors: list[str] = []
        """What its console, or an exception, said."""
        self._loaded = threading.Event()
        self._session = ""
        threading.Thread(target=self._listen, args=(back,), daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = Queue()
        said = {"id": number, "method": method, "params": parameters}
        os.write(self._to, json.dumps(said | ({"sessionId": self._session} if self._session else {})).encode() + b"\0")
        try:
            found = answer.get(timeout=PATIENCE)
        except Empty:
            raise TimeoutError(f"{method} was not answered") from None
        assert "error" not in found, found
        result: dict[str, Any] = found["result"]
        return result

    def open(self, path: Path) -> None:
        self._loaded.clear()
        self.call("Page.navigate", url=path.as_uri())
        assert self._loaded.wait(PATIENCE), "the page was not loaded"

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """The first value of the expression that is true."""
        ends = time.monotonic() + PATIENCE
        while not (found := self.run(script)):
            assert time.monotonic() < ends, f"{script} is {found!r}"
            time.sleep(0.02)
        return found

    def press(self, key: str) -> None:
        """As on a keyboard: a character, or the name of a key, as Enter."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        what = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
        self.call("Input.dispatchKeyEvent", type="keyDown", **what, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **what)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def look(self, width: int, height: int = 900, dark: bool = False) -> None:
        """As a screen of this size shows it, in dark or light colours."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _listen(self, back: int) -> None:
        rest = b""
        while piece := os.read(back, 1 << 20):
            *whole, rest = (rest + piece).split(b"\0")
            for message in whole:
                self._hear(json.loads(message))

    def _hear(self, said: dict[str, Any]) -> None:
        if "id" in said:
            self._answers.pop(said["id"]).put(said)
            return
        told = said.get("params", {})
        match said["method"]:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent" if not told["request"]["url"].startswith("data:"):
                self.asked.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(told["exceptionDetails"]))
            case "Log.entryAdded":
                self.errors.append(told["entry"]["text"])


_WITH_PIPES = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""A browser hears on file descriptor 3 and answers on 4."""


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser of its own, that keeps what it writes in ``profile``."""
    path = browser_path()
    assert path is not None
    hear, to = os.pipe()
    back, tell = os.pipe()
    flags = ("--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run")
    quiet = ("--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}")
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_PIPES, str(hear), str(tell), path, *flags, *quiet],
        pass_fds=(hear, tell),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(hear)
    os.close(tell)
    try:
        yield Browser(process, to, back)
    finally:
        os.close(to)  # it ends when nobody drives it any more
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

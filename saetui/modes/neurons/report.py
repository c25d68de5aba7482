"""A report on what Neurons lists, written by a process of its own: nobody waits for it, and esc stops it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config import ReportSettings
from engine.errors import counted
from engine.files import path_of
from engine.report.results import Reported
from engine.reporter import Event, Progress, StageBegan
from engine.runs.attached import Attached
from engine.settings import to_mapping
from saetui.background import look_up
from saetui.formatting import size
from saetui.services import Severity
from saetui.widgets.dialogs import Ask, Pick

if TYPE_CHECKING:
    from saetui.modes.neurons.latent_browser import LatentBrowser

REPLACE, KEEP = "replace", "keep"


class ReportWriter:
    """Asks ``mode`` where to, and tells how it goes in the head of its list."""

    def __init__(self, mode: LatentBrowser):
        self._mode = mode
        self._going: Attached | None = None

    def ask(self) -> None:
        """Where to; an existing file is asked about."""
        scores = self._mode.scores
        if scores is None:
            self._mode.services.say("There is nothing to report on: these scores are not open yet.")
        elif self._going is not None:
            self._mode.services.say("A report is being written: esc stops it.")
        else:
            found = f"what {self._mode.filter.value!r} finds" if self._mode.filter.value else "all latents"
            question = Ask(f"Write a report on {found} to (a path in the workspace)", f"report-{scores.sae}.html")
            self._mode.services.ask(question, self._to)

    def stop(self) -> bool:
        """Whether one was being written."""
        if self._going is None:
            return False
        self._going.cancel()
        return True

    def _to(self, given: str) -> None:
        out = self._mode.services.workspace.root / path_of(given)
        if not out.is_file():
            self._write(out, False)
            return
        answers = {KEEP: "keep it", REPLACE: "replace it, if it is a report"}

        def chosen(answer: str) -> None:
            if answer == REPLACE:
                self._write(out, True)

        self._mode.services.ask(Pick(f"{out.name} is there already", answers), chosen)

    def _settings(self, out: Path, replace: bool) -> ReportSettings:
        scores, kept = self._mode.scores, self._mode.services.session.answers
        assert scores is not None
        return ReportSettings(
            sae=str(scores.path),
            filter=self._mode.filter.value,
            sort=self._mode.listed.sort,
            answers=str(kept) if kept.is_file() else "",
            out=str(out),
            replace=replace,
        )

    def _write(self, out: Path, replace: bool) -> None:
        settings = to_mapping(self._settings(out, replace))
        going = self._going = Attached(self._mode.services.workspace, "report", settings)
        self._mode.say("report: starting   esc stops it")
        hear = partial(self._mode.app.call_from_thread, self._heard)
        look_up(self._mode, "report", partial(going.result, hear), self._done, self._failed, supersede=False)

    def _heard(self, event: Event) -> None:
        match event:
            case StageBegan(name):
                self._mode.say(f"report: {name}   esc stops it")
            case Progress(done, total, unit):
                self._mode.say(f"report: {done:,} of {total:,} {unit}   esc stops it")

    def _done(self, result: Reported | None) -> None:
        if result is None:
            self._ended("The report was stopped.")
        else:
            latents = counted(result.latents, "latent")
            self._ended(f"{result.path}: {latents}, {size(result.bytes)}. Any browser opens it.")

    def _failed(self, sentence: str) -> None:
        self._ended(sentence, "warning")

    def _ended(self, sentence: str, severity: Severity = "information") -> None:
        self._going = None
        self._mode.services.say(sentence, severity)
        if self._mode.scores is not None:
            self._mode.say(self._mode.listed.head(self._mode.scores))

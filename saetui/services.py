"""What a mode may ask of the app that shows it. A mode knows no other mode, and nothing else of the app."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from textual.widget import Widget

    from engine.runs.run import Run
    from engine.runs.watch import RunSnapshot
    from engine.server.protocol import Request, ServerEvent
    from engine.workspace import Workspace
    from saetui.session import Session
    from saetui.terminal.probe import Terminal

Severity = Literal["information", "warning", "error"]


class Services(Protocol):
    """One workspace, what runs on it, and the ways to speak to a person and to a model."""

    workspace: Workspace
    runs: list[RunSnapshot]
    """Every run of the workspace, the newest first; looked at twice a second."""
    scores_path: Path | None
    """The neurons file that Neurons and Hierarchy show."""
    session: Session
    """What was kept of where one is."""
    terminal: Terminal | None
    graphics: type[Widget] | None
    """A widget that draws pictures sharper than cells, where the terminal can."""

    @property
    def terminal_line(self) -> str: ...

    def say(self, sentence: str, severity: Severity = "warning") -> None:
        """One sentence at the corner, literally."""

    def guard(self, act: Callable[[], Any]) -> bool:
        """Do ``act``; what a user can mend is said instead of raised. Whether it was done."""

    def remember(self, where: str, /, **values: Any) -> None:
        """Keep where one is in the mode ``where``."""

    def copy(self, text: str) -> None:
        """To the clipboard of the terminal."""

    def show_full(self, load: Callable[[], Any], caption: str) -> None:
        """One picture on the whole terminal."""

    def start(self, task: str, settings: dict[str, Any]) -> Run | None:
        """Start a run that outlives the workbench; None when it could not be started, which was said."""

    def ask_model(self, request: Request, handler: Callable[[ServerEvent], None], supersede: bool = True) -> int:
        """Hand ``request`` to the model server; ``handler`` gets every event of it, in the app's own thread."""

    def cancel_model(self, number: int) -> None: ...

    def restart_model(self) -> None:
        """Kill the model server, whatever it does: the way to cancel a load."""

    def collect_garbage(self, replaced: bool) -> None:
        """Scores were opened; ``replaced``: in place of others."""

    def open_path(self, given: str) -> None:
        """Open the workspace in the directory ``given``, in place of this one."""

    def open_workspace(self, place: Workspace, mode: str) -> None: ...

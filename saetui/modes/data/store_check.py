"""The check of one store: every byte against what was written, in a worker of its own."""

from engine.activations.results import Verified
from engine.reporter import Event, Progress
from engine.runs.attached import Attached
from engine.workspace import Workspace
from saetui.formatting import size
from saetui.modes.data.listing import Selected


class StoreCheck:
    """One check. ``verdict`` blocks and is for a thread; the rest is for any."""

    def __init__(self, workspace: Workspace, selected: Selected, path: str) -> None:
        self.store = selected
        self.share = 0.0
        self._asked = Attached(workspace, "verify", {"store": path})

    def verdict(self) -> str:
        """What came of it, in words. UserError when it could not be done."""
        result = self._asked.result(self._hear)
        return "cancelled: v checks again" if result is None else in_words(result)

    def cancel(self) -> None:
        self._asked.cancel()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Progress) and event.total:
            self.share = event.done / event.total


def in_words(result: Verified) -> str:
    if told := (*result.problems, *result.unrecorded):
        return "\n".join(one.replace(f"{result.path}/", "") for one in told)
    return f"every byte is as it was written ({size(result.bytes)})"

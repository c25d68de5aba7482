"""A text that is painted again only when it says something else."""

from typing import Any

from rich.text import Text
from textual.widgets import Static


class Words(Static):
    def __init__(self, **options: Any):
        super().__init__(markup=False, **options)
        self._said = Text()

    def say(self, text: Text) -> bool:
        """Show ``text``; False where it stands there already."""
        if text == self._said:
            return False
        self._said = text
        self.update(text)
        return True

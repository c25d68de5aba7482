"""A text that is painted again only when it says something else."""

from typing import Any

from rich.text import Text
from textual.widgets import Static

from saetui.formatting import literal


class Words(Static):
    def __init__(self, **options: Any):
        super().__init__(Text(), markup=False, **options)

    def say(self, words: str | Text) -> bool:
        """Show ``words``, a plain text literally; False where they stand there already."""
        text = Text(literal(words)) if isinstance(words, str) else words
        if text == self.content:
            return False
        self.update(text)
        return True

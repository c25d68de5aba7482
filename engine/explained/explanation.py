"""What is told of a quantity."""

from dataclasses import dataclass

PAPER = "arXiv 2504.02821"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What is told of a quantity."""

    title: str
    formula: str
    """And its source, where it is not plain counting."""
    n: str = ""
    """What it is measured over."""
    interval: str = ""
    """Which is given, and how it is made; empty where none is."""
    control: str = ""
    """What stands beside it, to hold it against; empty where nothing does, as with counts."""
    phrase: str = ""
    """What menus say of it, in a few words."""
    term: str = ""
    """How screens head it; empty where none does."""
    sentence: str = ""
    """What help says of that term."""

    @property
    def facts(self) -> dict[str, str]:
        """All that is told beside its title, by what it is."""
        return {
            "formula": self.formula,
            "n": self.n,
            "interval": self.interval or "none",
            "control": self.control or "none",
        }

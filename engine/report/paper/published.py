"""The published figures, as they are in published.toml."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class PublishedTable:
    """A table, or a part of one that is of one quantity."""

    title: str
    across: str
    """What differs from column to column: ``expansion``, ``k``, ``group``, or ``of`` (what was counted)."""
    columns: tuple[Any, ...]
    rows: dict[str, tuple[float, ...]]
    """By layer, or by quantity where ``quantity`` is empty."""
    quantity: str = ""
    arch: str = ""
    """Of the SAEs; empty for what needs none."""
    layer: str = ""
    """Empty where the rows are layers."""
    expansion: float | None = None
    """None where the columns are expansions."""
    taxonomy: bool = False
    """Whether it is of images with a taxonomy."""
    remark: str = ""
    """What a reader who holds the table against the paper has to know."""


@dataclass(frozen=True)
class Published:
    source: str
    model: str
    judge: str
    images: int
    k: int
    table: tuple[PublishedTable, ...]


def published() -> Published:
    text = resources.files("engine.report.paper").joinpath("published.toml").read_text(encoding="utf-8")
    kept = tomllib.loads(text)
    tables = [
        PublishedTable(
            **{
                **table,
                "columns": tuple(table["columns"]),
                "rows": {row: tuple(values) for row, values in table["rows"].items()},
            }
        )
        for table in kept.pop("table")
    ]
    return Published(table=tuple(tables), **kept)

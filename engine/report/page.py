"""The page: what it holds, and the template that makes one file of it.

Whatever comes from files is escaped by the template; what acts on the direction of text is shown as U+FFFD
(engine.literal). Nothing is loaded: the policy in its head allows its own script and style, by their hashes, and
pictures that it holds itself.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import engine
from engine.artefacts.entries import Origin
from engine.demo.results import DemoDone
from engine.errors import counted
from engine.literal import literal
from engine.metrics.results import Trend
from engine.numbers import count, number, percent, significant
from engine.report.charts import Chart
from engine.report.earned import EarnedTable
from engine.report.explained import Explained
from engine.report.facts import FactTable
from engine.report.gallery import Chosen, Value, language
from engine.report.measured import Figure
from engine.report.pictures import FORMAT, Album
from engine.report.transcripts import Transcript
from engine.report.trees import GroupRow, Taxon
from engine.report.uses import Uses
from engine.sae.config import SAEConfig

TEMPLATES = Path(__file__).parent / "templates"
MARK = '<meta name="generator" content="saetui report">'
"""By which a report is known."""


@dataclass
class Page:
    """All that the template shows; empty where the workspace has nothing of a kind."""

    sae: str
    config: SAEConfig | None
    curves: list[Chart]
    transcripts: Sequence[Transcript]
    more_transcripts: int
    demo: tuple[DemoDone, str] | None
    """The demo's result, and its run."""
    missing: list[str]
    facts: list[FactTable] = field(default_factory=list)
    chain: list[Origin] = field(default_factory=list)
    earned: EarnedTable | None = None
    uses: Uses = field(default_factory=Uses)
    figures: list[Figure] = field(default_factory=list)
    explained: dict[str, Explained] = field(default_factory=dict)
    source: str = ""
    """The neurons file; empty without scores, and then all that follows is."""
    images: int = 0
    filter: str = ""
    only: str = "all"
    listed: Chosen = field(default_factory=lambda: Chosen([], 0, ""))
    values: list[Value] = field(default_factory=list)
    album: Album = field(default_factory=lambda: Album(""))
    asked_pictures: int = 0
    latents: list[dict[str, Any]] = field(default_factory=list)
    properties: dict[str, list[int]] = field(default_factory=dict)
    """Of latents, by what has them."""
    labels: list[tuple[int, str, bool]] = field(default_factory=list)
    """Latent, text, whether it is marked."""
    labels_source: str = ""
    distributions: list[Chart] = field(default_factory=list)
    groups: list[GroupRow] = field(default_factory=list)
    trend: Trend | None = None
    taxa: Taxon | None = None

    grid: list[int] = field(default_factory=list)
    """Rows and columns of the maps as they are kept; empty without maps."""
    patches: int | None = None
    """That were scored; None where images were."""

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script works with, as JSON values."""
        return {
            "explained": {key: asdict(one) for key, one in self.explained.items()},
            "values": [asdict(one) for one in self.values],
            "latents": self.latents,
            "properties": self.properties,
            "pictures": self.album.data,
            "paths": self.album.paths,
            "grid": self.grid,
            "sort": self.listed.sort,
            **language(),
        }


def render(page: Page) -> str:
    """The whole file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        "count": count,
        "number": number,
        "percent": partial(percent, digits=1),
        "significant": significant,
        "counted": counted,
    }
    style, script = (_own(name) for name in ("report.css", "report.js"))
    return environment.get_template("report.html").render(
        page=page,
        data=_literal(page.data),
        version=engine.__version__,
        generator=Markup(MARK),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        picture_format=FORMAT,
    )


def _shown(value: Any) -> Any:
    return literal(value) if type(value) is str else value  # not what is safe already


def _literal(value: Any) -> Any:
    """JSON values with each text shown literally."""
    match value:
        case str():
            return literal(value)
        case dict():
            return {_literal(key): _literal(one) for key, one in value.items()}
        case list():
            return list(map(_literal, value))
    return value


def _own(name: str) -> str:
    from markupsafe import Markup

    return Markup(f"\n{(TEMPLATES / name).read_text(encoding='utf-8')}")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what stands between two tags."""
    return f"sha256-{base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()}"

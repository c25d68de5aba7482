"""A user's preferences, for all workspaces: ``saetui/config.toml`` in the XDG config directory.

theme = "graphite"            # or "paper"
picture = "auto"              # quadrant, half, glyph
colours = "auto"              # truecolor, 256, 16, mono
ascii = false
preload = true                # load Steer's model while nothing is typed
support = 16                  # images that a latent must fire on to stand among the best
[keys]                        # ids as help shows them; several keys with commas
"neurons.steer" = "s,f5"
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.errors import UserError
from engine.files import read_toml, xdg
from engine.neurons.quantities import SUPPORT
from engine.settings import NOT_NEGATIVE, WrongValue, from_mapping, setting

Theme = Literal["graphite", "paper"]
PictureStyle = Literal["auto", "quadrant", "half", "glyph"]
ColourChoice = Literal["auto", "truecolor", "256", "16", "mono"]


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Settings of the interface; each is also a flag of ``saetui``."""

    theme: Theme = setting("graphite (dark) or paper (light).", "graphite")
    picture: PictureStyle = setting("How pictures are drawn in cells.", "auto")
    colours: ColourChoice = setting("Colours to use instead of those that the terminal reports.", "auto")
    ascii: bool = setting("Draw with ASCII characters only.", False)
    mouse: bool = setting("Use the mouse.", True)
    preload: bool = setting("Load Steer's model while nothing is typed and memory is free.", True)
    support: int = setting(
        "Images that a latent must fire on to stand among the first of the list.", SUPPORT, must=NOT_NEGATIVE
    )
    keys: dict[str, str] = field(default_factory=dict)


def config_path() -> Path:
    return xdg("XDG_CONFIG_HOME", ".config") / "saetui" / "config.toml"


def state_folder() -> Path:
    """The folder for sessions, logs, and copied text that may not have reached a clipboard."""
    return xdg("XDG_STATE_HOME", ".local/state") / "saetui"


def read_preferences(path: Path | None = None, **flags: Any) -> Preferences:
    """The preferences of the file (defaults without one), overridden by ``flags`` that are not None.

    Raises UserError for an unknown preference and for keys that are not text.
    """
    path = path or config_path()
    values = read_toml(path) if path.is_file() else {}
    keys = values.pop("keys", {})
    if not isinstance(keys, dict) or not all(isinstance(v, str) for v in keys.values()):
        raise UserError(f'{path}: [keys] must hold lines like "neurons.steer" = "s".')
    of_file = from_mapping(Preferences, values, str(path))
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        from_mapping(Preferences, given, "saetui")
    except WrongValue as error:
        raise UserError(f"--{error.sentence}") from None
    return dataclasses.replace(of_file, **given, keys=keys)

"""The two themes, ``graphite`` (dark) and ``paper`` (light), and the style sheet that reads its rules once a theme."""

from textual.css.stylesheet import Stylesheet
from textual.theme import Theme

GRAPHITE = Theme(
    name="graphite",
    primary="#e0b24c",
    secondary="#8fa3b8",
    accent="#e0b24c",
    foreground="#d6d8dc",
    background="#16181c",
    surface="#1c1f24",
    panel="#262a31",
    success="#7fb38a",
    warning="#e0b24c",
    error="#e0766c",
    dark=True,
    variables={"border": "#3a3f48", "border-blurred": "#2c3038"},
)
PAPER = Theme(
    name="paper",
    primary="#8a5a00",
    secondary="#4a6078",
    accent="#8a5a00",
    foreground="#23262b",
    background="#faf8f3",
    surface="#f3f0e8",
    panel="#e7e2d6",
    success="#2f6b3a",
    warning="#8a5a00",
    error="#a8322a",
    dark=False,
    variables={"border": "#c9c2b2", "border-blurred": "#dcd6c8"},
)
THEMES = {theme.name: theme for theme in (GRAPHITE, PAPER)}


class ThemeStylesheet(Stylesheet):
    """Textual parses all rules twice whenever a mode is shown first, though only a theme changes what they say.

    That was half of the time until the mode was there. Parsed rules are kept here for as long as the theme's variables
    stay the same.
    """

    def set_variables(self, variables: dict[str, str]) -> None:
        if variables != self._variables:
            super().set_variables(variables)

    def reparse(self) -> None:
        self.parse()

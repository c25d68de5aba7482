"""The first screen when there is no workspace: three ways in, each one key."""

from collections.abc import Iterable
from pathlib import Path

from rich.text import Text
from textual.containers import Middle
from textual.widget import Widget
from textual.widgets import Static

from engine.config import IMAGE_SOURCES, DemoSettings
from engine.runs.run import Run
from engine.settings import to_mapping
from engine.workspace import Workspace
from saetui.bindings import key
from saetui.modes.mode import Mode
from saetui.widgets.dialogs import Ask


class StartMode(Mode):
    """Teaches what can be done here, and does it."""

    MODE = "start"
    BINDINGS = [
        key("start.demo", "d", "demo", "Try the demo", show=True),
        key("start.images", "i", "images", "Open a folder of images", show=True),
        key("start.open", "o", "open", "Open a workspace", show=True),
    ]
    DEFAULT_CSS = """
    StartMode Middle { align: center middle; }
    StartMode #choices { width: 64; max-width: 96%; height: auto; }
    """

    def parts(self) -> Iterable[Widget]:
        with Middle():
            yield Static(id="choices")

    def arrive(self) -> None:
        accent, quiet = self.app.current_theme.accent or "", self.app.current_theme.secondary or ""
        text = Text()
        text.append("Sparse autoencoders on vision-language models\n\n", style="bold")
        for letter, what, why in (
            ("d", "try the demo", "drawn images, small models that ship; about a minute"),
            ("i", "open a folder of images", "make a workspace here and extract activations"),
            ("o", "open a workspace", "a directory that has a workspace.toml, or artefacts"),
        ):
            text.append(f"  {letter}  ", style=f"bold {accent}")
            text.append(f"{what}\n")
            text.append(f"     {why}\n\n", style=quiet)
        text.append(f"There is no workspace in {self.services.workspace.root} yet.", style=quiet)
        self.query_one("#choices", Static).update(text)

    def action_demo(self) -> None:
        place = Workspace(Path.cwd() / "saetui-demo")
        if not (place.root / "neurons").is_dir():
            self.services.guard(lambda: Run.create(place, "demo", to_mapping(DemoSettings()), ["demo"]).detach())
        self.services.open_workspace(place, "neurons" if (place.root / "neurons").is_dir() else "train")

    def action_images(self) -> None:
        def chosen(given: str) -> None:
            place, spec = self.services.workspace, self.services.image_source(given)
            if spec is not None:
                self.services.guard(lambda: place.set_images(spec))
                self.services.open_workspace(place, "data")

        question = f"Images: {IMAGE_SOURCES}"
        ask = Ask(question, check=self.services.check_images, base=self.services.base)
        self.services.ask(ask, chosen)

    def action_open(self) -> None:
        ask = Ask("Directory of the workspace:", check=self.services.check_folder, base=self.services.base)
        self.services.ask(ask, self.services.open_path)

"""Mode Data."""

from saetui.panes.pane import Pane


class DataPane(Pane):
    MODE = "data"

"""Mode Train."""

from saetui.panes.pane import Pane


class TrainPane(Pane):
    MODE = "train"

"""Mode Steer."""

from saetui.panes.pane import Pane


class SteerPane(Pane):
    MODE = "steer"

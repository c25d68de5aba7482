"""Mode Neurons."""

from saetui.panes.pane import Pane


class NeuronsPane(Pane):
    MODE = "neurons"

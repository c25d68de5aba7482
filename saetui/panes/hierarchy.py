"""Mode Hierarchy."""

from saetui.panes.pane import Pane


class HierarchyPane(Pane):
    MODE = "hierarchy"

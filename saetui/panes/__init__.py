"""The five modes of the workbench, and the screen before there is a workspace."""

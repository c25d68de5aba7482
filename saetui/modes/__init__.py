"""The modes of the workbench: one folder each. No mode imports another; they send messages."""

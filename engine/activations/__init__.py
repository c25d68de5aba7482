"""Activations on disk: extraction and the store. Reading costs no torch."""

from engine.activations.store import Store

__all__ = ["Store"]

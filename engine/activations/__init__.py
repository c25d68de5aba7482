"""Activations on disk: the store and its files, extraction, the loader of training. Reading costs no torch."""

"""The recipe of the models that ship: ``python -m engine.demo.build``."""

"""The demo: a drawn world with exact labels, its pipeline, and the recipe of the shipped models."""

"""Mode Train: trainings and what forms in them."""

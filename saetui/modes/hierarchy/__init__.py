"""Mode Hierarchy: groups and taxonomy as trees."""

"""Pure functions of arrays: MS, matched raw neurons, hierarchy, uniqueness, neighbours, detection."""

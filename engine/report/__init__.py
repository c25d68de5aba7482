"""One page about an SAE, for a colleague: it opens from disk and asks nothing of a network. Costs no torch."""

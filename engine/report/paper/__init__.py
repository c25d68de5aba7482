"""Our results beside those of arXiv 2504.02821, cell by cell."""

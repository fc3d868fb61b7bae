"""Feature extractors, one per module."""

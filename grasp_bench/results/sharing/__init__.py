"""Packs of results, their verification and comparison."""

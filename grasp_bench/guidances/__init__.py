"""Guidances of sampling, one per module."""

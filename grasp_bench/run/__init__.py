"""Runs: a list of declared stages that ends in a record."""

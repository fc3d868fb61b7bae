"""Modules that methods add to a transformer, and the routes through them."""

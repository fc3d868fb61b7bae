"""The search for settings on validation images."""

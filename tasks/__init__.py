"""Tasks, registered by entry point."""

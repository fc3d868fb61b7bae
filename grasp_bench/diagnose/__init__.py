"""Alignment of the gradients of groups and classes."""

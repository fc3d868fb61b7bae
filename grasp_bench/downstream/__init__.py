"""Classifiers that are trained on generated or real images."""

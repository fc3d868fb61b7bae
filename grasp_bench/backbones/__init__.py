"""Pretrained text-to-image transformers, one family per module."""

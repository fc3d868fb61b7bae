"""Names of the backbones that plugins are tried on; imports nothing heavy."""

TINY_DIT = "tiny-dit"
BACKBONES = ("tiny-sd3", TINY_DIT)
"""Flow matching on pixels, and the prediction of noise on an autoencoder's latents."""

"""The conformance suite of a backbone, and the names of the backbones that other plugins are tried on."""

from __future__ import annotations

from collections.abc import Sequence

from grasp_bench import plugins
from grasp_bench.backbones.aliases import resolve
from grasp_bench.errors import UserError
from grasp_bench.testing.checks import Check, checks_of, source_of
from grasp_bench.testing.declarations import declaration_checks

TINY_DIT = "tiny-dit"
BACKBONES = ("tiny-sd3", TINY_DIT)
"""Flow matching on pixels, and the prediction of noise on an autoencoder's latents."""
OF_WEIGHTS = {
    "describe": "describe() tells revision and shapes without torch, and load() gives what it tells.",
    "frozen": "load() gives the same frozen float32 weights each time, in evaluation mode, and draws nothing.",
    "images": "Latents are finite and of latent_shape; an image's latents depend on no other image, nor its decoding.",
    "decode": "decode() gives images of image_shape that a gradient flows through; decode_latents() gives the same, "
    "clipped to uint8.",
    "prompts": "A prompt's embedding depends on no other prompt, serves training, and differs from the null condition; "
    "released encoders give it again.",
    "prompt-width": "prompt_width() is the width of what encode_prompts() gives.",
    "padding": "What a prompt's mask leaves out has no influence on predictions.",
    "objective": "From a prediction, clean() gives the data back, and prediction() the prediction, at every level.",
    "scheduler": "A scheduler is deterministic, its levels descend to 0, and exact predictions lead it to the data.",
    "predict": "A prediction has the latents' shape and depends on latents, timestep and prompt, and on nothing drawn.",
    "train-mode": "Predictions in training mode are those of evaluation mode: what is random belongs to the loop.",
    "mixed-batch": "A prediction depends on no other sample of its batch, up to rounding (1e-4 of it, or 1e-5).",
    "sampling-dtype": "In sampling_dtype the transformer predicts in that precision.",
}
OF_LAYERS = {
    "feed-forwards": "Each of feed_forwards() is part of the transformer and called in every forward pass, in order.",
    "attention-projections": "attention_projections name linear layers of the transformer.",
    "blocks": "blocks() are called once each, in order, with as many image tokens as image_tokens() says, and return "
    "what they declare; conditioning() is called before them, and output_norm() after.",
    "some-tokens": "With no reason in needs_all_tokens, the middle blocks can work on some of each image's tokens.",
    "image-attentions": "Perturbing each of image_attentions() changes the prediction, and leaves no trace.",
    "prompt-projections": "Each of prompt_projections() reads the prompt's tokens in every forward pass.",
    "checkpointing": "Gradient checkpointing runs forward passes again, and changes no gradient.",
}
"""Check → what must be so."""


def backbone_checks(name: str, settings: Sequence[str] = ()) -> list[Check]:
    """The checks of the backbone ``name``, which is as ``--backbone`` takes it: NAME, an alias, or NAME:SOURCE.

    Raises :class:`UserError` for an unknown name, a source that is not there, a plugin that cannot be loaded, and for
    settings, of which backbones have none. Where no source is named and the weights are not here, no check applies.
    """
    from grasp_bench.run.resolve import choose_backbone

    plugin = plugins.load("backbones", resolve(name)[0])
    if settings:
        raise UserError(f"backbone {name} has no settings: leave out {', '.join(settings)}.")
    if ":" in name:
        choose_backbone(name)
    return declaration_checks("backbones", plugin) + checks_of(
        {"on_weights": OF_WEIGHTS, "on_layers": OF_LAYERS}, (name,), source_of(plugin)
    )

"""The kind of layer that a parameter belongs to."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from grasp_bench.contracts.backbone import Backbone

ATTENTION, FEED_FORWARD, MODULATION, EMBEDDINGS = "attention", "feed-forward", "modulation", "embeddings"
OTHER = "other"
ADAPTER = " adapter"
"""Suffix of the kind of parameters that a method added."""


def layer_kinds(
    backbone: Backbone, parameters: dict[str, nn.Parameter], added: set[nn.Parameter]
) -> dict[str, list[str]]:
    """Return kind → names of ``parameters``, by the layer that they belong to.

    "modulation" covers norms and the scale, shift and gate of their output; "embeddings" covers the layers that turn
    latents, prompts and timesteps into tokens, and tokens back into latents. Parameters that a method ``added`` have
    kinds of their own, such as "attention adapter". "other" covers parameters outside the transformer and in unknown
    layers.
    """
    feed_forwards = [name.removesuffix(".base_layer") for name in backbone.feed_forwards()]
    places = {id(parameter): name for name, parameter in backbone.transformer.named_parameters()}
    found: dict[str, list[str]] = {}
    for name, parameter in parameters.items():
        place = places.get(id(parameter))
        kind = OTHER if place is None else _kind(backbone.transformer, place, feed_forwards)
        found.setdefault(kind + (ADAPTER if parameter in added else ""), []).append(name)
    return dict(sorted(found.items()))


def _kind(transformer: nn.Module, place: str, feed_forwards: list[str]) -> str:
    """Return the kind by the modules that enclose the parameter, the outermost first, then by its name."""
    if any(place.startswith(f"{prefix}.") for prefix in feed_forwards) or ".proj_mlp." in place:
        return FEED_FORWARD
    for kind, part in _around(transformer, place):
        if "Norm" in kind or "norm" in part or "adaln" in part or "scale_shift_table" in part:
            return MODULATION
        if "Attention" in kind or "attn" in part:
            return ATTENTION
        if "embed" in part or "Embed" in kind or "proj_in" in part or part == "caption_projection":
            return EMBEDDINGS
    if ".proj_out." in place:  # FLUX.1's single blocks project attention and feed-forward together
        return FEED_FORWARD
    return EMBEDDINGS if place.startswith("proj_out") else OTHER


def _around(transformer: nn.Module, place: str) -> Iterator[tuple[str, str]]:
    """Yield (type, last part of the name) of every enclosing module, the outermost first; then ("", its own name)."""
    *parts, own = place.split(".")
    module = transformer
    for part in parts:
        module = module.get_submodule(part)
        yield type(module).__name__, part
    yield "", own

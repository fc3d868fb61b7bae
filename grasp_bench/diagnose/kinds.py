"""Which kind of layer a parameter belongs to."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from grasp_bench.contracts.backbone import Backbone

ATTENTION, FEED_FORWARD, MODULATION, EMBEDDINGS = "attention", "feed-forward", "modulation", "embeddings"
OTHER = "other"
ADAPTER = " adapter"
"""Ends the kind of what a method added there."""


def layer_kinds(
    backbone: Backbone, parameters: dict[str, nn.Parameter], added: set[nn.Parameter]
) -> dict[str, list[str]]:
    """Kind → names, of those among ``parameters``, of the layers that they belong to.

    "modulation" is norms and what scales, shifts and gates their output, "embeddings" what brings latents, prompts and
    timesteps to tokens and tokens back to latents. Parameters that a method ``added`` are apart: what they add to is
    "attention adapter", and so on. "other" are those that are nowhere in the transformer, or in no layer known here.
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
    """By what encloses the parameter, the outermost first, then by its name."""
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
    """(type, last part of the name) of every module around a parameter, the outermost first; then ("", its own)."""
    *parts, own = place.split(".")
    module = transformer
    for part in parts:
        module = module.get_submodule(part)
        yield type(module).__name__, part
    yield "", own

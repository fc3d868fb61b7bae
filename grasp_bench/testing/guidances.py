"""The conformance suite of a guidance."""

from __future__ import annotations

from collections.abc import Sequence

from grasp_bench import plugins
from grasp_bench.contracts.settings import parse_settings
from grasp_bench.testing.backbones import BACKBONES
from grasp_bench.testing.checks import Check, checks_of, source_of
from grasp_bench.testing.declarations import declaration_checks

CONTRACT = {
    "finite-images": "Sampling ends with finite latents, and images of every class.",
    "deterministic": "The same noise and streams give the same images, bit for bit, whatever was drawn before.",
    "image-alone": "An image depends on no other image of its batch, up to rounding.",
    "batch-size": "Images that are generated in batches of another size are equal, up to a grey level.",
    "evaluations": "The counter of the network sees every evaluation, and there are no more than the guidance says.",
    "weights-untouched": "Learning and sampling change no weight of the network, nor its own predictions.",
    "learned-files": "What it learns is kept as safetensors and JSON alone, and prepare() adds nothing.",
    "learned-again": "Learning again gives the same tensors, bit for bit.",
}
"""Check → what must be so, on every backbone."""


def guidance_checks(name: str, settings: Sequence[str] = (), backbones: Sequence[str] = BACKBONES) -> list[Check]:
    """The checks of the guidance ``name``, with ``NAME=VALUE`` settings in place of its defaults.

    It samples from LoRA after a few steps; where it does not support that, from LoRA trained with ``tread``.
    ``backbones`` are names as ``--backbone`` takes them, or "tiny-dit". Raises :class:`UserError` for a name or setting
    that is unknown, and for a plugin that cannot be loaded.
    """
    plugin = plugins.load("guidance", name)
    parse_settings(plugin.Config, settings, f"guidance {name}", {})
    source = source_of(plugin)
    checks = declaration_checks("guidance", plugin)
    for backbone in backbones:
        checks += checks_of({"in_sampling": CONTRACT}, (name, tuple(settings), backbone), source, f"[{backbone}]")
    return checks

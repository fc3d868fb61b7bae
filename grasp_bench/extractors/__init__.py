"""Feature extractors, one per module, by the name that a user writes: ``inception``, ``timm:resnet18``."""

from __future__ import annotations

from pathlib import Path

from grasp_bench import plugins
from grasp_bench.contracts.extractor import PretrainedExtractor
from grasp_bench.errors import UserError


def resolve_extractor(spec: str, weights: Path | None = None) -> PretrainedExtractor:
    """The extractor ``name`` or ``name:argument``, with the weights of a file where it takes one.

    Raises :class:`UserError` for a name that is not known, a missing or superfluous argument, and missing weights.
    """
    name, colon, argument = spec.partition(":")
    extractor = plugins.load("extractors", name)
    if not issubclass(extractor, PretrainedExtractor):
        raise UserError(f"{name}: is trained by a task, and serves `grasp-bench run` alone.")
    if extractor.argument and not argument:
        raise UserError(f"{spec}: the extractor {name} needs an argument: {name}:<{extractor.argument}>.")
    if colon and not extractor.argument:
        raise UserError(f"{spec}: the extractor {name} takes no argument. Write {name}.")
    found: PretrainedExtractor = extractor.from_weights(weights, argument)
    return found

"""The conformance suite of a method."""

from __future__ import annotations

from collections.abc import Sequence

from grasp_bench import plugins
from grasp_bench.contracts.settings import parse_settings
from grasp_bench.testing.backbones import BACKBONES
from grasp_bench.testing.checks import Check, checks_of, source_of
from grasp_bench.testing.declarations import declaration_checks

CONTRACT = {
    "step-0": "At step 0 the output equals the base model's exactly, or the docstring says what differs at step 0.",
    "fresh-weights": "Fresh weights come from the generator that attach() is given, and no global one is drawn from.",
    "task-untouched": "attach() changes nothing of the task, and of the backbone its transformer alone.",
    "data-untouched": "What is given to be trained on is only read: attach() and training_clusters() change nothing of "
    "the training images, condition(), the forward pass, losses() and auxiliary_loss() nothing of the batch.",
    "trains-its-own": "Training changes parameters() and nothing else of the network.",
    "round-trip": "What state_dict() gives, through a safetensors file into a fresh attach, gives equal outputs; it "
    "holds only what the method owns.",
    "foreign-weights": "load_state_dict() refuses weights of other names.",
    "resume": "A training that was interrupted and resumed equals one that was not, bit for bit.",
    "detach": "detach() leaves the base model as it was: modules, weights, requires_grad, output.",
    "checkpointing": "Gradient checkpointing changes no gradient.",
    "mixed-batch": "A prediction depends on no other sample of its batch, up to rounding (1e-4 of it, or 1e-5).",
    "no-default-route": "Where condition() matters, a forward pass without it raises, and so does one of more samples.",
    "equal-streams": "Data order, noise, timesteps and dropped prompts are those of every other method.",
}
"""Check → what must be so, on every backbone."""


def method_checks(name: str, settings: Sequence[str] = (), backbones: Sequence[str] = BACKBONES) -> list[Check]:
    """The checks of the method ``name``, with ``NAME=VALUE`` settings in place of its defaults.

    ``backbones`` are names as ``--backbone`` takes them, or "tiny-dit". Raises :class:`UserError` for a name or setting
    that is unknown, and for a plugin that cannot be loaded.
    """
    plugin = plugins.load("methods", name)
    parse_settings(plugin.Config, settings, f"method {name}", {})
    source = source_of(plugin)
    checks = declaration_checks("methods", plugin)
    for backbone in backbones:
        checks += checks_of({"on_a_backbone": CONTRACT}, (name, tuple(settings), backbone), source, f"[{backbone}]")
    return checks

"""The conformance suite of a task."""

from __future__ import annotations

from collections.abc import Sequence

from grasp_bench import plugins
from grasp_bench.contracts.settings import parse_settings
from grasp_bench.run.resolve import make_task
from grasp_bench.testing.checks import Check, checks_of, source_of
from grasp_bench.testing.declarations import declaration_checks

CONTRACT = {
    "budgets": 'There are budgets "standard" and "smoke", each under its own name.',
    "classes": "Classes have names and prompts of their own, and there are at least two.",
    "names": "The backbone, guidance and extractor that it names are installed.",
    "groups": "Head classes have at least as many training images as medium ones, and these as tail ones; with "
    "head_above and tail_below, groups are what these say.",
    "prepare": "Preparing twice gives equal data: images, labels, prompts, in the same order.",
    "counts": "Classes have as many training images as they say, and every split has images.",
    "labels": "Every image has the index of a class and a prompt that is not empty.",
    "disjoint": "No image, and no patient, is in two splits; a balanced test set is part of the test set.",
    "images": "read() gives uint8 images (k, C, H, W) of the backbone's shape, in the order that was asked for.",
    "smoke-run": "Full fine-tuning under the smoke budget goes from the data to scores of every group.",
}
"""Check → what must be so."""


def task_checks(name: str, settings: Sequence[str] = ()) -> list[Check]:
    """The checks of the task ``name``, or of the task of a TOML file, with ``NAME=VALUE`` settings.

    Its data is read where ``grasp-bench run`` finds it; what needs data that is not there does not apply. Raises
    :class:`UserError` for a name or setting that is unknown, and for a plugin that cannot be loaded.
    """
    plugin = plugins.load("tasks", "folder" if name.endswith(".toml") else name)
    parse_settings(plugin.Config, settings, f"task {name}", {})
    if name.endswith(".toml"):
        make_task(name, settings, None)  # the mistakes in it are told at once
    return declaration_checks("tasks", plugin) + checks_of(
        {"on_data": CONTRACT}, (name, tuple(settings)), source_of(plugin)
    )

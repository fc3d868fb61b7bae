"""The conformance suite: what every plugin of a kind must do, whoever wrote it.

In the tests of a package that has a plugin of its own::

    import pytest
    from grasp_bench.testing import method_checks

    @pytest.mark.parametrize("check", method_checks("my-method"), ids=str)
    def test_contract(check):
        check()

``grasp-bench check method my-method`` runs the same. Making the list imports the plugin and nothing heavy; it raises
:class:`UserError` for a name or setting that is unknown, and for a plugin that cannot be loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from grasp_bench import plugins
from grasp_bench.backbones.aliases import resolve
from grasp_bench.contracts.metric import FeatureMetric
from grasp_bench.contracts.settings import parse_settings
from grasp_bench.errors import UserError
from grasp_bench.run.resolve import choose_backbone, make_task
from grasp_bench.testing.checks import Check, NotApplicable, Outcome, Report, checks_of, run_checks
from grasp_bench.testing.declarations import WORDS
from grasp_bench.testing.tiny_dit import TINY_DIT

__all__ = [
    "Check",
    "NotApplicable",
    "Outcome",
    "Report",
    "backbone_checks",
    "extractor_checks",
    "guidance_checks",
    "method_checks",
    "metric_checks",
    "run_checks",
    "task_checks",
]

BACKBONES = ("tiny-sd3", TINY_DIT)
"""Flow matching on pixels, and the prediction of noise on an autoencoder's latents."""


def method_checks(name: str, settings: Sequence[str] = (), backbones: Sequence[str] = BACKBONES) -> list[Check]:
    """The checks of the method ``name``, with ``NAME=VALUE`` settings in place of its defaults.

    ``backbones`` are names as ``--backbone`` takes them, or "tiny-dit".
    """
    plugin = plugins.load("methods", name)
    parse_settings(plugin.Config, settings, f"method {name}", {})
    subjects = [(name, tuple(settings), each) for each in backbones]
    return _checks("methods", plugin, ["on_a_backbone", "on_steps"], *subjects)


def guidance_checks(name: str, settings: Sequence[str] = (), backbones: Sequence[str] = BACKBONES) -> list[Check]:
    """The checks of the guidance ``name``, as :func:`method_checks` of a method.

    It samples from LoRA after a few steps; where it does not support that, from LoRA trained with ``tread``.
    """
    plugin = plugins.load("guidance", name)
    parse_settings(plugin.Config, settings, f"guidance {name}", {})
    return _checks("guidance", plugin, ["in_sampling"], *[(name, tuple(settings), backbone) for backbone in backbones])


def task_checks(name: str, settings: Sequence[str] = ()) -> list[Check]:
    """The checks of the task ``name``, or of the task of a TOML file, with ``NAME=VALUE`` settings.

    Its data is read where ``grasp-bench run`` finds it; what needs data that is not there does not apply.
    """
    plugin = plugins.load("tasks", "folder" if name.endswith(".toml") else name)
    parse_settings(plugin.Config, settings, f"task {name}", {})
    if name.endswith(".toml"):
        make_task(name, settings, None)  # raises for a mistake in it now, not in the first check
    return _checks("tasks", plugin, ["on_data"], (name, tuple(settings)))


def backbone_checks(name: str, settings: Sequence[str] = ()) -> list[Check]:
    """The checks of the backbone ``name``, which is as ``--backbone`` takes it: NAME, an alias, or NAME:SOURCE.

    Where no source is named and the weights are not here, no check applies; a named one that is not there is an error.
    """
    plugin = plugins.load("backbones", resolve(name)[0])
    _refuse_settings(f"backbone {name}", settings)
    if ":" in name:
        choose_backbone(name)
    return _checks("backbones", plugin, ["on_weights", "on_layers"], (name,))


def extractor_checks(name: str, settings: Sequence[str] = ()) -> list[Check]:
    """The checks of the feature extractor ``name``, on test images of digits-lt."""
    plugin = plugins.load("extractors", name)
    _refuse_settings(f"extractor {name}", settings)
    return _checks("extractors", plugin, ["on_images"], (plugin,))


def metric_checks(name: str, settings: Sequence[str] = ()) -> list[Check]:
    """The checks of the metric ``name``, on random features or predictions."""
    plugin = plugins.load("metrics", name)
    _refuse_settings(f"metric {name}", settings)
    of_other_kind = ("resamples",) if issubclass(plugin, FeatureMetric) else ("minimum", "scored")
    return [each for each in _checks("metrics", plugin, ["on_numbers"], (plugin(),)) if each.name not in of_other_kind]


def _checks(kind: plugins.Kind, plugin: Any, places: Sequence[str], *arguments: tuple[Any, ...]) -> list[Check]:
    """The checks of the class itself, and those of ``places`` for each tuple of a subject's arguments."""
    checks = [
        replace(check, contract=check.contract.replace("{words}", " and ".join(WORDS[kind])))
        for check in checks_of(["declarations"], (kind, plugin), plugin)
        if check.name != "settings" or hasattr(plugin, "Config")
    ]
    for given in arguments:
        checks += checks_of(places, given, plugin, f"[{given[2]}]" if len(given) == 3 else "")
    return checks


def _refuse_settings(plugin: str, settings: Sequence[str]) -> None:
    if settings:
        raise UserError(f"{plugin} has no settings: leave out {', '.join(settings)}.")

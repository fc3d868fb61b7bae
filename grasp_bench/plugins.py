"""The registries: everything a run is made of comes in by entry point, and is imported on first use."""

from __future__ import annotations

import functools
import importlib
import warnings
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from grasp_bench.errors import UserError, did_you_mean

Kind = Literal["methods", "tasks", "backbones", "guidance", "extractors"]
KINDS: tuple[Kind, ...] = ("methods", "tasks", "backbones", "guidance", "extractors")
SINGULAR = {
    "methods": "method",
    "tasks": "task",
    "backbones": "backbone",
    "guidance": "guidance",
    "extractors": "extractor",
}
CONTRACTS: dict[Kind, tuple[str, str, tuple[str, ...]]] = {
    "methods": ("grasp_bench.method", "Method", ("version", "paper")),
    "tasks": (
        "grasp_bench.task",
        "Task",
        ("version", "source", "backbone", "guidance", "extractor", "classifier", "budgets"),
    ),
    "backbones": (
        "grasp_bench.backbones.base",
        "Backbone",
        ("attention_projections", "sampling_dtype"),
    ),
    "guidance": ("grasp_bench.guidance.base", "Guidance", ("version", "paper")),
    "extractors": ("grasp_bench.extractors.base", "Extractor", ("version",)),
}
"""Kind → module and name of its base class, and the attributes that a subclass must declare."""
BUILT_IN = "grasp-bench"


class PluginWarning(UserWarning):
    """A plugin is broken or its name is taken."""


@functools.cache
def entries(kind: Kind) -> dict[str, EntryPoint]:
    """Name → entry point, sorted by name. A name that is taken twice warns; the built-in one is kept."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=f"grasp_bench.{kind}"), key=_precedence):
        if entry.name not in found:
            found[entry.name] = entry
        elif entry.value != found[entry.name].value:
            warnings.warn(
                f"{SINGULAR[kind]} {entry.name!r} of {_origin(entry)} ({entry.value}) is ignored: the name is taken by "
                f"{_origin(found[entry.name])} ({found[entry.name].value}); rename one of them",
                PluginWarning,
                stacklevel=2,
            )
    return dict(sorted(found.items()))


def load(kind: Kind, name: str) -> Any:
    """Import the plugin ``name``. Raises :class:`UserError` when it is unknown, broken or not of its kind."""
    known = entries(kind)
    if name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"unknown {SINGULAR[kind]} {name!r}.{hint} There are: {', '.join(known)}.")
    try:
        return _checked(kind, known[name].load())
    except Exception as error:
        raise UserError(_broken(kind, known[name], error)) from error


def available(kind: Kind) -> dict[str, Any]:
    """Every plugin of a kind that can be imported; one that cannot is a warning that names it."""
    loaded = {}
    for name, entry in entries(kind).items():
        try:
            loaded[name] = _checked(kind, entry.load())
        except Exception as error:
            warnings.warn(_broken(kind, entry, error), PluginWarning, stacklevel=2)
    return loaded


def _checked(kind: Kind, plugin: Any) -> Any:
    """``plugin``, if it keeps the contract of its kind. Raises TypeError saying how it does not."""
    module, name, attributes = CONTRACTS[kind]
    contract = getattr(importlib.import_module(module), name)
    if not (isinstance(plugin, type) and issubclass(plugin, contract)):
        raise TypeError(f"{plugin!r} is not a subclass of {module}.{name}")
    if missing := [attribute for attribute in attributes if not hasattr(plugin, attribute)]:
        raise TypeError(f"{plugin.__name__} does not declare {', '.join(missing)}")
    return plugin


def _precedence(entry: EntryPoint) -> tuple[bool, str, str]:
    return (_origin(entry) != BUILT_IN, _origin(entry), entry.value)


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown package"


def _broken(kind: Kind, entry: EntryPoint, error: Exception) -> str:
    return (
        f"{SINGULAR[kind]} {entry.name!r} of {_origin(entry)} ({entry.value}) cannot be used: "
        f"{type(error).__name__}: {error}. Mend or uninstall that package."
    )

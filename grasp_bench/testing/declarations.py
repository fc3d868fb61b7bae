"""Checks of a class alone: what it declares beyond what loading it asks for, and what its import costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from grasp_bench import plugins
from grasp_bench.contracts.recipe import ParameterKind
from grasp_bench.testing.checks import imported_by, require
from grasp_bench.tuning.ranges import tuned_ranges

HEAVY = ("torch", "diffusers", "transformers", "peft", "sklearn", "scipy", "pandas", "pyarrow", "matplotlib")
BOUNDS = ("ge", "gt", "le", "lt", "multiple_of")
WORDS: dict[plugins.Kind, tuple[str, ...]] = {
    "methods": ("version", "paper"),
    "guidance": ("version", "paper"),
    "tasks": ("version", "source"),
    "extractors": ("version",),
    "backbones": ("sampling_dtype",),
    "metrics": ("version", "label", "definition", "misleads", "source"),
}
"""Kind → what its plugins declare as text."""


@dataclass(frozen=True)
class Subject:
    """A plugin's class."""

    kind: plugins.Kind
    plugin: Any


def declaration(subject: Subject) -> None:
    """The class says {words}, and its docstring begins with a line on what it is."""
    for name in WORDS[subject.kind]:
        value = getattr(subject.plugin, name)
        require(isinstance(value, str) and value.strip(), f"{name} is {value!r}, expected text")
    if subject.kind == "methods":
        kinds = get_args(ParameterKind)
        require(subject.plugin.kind in kinds, f"kind is {subject.plugin.kind!r}, expected one of {', '.join(kinds)}")
    first = (vars(subject.plugin).get("__doc__") or "").strip().partition("\n")[0]
    require(first, f"{subject.plugin.__name__} has no docstring")


def settings(subject: Subject) -> None:
    """Settings are frozen, and unknown ones refused; each has a description, each number a bound, and a range that is
    searched includes the default.
    """
    problems = list(_odd_settings(subject.plugin.Config))
    require(not problems, "; ".join(problems))


def _odd_settings(config: Any) -> Iterator[str]:
    if not config.model_config.get("frozen") or config.model_config.get("extra") != "forbid":
        yield f"model_config of {config.__name__} lets settings be changed, or unknown ones pass"
    for name, field in config.model_fields.items():
        if not field.description:
            yield f"{name} has no description: write a docstring below it"
        bounded = any(getattr(mark, each, None) is not None for mark in field.metadata for each in BOUNDS)
        if field.annotation in (int, float, int | None, float | None) and not bounded:
            yield f"{name} has no bound, as in Field(default=1, ge=1)"
    for name, searched in tuned_ranges(config).items():
        default = config.model_fields[name].default
        if not searched.low <= default <= searched.high:
            yield f"{name} is searched from {searched.low} to {searched.high}, and its default is {default}"


def import_(subject: Subject) -> None:
    """Importing its module imports nothing heavy, so that listing plugins stays quick."""
    module = subject.plugin.__module__
    heavy = imported_by(f"import importlib; importlib.import_module({module!r})", HEAVY)
    require(not heavy, f"importing {module} imports {heavy}: import it inside the functions that need it")

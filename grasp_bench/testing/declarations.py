"""What a plugin says of itself beyond what loading it asks for, and what its import costs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from grasp_bench import plugins
from grasp_bench.testing.checks import Check, require, source_of
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
"""What is declared as text."""


def declaration_checks(kind: plugins.Kind, plugin: Any) -> list[Check]:
    """Checks that look at the class alone; cheap, but for one import in a process of its own."""
    source = source_of(plugin)
    checks = [
        Check(
            "declaration",
            f"The class says {' and '.join(WORDS[kind])}, and its docstring begins with a line on what it is.",
            lambda: _says_what_it_is(plugin, WORDS[kind]),
            source,
        ),
        Check(
            "import",
            "Importing its module imports nothing heavy, so that listing plugins stays quick.",
            lambda: _imports_nothing_heavy(plugin),
            source,
        ),
    ]
    if hasattr(plugin, "Config"):
        contract = (
            "Settings are frozen, and unknown ones refused; each has a description, each number a bound, and a range "
            "that is searched includes the default."
        )
        checks.insert(1, Check("settings", contract, lambda: _settings_are_sound(plugin.Config), source))
    return checks


def _says_what_it_is(plugin: Any, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(plugin, name)
        require(isinstance(value, str) and bool(value.strip()), f"{name} is {value!r}, expected text")
    first = (vars(plugin).get("__doc__") or "").strip().partition("\n")[0]
    require(bool(first), f"{plugin.__name__} has no docstring")


def _settings_are_sound(config: Any) -> None:
    problems = list(_odd_settings(config))
    require(not problems, "; ".join(problems))


def _odd_settings(config: Any) -> Iterator[str]:
    if not config.model_config.get("frozen") or config.model_config.get("extra") != "forbid":
        yield f"model_config of {config.__name__} lets settings be changed, or unknown ones pass"
    for name, field in config.model_fields.items():
        if not field.description:
            yield f"{name} has no description: write a docstring below it"
        if _is_number(field) and not any(
            getattr(mark, each, None) is not None for mark in field.metadata for each in BOUNDS
        ):
            yield f"{name} has no bound, as in Field(default=1, ge=1)"
    for name, searched in tuned_ranges(config).items():
        default = config.model_fields[name].default
        if not searched.low <= default <= searched.high:
            yield f"{name} is searched from {searched.low} to {searched.high}, and its default is {default}"


def _is_number(field: FieldInfo) -> bool:
    return field.annotation in (int, float, int | None, float | None)


def _imports_nothing_heavy(plugin: Any) -> None:
    heavy = imported_by(f"import importlib; importlib.import_module({plugin.__module__!r})", HEAVY)
    require(not heavy, f"importing {plugin.__module__} imports {heavy}: import it inside the functions that need it")


def imported_by(code: str, names: tuple[str, ...]) -> str:
    """Those of the modules ``names`` that running ``code`` in a process of its own imports, separated by commas.

    Raises AssertionError where it fails.
    """
    command = f"import sys; {code}; print('imported', *[name for name in {names!r} if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment, check=False)
    last = done.stderr.strip().rpartition("\n")[-1]
    require(done.returncode == 0, f"a process of its own fails: {last}")
    return ", ".join(done.stdout.rpartition("imported")[-1].split())

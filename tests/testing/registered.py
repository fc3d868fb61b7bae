"""Plugins that no package has registered."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from grasp_bench import plugins


def register(patch: pytest.MonkeyPatch, kind: plugins.Kind, plugin: type[Any]) -> str:
    """The name that the class goes by from now on, as if an entry point named it."""
    name = f"a-{plugin.__name__.lower()}"
    entry = EntryPoint(name, f"{plugin.__module__}:{plugin.__qualname__}", f"grasp_bench.{kind}")
    patch.setitem(plugins.entries(kind), name, entry)
    if kind == "metrics":
        patch.setattr(plugin, "name", name)
    return name

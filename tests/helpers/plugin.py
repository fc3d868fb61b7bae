"""Plugins that no package has registered."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from grasp_bench import plugins


def register(patch: pytest.MonkeyPatch, kind: plugins.Kind, name: str, plugin: type[Any]) -> None:
    """Let the class go by ``name``, as if an entry point of a package named it."""
    entry = EntryPoint(name, f"{plugin.__module__}:{plugin.__qualname__}", f"grasp_bench.{kind}")
    patch.setitem(plugins._claims(kind), name, [entry])

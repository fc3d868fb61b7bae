"""Plugins that no package has registered, under names of their own."""

from typing import Any

import pytest
from helpers import plugin as plugin_helper

from grasp_bench import plugins


def register(patch: pytest.MonkeyPatch, kind: plugins.Kind, plugin: type[Any]) -> str:
    """The name that the class goes by from now on, as if an entry point named it."""
    name = f"a-{plugin.__name__.lower()}"
    plugin_helper.register(patch, kind, name, plugin)
    if kind == "metrics":
        patch.setattr(plugin, "name", name)
    return name

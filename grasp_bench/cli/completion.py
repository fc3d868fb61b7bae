"""Names that a shell completes; reads entry points alone, so that a key press imports no plugin."""

from __future__ import annotations

from collections.abc import Callable

from grasp_bench import plugins
from grasp_bench.backbones import aliases


def names(kind: plugins.Kind) -> Callable[[str], list[str]]:
    """Return what completes the name of a plugin of this kind; of a backbone also the short names of pipelines."""

    def complete(incomplete: str) -> list[str]:
        known = [*plugins.entries(kind), *(aliases.available() if kind == "backbones" else ())]
        return [name for name in known if name.startswith(incomplete)]

    return complete


def any_name(incomplete: str) -> list[str]:
    """Complete the name of a plugin of any kind."""
    return sorted({name for kind in plugins.KINDS for name in names(kind)(incomplete)})


def kinds(incomplete: str) -> list[str]:
    """Complete the name of a kind of plugin."""
    return [kind for kind in plugins.KINDS if kind.startswith(incomplete)]

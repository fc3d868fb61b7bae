"""Which runs were made by another version of a method or guidance than the one that is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grasp_bench import plugins
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def other_versions(runs: pd.DataFrame) -> list[str]:
    """Return for every run which version it is of, where another one is installed, as in "version 1 of oc".

    It is empty where the versions are the installed ones, and where no such method or guidance is installed.
    """
    found: dict[tuple[str, str, str], str] = {}
    words = []
    for row in runs[["method", "method_version", "guidance", "guidance_version"]].itertuples(index=False):
        parts = [("method", *row[:2]), ("guidance", *row[2:])]
        for part in parts:
            if part not in found:
                found[part] = _other(*part)
        words.append(", ".join(filter(None, (found[part] for part in parts))))
    return words


def _other(column: str, name: str, version: str) -> str:
    try:
        installed = plugins.load(plugins.BY_SINGULAR[column], name).version
    except UserError:
        return ""
    return "" if installed == version else f"version {version} of {name}"

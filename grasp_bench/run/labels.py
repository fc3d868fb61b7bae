"""Labels of tasks and methods: what their settings add to the names, and the folders that are called after them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from grasp_bench.errors import UserError

LONGEST = 240
"""Bytes of a label that becomes a folder's or a file's name, of the 255 that file systems allow."""


def suffix(changed: Mapping[str, JsonValue]) -> str:
    """What changed settings add to a name; slashes become underscores, since the name becomes that of a folder."""
    named = ",".join(f"{name}={value}" for name, value in changed.items()).replace("/", "_")
    return f"~{named}" if changed else ""


def label_path(*labels: str) -> Path:
    """The path whose parts are ``labels``: the one place where labels become folders.

    Raises :class:`UserError` for a label that is no name of one folder on every file system.
    """
    for label in labels:
        if why := _fault(label):
            raise UserError(
                f"{label[:LONGEST]!a}: this name becomes that of a folder of results, and {why}. Choose other "
                "names or values of settings."
            )
    return Path(*labels)


def _fault(label: str) -> str | None:
    if not label.isprintable():
        return "it holds a line break or another character that is not printable"
    if "/" in label or "\\" in label:
        return "it holds a slash"
    if not label or label.startswith("."):
        return "it is empty or begins with a full stop"
    size = len(label.encode())
    return f"it has {size} bytes, of which a folder's name may have {LONGEST}" if size > LONGEST else None

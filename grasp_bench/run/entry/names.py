"""Which of a task's classes a folder or a label of images from elsewhere means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from grasp_bench.contracts.task import ClassInfo
from grasp_bench.errors import did_you_mean
from grasp_bench.text import to_cell

UNSAFE = re.compile(r"[^\w.()+,&-]+")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""What Windows takes for a device, whatever the folder."""
TAKEN = ("labels.csv", "metadata.jsonl", "prompts.csv")
"""Files that lie beside the folders of classes."""


def folder_names(classes: Sequence[ClassInfo]) -> list[str]:
    """Return a name of a folder for every class: its own where that can name one everywhere, else one made of it.

    A name that cannot is made safe and begins with the class's index, so that no two are alike on any file system.
    """
    names = [info.name for info in classes]
    folded = [name.casefold() for name in names]

    def made(index: int, name: str) -> str:
        found = f"{index:04d}-{UNSAFE.sub('_', name)[:40]}".rstrip(".")
        while found.casefold() in folded:  # another class has this very name
            found += "_"
        return found

    return [
        name if _is_safe(name) and folded.count(name.casefold()) == 1 else made(index, name)
        for index, name in enumerate(names)
    ]


def _is_safe(name: str) -> bool:
    plain = name.replace(" ", "_")
    whole = not UNSAFE.search(plain) and name == name.strip(" .") and len(name.encode()) < 200
    special = name.startswith(("-", "+")) or DEVICES.fullmatch(name) or name.casefold() in TAKEN
    return whole and not special


def class_indices(classes: Sequence[ClassInfo]) -> Mapping[str, int]:
    """Return what may name a class → its index.

    That is its name, the name that :func:`folder_names` gives its folder, and its name as a cell of CSV has it.
    """
    by_folder = {name: index for index, name in enumerate(folder_names(classes))}
    cells = {to_cell(info.name): index for index, info in enumerate(classes)}
    return by_folder | cells | {info.name: index for index, info in enumerate(classes)}


def unknown(name: str, classes: Sequence[ClassInfo]) -> str:
    """Return what to say of a name that is no class's."""
    return f"the task has no class {name!r}.{did_you_mean(name, [info.name for info in classes])}"

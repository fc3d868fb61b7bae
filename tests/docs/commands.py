"""The commands of the documentation's shell blocks, in the order in which a reader meets them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from .pages import blocks, pages

LOOP = re.compile(r"^for (\w+) in ([^;]+); do\n(.*?)^done$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command, and the page that shows it first."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def commands() -> list[Command]:
    """Every command once. Loops are unrolled, lines that end in a backslash go on, && stands between two.

    A block that begins with #! is a file, whose test is of its own.
    """
    found: dict[tuple[str, ...], Command] = {}
    for block in (block for path in pages() for block in blocks(path) if block.language in ("sh", "bash")):
        if block.text.startswith("#!"):
            continue
        for line in LOOP.sub(_unrolled, block.text).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words:
                end = words.index("&&") if "&&" in words else len(words)
                command = Command(block.page, tuple(words[:end]))
                found.setdefault(command.words, command)
                words = words[end + 1 :]
    return list(found.values())


def _unrolled(loop: re.Match[str]) -> str:
    name, values, body = loop.groups()
    return "".join(body.replace(f"${name}", value) for value in values.split())

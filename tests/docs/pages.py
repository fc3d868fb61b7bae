"""The pages of the documentation, and what stands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MADE = re.compile(r"^<!-- (?:facts|settings|metrics)\b.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    language: str
    text: str


def nav() -> list[Path]:
    """The pages in the order of the site's navigation, of which three stand at the top of the repository."""
    names = re.findall(r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    return [next(path for path in (ROOT / "docs" / name, ROOT / name) if path.exists()) for name in names]


def pages() -> list[Path]:
    """README, then the site."""
    return [ROOT / "README.md", *nav()]


def prose(path: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def by_hand(path: Path) -> str:
    """The prose of a page without what is written from the code."""
    return MADE.sub("", prose(path))


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    return [Block(name, text[: each.start()].count("\n") + 2, each[1], each[2]) for each in FENCE.finditer(text)]


def headings(path: Path, level: int | None = None) -> list[str]:
    return [text for marks, text in HEADING.findall(prose(path)) if level in (None, len(marks))]


def anchors(path: Path) -> set[str]:
    """What links may name after a #, as Python-Markdown's toc and GitHub agree on for our headings."""
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings(path))
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}

"""What is printed cannot steer a terminal, whoever wrote the names in it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from grasp_bench.text import printable_lines


class Terminal(Console):
    """A console that escapes whatever is not printable in what it is given; styles and cursor signs are rich's own."""

    def render(self, *arguments: Any, **named: Any) -> Iterable[Segment]:
        """Yield the segments of a renderable, with their text made printable."""
        for segment in super().render(*arguments, **named):
            if segment.control or not segment.text:
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)

    def render_str(self, text: str, **named: Any) -> Text:
        """Return the text as rich has it, which leaves some signs out without a word where they are not escaped."""
        return super().render_str(printable_lines(text), **named)


def tell(text: object, file: TextIO | None = None, end: str = "\n") -> None:
    """Print text, which may be of several lines, on standard output or ``file``, as it is but for what is escaped."""
    print(printable_lines(str(text)), file=file or sys.stdout, end=end)

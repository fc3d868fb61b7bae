"""Text that others wrote cannot steer a terminal."""

import pytest

from grasp_bench.text import printable


@pytest.mark.parametrize("text", ["plain", "two  words", "FD∞ ± ↓", "grasp~rank=4, ä µ", "a<b>&", ""])
def test_printable_text_stays(text: str) -> None:
    assert printable(text) == text


def test_everything_else_is_escaped() -> None:
    assert printable("a<b>&\x00\x1b\u202e\n") == r"a<b>&\u0000\u001b\u202e\u000a"
    assert printable("a<b>&\x1b", also="<>&") == r"a\u003cb\u003e\u0026\u001b"

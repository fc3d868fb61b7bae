"""What the documentation says of the code itself is up to date."""

import pytest

pytest.importorskip("grimp", reason="comes with import-linter")


def test_what_is_written_from_the_code_is_up_to_date():
    from .generated import renewed

    stale = [path.name for path, text in renewed().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "make graph writes them"

from pathlib import Path

import pytest

from grasp_bench.errors import UserError
from grasp_bench.results.options import Options
from grasp_bench.results.update import read_document, updated

PATH = Path("a.md")


def named(options: Options) -> str:
    """In place of tables: what they were asked to be of."""
    return f"tables of {', '.join(options.metric) or 'all'}\n"


def test_what_is_between_markers_is_made_anew_and_the_rest_stays():
    text = (
        "# A\r\u2028\x0b\n\nprose\n<!-- grasp-bench report --metric fd -->\nold\n\nold\n<!-- end -->\nmore\n\n"
        "<!-- report --metric recall -->\n<!-- end -->\n"
        "<!-- a comment -->\n<!-- reported elsewhere -->\n<!-- end -->\nlast"
    )
    assert updated(PATH, text, named) == (
        "# A\r\u2028\x0b\n\nprose\n<!-- grasp-bench report --metric fd -->\n\ntables of fd\n\n<!-- end -->\nmore\n\n"
        "<!-- report --metric recall -->\n\ntables of recall\n\n<!-- end -->\n"
        "<!-- a comment -->\n<!-- reported elsewhere -->\n<!-- end -->\nlast"
    )


def test_a_second_time_changes_nothing():
    once = updated(PATH, "a\n<!-- grasp-bench report -->\nold\n<!-- end -->\n", named)
    assert updated(PATH, once, named) == once


def test_line_ends_are_the_documents():
    text = "a\r\n<!-- grasp-bench report -->\r\nold\r\n<!-- end -->\r\nb\r\n"
    assert updated(PATH, text, named) == (
        "a\r\n<!-- grasp-bench report -->\r\n\r\ntables of all\r\n\r\n<!-- end -->\r\nb\r\n"
    )


def test_code_that_shows_a_block_is_no_block():
    fenced = "```\n<!-- grasp-bench report -->\n<!-- end -->\n```\n~~~~ md\n<!-- report -->\n~~~\n~~~~\n"
    with pytest.raises(UserError, match=r"a\.md: has no block to update"):
        updated(PATH, fenced, named)
    block = "<!-- grasp-bench report -->\n<!-- end -->\n"
    assert updated(PATH, fenced + block, named).startswith(fenced + "<!-- grasp-bench report -->\n\ntables")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n<!-- grasp-bench report --bogus 1 -->\n<!-- end -->\n", "a.md, line 2: '--bogus' is no option"),
        ("<!-- report --format csv -->\n<!-- end -->\n", "a.md, line 1: '--format' is no option that can stand here"),
        ("a\n\n<!-- grasp-bench report -->\nold\n", "a.md, line 3: the block has no end"),
        (
            "<!-- grasp-bench report -->\n<!-- grasp-bench report -->\n<!-- end -->\n",
            "a.md, line 2: a block begins within that of line 1",
        ),
        ("nothing\n", "a.md: has no block to update. Begin one with the line"),
    ],
)
def test_mistakes_name_the_line(text, message):
    with pytest.raises(UserError) as caught:
        updated(PATH, text, named)
    assert message in str(caught.value)


def test_documents_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_document(tmp_path / "none.md")
    (tmp_path / "latin.md").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_document(tmp_path / "latin.md")

"""Text that others wrote cannot steer a terminal."""

import csv

import pytest

from grasp_bench import plugins
from grasp_bench.contracts.task import ClassInfo
from grasp_bench.diagnose.words import document
from grasp_bench.export.card import _table
from grasp_bench.metrics.protocol import Measured
from grasp_bench.run.tables import class_table
from grasp_bench.text import printable


@pytest.mark.parametrize("text", ["plain", "two  words", "FD∞ ± ↓", "grasp~rank=4, ä µ", "a<b>&", ""])
def test_printable_text_stays(text: str) -> None:
    assert printable(text) == text


def test_everything_else_is_escaped() -> None:
    assert printable("a<b>&\x00\x1b\u202e\n") == r"a<b>&\u0000\u001b\u202e\u000a"
    assert printable("a<b>&\x1b", also="<>&") == r"a\u003cb\u003e\u0026\u001b"


def test_the_table_of_classes_holds_no_formula() -> None:
    classes = [ClassInfo("=1+1", "a", "@tail", 3)]
    measured = Measured(plugins.load("metrics", "fd")(), "class", "=1+1", 2)
    (row,) = csv.DictReader(class_table(classes, [(None, [measured])], {}, [], {}).splitlines())
    assert (row["class"], row["group"], row["train_images"]) == ("'=1+1", "'@tail", "3")


def test_a_table_of_the_model_card_holds_no_markdown() -> None:
    *_, line = _table(["class"], [["<img src=x>|*a*\n[b](c)\x1b"]]).splitlines()
    assert line == r"| \<img src=x\>\|\*a\*\\u000a\[b\](c)\\u001b |"


def test_the_paragraph_of_a_diagnosis_holds_no_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grasp_bench.diagnose.words.paragraph", lambda found: "# a <b> *c*\n\n[d](e) | f\x1b\n")
    assert document({}) == "# a \\<b\\> \\*c\\*\n\n\\[d\\](e) \\| f\\\\u001b\n"

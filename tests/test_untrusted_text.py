"""Text that others wrote cannot steer a terminal."""

import csv
import re
from types import SimpleNamespace
from typing import cast

import pytest
from helpers.records import metric, record

from grasp_bench import plugins
from grasp_bench.contracts.backbone import ChosenBackbone
from grasp_bench.contracts.task import ClassInfo
from grasp_bench.diagnose.words import document
from grasp_bench.export.card import _table, model_card
from grasp_bench.export.manifest import Manifest
from grasp_bench.metrics.protocol import Measured
from grasp_bench.run.tables import class_table
from grasp_bench.text import markdown_code, printable

NAMED = ("task", "method", "backbone", "guidance")


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


def card(name: str, source: str) -> str:
    """A model card in which everything that has a name of somebody else's is called ``name``."""
    found = record("lora", 0, [metric("fd", "tail", 3.5, lower=True)])
    named = {part: getattr(found.spec, part).model_copy(update={"name": name, "version": name}) for part in NAMED}
    spec = found.spec.model_copy(update={**named, "budget": found.spec.budget.model_copy(update={"name": name})})
    described = Manifest.model_construct(
        run_id="0" * 64,
        spec=spec,
        label=name,
        task_label=name,
        private=False,
        grasp_bench="1",
        classes=[ClassInfo(name, name, name, 3)],
    )
    backbone = cast(ChosenBackbone, SimpleNamespace(source="owner/name"))
    return model_card(described, found.model_copy(update={"spec": spec}), backbone, source, "", False)


def test_nothing_in_a_model_card_is_markdown_or_code_of_others() -> None:
    """Fences and code keep what is in them as it is; outside, no sign is left that starts a tag, a link or a fence."""
    found = card('<b>`x`"', "a <img src=x> of https://a.b/c_d.")
    _, before, fenced, behind = found.split("```")[0], *found.split("```")
    assert "backbone=" in fenced
    compile(fenced.removeprefix("python"), "card", "exec")
    text = re.sub(r"(`+) ?<b>`x`\" ?\1", "", before.split("---", 2)[-1] + behind)
    text = text.replace("`grasp_bench", "")
    assert not re.search(r"(?<!\\)[<`]", text), text
    assert r"Data: a \<img src=x\> of https://a.b/c_d." in found


@pytest.mark.parametrize(
    ("text", "code"), [("lora", "`lora`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("a\nb", r"`a\u000ab`")]
)
def test_code_of_markdown_ends_where_the_text_does(text: str, code: str) -> None:
    assert markdown_code(text) == code


def test_the_paragraph_of_a_diagnosis_holds_no_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grasp_bench.diagnose.words.paragraph", lambda found: "# a <b> *c*\n\n[d](e) | f\x1b\n")
    assert document({}) == "# a \\<b\\> \\*c\\*\n\n\\[d\\](e) \\| f\\\\u001b\n"

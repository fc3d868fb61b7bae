"""The table of parameters says what the command says now."""

import subprocess
import sys

import pytest

from grasp_bench import plugins
from grasp_bench.backbones.recipes import recipe_of
from grasp_bench.estimate.parameters import BACKBONES, BY_STUDY, OFF

from .parameters import PAGE, VARIANTS, written


def test_every_method_and_backbone_is_there() -> None:
    heading, *found = written()
    assert heading == "method"
    assert {*plugins.entries("methods"), *(" ".join([name, *settings]) for name, settings in VARIANTS)} < {*found}
    assert [cell.split(",")[0] for cell in written()["method"][1:]] == list(BACKBONES)


def test_only_methods_without_a_size_to_choose_miss_the_budget_of_a_large_backbone() -> None:
    """And the shared adapter of one adapter's width."""
    assert all(recipe_of(name).parameters for name in BACKBONES)
    rows = {name: cells for name, cells in written().items() if any(missed(cell)[0] for cell in cells[2:])}
    on_all_weights = {"cbdm", "ccua", "coral", "oc", "pogdiff", "two-stage", "pcgrad", "cagrad", "prior prior_weight=0"}
    smallest = {"ia3", "bitfit", "ln-tuning", "class-token"}
    assert rows.keys() == {"vanilla-ft", *on_all_weights, *smallest, "shared-adapter control=active"}


def test_methods_that_route_miss_the_budget_of_active_parameters() -> None:
    rows = {name: cells for name, cells in written().items() if "(" in "".join(cells[2:])}
    routed = {"grasp", "merged", "cluster-lora", "grasp-timestep", "timestep-experts", "moe", "moe-sample"}
    assert rows.keys() == {*routed, "coral on=grasp"}
    assert all(missed(cell)[1] for cells in rows.values() for cell in cells[1:])


def missed(cell: str) -> tuple[bool, bool]:
    """Whether trainable and active parameters are marked, of a cell such as ``rank 21: 12.1 M (3.0 M †)``."""
    trainable, _, active = cell.partition("(")
    return OFF in trainable, OFF in (active or trainable)


def test_what_is_not_counted_has_no_mark_and_is_explained() -> None:
    uncounted = {name for name, cells in written().items() if BY_STUDY in cells}
    assert uncounted == {"lora-attn", "prior"}
    assert all({*written()[name][1:]} == {BY_STUDY} for name in uncounted)
    assert f"{BY_STUDY}: not counted, so without a mark" in " ".join(PAGE.read_text().split())


@pytest.mark.slow
def test_the_column_of_a_backbone_is_up_to_date() -> None:
    """In a process of its own, as the command is."""
    code = "from grasp_bench.estimate.parameters import lines, rows; "
    code += "print(*lines(rows(backbones=['pixart-sigma'])), sep='\\n')"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line[:1] == "|"]
    column = 1 + BACKBONES.index("pixart-sigma")
    assert dict(found[2:]) == {name: written()[name][column] for name, _ in found[2:]}

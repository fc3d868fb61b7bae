"""The table of parameters says what the command says now."""

import subprocess
import sys

import pytest

from grasp_bench import plugins
from grasp_bench.backbones.recipes import recipe_of
from grasp_bench.estimate.parameters import BACKBONES, OFF

from .parameters import VARIANTS, written


def test_every_method_and_backbone_is_there() -> None:
    heading, *found = written()
    assert heading == "method"
    assert {*plugins.entries("methods"), *(" ".join([name, *settings]) for name, settings in VARIANTS)} < {*found}
    assert [cell.split(",")[0] for cell in written()["method"][1:]] == list(BACKBONES)


def test_only_methods_without_a_size_to_choose_miss_the_budget_of_a_large_backbone() -> None:
    """And the shared adapter of one adapter's width."""
    assert all(recipe_of(name).parameters for name in BACKBONES)
    rows = {name: cells for name, cells in written().items() if any(OFF in cell for cell in cells[2:])}
    on_all_weights = {"cbdm", "ccua", "coral", "oc", "pogdiff", "two-stage", "pcgrad", "cagrad"}
    smallest = {"ia3", "bitfit", "ln-tuning", "class-token"}
    assert rows.keys() == {"vanilla-ft", *on_all_weights, *smallest, "shared-adapter control=active"}


@pytest.mark.slow
def test_the_column_of_a_backbone_is_up_to_date() -> None:
    """In a process of its own, as the command is."""
    code = "from grasp_bench.estimate.parameters import lines, rows; "
    code += "print(*lines(rows(backbones=['pixart-sigma'])), sep='\\n')"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line[:1] == "|"]
    column = 1 + BACKBONES.index("pixart-sigma")
    assert dict(found[2:]) == {name: written()[name][column] for name, _ in found[2:]}

"""The table of parameters says what the command says now."""

import subprocess
import sys

import pytest

from grasp_bench import plugins
from grasp_bench.backbones.recipes import recipe_of
from grasp_bench.contracts.sized import OFF
from grasp_bench.estimate.parameters import BACKBONES, BY_STUDY, PRESUMED

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
    on_all_weights = {"cbdm", "ccua", "coral", "oc", "pogdiff", "two-stage", "pcgrad", "cagrad", "prior"}
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


def test_every_method_is_counted_and_what_is_presumed_of_a_study_has_its_mark() -> None:
    assert not any(BY_STUDY in cell for cells in written().values() for cell in cells)
    presumed = {name: cells[1:] for name, cells in written().items() if PRESUMED in "".join(cells)}
    assert presumed.keys() == {"lora-attn", "prior"}
    assert all(cell.startswith(PRESUMED) for cells in presumed.values() for cell in cells)
    assert f"{PRESUMED}: by what estimates presume" in " ".join(PAGE.read_text().split())


@pytest.mark.slow
def test_the_column_of_a_backbone_is_up_to_date() -> None:
    """In a process of its own, as the command is."""
    code = "from grasp_bench.estimate.parameters import lines, rows; "
    code += "print(*lines(rows(backbones=['pixart-sigma'])), sep='\\n')"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line[:1] == "|"]
    column = 1 + BACKBONES.index("pixart-sigma")
    assert dict(found[2:]) == {name: written()[name][column] for name, _ in found[2:]}

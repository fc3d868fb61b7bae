"""Which rows of a leaderboard miss the parameter budget of their backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grasp_bench.backbones.aliases import available
from grasp_bench.backbones.recipes import recipe_of
from grasp_bench.contracts.sized import MISSED
from grasp_bench.plugins import entries

if TYPE_CHECKING:
    import pandas as pd


COUNTED = {"trainable_parameters": "Trainable parameters", "active_parameters": "those at work for one image"}
"""Column of the costs → its words; the budget is for both."""


def missed(costs: pd.DataFrame, backbone: str) -> str:
    """Return a sentence on the methods, which the index of the costs names, that miss the parameter budget.

    It is empty where none of them does by more than a tenth, and of a backbone that names no budget.
    """
    known = backbone in available() or backbone in entries("backbones")
    budget = recipe_of(backbone).parameters if known else None
    if budget is None:
        return ""
    found = []
    for column, words in COUNTED.items():
        off = costs[column] / budget - 1
        rows = (f"{method} ({100 * share:+.0f} %)" for method, share in off[off.abs() > MISSED].items())
        if named := ", ".join(dict.fromkeys(rows)):
            found.append(f"{words} miss the budget of {budget:,} by more than {100 * MISSED:.0f} %: {named}.")
    return " ".join(f"{each[0].upper()}{each[1:]}" for each in found)

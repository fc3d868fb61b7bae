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
    """Return what is to be said of the rows, with ``method`` and ``name``, that miss the parameter budget.

    It is empty where none of them does by more than a tenth, and of a backbone that names no budget. Parameters at work
    for one image are told of where they are fewer than the trainable ones. A method is named where all of its rows are
    of one size, else the row.
    """
    known = backbone in available() or backbone in entries("backbones")
    budget = recipe_of(backbone).parameters if known else None
    if budget is None:
        return ""
    alike = costs.groupby("method")[[*COUNTED]].transform("nunique").max(axis=1) <= 1
    trained, active = (costs.set_index(costs["method"].where(alike, costs["name"]))[column] for column in COUNTED)
    found = []
    for words, counts in zip(COUNTED.values(), (trained, active.where(active < trained)), strict=True):
        off = counts / budget - 1
        rows = (f"{name} ({100 * share:+.0f} %)" for name, share in off[off.abs() > MISSED].items())
        if named := ", ".join(dict.fromkeys(rows)):
            found.append(f"{words} miss the budget of {budget:,} by more than {100 * MISSED:.0f} %: {named}.")
    if active.notna().any() and (unknown := dict.fromkeys(trained.index[trained.notna() & active.isna()])):
        found.append(f"{COUNTED['active_parameters']} were not recorded for {', '.join(unknown)}.")
    return " ".join(f"{each[0].upper()}{each[1:]}" for each in found)

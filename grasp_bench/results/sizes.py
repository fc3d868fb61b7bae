"""Which rows of a leaderboard miss the parameter budget of their backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grasp_bench.backbones.aliases import available
from grasp_bench.backbones.recipes import recipe_of
from grasp_bench.contracts.sized import MISSED
from grasp_bench.plugins import entries

if TYPE_CHECKING:
    import pandas as pd


def missed(trained: pd.Series[float], backbone: str) -> str:
    """Return a sentence on the methods, named by the index of numbers of trainable parameters, that miss the budget.

    It is empty where none of them does by more than a tenth, and of a backbone that names no budget.
    """
    known = backbone in available() or backbone in entries("backbones")
    budget = recipe_of(backbone).parameters if known else None
    if budget is None:
        return ""
    off = trained / budget - 1
    rows = (f"{method} ({100 * share:+.0f} %)" for method, share in off[off.abs() > MISSED].items())
    named = ", ".join(dict.fromkeys(rows))
    return (
        f"Trainable parameters miss the budget of {budget:,} by more than {100 * MISSED:.0f} %: {named}."
        if named
        else ""
    )

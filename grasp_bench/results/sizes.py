"""Which rows of a leaderboard miss the parameter budget of their backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grasp_bench.contracts.sized import MISSED, OFF, misses

if TYPE_CHECKING:
    import pandas as pd


COUNTED = {"trainable_parameters": "Trainable parameters", "active_parameters": "Parameters at work for one image"}
"""Column of the costs → its words; the budget is for both."""


def missed(costs: pd.DataFrame, budget: int | None) -> str:
    """Return what is to be said of the rows, with ``method`` and ``name``, that miss the parameter budget.

    Nothing is said where none of the rows misses it by more than a tenth, or where there is no budget. Parameters at
    work for one image are told of where they are fewer than the trainable ones, or were not recorded. A method is named
    where all of its rows are of one size, else the row.
    """
    if budget is None:
        return ""
    trained, active = (costs[column] for column in COUNTED)
    found = []
    for words, counts in zip(COUNTED.values(), (trained, active.where(active < trained)), strict=True):
        off = counts / budget - 1
        far = off.abs() > MISSED
        rows = (
            f"{name} ({100 * share:+.0f} %)" for name, share in zip(_names(costs, counts)[far], off[far], strict=True)
        )
        if named := ", ".join(dict.fromkeys(rows)):
            found.append(f"{words} miss the budget of {budget:,} by more than {100 * MISSED:.0f} % ({OFF}): {named}.")
    unknown = trained.notna() & active.isna()
    if unknown.any():
        whose = f" for {', '.join(dict.fromkeys(_names(costs, active)[unknown]))}" if active.notna().any() else ""
        found.append(f"{COUNTED['active_parameters']} were not recorded{whose}.")
    return " ".join(found)


def marked(text: str, column: str, count: float, budget: int | None) -> str:
    """Return the text of a cost, with a mark where it is a number of parameters that misses the budget."""
    return f"{text} {OFF}" if column in COUNTED and misses(count, budget) else text


def _names(costs: pd.DataFrame, counts: pd.Series) -> pd.Series:
    """Return what each row is called: by its method where all rows of that have the same count, or none has any."""
    alike = counts.groupby(costs["method"]).transform(lambda own: own.nunique(dropna=False)) == 1
    return costs["method"].where(alike, costs["name"])

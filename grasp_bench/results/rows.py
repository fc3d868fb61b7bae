"""Which rows a table has: one per method, at its chosen guidance, unless more are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grasp_bench.results.options import Options, names, of_patterns

if TYPE_CHECKING:
    import pandas as pd


def one_per_method(frame: pd.DataFrame, options: Options) -> pd.DataFrame:
    """Return the runs of one row per method under equal conditions, and of all rows that ``--method`` names by label.

    A method's row is, in this order: of the task's own guidance, with no setting of the method changed by hand, with
    settings that a search chose, at the guidance scale that it chose with them, with no setting of the guidance changed
    by hand, with most finished runs. ``--all`` keeps every row.
    """
    import pandas as pd

    if options.all:
        return frame
    plain = set(frame["method"].unique())
    named = of_patterns(names(frame, "method"), (name for name in options.method if name not in plain))
    asked = frame["label"].isin(named)
    runs = frame[~asked].drop_duplicates(["conditions", "folder"])
    runs = runs.assign(
        hand=runs["method_settings"].astype(str) != "{}",
        searched=runs["tuned"].notna(),
        guided=runs["guidance_settings"].astype(str) != "{}",
        done=(runs["status"] == "finished").astype(int),
    )
    key = ["task_label", "conditions", "method", "label"]
    rows = runs.groupby(key, observed=True).agg(
        own=("default_guidance", "first"),
        hand=("hand", "first"),
        searched=("searched", "first"),
        scaled=("own_scale", "first"),
        guided=("guided", "first"),
        done=("done", "sum"),
    )
    rows = rows.reset_index().sort_values(
        ["own", "hand", "searched", "scaled", "guided", "done", "label"],
        ascending=[False, True, False, False, True, False, True],
        kind="stable",
    )
    first = pd.MultiIndex.from_frame(rows.drop_duplicates(key[:-1])[key])
    kept = pd.MultiIndex.from_frame(frame[key]).isin(first)
    return frame[asked.to_numpy() | kept]

"""Which runs and metrics a report has."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench.errors import UserError
from grasp_bench.results.leaderboard import check_known
from grasp_bench.results.options import Options

if TYPE_CHECKING:
    import pandas as pd

FILTERS = ("task", "method", "guidance", "status")
NAMED_BY = {"task": ("task", "task_label"), "method": ("method", "label"), "guidance": ("guidance",)}
"""Option → the columns that hold what it names."""


def chosen(frame: pd.DataFrame, options: Options, results: Path) -> pd.DataFrame:
    """Return the runs and metrics that the filters leave. Raises :class:`UserError` for a name that no run has."""
    check_tasks(frame, options, results)
    methods = names(frame, "method")
    check_known("--method", [name for name in options.method if not is_among(methods, name)], methods)
    check_known("--guidance", options.guidance, names(frame, "guidance"))
    kept = frame[matches(frame, options)]
    if not len(kept):
        asked = [f"--{name} {value}" for name in FILTERS for value in getattr(options, name)]
        raise UserError(f"{results}: no run is all of {', '.join(asked)}. Leave one of them out.")
    for option in ("metric", "source", "test_set"):
        if asked := getattr(options, option):
            check_known(f"--{option.replace('_', '-')}", asked, list(kept[option].dropna().unique()))
            kept = kept[kept[option].isin(asked) | kept["metric"].isna()]
    return kept


def check_tasks(frame: pd.DataFrame, options: Options, results: Path) -> None:
    """Raise :class:`UserError` where there is no run, or none of a task that is asked for."""
    known = sorted(frame["task"].unique())
    missing = [name for name in options.task if name not in names(frame, "task")]
    if not len(frame) or missing:
        wanted = (*missing, *options.task, "digits-lt")[0]
        there = f" There are runs of: {', '.join(known)}." if known else ""
        of = f" of task {missing[0]!r}" if missing else ""
        raise UserError(
            f"{results}: no run{of} is recorded there.{there} "
            f"Make one with `grasp-bench run --method grasp --task {wanted} --results {results}`, "
            "or name another folder with --results."
        )


def names(frame: pd.DataFrame, option: str) -> list[str]:
    """Return what ``--option`` can name of the runs, sorted."""
    return sorted({str(name) for column in NAMED_BY[option] for name in frame[column].unique()})


def matches(frame: pd.DataFrame, options: Options) -> pd.Series:
    """Return which rows of the frame every filter on runs leaves.

    A method is meant by its name, the label of its row, or a pattern of these such as ``grasp+*``.
    """
    import pandas as pd

    found = pd.Series(True, index=frame.index)
    for option, columns in NAMED_BY.items():
        if asked := getattr(options, option):
            wanted = {name for name in names(frame, option) if any(_is(name, each, option) for each in asked)}
            found &= frame[list(columns)].isin(wanted).any(axis=1)
    if options.status:
        found &= frame["status"].isin(options.status)
    return found


def is_among(known: Iterable[str], wanted: str) -> bool:
    """Return whether one of the names is the one wanted, or of its pattern."""
    return any(_is(name, wanted, "method") for name in known)


def _is(name: str, wanted: str, option: str) -> bool:
    return name == wanted or (option == "method" and fnmatch.fnmatchcase(name, wanted))

"""What is said of the task on which some methods are compared again: rates, the seed of their choice, and the order."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from scipy.stats import kendalltau

from grasp_bench.results.board import Leaderboard
from grasp_bench.results.frame import load_results
from grasp_bench.results.grids import ABSENT, MINUS, Finding, number_text
from grasp_bench.results.options import Options
from grasp_bench.results.rows import one_per_method
from grasp_bench.results.summary import main_columns, viewed
from grasp_bench.results.tables import build
from grasp_bench.sweep.cells import Cell, read_sweep
from grasp_bench.sweep.state import current_record

from .pages import ROOT
from .scope import PRIMARY, TASK, board_of

if TYPE_CHECKING:
    import pandas as pd

SECOND = "mnist-lt"
SWEEPS = Path("results", SECOND, "sweeps")
SCORE = ("fd", "generated", "all", "class mean")
"""By which the rate is chosen: the Fréchet distance, its mean over all classes."""
BASELINES = ("vanilla-ft", "grasp")


@cache
def cells(sweep: str) -> list[Cell]:
    """The runs that a sweep of the task asks for; the working directory is the project's."""
    return read_sweep(SWEEPS / f"{sweep}.toml").cells


def rate(cell: Cell) -> float:
    """The learning rate of a cell."""
    found = cell.plan.spec.method.settings["learning_rate"]
    assert isinstance(found, float)
    return found


def tried() -> dict[str, dict[float, float]]:
    """Method → learning rate → the score by which it is chosen, of all rates that have been run."""
    found: dict[str, dict[float, float]] = {}
    for cell in cells("rates"):
        if record := current_record(cell):
            (score,) = (each for each in record.scores if (each.metric, each.source, each.group, each.scope) == SCORE)
            assert score.value is not None
            found.setdefault(record.spec.method.name, {})[rate(cell)] = score.value
    return found


def rates() -> str:
    """The scores by which every method's rate was chosen, as a table."""
    found = tried()
    columns = sorted({each for of in found.values() for each in of})
    lines = [f"| method | {' | '.join(map(str, columns))} |", f"| --- |{' ---: |' * len(columns)}"]
    for method, of in found.items():
        best = min(of, key=of.__getitem__)
        shown = [number_text(of[each], 1) if each in of else ABSENT for each in columns]
        marked = [f"**{text}**" if each == best else text for each, text in zip(columns, shown, strict=True)]
        lines.append(f"| {method} | {' | '.join(marked)} |")
    return "\n".join(lines) + "\n"


def held_out() -> str:
    """What differs without the seed at which rates were chosen."""
    used = {cell.plan.spec.seed for cell in cells("rates")}
    frame = _frame()
    left = frame[~frame["seed"].isin(used)]
    seeds = ", ".join(map(str, sorted(left["seed"].unique())))
    lines = [f"- *{each.tag}*: {each.text}" for base in BASELINES for each in _findings(left, base)]
    return "\n".join(lines) + f"\n- Over seeds {seeds}, by `make tables`.\n"


def _findings(frame: pd.DataFrame, baseline: str) -> list[Finding]:
    """What a report of all rows of the sweep says of differences to a method in the primary metrics."""
    labels, shown = _labels(), ("fd", "coverage")
    options = Options([SECOND], [*labels.values()], metric=shown, baseline=labels[baseline], all=True, view="findings")
    (section,) = viewed(build(frame, options, ROOT / "results"))
    return section.findings


def _frame() -> pd.DataFrame:
    """All runs of the sweep."""
    found = load_results(ROOT / "results")
    return found[(found["task"] == SECOND) & found["label"].isin(_labels().values())]


def _labels() -> dict[str, str]:
    """Method → the label of its row."""
    return {cell.plan.spec.method.name: cell.plan.label for cell in cells("methods")}


def order() -> str:
    """How alike the methods' order is on both tasks, by their means in the primary metrics."""
    ours = _means(board_of(_frame()))
    every = load_results(ROOT / "results")
    first = _means(board_of(one_per_method(every[every["task"] == TASK], Options())))
    said = []
    for title, means in ours.items():
        found = kendalltau([*means.values()], [first[title][method] for method in means], method="exact")
        correlation = number_text(found.statistic, 2).replace("-", MINUS)
        said.append(f"{correlation} (p = {number_text(found.pvalue, 2)}) in {title}")
    return (
        f"Kendall's correlation of the order of {len(_labels())} methods with that on `{TASK}`: {', '.join(said)}. "
        "Of so few methods it is shown only where no two change places.\n"
    )


def _means(board: Leaderboard) -> dict[str, dict[str, float]]:
    """Primary metric → method → mean."""
    method = dict(zip(board.costs["label"], board.costs["method"], strict=True))
    return {
        f"{column['group'].iloc[0]} {column['title'].iloc[0]}": {
            str(method[label]): float(mean) for label, mean in zip(column["label"], column["mean"], strict=True)
        }
        for column in main_columns(board)[:PRIMARY]
    }

"""The first screen of a leaderboard: a sentence, the table of all rows, and the differences to each baseline."""

from __future__ import annotations

from typing import Any

from grasp_bench.results.board import CLOSED
from grasp_bench.results.comparisons import to_baseline
from grasp_bench.results.grids import decimals, mean_text, number_text
from grasp_bench.results.judging import columns_of
from grasp_bench.results.leaderboard import WORDS
from grasp_bench.results.site import view
from grasp_bench.results.site.boards import Board, Metric

DIGITS = 5  # of a difference, of which the page shows whole percents or three: rounding twice must not tell


def overview(board: Board) -> dict[str, Any]:
    """Return what the page's script draws the table and the forest plot from, as JSON.

    ``rows`` have a cell for each of ``columns``; ``differences`` are by column and baseline.
    """
    lines, columns = view.lines(board.all_rows), view.columns(board.all_rows)
    chosen, sentences = set(board.table.costs["label"]), _sentences(board)
    return {
        "columns": [
            {
                "key": each.metric,
                "group": each.group,
                "label": each.label,
                "tells": each.tells if each.metric == view.COST else "",
                "arrow": each.arrow,
                "said": sentences.get((each.metric, each.group), ""),
            }
            for each in columns
        ],
        "rows": [
            {
                "label": line.label,
                "name": board.names[line.label],
                "method": line.method,
                "guidance": line.guidance,
                "settings": line.settings,
                "seeds": line.seeds,
                "division": line.division,
                "declared": line.declared,
                "problems": line.problems,
                "chosen": line.label in chosen or line.index is None,
                "mark": board.indices.get(line.label),
                "cells": [_cell(each) for each in line.numbers],
            }
            for line in lines
        ],
        "references": [each.text for each in view.references(board.all_rows)],
        "baseline": board.baseline,
        "compared": _compared(board),
        "differences": differences(board),
        "first": [board.main[0].key, board.main[0].rarest] if board.main else None,
    }


def _cell(number: view.Number) -> list[Any]:
    """Return text, spread, rank, and 1 for the best; what is empty at the end is left out."""
    cell = [number.text, number.spread, number.rank, int(number.best)]
    while not cell[-1] and len(cell) > 1:
        cell.pop()
    return cell


def _compared(board: Board) -> list[str]:
    """Return the rows that have differences, in the table's order."""
    known = {label for column in columns_of(board.table) for label in column.every}
    return [label for label in board.indices if label in known]


def differences(board: Board) -> dict[str, dict[str, Any]]:
    """Return metric and group → scale, whether intervals are simultaneous, and difference, low and high.

    These are lists by the number of the baseline, then of the row, among the rows that are compared, 0 for none. On the
    log scale a difference is the ratio to the baseline minus 1. Where intervals are of one difference alone, a pair
    of rows is there once.
    """
    place = {label: number for number, label in enumerate(_compared(board))}
    keys = {tuple(metric.place.values()): metric.key for metric in board.metrics}
    found: dict[str, dict[str, Any]] = {}
    for column in columns_of(board.table):
        by_baseline: list[list[Any]] = [[0] * len(place) for _ in place]
        for row in column.every:
            for line in to_baseline(column, row, "model"):
                other = place[line[len(column.place)]]
                if column.primary or place[row] < other:
                    by_baseline[place[row]][other] = [_short(each) for each in line[-6:-3]]
        *metric, group = column.place
        found[f"{keys[tuple(metric)]} {group}"] = {
            "scale": column.scale,
            "primary": column.primary,
            "rows": by_baseline,
        }
    return found


def _short(value: float) -> float | None:
    return None if value != value else float(f"{value:.{DIGITS}g}")  # NaN


def _sentences(board: Board) -> dict[tuple[str, str], str]:
    """Return metric and group → what its numbers say first."""
    return {
        (metric.key, group): said
        for metric in board.metrics
        for group in metric.groups
        if (said := _sentence(board, metric, group))
    }


def _sentence(board: Board, metric: Metric, group: str) -> str:
    scored = metric.cells[metric.cells["group"] == group].dropna(subset="mean")
    cells = scored[scored["division"] == CLOSED]
    if cells.empty:
        return "Only rows of the open division are here, and these are not compared." if len(scored) else ""
    best = cells.sort_values("mean", ascending=metric.direction == "lower", kind="stable").iloc[0]
    digits = decimals(metric.cells["mean"])
    label = metric.label if metric.label.startswith(("FD", "KD", "IRS", "AUROC")) else metric.label.lower()
    said = (
        f"{board.names[best['label']]} has the {WORDS[metric.direction]} mean {label} in {_of(group)}, "
        f"{mean_text(best, digits)}"
    )
    if group in metric.references:
        said += f" (real reference {number_text(metric.references[group], digits)})"
    if not best["primary"]:
        return f"{said}."
    compared = int(cells["primary"].sum())
    others = int(cells["could_be_best"].fillna(False).astype(bool).sum()) - int(bool(best["could_be_best"]))
    could = f", and {others} other{'s' * (others != 1)} could be best too" if others else ""
    worse = compared - int(best["rank_high"])
    return f"{said}. It is better than {worse} of {compared - 1} other methods at 95 %{could}."


def _of(group: str) -> str:
    return "all classes" if group == "all" else f"the {group}"

"""Which runs, metrics and order a report has."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.results.options import Options
from grasp_bench.results.summary import Runs, RunSummary
from grasp_bench.results.table import Leaderboard, MetricTable

PREFERRED_GROUP = "tail"
"""What rows are sorted by where nothing else is said: it is what the benchmark is about."""
FILTERS = ("task", "method", "guidance", "status")
WORDS = {"lower": "lowest", "higher": "highest"}


def chosen(runs: Runs, options: Options, results: Path) -> Runs:
    """The runs and metrics that the filters leave. Raises :class:`UserError` for a name that no run has."""
    check_tasks(runs, options, results)
    methods = sorted({name for run in runs.summaries for name in (run.method, run.label)})
    _check_known("--method", [name for name in options.method if not is_among(methods, name)], methods)
    _check_known("--guidance", options.guidance, sorted({run.guidance for run in runs.summaries}))
    kept = runs.where(lambda run: matches(run, options))
    if not kept.summaries:
        asked = [f"--{name} {value}" for name in FILTERS for value in getattr(options, name)]
        raise UserError(f"{results}: no run is all of {', '.join(asked)}. Leave one of them out.")
    if not options.metric:
        return kept
    used = {kept.keys[number].name: None for number in kept.key.tolist()}
    _check_known("--metric", options.metric, list(used))
    return kept.of_metrics(options.metric)


def check_tasks(runs: Runs, options: Options, results: Path) -> None:
    """Raises :class:`UserError` where there is no run, or none of a task that is asked for."""
    known = sorted({run.task for run in runs.summaries})
    labels = {run.task_label for run in runs.summaries}
    missing = [name for name in options.task if name not in labels.union(known)]
    if not runs.summaries or missing:
        wanted = (*missing, *options.task, "digits-lt")[0]
        there = f" There are runs of: {', '.join(known)}." if known else ""
        of = f" of task {missing[0]!r}" if missing else ""
        raise UserError(
            f"{results}: no run{of} is recorded there.{there} "
            f"Make one with `grasp-bench run --method grasp --task {wanted} --results {results}`, "
            "or name another folder with --results."
        )


def matches(run: RunSummary, options: Options) -> bool:
    """Whether every filter leaves the run.

    A method is meant by its name, the label of its row, or a pattern of these such as ``grasp+*``.
    """
    return (
        (not options.task or not {run.task, run.task_label}.isdisjoint(options.task))
        and (not options.method or any(is_among((run.method, run.label), name) for name in options.method))
        and (not options.guidance or run.guidance in options.guidance)
        and (not options.status or run.status in options.status)
    )


def sort_rows(boards: Sequence[Leaderboard], key: str | None) -> list[Leaderboard]:
    """The leaderboards with their rows in the order of one score, the best first and those without it last.

    ``key`` is ``METRIC`` or ``METRIC:GROUP``; by default the first metric, in the tail. Raises :class:`UserError` for
    what no leaderboard has.
    """
    metric, _, group = (key or "").partition(":")
    if key:
        tables = [table for board in boards for table in board.metrics]
        _check_known("--sort", [metric], list(dict.fromkeys(table.name for table in tables)))
        groups = dict.fromkeys(each for table in tables if table.name == metric for each in table.groups)
        if group:
            _check_known("--sort", [f"{metric}:{group}"], [f"{metric}:{each}" for each in groups])
    return [_sorted(board, metric, group) for board in boards]


def sort_key(board: Leaderboard, metric: str = "", group: str = "") -> tuple[MetricTable, str] | None:
    """The table and group that rows are sorted by; none where the leaderboard does not have them."""
    table = next((table for table in board.metrics if metric in ("", table.name)), None)
    if table is None or (group and group not in table.groups):
        return None
    return table, group or (PREFERRED_GROUP if PREFERRED_GROUP in table.groups else table.groups[-1])


def _sorted(board: Leaderboard, metric: str, group: str) -> Leaderboard:
    found = sort_key(board, metric, group)
    if found is None:
        return board
    table, at = found

    def place(label: str) -> tuple[bool, float, str]:
        cell = table.scores.get(label, {}).get(at)
        mean = cell.mean if cell else None
        return mean is None, 0.0 if mean is None else mean if table.direction == "lower" else -mean, label

    labels = sorted((row.label for row in board.rows), key=place)
    rows = {row.label: row for row in board.rows}
    tables = tuple(
        replace(each, scores={label: each.scores[label] for label in labels if label in each.scores})
        for each in board.metrics
    )
    words = f"{table.label}, {at}: {WORDS[table.direction]} first" if len(labels) > 1 else ""
    return replace(board, rows=tuple(rows[label] for label in labels), metrics=tables, sorted_by=words)


def is_among(names: Iterable[str], wanted: str) -> bool:
    """Whether one of the names is the one wanted, or of its pattern."""
    return any(name == wanted or fnmatch.fnmatchcase(name, wanted) for name in names)


def _check_known(option: str, names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise UserError(
                f"{option} {name}: no run has it.{did_you_mean(name, known)} There are: {', '.join(known)}."
            )

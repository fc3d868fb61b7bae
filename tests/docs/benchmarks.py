"""What pages say of the committed runs beyond the blocks of `grasp-bench report`, written by `make tables`."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from grasp_bench.contracts.record import read_record
from grasp_bench.contracts.row import SCALE
from grasp_bench.diagnose.words import FEW
from grasp_bench.results.board import Leaderboard
from grasp_bench.results.frame import load_results
from grasp_bench.results.grids import ABSENT, MINUS, decimals, difference_text, mean_text, number_text
from grasp_bench.results.judging import ALPHA, is_distance
from grasp_bench.results.options import Options
from grasp_bench.results.rows import one_per_method
from grasp_bench.results.summary import AMONG, NOT_SHOWN, STANDS, SUGGESTIVE, main_columns, tag
from grasp_bench.stats import holm, paired_difference
from grasp_bench.text import counted, markdown_escaped

from .pages import ROOT
from .scope import ARCHIVE, PRIMARY, TASK, board_of, chosen, repeats, scales_left, searches, sweeps
from .second_task import SECOND, held_out, order, rates

if TYPE_CHECKING:
    import pandas as pd

DIAGNOSED = "digits-16"
"""Task of examples/, of whose rarest class there are images enough for intervals."""
RESULTS = ROOT / "results" / TASK
OLD = ARCHIVE / TASK
"""Records of rules 1.0."""
PAGES = (
    *(ROOT / "BENCHMARKS.md", RESULTS / "TABLES.md", OLD / "TABLES.md"),
    ROOT / "results" / SECOND / "TABLES.md",
    *(ROOT / "docs" / "methods.md", ROOT / "docs" / "protocol.md"),
)
COMMON_SCALE = 2.0
"""The scale of all methods under rules 1.0, and that of the guidance cfg by default."""
GATES = ("moe", "moe-sample")
FEWEST = 3
"""Of fewer methods no order is told."""
LIFTED = ("group", "class", "text", "gradient")
"""Partitions whose alignment is measured against random clusters."""
BALANCED = {"sampling": "balanced"}


def frame(results: Path) -> pd.DataFrame:
    """The committed runs of the task in a folder of results."""
    found = load_results(results)
    return found[found["task"] == TASK]


def version(found: pd.DataFrame) -> str:
    """Of which rules and version the numbers are, and what of the protocol is not run yet."""
    rules, versions = (sorted(found[name].astype(str).unique()) for name in ("rules", "task_version"))
    seeds = sorted(found["seed"].unique())
    methods = tomllib.loads((RESULTS / "sweeps" / "methods.toml").read_text())["methods"]
    left = [method for method in methods if method not in set(found["method"])]
    share = f"{len(methods) - len(left)} of the" if left else "all"
    said = (
        f"**These are runs under rules {' and '.join(rules)} of version {' and '.join(versions)} of `{TASK}`**: "
        f"{found['folder'].nunique()} of them, seeds {seeds[0]} to {seeds[-1]}, "
        f"of {share} {len(methods)} methods of the protocol."
    )
    if left:
        said += f" Not run yet: {', '.join(left)}. `make protocol` goes on from here."
    return said + "\n"


def guidance(found: pd.DataFrame) -> str:
    """What sampling without guidance changes, for every method that has both rows."""
    chosen, every = board_of(one_per_method(found, Options())), board_of(found)
    column = main_columns(chosen)[0]
    own, none = _values(chosen, column, chosen.costs["label"]), _unguided(every, column)
    lines = _differences(none, own, column, "without guidance and not with it")
    methods = [method for method in own if method in none]
    ranks = spearmanr([own[each].mean() for each in methods], [none[each].mean() for each in methods])
    found_order = f"{ranks.statistic:.2f} (p = {ranks.pvalue:.2g})".replace("-", MINUS)
    lines.append(
        f"- *{STANDS if ranks.pvalue < ALPHA else NOT_SHOWN}*: methods have one order with and without guidance: "
        f"Spearman's correlation of their means is {found_order}."
    )
    return (
        "\n".join(lines)
        + "\n- Paired t tests over seeds on the log scale, Holm-corrected over methods, by `make tables`; the rows: "
        + f"`grasp-bench report --results results/archive --task {TASK} --all --guidance none --guidance cfg`.\n"
    )


def sampling(found: pd.DataFrame) -> str:
    """What drawing classes equally often changes, for every method that has both rows, over the seeds of both.

    Both are at the settings, guidance and scale of the method's row in the leaderboard: other rows do not count.
    """
    own, searched = found["default_guidance"] & found["own_scale"], found["tuned"].notna()
    changed = found["method_settings"].astype(str)
    rows = found[own & searched & changed.isin(["{}", json.dumps(BALANCED)])]
    board = board_of(rows)
    evenly = board.costs["label"].isin(rows.loc[changed == json.dumps(BALANCED), "label"])
    methods = board.costs.loc[evenly, "method"]
    naturally = ~evenly & board.costs["method"].isin(methods)
    lines = []
    for column in main_columns(board)[:PRIMARY]:
        balanced, natural = (_values(board, column, board.costs.loc[those, "label"]) for those in (evenly, naturally))
        lines += _differences(balanced, natural, column, "with classes drawn equally often and not as they come")
    methods_of: dict[str, list[str]] = {}
    for method, values in balanced.items():
        methods_of.setdefault(", ".join(map(str, sorted(values.index))), []).append(method)
    seeds = "; ".join(
        f"seeds {each}" + (f" ({', '.join(methods)})" if len(methods_of) > 1 else "")
        for each, methods in methods_of.items()
    )
    return (
        "\n".join(lines)
        + f"\n- Paired t tests over {seeds}, of FD on the log scale, Holm-corrected over methods, "
        + f"by `make tables`; the rows: `grasp-bench report --task {TASK} --all "
        + f"{' '.join(f'--method {method}' for method in balanced)}`.\n"
    )


def scales(found: pd.DataFrame) -> str:
    """What every method scores at its own guidance scale, and beside it without guidance and at scale 2.

    Only the scale differs: settings of the method are those of its search.
    """
    rows = found[found["tuned"].notna() & (found["method_settings"].astype(str) == "{}")]
    usual = rows["guidance"] == "cfg"
    scale = rows["guidance_settings"].astype(str).map(lambda settings: json.loads(settings).get(SCALE, COMMON_SCALE))
    asked = {
        "at its own scale": usual & rows["own_scale"],
        "without guidance": rows["guidance"] == "none",
        f"at scale {COMMON_SCALE:g}": usual & (scale.astype(float) == COMMON_SCALE),
    }
    label = {name: dict(rows.loc[those, ["method", "label"]].astype(str).to_numpy()) for name, those in asked.items()}
    own = label["at its own scale"]
    board = board_of(rows[np.any([*asked.values()], axis=0)])
    columns = [
        (f"{_title(each)} {name}", each.set_index("label"), of)
        for each in main_columns(board)[:PRIMARY]
        for name, of in label.items()
    ]
    lines = [f"| method | {' | '.join(title for title, _, _ in columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for method in sorted(own, key=lambda each: columns[0][1].loc[own[each], "mean"]):
        shown = [
            _scored(board, cells, own[method], of[method]) if of.get(method) in cells.index else ABSENT
            for _, cells, of in columns
        ]
        lines.append(f"| {method} | {' | '.join(shown)} |")
    return "\n".join([*lines, *_orders(board, main_columns(board)[:PRIMARY], label)]) + "\n"


def _orders(board: Leaderboard, columns: Sequence[pd.DataFrame], label: Mapping[str, Mapping[str, str]]) -> list[str]:
    """How alike the orders of methods are at any two of the scales, over the seeds that all of them have."""
    methods = [method for method in board.costs["method"].unique() if all(method in of for of in label.values())]
    if len(methods) < FEWEST:
        return []
    lines = [""]
    for column in columns:
        scores = {name: [_by_seed(board, column, of[method]) for method in methods] for name, of in label.items()}
        seeds = sorted(set.intersection(*(set(each.index) for every in scores.values() for each in every)))
        means = {name: [each.loc[seeds].mean() for each in every] for name, every in scores.items()}
        found = "; ".join(
            f"{one} and {other} {number_text(spearmanr(means[one], means[other]).statistic, 2)}"
            for one, other in itertools.combinations(label, 2)
        )
        lines.append(
            f"- Spearman's correlation of {len(methods)} methods' {_title(column)} over "
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}: {found.replace('-', MINUS)}."
        )
    return lines


def _title(column: pd.DataFrame) -> str:
    return f"{column['group'].iloc[0]} {column['title'].iloc[0]}"


def _scored(board: Leaderboard, cells: pd.DataFrame, own: str, row: str) -> str:
    """A row's mean, and where it has fewer seeds than the method's own row, that one's mean over the same seeds."""
    digits = decimals(cells["mean"])
    shown = mean_text(cells.loc[row], digits)
    seeds = int(cells.loc[row, "n_seeds"])
    if seeds == cells.loc[own, "n_seeds"]:
        return shown
    there, ours = (_by_seed(board, cells, label) for label in (row, own))
    at_own = number_text(ours.loc[there.index].mean(), digits)
    return f"{shown} ({counted(seeds, 'seed')}; {at_own} at its own)"


def _differences(
    ours: Mapping[str, pd.Series[float]], theirs: Mapping[str, pd.Series[float]], column: pd.DataFrame, than: str
) -> list[str]:
    """Lines on the methods that are in both, by how sure it is that our scores are better or worse than theirs."""
    title = _title(column)
    lower = column["direction"].iloc[0] == "lower"
    pairs = {
        method: paired_difference(*(each.to_list() for each in ours[method].align(theirs[method], join="inner")), "t")
        for method in theirs
        if method in ours
    }
    said: dict[str, dict[str, list[str]]] = {AMONG: {}, SUGGESTIVE: {}, NOT_SHOWN: {}}
    for (method, pair), p in zip(pairs.items(), holm([each.p for each in pairs.values()]), strict=True):
        how = tag(1.0 if pair.p is None else pair.p, 1.0 if p is None else p).replace(STANDS, AMONG)
        what = "different" if how == NOT_SHOWN else "better" if (pair.mean < 0) == lower else "worse"
        said[how].setdefault(what, []).append(f"{method} {_difference(pair.mean, column)}")
    return [
        f"- *{how}*: in {title}, {than}, "
        + "; ".join(f"{what}: {', '.join(of)}" for what, of in sorted(found.items()))
        + "."
        for how, found in said.items()
        if found
    ]


def _difference(mean: float, column: pd.DataFrame) -> str:
    """A difference without its interval, as tables print it."""
    value, scale = (np.expm1(mean), "log") if _of_logs(column) else (mean, "")
    no_interval = dict.fromkeys(("difference_low", "difference_high"), np.nan)
    return difference_text(no_interval | {"difference": value, "scale": scale}, 3)


def _of_logs(column: pd.DataFrame) -> bool:
    """Whether a column is compared on the log scale."""
    return is_distance(column["metric"].iloc[0])


def _values(board: Leaderboard, column: pd.DataFrame, labels: Sequence[str]) -> dict[str, pd.Series[float]]:
    """Method → its scores by seed in a column, on the scale on which it is compared."""
    of_method = dict(zip(board.costs["label"], board.costs["method"], strict=True))
    values = {str(of_method[label]): _by_seed(board, column, label) for label in labels}
    return {method: np.log(each) if _of_logs(column) else each for method, each in values.items()}


def _by_seed(board: Leaderboard, column: pd.DataFrame, label: str) -> pd.Series[float]:
    """A row's scores in a column, by seed."""
    names = ["metric", "metric_version", "source", "test_set", "extractor", "group"]
    place = column[names].iloc[0].astype(str)
    scores = board.scores[(board.scores[names].astype(str) == place).all(axis=1)].sort_values("seed")
    return scores[scores["label"] == label].set_index("seed")["value"]


def _unguided(board: Leaderboard, column: pd.DataFrame) -> dict[str, pd.Series[float]]:
    rows = board.costs[(board.costs["guidance"] == "none") & (board.costs["settings"] == "")]
    return _values(board, column, rows["label"])


def usage(results: Path) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Method and settings of a learned gate → what its experts were used for, by the rows at its own guidance scale.

    That is how far head and tail differ in their experts, the tail's largest share, and experts in use by the tail:
    means over the seeds of the last ``expert_usage`` that a record has; the number in use is the exponential of the
    entropy.
    """
    found = {}
    for gate in GATES:
        for folder in sorted(results.glob(f"{gate}~*" if results == OLD else f"{gate}+cfg~*")):
            if results != OLD and f"{SCALE}={COMMON_SCALE}~" in folder.name:
                continue  # the sweep of scales samples the same training once more; no gate has this scale for its own
            paths = sorted(folder.glob("seed-*/record.json"))
            row = read_record(paths[0]).row
            found[row.method, row.told] = tuple(np.mean([_usage(path) for path in paths], 0))
    return found


def _usage(path: Path) -> tuple[float, float, float]:
    last = json.loads(path.read_text())["diagnostics"][-1]["expert_usage"]
    head, tail = np.array(last["head"]), np.array(last["tail"])
    entropy = -sum(share * np.log(share) for share in tail if share > 0)
    return 50 * np.abs(head - tail).sum(), 100 * tail.max(), float(np.exp(entropy))


def gates_table(results: Path) -> str:
    """The use of experts as a table."""
    rows = [
        f"| {method} | {markdown_escaped(settings)} | {differ:.1f} % | {most:.0f} % | {used:.2f} |"
        for (method, settings), (differ, most, used) in usage(results).items()
    ]
    head = "| gate | settings | head and tail differ in | most used expert of the tail | experts that the tail uses |"
    return "\n".join([head, "| --- | --- | ---: | ---: | ---: |", *rows]) + "\n"


def gates(results: Path) -> str:
    """The use of experts in one line; shares are counted, so that there is nothing to test."""
    found = np.array([*usage(results).values()])
    (least_differ, _, least), (most_differ, _, most) = found.min(0), found.max(0)
    where = f" --results {ARCHIVE.relative_to(ROOT)}" if results == OLD else ""
    return (
        f"- *{NOT_SHOWN}*: a gate that leaves experts of the tail unused: in {len(found)} settings of "
        f"{' and '.join(GATES)} the tail uses {least:.1f} to {most:.1f} of 4 experts, and head and tail differ in "
        f"{least_differ:.0f} to {most_differ:.0f} % of their use.\n"
        "- Counted from the use of experts in the records by `make tables`; the rows: "
        f"`grasp-bench report{where} --task {TASK} --all {' '.join(f'--method {name}' for name in GATES)}`.\n"
    )


def alignment() -> str:
    """Cosines of the gradients of head and tail, of what ``diagnose`` found where it gives an interval at all."""
    rows = []
    for path, found in _diagnosed():
        pair = [found["groups"]["names"].index(name) for name in ("head", "tail")]
        cells = [cell for cell in found["groups"]["cells"] if cell["kind"] == found["whole"]]
        cosines = [[cell[what][pair[0]][pair[1]] for what in ("cosine", "low", "high")] for cell in cells]
        if all(low is None for _, low, _ in cosines):
            continue
        p = {each["null"]: each["p_holm"] for each in found["tests"] if each["groups"] == ["head", "tail"]}
        shown = [
            *_where(path, found),
            *(_cosine(*each, few=found["batches"] < FEW) for each in cosines),
            f"{p['images']:.2g}",
            f"{p['classes']:.2g}",
        ]
        rows.append(f"| {' | '.join(shown)} |")
    levels = " | ".join(f"t {low:g}\N{EN DASH}{high:g}" for low, high in found["levels"])
    head = f"| method, step | batches | {levels} | p, images | p, classes |"
    return "\n".join([head, f"| --- |{' ---: |' * (len(found['levels']) + 3)}", *rows]) + "\n"


def lifts() -> str:
    """By how much the mean cosine within clusters is above that within random ones of the same sizes."""
    rows = []
    for path, found in _diagnosed():
        by_name = {each["partition"]: each for each in found["lifts"] if each["kind"] == found["whole"]}
        if all(each["low"] is None for each in by_name.values()):
            continue
        cells = []
        for name in LIFTED:
            lift = by_name[name]
            within, random = lift["within"], lift["random"]
            value = None if within is None or random is None else within - random
            text = _cosine(value, lift["low"], lift["high"], few=found["batches"] < FEW, digits="+.3f")
            cells.append(text.replace("-", MINUS))
        rows.append(f"| {' | '.join([*_where(path, found), *cells])} |")
    head = f"| method, step | batches | {' | '.join(LIFTED)} |"
    return "\n".join([head, f"| --- |{' ---: |' * (len(LIFTED) + 1)}", *rows]) + "\n"


def _diagnosed() -> list[tuple[Path, dict[str, Any]]]:
    """Every committed finding of ``diagnose`` with its file, by step."""
    paths = [path for folder in (RESULTS.parent / DIAGNOSED, OLD) for path in folder.glob("diagnose/*/seed-*.json")]
    ordered = sorted(paths, key=lambda each: (_step(each), OLD in each.parents, each))
    return [(path, json.loads(path.read_text())) for path in ordered]


def _where(path: Path, found: Mapping[str, Any]) -> tuple[str, str]:
    linked = f"[{path.parent.name}, {_step(path)}]({Path(os.path.relpath(path, RESULTS)).as_posix()})"
    return linked, str(found["batches"])


def _step(path: Path) -> int:
    return int(path.stem.partition("@")[2])


def _cosine(value: float | None, low: float | None, high: float | None, few: bool, digits: str = ".2f") -> str:
    if value is None:
        return "not measurable"
    if low is None or high is None:
        return "no interval"
    return f"{value:{digits}} [{low:{digits}}, {high:{digits}}]" + r"\*" * few


def renewed() -> dict[Path, str]:
    """Page → what should stand in it."""
    made = {
        "version": lambda: version(frame(ROOT / "results")),
        "guidance": lambda: guidance(frame(ARCHIVE)),
        "sampling": lambda: sampling(frame(ROOT / "results")),
        "scales": lambda: scales(frame(ROOT / "results")),
        "gates": lambda: gates(RESULTS),
        "table of gates": lambda: gates_table(RESULTS),
        "gates of rules 1.0": lambda: gates(OLD),
        "table of gates of rules 1.0": lambda: gates_table(OLD),
        "alignment": alignment,
        "lifts": lifts,
        "sweeps": sweeps,
        "scales left": scales_left,
        "searches": searches,
        "repeats": repeats,
        "chosen": chosen,
        "rates": rates,
        "without the seed of the choice": held_out,
        "order": order,
    }
    pages = {}
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for name, make in made.items():
            if f"<!-- {name} -->\n" in text:
                between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
                text = between.sub(partial(_between, make()), text)
        pages[path] = text
    return pages


def _between(content: str, found: re.Match[str]) -> str:
    return f"{found[1]}\n{content}\n{found[2]}"


if __name__ == "__main__":
    stale = {path: text for path, text in renewed().items() if path.read_text(encoding="utf-8") != text}
    for path, text in stale.items():
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
    sys.exit("--check" in sys.argv and bool(stale))

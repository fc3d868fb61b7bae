"""How many scores of a run lie further from its record than ``reproduce`` allows by chance, of recorded runs.

``PYTHONPATH=tests python -m calibration.reruns [FOLDER ...]`` measures it on the records in ``results`` and in
``results/archive``, or in those named, records the figures and writes them into docs/sharing.md. A rerun whose
training went another way is stood in for by another seed of its row.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t

from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.results.frame import load_results
from grasp_bench.results.sharing.differences import PLACE, paired_scores
from grasp_bench.results.sharing.seeds import FEWEST, apart, error_spread, seed_spread

ROOT = Path(__file__).parents[2]
RESULTS = (ROOT / "results", ROOT / "results" / "archive")
MEASURED, PAGE = Path(__file__).with_name("reruns.json"), ROOT / "docs" / "sharing.md"
BETWEEN = re.compile(r"(?<=<!-- calibration reruns -->\n).*?(?=<!-- end -->)", re.DOTALL)
LEAST = 5
"""Seeds of a row that is measured: one that is compared, and four others that say what two differ by."""


class Kind(NamedTuple):
    """Comparisons of one kind: quantiles over them of the share of scores that lie beyond the limit."""

    rows: int
    comparisons: int
    mean: float
    high: float
    """95th percentile."""
    most: float


def same_data(cell: list[RunRecord]) -> Iterator[float]:
    """Each seed compared with the next by the spread of all but itself, where all have the same data."""
    for number, held in enumerate(cell):
        rest = [each for each in cell if each is not held]
        found = apart(paired_scores(rest[number % len(rest)], held), seed_spread([rest])).dropna()
        yield float((found > 1).mean())


def own_data(frame: pd.DataFrame, run_ids: list[str]) -> Iterator[float]:
    """Each seed compared with the next by the spread of all but itself, where each has data of its own.

    What the two seeds do to the other rows is taken from their difference. That mean over R rows has errors of its
    own, so that the difference is multiplied by the root of R / (R + 1), which takes all variances for equal.
    """
    for held, beside in zip(run_ids, [*run_ids[1:], run_ids[0]], strict=True):
        of_run = frame["run_id"].eq(held)
        spread = error_spread([(frame.assign(value=frame["value"].mask(of_run)), beside)])
        seeds = [int(frame.loc[frame["run_id"] == each, "seed"].iloc[0]) for each in (held, beside)]
        mine = frame[of_run].iloc[0]
        rows = frame[(frame["conditions"] == mine["conditions"]) & (frame["guidance"] == mine["guidance"])]
        values = rows.astype(dict.fromkeys([*PLACE, "label"], object)).pivot(
            index=PLACE, columns=["label", "seed"], values="value"
        )
        values = values.reindex(spread.index)
        values = values.where(~spread["log"], np.log(values.where(values > 0)))
        change = values.xs(seeds[0], axis=1, level="seed") - values.xs(seeds[1], axis=1, level="seed")
        others = change.drop(columns=mine["label"])
        difference = (change[mine["label"]] - others.mean(axis=1)).abs() * np.sqrt(1 - 1 / change.shape[1])
        limit = t.ppf(0.975, spread["freedom"]) * spread["spread"] * np.sqrt(2)
        known = difference.notna()
        yield float((difference > limit * (1 + 1e-9))[known].mean())


def measure(results: Path) -> dict[str, Kind]:
    """Return what each kind of comparison gives for the records under ``results``.

    Of rows that differ in the guidance scale alone, which share their trainings, the one at its own scale is measured.
    """
    frame = load_results(results)
    frame = frame[(frame["status"] == "finished") & frame["metric"].notna() & (frame["division"] == "closed")]
    frame = frame[frame["own_scale"]]
    found: dict[str, list[list[float]]] = {"the same data": [], "data of its own": []}
    for _, row in frame.groupby(["conditions", "task_label", "label", "variant"], observed=True, sort=False):
        runs = row.drop_duplicates("folder").sort_values("seed")
        if len(runs) < LEAST:
            continue
        cell = [read_record(results / folder / RECORD_NAME) for folder in runs["folder"]]
        data = {each.stages.get("prepare") for each in cell}
        equal = frame[
            (frame["conditions"] == runs["conditions"].iloc[0]) & (frame["guidance"] == runs["guidance"].iloc[0])
        ]
        if len(data) == 1:
            found["the same data"].append(list(same_data(cell)))
        elif len(data) == len(cell) and equal["method"].nunique() >= FEWEST:
            found["data of its own"].append(list(own_data(equal, runs["run_id"].tolist())))
    return {name: _kind(shares) for name, shares in found.items() if shares}


def _kind(shares: list[list[float]]) -> Kind:
    every = np.concatenate([np.array(each) for each in shares])
    rounded = [round(float(each), 4) for each in (every.mean(), np.quantile(every, 0.95), every.max())]
    return Kind(len(shares), len(every), *rounded)


def table() -> str:
    """The recorded figures as Markdown."""
    lines = [
        "| every seed has | rows | comparisons | mean, % | 95th percentile, % | most, % |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, each in recorded().items():
        shares = " | ".join(f"{100 * share:.1f}" for share in each[2:])
        lines.append(f"| {name} | {each.rows} | {each.comparisons} | {shares} |")
    return "\n".join(lines) + "\n"


def recorded() -> dict[str, Kind]:
    """The recorded figures."""
    return {name: Kind(**each) for name, each in json.loads(MEASURED.read_text()).items()}


def written(text: str) -> str:
    """A page with the table of what is recorded."""
    return BETWEEN.sub(lambda _: table(), text)


def main(folders: list[Path]) -> None:
    """Measure, record, and write the table."""
    for folder in folders:
        known = {name: each._asdict() for name, each in recorded().items()}
        found = {name: each._asdict() for name, each in measure(folder).items()}
        MEASURED.write_text(json.dumps(known | found, indent=1) + "\n")
    PAGE.write_text(written(PAGE.read_text()))
    print(table())


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]] or [*RESULTS])

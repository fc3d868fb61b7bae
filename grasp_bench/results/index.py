"""The index of a results folder: what tables need of every record, in one parquet file that is read at once.

The records stay the truth. A file counts as the one that was indexed while its path, size and time of change are the
same; whatever else is there is read from its JSON, and the index is written anew. One that is damaged, or of another
version, is not used; where none can be written, all works without.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grasp_bench.errors import UserError
from grasp_bench.io import write_bytes
from grasp_bench.results.columns import lists, numbers, texts, unpacked, whole_numbers
from grasp_bench.results.load import Place, find_records, read_each
from grasp_bench.results.summary import COSTS, MeanCost, Runs, RunSummary, ScoreKey, joined, summarised, summarised_at
from grasp_bench.version import VERSION

if TYPE_CHECKING:
    import pyarrow as pa

INDEX_NAME = ".index.parquet"
FORMAT = f"2 of grasp-bench {VERSION}"
"""The number rises with every change of what a summary says."""
FACTS = tuple(field.name for field in fields(RunSummary) if field.name != "cost")
WHOLE = ("seed",)
SCORES = ("key", "value", "n", "floor")


def read_indexed(results: Path) -> Runs:
    """Every run that can be read, sorted by path; one that cannot is left out with a warning."""
    there = find_records(results)
    known, runs = _read(results / INDEX_NAME)
    if known == there:
        return runs
    unchanged = set(there).intersection(known)
    kept = [number for number, place in enumerate(known) if place in unchanged]
    places = [known[number] for number in kept]
    read = read_each(results, [place for place in there if place not in unchanged])
    fresh = summarised_at((place.folder, record) for place, record in read)
    by_folder = {place.folder: place for place in there}
    places += [by_folder[run.folder] for run in fresh.summaries]
    order = sorted(range(len(places)), key=lambda number: _parts(places[number]))
    together = joined(runs.at(kept), fresh).at(order)
    if places and (len(kept) < len(known) or fresh.summaries):
        with contextlib.suppress(UserError):  # a folder that may only be read
            _write(results / INDEX_NAME, [places[number] for number in order], together)
    return together


def _parts(place: Place) -> list[str]:
    return place.folder.split("/")


def _schema(keys: Sequence[ScoreKey]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            *(("size", pa.int64()), ("mtime_ns", pa.int64())),
            *((name, pa.int64() if name in WHOLE else pa.string()) for name in FACTS),
            *((name, pa.float64()) for name in COSTS),
            *((name, pa.list_(pa.float64() if name in ("value", "floor") else pa.int64())) for name in SCORES),
        ],
        metadata={"format": FORMAT, "keys": json.dumps([asdict(key) for key in keys])},
    )


def _write(path: Path, places: Sequence[Place], runs: Runs) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ends = np.searchsorted(runs.run, np.arange(len(runs.summaries) + 1))
    facts = {name: [getattr(summary, name) for summary in runs.summaries] for name in FACTS}
    columns = [
        whole_numbers([place.size for place in places]),
        whole_numbers([place.mtime_ns for place in places]),
        *((whole_numbers if name in WHOLE else texts)(facts[name]) for name in FACTS),
        *(numbers([getattr(run.cost, name) if run.cost else None for run in runs.summaries]) for name in COSTS),
        *(lists(getattr(runs, name), ends) for name in SCORES),
    ]
    buffer = BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=_schema(runs.keys)), buffer)
    write_bytes(path, buffer.getvalue())


def _read(path: Path) -> tuple[list[Place], Runs]:
    """What was indexed; nothing where the file is missing, damaged, or not one that this version writes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    nothing: tuple[list[Place], Runs] = [], summarised([])
    try:
        # memory-mapped or by path, pyarrow would take a folder for a data set of many files
        table = pq.ParquetFile(BytesIO(path.read_bytes())).read()
        keys = tuple(ScoreKey(**key) for key in json.loads(table.schema.metadata[b"keys"]))
        expected = _schema(keys)
        if not table.schema.equals(expected) or table.schema.metadata != expected.metadata:
            return nothing
        return _unpacked(table, keys)
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError):
        return nothing


def _unpacked(table: pa.Table, keys: tuple[ScoreKey, ...]) -> tuple[list[Place], Runs]:
    """Raises ValueError for scores that do not belong together."""
    plain = {name: table[name].to_pylist() for name in ("size", "mtime_ns", *FACTS, *COSTS)}
    spent = [
        None if each[0] is None else MeanCost(*each) for each in zip(*(plain[name] for name in COSTS), strict=True)
    ]
    facts = zip(*(plain[name] for name in FACTS), spent, strict=True)
    summaries = tuple(RunSummary(*each) for each in facts)
    places = [Place(*each) for each in zip(plain["folder"], plain["size"], plain["mtime_ns"], strict=True)]
    lists = {name: table[name].combine_chunks() for name in SCORES}
    lengths = {name: np.diff(unpacked(each.offsets)) for name, each in lists.items()}
    arrays = {name: unpacked(each.flatten()) for name, each in lists.items()}
    if any((each != lengths["key"]).any() for each in lengths.values()):
        raise ValueError("the columns of the scores differ in length")
    if len(arrays["key"]) and not 0 <= arrays["key"].min() <= arrays["key"].max() < len(keys):
        raise ValueError("a score has no name")
    run = np.repeat(np.arange(len(summaries)), lengths["key"])
    return places, Runs(summaries, keys, run, arrays["key"], arrays["value"], arrays["n"], arrays["floor"])

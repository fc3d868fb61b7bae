"""Every run under a results folder as one tidy pandas DataFrame, of which all tables, pages and statistics are made.

One row is a run × metric × source × test set × group × scope. The records stay the truth; the frame of all of them is
cached in one file beside them, as Parquet behind the sha256 of its bytes. A record counts as the one that was cached
while its path, size, times of change and inode are the same; whatever else is there is read from its JSON, and the
cache is rewritten. A cache whose bytes have another hash, or of another version, is not used; where none can be
written, everything works without.

Columns:

=========================== ========================================================================================
``folder``                  folder of the run under the results: ``TASK/METHOD/seed-N``
``run_id``                  sha256 of the run's specification
``task_label``, ``label``   names of the task's and the method's folder
``task``, ``task_version``  name and version of the task
``budget``                  name of the budget
``own_budget``              whether a TOML file describes the budget
``backbone``                name of the backbone
``backbone_label``          what ``--backbone`` takes for it
``backbone_revision``       revision of its weights
``recipe``                  name of the recipe that gave defaults; empty of a backbone whose recipe changes nothing
``resolution``              pixels a side of its images, as text; empty where the backbone has no choice
``default_backbone``        whether the backbone is the one that the task asks for
``caution``                 what headings say of a backbone that only shows that the code runs; empty for others
``method``, ``guidance``    names of the method and the guidance
``method_version``          version of the method
``guidance_version``        version of the guidance
``default_guidance``        whether the guidance is the one that the task asks for
``settings``                settings that are not the defaults, as ``NAME=VALUE, ...``: a backbone that is not the
                            task's, then guidance's, then method's; with a scale that a search chose
``tuned``                   trials of the search that chose settings of the method; NA without one
``own_scale``               whether the guidance has the scale that such a search chose; true where none chose one
``task_settings``           settings of task and budget that are not the defaults, as JSON
``method_settings``         settings of the method that are not the defaults and that no search chose, as JSON
``guidance_settings``       settings of the guidance that are not the defaults, as JSON
``seed``                    seed of the run
``division``                "closed" or "open"
``declared``                what is declared of how an open run's images were made, as JSON; empty for closed runs
``status``, ``reason``      how the run ended, and why it did not finish
``rules``                   Major.Minor of the fairness rules
``conditions``              hash of what runs must share to be compared
``variant``                 hash of method and guidance with all their settings
``streams``                 hash of data order, noise, timesteps and prompt dropout
``training``                hash of what decides the trained weights, of which a run may be one of several samplings;
                            empty where nothing was trained
``started``                 time of the start in UTC, ISO 8601
cost columns                fields of :class:`~grasp_bench.contracts.record.Cost`; NaN where they were not recorded
``metric``                  name of the metric; NA in the one row of a run without scores
``metric_version``          version of the metric
``metric_label``            title of the metric
``title``                   title with source and test set, where the metric has several of them
``direction``               "lower" or "higher": which way is better
``source``                  images that are scored, or that the scored classifier was trained on
``test_set``                "test" or "balanced-test"
``extractor``               extractor of the features; empty for the task's first one and for a metric of a classifier
``group``                   group of the task, or "all"; with ``scope`` "class", the name of the class
``scope``                   "group", "class mean", "worst class", "whole test set" or "class"
``value``                   the score; NaN where there are too few images
``n``                       images behind the value
``reference``               score of held-out real images; NaN where there is none
``low``, ``high``           95 % interval over ``unit``; percentiles over draws where that is "equal-count draw"
``unit``                    what that interval resamples; empty where there is none
``worst``                   name of the worst class
=========================== ========================================================================================
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grasp_bench.contracts.record import DRAW, RECORD_NAME, Cost, RunRecord, title
from grasp_bench.contracts.record_v1 import class_table
from grasp_bench.contracts.row import SCALE
from grasp_bench.errors import UserError
from grasp_bench.io import check_file, digest, read_with_digest, write_with_digest
from grasp_bench.results.load import RecordWarning, find_records, read_each
from grasp_bench.run.files import CLASSES
from grasp_bench.text import from_cell
from grasp_bench.version import VERSION

if TYPE_CHECKING:
    import pandas as pd

INDEX_NAME = ".index"
FORMAT = f"13 of grasp-bench {VERSION}"
"""Version of the cache; the number rises with every change of what a column says."""
PLACE = ("size", "mtime_ns", "ctime_ns", "inode")
TEXTS = (
    *("folder", "run_id", "task_label", "label", "task", "task_version", "budget", "backbone", "backbone_revision"),
    "recipe",
    *("method", "method_version", "guidance", "guidance_version", "settings", "tuned"),
    *("backbone_label", "resolution", "caution", "task_settings", "method_settings", "guidance_settings"),
    *("division", "declared", "status", "reason", "rules", "conditions", "variant", "streams", "training", "started"),
)
RECORDED = (
    *("run_id", "task_label", "label", "backbone_label", "caution", "default_backbone", "default_guidance"),
    *("division", "status", "reason", "rules", "streams", "started"),
)
"""Columns that are fields of the record."""
FLAGS = ("default_backbone", "default_guidance", "own_budget", "own_scale")
COSTS = tuple(Cost.model_fields)
SCORE_TEXTS = (
    *("metric", "metric_version", "metric_label", "title", "direction", "source", "test_set", "extractor", "group"),
    "scope",
    *("unit", "worst"),
)
CLASS_KEY = ["metric", "source", "test_set", "extractor"]
SCORE_NUMBERS = ("value", "n", "reference", "low", "high")
COLUMNS = (*TEXTS, *FLAGS, "seed", *COSTS, *SCORE_TEXTS, *SCORE_NUMBERS)


def load_results(folder: Path | str = "results", classes: bool = False) -> pd.DataFrame:
    """Return the frame of all runs under ``folder``, sorted by their folders.

    With ``classes``, the scores of single classes follow those of groups, with ``scope`` "class". A record that cannot
    be read, and one that copies another run's, is left out with a :class:`RecordWarning`. Raises
    :class:`~grasp_bench.errors.UserError` where ``folder`` is a file.
    """
    results = Path(folder)
    frame = _without_copies(results, _indexed(results))
    if classes:
        frame = _joined([frame, _class_scores(results, frame)])
    return frame


def frame_of(found: Iterable[tuple[str, RunRecord]]) -> pd.DataFrame:
    """Return the frame of records, each with its folder under the results."""
    import pandas as pd

    runs: list[dict[str, Any]] = []
    scores: list[tuple[Any, ...]] = []
    for number, (folder, record) in enumerate(found):
        runs.append(_run(folder, record))
        scores += _scores(number, record)
    table = pd.DataFrame(scores, columns=["run", *SCORE_TEXTS, *SCORE_NUMBERS])
    by_run = pd.DataFrame(runs, columns=[*TEXTS, *FLAGS, "seed", *COSTS])
    return _typed(by_run.join(table.set_index("run")).reset_index(drop=True))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns in order: texts as categories, since most of them repeat for every score of a run."""
    kinds = {
        **dict.fromkeys((*TEXTS, *SCORE_TEXTS), "category"),
        **dict.fromkeys(FLAGS, "bool"),
        **dict.fromkeys((*COSTS, *SCORE_NUMBERS), "float64"),
        "seed": "int64",
    }
    return frame.astype(kinds)


def _run(folder: str, record: RunRecord) -> dict[str, Any]:
    spec = record.spec
    row = record.row
    return {
        **{name: getattr(record, name) for name in RECORDED},
        **(record.cost.model_dump() if record.cost else {}),
        **{owner: getattr(spec, owner).name for owner in ("task", "budget", "backbone", "method", "guidance")},
        **{f"{owner}_version": getattr(spec, owner).version for owner in ("task", "method", "guidance")},
        **{f"{owner}_settings": json.dumps(record.changed.get(owner, {})) for owner in ("task", "method", "guidance")},
        "folder": folder,
        "declared": json.dumps(record.entry.declared.model_dump(exclude_none=True)) if record.entry else "",
        "own_budget": spec.budget.described_by_file,
        "backbone_revision": spec.backbone.version,
        "recipe": record.recipe or "",
        "resolution": str(spec.backbone.settings.get("resolution", "")),
        "settings": row.settings,
        "tuned": row.tuned or None,
        "own_scale": _has_own_scale(record),
        "seed": spec.seed,
        "conditions": _conditions(record),
        "training": record.stages.get("train", ""),
        "variant": digest([part.model_dump(mode="json") for part in (spec.method, spec.guidance)]),
    }


def _has_own_scale(record: RunRecord) -> bool:
    searched = record.tuned.scale if record.tuned else None
    return searched is None or record.spec.guidance.settings.get(SCALE) == searched


def _conditions(record: RunRecord) -> str:
    parts = (record.spec.task, record.spec.backbone, record.spec.budget)
    protocol = {**record.protocol, "rules": record.rules}
    return digest([protocol, *(part.model_dump(mode="json") for part in parts)])


def _scores(run: int, record: RunRecord) -> Iterable[tuple[Any, ...]]:
    sources: dict[str, set[str]] = {}
    for score in record.scores:
        sources.setdefault(score.metric, set()).add(score.source)
    for score in record.scores:
        interval = score.interval
        source = score.source if len(sources[score.metric]) > 1 else None
        yield (
            *(run, score.metric, score.metric_version, score.label, title(score.label, source, score.test_set)),
            *(score.direction, score.source, score.test_set, score.extractor or "", score.group, score.scope),
            *(interval.unit if interval else None, score.worst, score.value, score.n, score.reference),
            *((interval.low, interval.high) if interval else (None, None)),
        )


def _indexed(results: Path) -> pd.DataFrame:
    """Every run that can be read, sorted by path, with what changes with its record."""
    there = find_records(results)
    cached = _read(results / INDEX_NAME)
    known = cached.drop_duplicates("folder")
    stats = dict(zip(known["folder"], zip(*(known[name] for name in PLACE), strict=True), strict=True))
    new = [folder for folder, stat in there.items() if stats.get(folder) != stat]
    if not new and len(there) == len(stats):
        return cached
    kept = cached[cached["folder"].isin(there.keys() - set(new))]
    fresh = frame_of(read_each(results, new))
    for at, name in enumerate(PLACE):
        fresh[name] = [there[folder][at] for folder in fresh["folder"]]
    frame = _joined([fresh, kept])
    place = {folder: number for number, folder in enumerate(there)}
    frame = frame.iloc[np.argsort([place[folder] for folder in frame["folder"]], kind="stable")].reset_index(drop=True)
    if len(frame) and (len(fresh) or len(kept) < len(cached)):
        with contextlib.suppress(UserError):  # a folder that may only be read
            _write(results / INDEX_NAME, frame)
    return frame


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all frames, whose texts have different categories."""
    import pandas as pd

    filled = [each for each in frames if len(each)] or frames[:1]
    if len(filled) > 1:  # categories of which all are missing are deprecated there
        filled = [each.astype(dict.fromkeys((*TEXTS, *SCORE_TEXTS), object)) for each in filled]
    return _typed(pd.concat(filled, ignore_index=True))


def _write(path: Path, frame: pd.DataFrame) -> None:
    stored = frame[[*COLUMNS, *PLACE]]
    stored.attrs = {"format": FORMAT}
    buffer = io.BytesIO()
    stored.to_parquet(buffer, index=False)
    write_with_digest(path, buffer.getvalue())


def _read(path: Path) -> pd.DataFrame:
    """The cached frame; an empty one where the file is missing, damaged, or not one that this version writes."""
    import pandas as pd
    from pyarrow import ArrowException

    with contextlib.suppress(OSError, ArrowException, ValueError, TypeError, KeyError):
        frame = pd.read_parquet(io.BytesIO(read_with_digest(path)))
        current = frame.attrs.pop("format", None) == FORMAT and [*frame.columns] == [*COLUMNS, *PLACE]
        if current and frame["folder"].notna().all():
            return _typed(frame)
    return frame_of([]).assign(**dict.fromkeys(PLACE, 0))


def _without_copies(results: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that are no copies: counted twice, a run would narrow the interval.

    A search that ends with the defaults is a row beside theirs, so the label counts.
    """
    runs = frame.drop_duplicates("folder")[["folder", "label", "run_id"]]
    first = runs.drop_duplicates(["label", "run_id"])
    copies = runs.drop(first.index).merge(first, on=["label", "run_id"], suffixes=("", "_first"))
    for folder, origin in zip(copies["folder"], copies["folder_first"], strict=True):
        path, other = results / folder / RECORD_NAME, results / origin / RECORD_NAME
        warnings.warn(f"left out: {path} is the run of {other}", RecordWarning, stacklevel=3)
    frame = frame[[*COLUMNS]]
    return frame[~frame["folder"].isin(copies["folder"])].reset_index(drop=True) if len(copies) else frame


def _class_scores(results: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The scores of single classes, of runs that have them beside their record."""
    import pandas as pd

    titles = frame.drop_duplicates(CLASS_KEY).set_index(CLASS_KEY)
    labels = titles[["metric_label", "title", "direction", "metric_version"]].astype(object)
    runs = frame.drop_duplicates("folder")[[*TEXTS, *FLAGS, "seed", *COSTS]].set_index("folder")
    found = []
    for folder in runs.index:
        path = results / folder / CLASSES
        try:
            text = class_table(check_file(path).read_text(encoding="utf-8"))
            table = pd.read_csv(
                io.StringIO(text),
                dtype={"class": str, "metric": str, "extractor": str},
                keep_default_na=False,
                na_values={name: [""] for name in ("value", "reference", "low", "high")},
            )
            table["class"] = table["class"].map(from_cell)
            found.append(table.drop(columns="group").rename(columns={"class": "group"}).assign(folder=folder))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, csv.Error) as error:
            warnings.warn(f"left out: {path}: cannot be read: {error}", RecordWarning, stacklevel=3)
    if not found:
        return frame.iloc[:0]
    scores = pd.concat(found, ignore_index=True).join(labels, on=CLASS_KEY)
    scores = scores.join(runs, on="folder").assign(scope="class", worst=None)
    scores["unit"] = scores["low"].notna().map({True: DRAW, False: None})
    return _typed(scores[[*COLUMNS]])

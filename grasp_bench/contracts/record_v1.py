"""Records of schema 1, converted when they are read: the only place that takes labels and names of metrics apart."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from grasp_bench.io import as_csv

TRAINED_ON = {
    "generated": "generated images",
    "real": "real images",
    "topped-up": "real images topped up with generated ones",
}
RENAMED = {"name": "metric", "floor": "reference"}


def converted(old: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a schema-2 record from those of a schema-1 record.

    What cannot be taken apart is passed on as it is, for the validation of the record to refuse.
    """
    new = {name: value for name, value in old.items() if name != "metrics"}
    new |= {"schema_version": 2, "scores": [score(each) for each in old.get("metrics", [])]}
    try:
        return new | _from_labels(old)
    except (AttributeError, KeyError, TypeError):
        return new


def score(old: Mapping[str, Any]) -> Any:
    """The fields of a score of schema 2: "f1_real_balanced" was the name of a metric, its source and its test set."""
    if not isinstance(old, Mapping) or "name" not in old:
        return old
    new = {RENAMED.get(name, name): value for name, value in old.items()}
    name, label = str(old["name"]), str(old.get("label", ""))
    if name.endswith("_balanced"):
        name, label = name.removesuffix("_balanced"), label.removesuffix(", balanced test set")
        new["test_set"] = "balanced-test"
    for source, images in TRAINED_ON.items():
        if name.endswith(f"_{source}"):
            name, label = name.removesuffix(f"_{source}"), label.removesuffix(f", trained on {images}")
            new["source"] = source
    return new | {"metric": name, "label": label}


def _from_labels(old: Mapping[str, Any]) -> dict[str, Any]:
    """What schema 1 told by the names of folders alone, such as ``grasp@sana+cfg~guidance_scale=2.0~tuned=8``."""
    spec, (head, _, named) = old["spec"], old["label"].partition("~")
    guidance = f"+{spec['guidance']['name']}"
    model = head.removesuffix(guidance)
    _, other, backbone = model.partition("@")
    return {
        "changed": {
            "task": _named(spec["task"]["settings"] | spec["budget"], old["task_label"].partition("~")[2]),
            "method": _named(spec["method"]["settings"], named),
            "guidance": _named(spec["guidance"]["settings"], named),
        },
        "backbone_label": backbone or spec["backbone"]["name"],
        "default_backbone": not other,
        "default_guidance": model == head,
    }


def _named(settings: Mapping[str, Any], named: str) -> dict[str, Any]:
    """The settings that stand in ``NAME=VALUE,...``; a comma within a value does not end it."""
    around = f",{named.replace('~', ',')},"
    return {name: value for name, value in settings.items() if f",{name}={value}," in around}


def class_table(text: str) -> str:
    """The table of scores per class as it is written today, whichever version its run had."""
    rows = list(csv.reader(io.StringIO(text, newline="")))
    if not rows or "extractor" in rows[0] or "metric" not in rows[0]:
        return text
    header, at = rows[0], rows[0].index("metric")
    if any(len(row) <= at for row in rows[1:]):
        return text
    if "source" not in header:  # of schema 1
        rest = [RENAMED.get(name, name) for name in header[at + 1 :]]
        header = [*header[: at + 1], "source", "test_set", *rest]
        rows[1:] = [[*row[:at], *_place(row[at]), *row[at + 1 :]] for row in rows[1:]]
    column = header.index("test_set") + 1
    cells = ["extractor", *[""] * len(rows[1:])]  # tables did not have it while runs had one extractor
    table = zip([header, *rows[1:]], cells, strict=True)
    return as_csv([[*row[:column], cell, *row[column:]] for row, cell in table])


def _place(name: str) -> tuple[str, str, str]:
    """The metric, source and test set that the name of a metric of schema 1 stands for."""
    found = {"source": "generated", "test_set": "test"} | score({"name": name})
    return found["metric"], found["source"], found["test_set"]

"""Labels files: the class of each image, and its further columns."""

from __future__ import annotations

import csv
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from grasp_bench.bounds import fault
from grasp_bench.errors import UserError, did_you_mean, other_form
from grasp_bench.io import check_file
from grasp_bench.text import counted, some

ID_COLUMNS = ("id", "file", "filename", "file_name", "image", "path")
LABEL_COLUMNS = ("label", "class")


def look_alikes(names: Iterable[str]) -> list[str]:
    """Names that differ in their Unicode normal form alone, which nobody can see, each group as one escaped text."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        alike[unicodedata.normalize("NFKC", name)].append(name)
    return [" and ".join(map(ascii, each)) for each in alike.values() if len(each) > 1]


@dataclass(frozen=True)
class Row:
    """One line of a labels file."""

    line: int
    label: str
    further: dict[str, str]


def read_labels(
    path: Path, ids: tuple[str, ...] = ID_COLUMNS, labels: tuple[str, ...] = LABEL_COLUMNS
) -> dict[str, Row]:
    """Id → row of a CSV file (comma, UTF-8, a byte order mark is passed over), whose values are stripped.

    The first row names the columns: one of ``ids``, which are paths unless they are others than :data:`ID_COLUMNS`, one
    of ``labels``, unless these are empty, and further ones that are kept, such as ``patient_id``. Raises
    :class:`UserError` with the line.
    """
    try:
        with check_file(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [value.strip() for value in values]) for values in reader if values]
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV in UTF-8 ({error}). Save it as CSV (comma, UTF-8).") from error
    if not lines:
        raise UserError(f"{path}: is empty. Its first line names the columns, such as: {ids[0]},{labels[0]}")
    header = lines[0][1]
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise UserError(f"{path}, line 1: the columns {some(map(repr, repeated))} appear more than once. Rename them.")
    id_column, label_column = _column(path, header, ids), _column(path, header, labels) if labels else None
    rows: dict[str, Row] = {}
    for line, values in lines[1:]:
        where = f"{path}, line {line}"
        if len(values) != len(header):
            raise UserError(f"{where}: {len(values)} values for {len(header)} columns ({', '.join(header)}).")
        if why := fault(values):
            raise UserError(f"{where}: a value {why}.")
        record = dict(zip(header, values, strict=True))
        name, label = record.pop(id_column), record.pop(label_column) if label_column else ""
        if not name:
            raise UserError(f"{where}: the {ids[0]} is empty. Fill it in or remove the line.")
        if ids is ID_COLUMNS:
            relative = PurePosixPath(name)
            if relative.is_absolute() or ".." in relative.parts:
                raise UserError(f"{where}: {name!r} leads out of the folder. Write paths relative to the folder.")
            name = str(relative)
        if label_column and not label:
            raise UserError(f"{where}: {name!r} has an empty {label_column}. Fill it in or remove the line.")
        first = rows.setdefault(name, Row(line, label, record))
        if first.line != line:
            raise UserError(f"{where}: {name!r} was on line {first.line} already. Keep one of the two.")
    if not rows:
        raise UserError(f"{path}: names its columns and then holds no line.")
    return rows


def align(
    rows: dict[str, Row], ids: Sequence[str], labels: Path, source: Path
) -> tuple[list[str], dict[str, list[str]]]:
    """The labels of ``ids`` in their order, and the file's further columns: name → one value per image.

    An id in the file is a path relative to ``source``; one without a folder also names the only image of that file
    name, wherever it lies. Raises :class:`UserError` for a label without its image and for an image without a label.
    """
    found: dict[str, Row] = {}
    by_name = defaultdict(list)
    for image in ids:
        by_name[PurePosixPath(image).name].append(image)
    known, absent = set(ids), []
    for name, row in rows.items():
        candidates = [name] if name in known else by_name.get(name, [])
        if len(candidates) > 1:
            raise UserError(
                f"{labels}, line {row.line}: {name!r} is the name of {len(candidates)} images ({some(candidates)}). "
                f"Write the path relative to {source}."
            )
        if not candidates:
            absent.append(f"{name!r} (line {row.line})")
        elif candidates[0] in found:
            raise UserError(
                f"{labels}, line {row.line}: {candidates[0]!r} has a label on line {found[candidates[0]].line} "
                "already. Keep one."
            )
        else:
            found[candidates[0]] = row
    if absent:
        raise UserError(
            f"{labels}: labels for {counted(len(absent), 'image')} that {source} does not hold: {some(absent)}. "
            f"Add the images or remove the lines.{other_form(rows, [*known, *by_name])}"
        )
    if missing := [image for image in ids if image not in found]:
        raise UserError(
            f"{labels}: no label for {len(missing)} of the {len(ids)} images of {source}: {some(missing)}. "
            "Add a line for each or move the images out."
        )
    ordered = [found[image] for image in ids]
    further = ordered[0].further if ordered else {}
    return [row.label for row in ordered], {name: [row.further[name] for row in ordered] for name in further}


def _column(path: Path, header: list[str], names: tuple[str, ...]) -> str:
    found = [name for name in header if name.lower() in names]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{path}, line 1: {' and '.join(map(repr, found))} both could be the {names[0]}. Rename one.")
    hint = next((hint for name in header if (hint := did_you_mean(name.lower(), names))), "")
    raise UserError(
        f"{path}, line 1: no column for the {names[0]} among {', '.join(header)}.{hint} Call it {names[0]!r}."
    )

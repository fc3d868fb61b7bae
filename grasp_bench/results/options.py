"""What a report may be asked for, on the command line and in the markers of a document, and the runs that it leaves."""

from __future__ import annotations

import difflib
import fnmatch
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from grasp_bench.contracts.record import Source, Status, TestSet
from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.text import SHOWN, some

if TYPE_CHECKING:
    import pandas as pd

    from grasp_bench.results.judging import Procedure

View = Literal["tables", "summary", "findings"]
CHOICES: dict[str, tuple[str, ...]] = {
    "status": get_args(Status),
    "source": get_args(Source),
    "test-set": get_args(TestSet),
    "test": ("model", "permutation", "wilcoxon", "t"),
    "view": get_args(View),
}
"""Option → what it takes, where that is one of few words."""
NAMED_BY = {"task": ["task", "task_label"], "method": ["method", "label"], "guidance": ["guidance"]}
"""Option → the columns that hold what it names."""


@dataclass(frozen=True)
class Options:
    """Which runs are reported, and how they are compared; each is an option of ``grasp-bench report``."""

    task: Sequence[str] = ()
    method: Sequence[str] = ()
    guidance: Sequence[str] = ()
    status: Sequence[str] = ()
    metric: Sequence[str] = ()
    source: Sequence[str] = ()
    """Images that are scored, or that the scored classifiers were trained on."""
    test_set: Sequence[str] = ()
    sort: str | None = None
    """``METRIC`` or ``METRIC:GROUP``."""
    baseline: str | None = None
    """Row that the others are compared with: its label, or a method, which means its row with default settings."""
    test: Procedure = "model"
    all: bool = False
    """Whether a method has all of its rows, and not only the one of its chosen guidance."""
    view: View = "tables"
    """All tables; one table of the methods with findings; or the findings alone."""

    @property
    def command(self) -> str:
        """Return the command with every option that is not its default."""
        words = ["grasp-bench", "report"]
        for name, default in DEFAULTS.items():
            value = getattr(self, name.replace("-", "_"))
            if isinstance(value, str) and value != default:
                words += [f"--{name}", value]
            elif value is True:
                words.append(f"--{name}")
            elif isinstance(value, Sequence) and not isinstance(value, str):
                words += [word for each in value for word in (f"--{name}", str(each))]
        return shlex.join(words)


DEFAULTS = {field.name.replace("_", "-"): field.default for field in fields(Options)}


def parse_options(text: str, where: str) -> Options:
    """Options as they are written on a command line. Raises :class:`UserError` that names ``where`` and the option."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{where}: {text!r} cannot be taken apart: {error}.") from error
    found: dict[str, Any] = {}
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        name = option.removeprefix("--")
        if not option.startswith("--") or name not in DEFAULTS:
            known = [f"--{each}" for each in DEFAULTS]
            hint = did_you_mean(option, known)
            raise UserError(f"{where}: {word!r} is no option that can stand here.{hint} There are: {', '.join(known)}.")
        if DEFAULTS[name] is False:
            if equals:
                raise UserError(f"{where}: --{name} takes no value. Remove {equals}{value}.")
            found[name] = True
            continue
        if not equals:
            if not words or words[0].startswith("--"):
                raise UserError(f"{where}: --{name} has no value. Write --{name} VALUE, or remove it.")
            value = words.pop(0)
        if value not in CHOICES.get(name, (value,)):
            raise UserError(f"{where}: --{name} {value}: expected one of {', '.join(CHOICES[name])}.")
        if DEFAULTS[name] == ():
            found[name] = (*found.get(name, ()), value)
        elif name in found:
            raise UserError(f"{where}: --{name} is given twice ({found[name]!r} and {value!r}); keep one.")
        else:
            found[name] = value
    return Options(**{name.replace("-", "_"): value for name, value in found.items()})


def chosen(frame: pd.DataFrame, options: Options, results: Path) -> pd.DataFrame:
    """Return the runs and metrics that the filters leave. Raises :class:`UserError` for a name that no run has."""
    check_tasks(frame, options, results)
    methods = names(frame, "method")
    check_known("--method", [name for name in options.method if not is_among(methods, name)], methods)
    check_known("--guidance", options.guidance, names(frame, "guidance"))
    kept = frame[matches(frame, options)]
    if not len(kept):
        asked = [f"--{name} {value}" for name in (*NAMED_BY, "status") for value in getattr(options, name)]
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


def check_known(option: str, asked: Sequence[str], known: Sequence[str]) -> None:
    """Raise :class:`UserError` for the first that is ``asked`` for and not ``known``; of many, it lists the nearest."""
    for name in asked:
        if name not in known:
            many = len(known) > SHOWN
            there = difflib.get_close_matches(name, known, n=len(known), cutoff=0) if many else known
            raise UserError(f"{option} {name}: no run has it.{did_you_mean(name, known)} There are: {some(there)}.")


def is_among(known: Sequence[str], wanted: str) -> bool:
    """Return whether one of the names is the one wanted, or of its pattern."""
    return wanted in known or bool(fnmatch.filter(known, wanted))


def of_patterns(known: Sequence[str], asked: Iterable[str]) -> set[str]:
    """Return the names that are asked for, and the known ones of their patterns."""
    return {name for each in asked for name in (each, *fnmatch.filter(known, each))}


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
        if asked := set(getattr(options, option)):
            if option == "method":
                asked = of_patterns(names(frame, option), asked)
            found &= frame[columns].isin(asked).any(axis=1)
    return found & frame["status"].isin(options.status) if options.status else found

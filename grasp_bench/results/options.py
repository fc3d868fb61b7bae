"""What a report may be asked for, on the command line and in the markers of a document."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, get_args

from grasp_bench.contracts.record import Source, Status, TestSet
from grasp_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from grasp_bench.stats import Test

TESTS = ("permutation", "wilcoxon", "t")
STATUSES: tuple[str, ...] = get_args(Status)
SOURCES: tuple[str, ...] = get_args(Source)
TEST_SETS: tuple[str, ...] = get_args(TestSet)
CHOICES = {"status": STATUSES, "test": TESTS, "source": SOURCES, "test-set": TEST_SETS}
"""Option → what it takes, where that is one of few words."""


@dataclass(frozen=True)
class Options:
    """Which runs are reported, and how they are compared; each is an option of ``grasp-bench report``."""

    task: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    guidance: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    metric: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    """Images that are scored, or that the scored classifiers were trained on."""
    test_set: tuple[str, ...] = ()
    sort: str | None = None
    """``METRIC`` or ``METRIC:GROUP``."""
    baseline: str | None = None
    """Row that the others are compared with: its label, or a method, which means its row with default settings."""
    test: Test = "permutation"


NAMES = tuple(field.name.replace("_", "-") for field in fields(Options))
REPEATED = ("task", "method", "guidance", "status", "metric", "source", "test-set")


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
        if not option.startswith("--") or name not in NAMES:
            known = ", ".join(f"--{each}" for each in NAMES)
            hint = did_you_mean(option, [f"--{each}" for each in NAMES])
            raise UserError(f"{where}: {word!r} is no option that can stand here.{hint} There are: {known}.")
        if not equals:
            if not words or words[0].startswith("--"):
                raise UserError(f"{where}: --{name} has no value. Write --{name} VALUE, or remove it.")
            value = words.pop(0)
        if name in CHOICES and value not in CHOICES[name]:
            raise UserError(f"{where}: --{name} {value}: expected one of {', '.join(CHOICES[name])}.")
        if name in REPEATED:
            found[name] = (*found.get(name, ()), value)
        elif name in found:
            raise UserError(f"{where}: --{name} is given twice ({found[name]!r} and {value!r}); keep one.")
        else:
            found[name] = value
    return Options(**{name.replace("-", "_"): value for name, value in found.items()})

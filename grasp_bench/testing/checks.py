"""A check of a plugin, what came of it, and the report of several, in words."""

from __future__ import annotations

import functools
import importlib
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from unittest import SkipTest

Status = Literal["passed", "failed", "not applicable"]


class NotApplicable(SkipTest):
    """A check has nothing to look at; the message says why. To pytest it is a skip."""


class CheckError(AssertionError):
    """A plugin does not keep its contract."""

    def __init__(self, contract: str, found: str) -> None:
        super().__init__(f"{contract} Found: {found}")
        self.found = found


@dataclass(frozen=True)
class Check:
    """One sentence of a contract, put to the test."""

    name: str
    """Unique among the checks of a plugin; in brackets the backbone, where it is tried on several."""
    contract: str
    """What must be so: a sentence."""
    body: Callable[[], None] = field(repr=False)
    """Raises AssertionError saying what was found."""
    source: str = field(default="", repr=False)
    """The plugin's file, where an exception is traced to."""

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> None:
        """Raises :class:`CheckError`, an AssertionError, with the contract and what was found; or NotApplicable."""
        try:
            self.body()
        except NotApplicable:
            raise
        except AssertionError as error:
            raise CheckError(self.contract, str(error) or _traced(error, self.source)) from error
        except Exception as error:
            raise CheckError(self.contract, _traced(error, self.source)) from error


@dataclass(frozen=True)
class Outcome:
    """What came of a check."""

    name: str
    contract: str
    status: Status
    found: str = ""
    """What was found where it failed, or why it does not apply."""


@dataclass(frozen=True)
class Report:
    """What came of all checks of a plugin."""

    outcomes: list[Outcome]

    @property
    def passed(self) -> bool:
        """Whether none failed."""
        return self.count("failed") == 0

    def count(self, status: Status) -> int:
        """How many checks ended so."""
        return sum(outcome.status == status for outcome in self.outcomes)


def run_checks(checks: Iterable[Check], advance: Callable[[int], None] = lambda count: None) -> Report:
    """Run every check, whatever became of those before; ``advance`` is called after each."""
    outcomes = []
    for check in checks:
        outcomes.append(_outcome(check))
        advance(1)
    return Report(outcomes)


def checks_of(
    contracts: Mapping[str, Mapping[str, str]], arguments: tuple[Any, ...], source: str, ending: str = ""
) -> list[Check]:
    """The checks that modules of this package hold: module → name of a check → what must be so.

    A check's body is the module's function of the same name, with underscores. All are given one subject, which the
    first module's ``Subject`` makes of ``arguments``. Modules are imported by the first check that runs, so that
    listing checks stays quick. ``ending`` is added to the names.
    """

    def module(name: str) -> Any:
        return importlib.import_module(f"grasp_bench.testing.{name}")

    @functools.cache
    def subject() -> Any:
        return module(next(iter(contracts))).Subject(*arguments)

    def body(place: str, name: str) -> None:
        getattr(module(place), name.replace("-", "_"))(subject())

    return [
        Check(name + ending, contract, functools.partial(body, place, name), source)
        for place, held in contracts.items()
        for name, contract in held.items()
    ]


def require(kept: bool, found: str) -> None:
    """Raise AssertionError with what was found, unless the contract was ``kept``."""
    if not kept:
        raise AssertionError(found)


def source_of(plugin: Any) -> str:
    """The file of a plugin's class."""
    return inspect.getsourcefile(plugin) or ""


def _outcome(check: Check) -> Outcome:
    try:
        check()
    except NotApplicable as reason:
        return Outcome(check.name, check.contract, "not applicable", str(reason))
    except CheckError as error:
        return Outcome(check.name, check.contract, "failed", error.found)
    return Outcome(check.name, check.contract, "passed")


def _traced(error: Exception, source: str) -> str:
    """An exception in words: the first line of what it says, and the last line of the plugin that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == source] or list(frames)
    said = str(error).partition("\n")[0]
    words = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"{words} (line {own[-1].lineno} of {own[-1].filename})"

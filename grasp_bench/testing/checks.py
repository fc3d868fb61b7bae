"""A check of a plugin, its outcome, and the report of several, in words.

The public functions of the modules ``declarations`` and ``on_…`` are the checks, and their docstrings the contract.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import keyword
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
class Outcome:
    """What came of a check."""

    name: str
    contract: str
    status: Status
    found: str = ""
    """What was found where it failed, or why it does not apply."""


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
        except Exception as error:
            found = str(error) if isinstance(error, AssertionError) else ""
            raise CheckError(self.contract, found or _traced(error, self.source)) from error

    def outcome(self) -> Outcome:
        """Runs the check."""
        try:
            self()
        except NotApplicable as reason:
            return Outcome(self.name, self.contract, "not applicable", str(reason))
        except CheckError as error:
            return Outcome(self.name, self.contract, "failed", error.found)
        return Outcome(self.name, self.contract, "passed")


@dataclass(frozen=True)
class Report:
    """The outcomes of all checks of a plugin."""

    outcomes: list[Outcome]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return self.count("failed") == 0

    def count(self, status: Status) -> int:
        """How many checks have this status."""
        return sum(outcome.status == status for outcome in self.outcomes)


def run_checks(checks: Iterable[Check], advance: Callable[[int], None] = lambda count: None) -> Report:
    """Run every check, whatever became of those before; ``advance`` is called after each."""
    outcomes = []
    for check in checks:
        outcomes.append(check.outcome())
        advance(1)
    return Report(outcomes)


def contracts(place: str) -> dict[str, str]:
    """Name of a check → what must be so, of a module of this package, which is read and not imported: torch is slow."""
    tree = ast.parse((Path(__file__).parent / f"{place}.py").read_text(encoding="utf-8"))
    public = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return {
        node.name.strip("_").replace("_", "-"): " ".join((ast.get_docstring(node) or "").split()) for node in public
    }


def checks_of(places: Sequence[str], arguments: tuple[Any, ...], plugin: Any, ending: str = "") -> list[Check]:
    """The checks of some modules, all given one subject, which the first module's ``Subject`` makes of ``arguments``.

    Modules are imported by the first check that runs. ``ending`` is added to the names.
    """

    def module(place: str) -> Any:
        return importlib.import_module(f"grasp_bench.testing.{place}")

    @functools.cache
    def subject() -> Any:
        return module(places[0]).Subject(*arguments)

    def body(place: str, name: str) -> None:
        getattr(module(place), name.replace("-", "_") + "_" * keyword.iskeyword(name))(subject())

    return [
        Check(name + ending, contract, functools.partial(body, place, name), inspect.getsourcefile(plugin) or "")
        for place in places
        for name, contract in contracts(place).items()
    ]


def require(kept: object, found: str) -> None:
    """Raise AssertionError with what was found, unless the contract was ``kept``."""
    if not kept:
        raise AssertionError(found)


def imported_by(code: str, names: tuple[str, ...]) -> str:
    """The modules among ``names`` that running ``code`` in a process of its own imports, separated by commas.

    Raises AssertionError where it fails.
    """
    command = f"import sys; {code}; print('imported', *[name for name in {names!r} if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment, check=False)
    require(done.returncode == 0, f"a process of its own fails: {done.stderr.strip().rpartition(chr(10))[-1]}")
    return ", ".join(done.stdout.rpartition("imported")[-1].split())


def _traced(error: Exception, source: str) -> str:
    """An exception in words: the first line of what it says, and the last line of the plugin that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == source] or list(frames)
    said = str(error).partition("\n")[0]
    words = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"{words} (line {own[-1].lineno} of {own[-1].filename})"

"""``grasp-bench cache``: what work folders and folders of caches hold, and its removal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.places import resolved
from grasp_bench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from grasp_bench.run.stored import Stored

DAY = 24 * 60 * 60
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def list_stages(
    work_dir: shared.WorkDir = shared.WORK_DIR, cache_dir: shared.CacheDir = None, json_: shared.PrintJson = False
) -> None:
    """Tell how many stages and caches of each kind there are, their size, and when they were last used.

    "Set aside" are folders that were damaged, or replaced. Use is known to a day, on a disk that notes when files are
    read; on others it is the time of the last change.
    """
    from grasp_bench.cli.output import console, print_json

    by_root = {root: held(root) for root in _roots(work_dir, cache_dir)}
    found = [each for inside in by_root.values() for each in inside]
    if json_:
        rows = [{"kind": each.kind, "state": each.state, "bytes": each.size, "used": each.used} for each in found]
        print_json([{"folder": str(each.path), **row} for each, row in zip(found, rows, strict=True)])
        return
    out = console()
    if found:
        out.print(_table(found))
    for root, inside in by_root.items():
        out.print(f"{root}: {summed(inside)}", markup=False, soft_wrap=True)


def clear_stages(
    kind: Annotated[list[str] | None, typer.Argument(metavar="KIND", help="Kinds, as listed; all if absent.")] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Only what is not finished, or was set aside.")
    ] = False,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Only what was not used for so many days.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    work_dir: shared.WorkDir = shared.WORK_DIR,
    cache_dir: shared.CacheDir = None,
) -> None:
    """Remove stages and caches; runs that need them compute them again, and results stay.

    A stage that a process is working on is kept, and the exit code is 1 then.
    """
    from grasp_bench.cli.output import console
    from grasp_bench.run.stored import BusyError, discard

    roots = _roots(work_dir, cache_dir)
    found, where = [each for root in roots for each in held(root)], " and ".join(map(str, roots))
    known = {each.kind for each in found}
    for name in kind or ():
        if name not in known:
            raise UserError(f"{where}: no stage or cache {name!r} there.{did_you_mean(name, sorted(known))}")
    limit = time.time() - (older_than or 0) * DAY
    chosen = [
        each
        for each in found
        if (not kind or each.kind in kind)
        and (not unfinished or each.state != "finished")
        and (older_than is None or each.used < limit)
    ]
    out = console()
    if not chosen:
        out.print(f"{where}: nothing to remove", markup=False, soft_wrap=True)
        return
    if not yes:
        out.print(_table(chosen))
        typer.confirm(f"Remove {summed(chosen)}?", abort=True)
    kept = []
    for each in chosen:
        try:
            discard(each)
        except BusyError as error:
            kept.append(each)
            out.print(f"kept: {error}", markup=False, soft_wrap=True)
    out.print(f"removed: {summed([each for each in chosen if each not in kept])}", soft_wrap=True)
    if kept:
        raise typer.Exit(1)


def _roots(work_dir: Path, cache_dir: Path | None) -> list[Path]:
    """Return the folders that are looked into, each once."""
    named = [work_dir, *([cache_dir] if cache_dir else [])]
    return list({resolved(path): path for path in reversed(named)}.values())[::-1]


def held(root: Path) -> list[Stored]:
    """Return the stages and caches in a work folder or a folder of caches."""
    from grasp_bench.run.stored import stored

    return list(stored(root))


def _table(found: Sequence[Stored]) -> object:
    from grasp_bench.cli.output import table

    now, rows = time.time(), []
    for kind, state in dict.fromkeys((each.kind, each.state) for each in found):
        alike = [each for each in found if (each.kind, each.state) == (kind, state)]
        days = (now - max(each.used for each in alike)) / DAY
        size = _size(sum(each.size for each in alike))
        rows.append((kind, state, str(len(alike)), size, "today" if days < 1 else f"{counted(int(days), 'day')} ago"))
    return table("", ("kind", "state", "folders", "size", "last used"), rows, right=("folders", "size"), keys=2)


def summed(found: Sequence[Stored]) -> str:
    """Return how many folders they are, and their size."""
    return f"{counted(len(found), 'folder')}, {_size(sum(each.size for each in found))}"


def _size(count: float) -> str:
    for unit in UNITS[:-1]:
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} {UNITS[-1]}"

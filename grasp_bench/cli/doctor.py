"""``grasp-bench doctor``: what this machine has, and what is wrong with it; what a report of a bug needs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from grasp_bench.cli import options as shared
from grasp_bench.errors import UserError
from grasp_bench.places import existing, free_bytes, is_there
from grasp_bench.text import counted


def doctor(
    results: shared.Results = shared.RESULTS,
    work_dir: shared.WorkDir = shared.WORK_DIR,
    cache_dir: shared.CacheDir = None,
    json_: shared.PrintJson = False,
) -> None:
    """Tell versions, devices, folders with their free space, weights that are here, and plugins.

    Asks nothing of the network and changes nothing. The exit code is 1 where there is a problem.
    """
    from grasp_bench.cli.output import console, print_json
    from grasp_bench.text import printable

    folders = {"results": results, "work folder": work_dir} | ({"caches": cache_dir} if cache_dir else {})
    plugged, broken = _plugins()
    told: dict[str, Iterable[tuple[str, str]]] = {
        "versions": _versions(),
        "devices": _devices(),
        "folders": ((name, _place(path, name != "results")) for name, path in folders.items()),
        "configuration": _configuration(),
        "weights": _weights(),
        "backbones": _backbones(),
        "plugins": plugged.items(),
    }
    unread: list[str] = []
    found = {section: dict(_readable(section, lines, unread)) for section, lines in told.items()}
    problems = [*unread, *_unusable(folders), *broken]
    if json_:
        print_json(found | {"problems": problems})
    else:
        out = console()
        for section, lines in found.items():
            out.print(section, style="bold", highlight=False)
            for name, value in lines.items():
                out.print(f"  {printable(name)}: {printable(value)}", markup=False, soft_wrap=True)
        out.print(f"{counted(len(problems), 'problem')} found{':' if problems else ''}", style="bold")
        for problem in problems:
            out.print(f"  {printable(problem)}", markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)


def _readable(section: str, lines: Iterable[tuple[str, str]], problems: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the lines of a section up to one that cannot be found out, which becomes a problem."""
    try:
        yield from lines
    except OSError as error:
        what = error.strerror or type(error).__name__
        problems.append(f"{section}: {os.fsdecode(error.filename or '?')} cannot be read ({what})")
    except UserError as error:
        problems.append(f"{section}: {error}")


def _versions() -> Iterator[tuple[str, str]]:
    import torch

    from grasp_bench.run.environment import describe

    environment = describe(torch.device("cpu"))
    yield from environment.versions.items()
    yield "platform", f"{environment.platform}, {environment.cpu_instructions}"
    if environment.git_commit:
        yield "commit", environment.git_commit + (", with changes" if environment.git_dirty else "")


def _devices() -> Iterator[tuple[str, str]]:
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield "cpu", f"{counted(usable, 'core')}, {torch.get_num_threads()} of torch's threads, {memory:.1f} GiB memory"
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        yield f"cuda:{index}", f"{card.name}, {card.total_memory / 2**30:.1f} GiB"
    if not torch.cuda.is_available():
        yield "cuda", f"none that torch {torch.__version__} can use"


def _place(path: Path, holds_stages: bool) -> str:
    from grasp_bench.cli.cache import held, summed

    free = f"{free_bytes(path) / 2**30:,.1f} GiB free"
    if not is_there(path):
        return f"{path.absolute()} (not there yet), {free}"
    stages = [f"stages and caches in {summed(held(path))}"] if holds_stages and path.is_dir() else []
    return ", ".join([str(path.absolute()), *stages, free])


def _unusable(folders: dict[str, Path]) -> Iterator[str]:
    for name, path in folders.items():
        there = existing(path)
        if not there.is_dir():
            yield f"{name}: {there} is no folder; choose another"
        elif not os.access(there, os.W_OK | os.X_OK):
            yield f"{name}: {there} cannot be written; choose another"


def _configuration() -> Iterator[tuple[str, str]]:
    from grasp_bench.data.root import VARIABLE, config_path
    from grasp_bench.weights import VARIABLE as WEIGHTS

    for name in (VARIABLE, WEIGHTS, "HF_HOME", "HF_HUB_OFFLINE"):
        if name in os.environ:
            yield name, os.environ[name]
    path = config_path()
    yield "file", f"{path}{'' if path.exists() else ' (none)'}"


def _weights() -> Iterator[tuple[str, str]]:
    from grasp_bench.weights import weights_folder

    folder = weights_folder()
    there = folder.is_dir()
    yield "folder", f"{folder}{'' if there else ' (none)'}"
    for path in sorted(path for path in folder.rglob("*") if path.is_file()) if there else ():
        yield str(path.relative_to(folder)), f"{path.stat().st_size / 2**20:,.1f} MiB"


def _backbones() -> Iterator[tuple[str, str]]:
    """Yield each short name of a published pipeline, and whether its files are on this machine."""
    from grasp_bench import plugins
    from grasp_bench.backbones import aliases
    from grasp_bench.backbones.files import MissingFilesError

    for alias, source in aliases.available().items():
        family, _, repository = source.partition(":")
        try:
            revision = plugins.load("backbones", family).describe(repository).revision
            yield alias, f"here, revision {revision}"
        except MissingFilesError:
            yield alias, "not here"
        except UserError as error:
            yield alias, str(error)


def _plugins() -> tuple[dict[str, str], list[str]]:
    """Return kind → how many plugins there are and of which other packages, and what is wrong with any."""
    from grasp_bench import plugins
    from grasp_bench.packages import name_of

    found: dict[str, str] = {}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", plugins.PluginWarning)
        for kind in plugins.KINDS:
            usable = plugins.available(kind)
            others = [
                f"{name} of {origin}{f' {entry.dist.version}' if name_of(entry.dist) and entry.dist else ''}"
                for name, entry in plugins.entries(kind).items()
                if name in usable and (origin := plugins.origin(entry)) != plugins.BUILT_IN
            ]
            found[kind] = ", ".join([str(len(usable)), *others])
    messages = (str(each.message) for each in told if issubclass(each.category, plugins.PluginWarning))
    return found, list(dict.fromkeys(messages))  # a broken package is met once for each kind

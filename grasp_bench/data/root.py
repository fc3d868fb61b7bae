"""Where a task's download lies: as asked, as the environment says, or as remembered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grasp_bench.documents import read_toml
from grasp_bench.errors import UserError
from grasp_bench.home import with_home
from grasp_bench.io import write_bytes
from grasp_bench.locks import held
from grasp_bench.places import resolved

VARIABLE = "GRASP_BENCH_DATA"


def config_path() -> Path:
    """The user's config file, ``$XDG_CONFIG_HOME/grasp-bench/config.toml``; UserError where there is no home folder."""
    if named := os.environ.get("XDG_CONFIG_HOME"):
        return with_home(Path(named)) / "grasp-bench" / "config.toml"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise UserError(f"there is no home folder ({error}). Set HOME, or XDG_CONFIG_HOME to a folder.") from error
    return home / ".config" / "grasp-bench" / "config.toml"


def data_root(task: str, asked: Path | None) -> Path:
    """The folder of ``task``'s download: ``asked``, else ``$GRASP_BENCH_DATA/<task>``, else what is remembered.

    Only where neither of the first two is given is the config file read. Raises :class:`UserError` where none of these
    is there, or what is named is not a folder.
    """
    for origin, path in _candidates(task, asked):
        if not path.is_dir():
            raise UserError(f"{path} (from {origin}): there is no such folder, but task {task} reads its data there.")
        return resolved(path)
    raise UserError(
        f"task {task} needs data that you have to download yourself; `grasp-bench show {task}` says where from. Then: "
        f"grasp-bench prepare --task {task} --data-root FOLDER (or set {VARIABLE} to the folder that holds {task}/)."
    )


def _candidates(task: str, asked: Path | None) -> Iterator[tuple[str, Path]]:
    if asked is not None:
        yield "--data-root", asked
    if named := os.environ.get(VARIABLE):
        yield f"${VARIABLE}", with_home(Path(named)) / task
    if place := _remembered(user_config()).get(task):
        yield str(config_path()), with_home(Path(place))


def remember(task: str, root: Path) -> Path:
    """Keep ``root`` as the place of ``task``'s download, and return the config file's path.

    What else the file holds stays. Raises :class:`UserError` where it cannot be read or written, and for a path that is
    no UTF-8, which TOML cannot hold.
    """
    import tomli_w

    path, place = config_path(), str(resolved(root))
    with held(path.with_name(f".{path.name}.lock")):
        config = user_config()
        config["data"] = dict(sorted((_remembered(config) | {task: place}).items()))
        try:
            text = tomli_w.dumps(config).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{place!r}: is no UTF-8, and {path} cannot hold it.") from error
        except RecursionError as error:  # tables too deep
            raise UserError(f"{path}: what it says cannot be written again ({error}). Fix or delete it.") from error
        write_bytes(path, text)
    return path


def user_config() -> dict[str, Any]:
    """What the config file says; nothing where there is none, or no home folder that it could lie in.

    Raises :class:`UserError` like :func:`grasp_bench.documents.read_toml`.
    """
    try:
        path = config_path()
    except UserError:
        return {}
    return read_toml(path, "Fix or delete it.", missing_ok=True)


def _remembered(config: dict[str, Any]) -> dict[str, str]:
    """Task → folder."""
    found = config.get("data", {})
    if not isinstance(found, dict) or not all(isinstance(place, str) for place in found.values()):
        raise UserError(
            f'{config_path()}, [data]: expected lines such as "mimic-lt" = "/data/mimic". Fix or delete it.'
        )
    return found

"""Where a task's download lies: as asked, as the environment says, or as remembered."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

from grasp_bench.errors import UserError
from grasp_bench.io import write_bytes

VARIABLE = "GRASP_BENCH_DATA"


def config_path() -> Path:
    """The user's config file, ``$XDG_CONFIG_HOME/grasp-bench/config.toml``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "grasp-bench" / "config.toml"


def data_root(task: str, asked: Path | None) -> Path:
    """The folder of ``task``'s download: ``asked``, else ``$GRASP_BENCH_DATA/<task>``, else what is remembered.

    Raises :class:`UserError` where none of these is there, or what is named is not a folder.
    """
    named = os.environ.get(VARIABLE)
    remembered = _remembered()
    candidates = {
        "--data-root": asked,
        f"${VARIABLE}": Path(named) / task if named else None,
        str(config_path()): Path(remembered[task]) if task in remembered else None,
    }
    for origin, path in candidates.items():
        if path is not None:
            if not path.is_dir():
                raise UserError(
                    f"{path} (from {origin}): there is no such folder, but task {task} reads its data there."
                )
            return path.resolve()
    raise UserError(
        f"task {task} needs data that you have to download yourself; `grasp-bench show {task}` says where from. Then: "
        f"grasp-bench prepare --task {task} --data-root FOLDER (or set {VARIABLE} to the folder that holds {task}/)."
    )


def remember(task: str, root: Path) -> Path:
    """Keep ``root`` as the place of ``task``'s download, and return the config file's path."""
    path = config_path()
    roots = _remembered() | {task: str(root.resolve())}
    lines = [f"{json.dumps(name)} = {json.dumps(place)}" for name, place in sorted(roots.items())]
    write_bytes(path, ("[data]\n" + "\n".join(lines) + "\n").encode())
    return path


def _remembered() -> dict[str, str]:
    path = config_path()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("data", {})
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as TOML ({error}). Fix or delete it.") from error
    if not isinstance(found, dict) or not all(isinstance(place, str) for place in found.values()):
        raise UserError(f'{path}, [data]: expected lines such as "mimic-lt" = "/data/mimic". Fix or delete it.')
    return found

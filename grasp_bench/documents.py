"""TOML files of a user: whatever their bytes, there is a mapping or one message."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from grasp_bench.bounds import fault
from grasp_bench.errors import UserError
from grasp_bench.io import check_file

LIMIT = 16 * 2**20
"""Size in bytes of the largest file that is read."""


def read_toml(path: Path, hint: str, missing_ok: bool = False) -> dict[str, Any]:
    """The content of a TOML file in UTF-8; a byte-order mark is passed over.

    With ``missing_ok`` a file that is not there is empty.
    Raises :class:`UserError` for a file that cannot be read, after which stands ``hint``, a sentence that says what
    file is expected, for a file that is no TOML, and for values that :func:`grasp_bench.bounds.fault` refuses.
    """
    try:
        with check_file(path).open("rb") as file:
            content = file.read(LIMIT + 1)
    except OSError as error:
        if missing_ok and isinstance(error, FileNotFoundError | NotADirectoryError):
            return {}
        raise UserError(f"{path}: cannot be read ({error.strerror}). {hint}") from error
    except ValueError as error:
        raise UserError(f"{path}: cannot be read ({error}). {hint}") from error
    if len(content) > LIMIT:
        raise UserError(f"{path}: has more than {LIMIT:,} bytes. {hint}")
    try:
        found = tomllib.loads(content.decode("utf-8-sig"))
        faults = [(name, why) for name, value in found.items() if (why := fault({name: value}))]
    except RecursionError as error:
        raise UserError(f"{path}: is no TOML (it is nested too deeply).") from error
    except ValueError as error:  # bytes that are no UTF-8, no TOML, or an integer of thousands of digits
        raise UserError(f"{path}: is no TOML ({error}).") from error
    if faults:
        name, why = faults[0]
        raise UserError(f"{path}, {name}: a value {why}.")
    return found

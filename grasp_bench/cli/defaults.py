"""Defaults of options that the user's config file declares, in ``[defaults]`` and ``[defaults.COMMAND]``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.core import TyperGroup, TyperOption

from grasp_bench.data.root import config_path
from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.io import check_file

NAME = "defaults"


def option_defaults(group: TyperGroup) -> dict[str, dict[str, Any]]:
    """Return command → parameter → its default by the user's config file, as click's ``default_map``.

    Options are called as on the command line, without dashes in front: ``device = "cuda"``. What stands in
    ``[defaults]`` itself holds for every command that has the option. Raises :class:`UserError`, with file and field,
    for an option that no command has, or that the named command has not, and for a value that is none.
    """
    try:
        path = config_path()
    except UserError:  # no home folder, so no file of a user
        return {}
    declared = _declared(path)
    own = {name: value for name, value in declared.items() if isinstance(value, Mapping)}
    common = {name: value for name, value in declared.items() if name not in own}
    for name in own:
        if name not in group.commands:
            raise UserError(f"{path}, [{NAME}.{name}]: no such command.{did_you_mean(name, group.commands)}")
    known = {command: _options(each) for command, each in group.commands.items()}
    everywhere = {option for options in known.values() for option in options}
    _check(path, NAME, common, everywhere)
    for command, values in own.items():
        _check(path, f"{NAME}.{command}", values, set(known[command]))
    return {
        command: {options[name]: value for name, value in {**common, **own.get(command, {})}.items() if name in options}
        for command, options in known.items()
    }


def _declared(path: Path) -> Mapping[str, Any]:
    try:
        found = tomllib.loads(check_file(path).read_text(encoding="utf-8-sig")).get(NAME, {})
    except (OSError, ValueError, RecursionError):
        return {}  # a file that is needed, for the places of data, is read and complained of there
    if not isinstance(found, Mapping):
        raise UserError(f'{path}: {NAME} is no table. Expected [{NAME}] and lines such as device = "cuda".')
    return found


def _options(command: Any) -> dict[str, str]:
    """Return the long names of a command's options, without dashes in front → the parameter that each sets."""
    return {
        name.removeprefix("--"): parameter.name
        for parameter in command.params
        if isinstance(parameter, TyperOption) and parameter.name
        for name in parameter.opts
        if name.startswith("--")
    }


def _check(path: Path, table: str, values: Mapping[str, Any], known: set[str]) -> None:
    for name, value in values.items():
        if name not in known:
            raise UserError(f"{path}, [{table}]: there is no option --{name}.{did_you_mean(name, sorted(known))}")
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str | int | float) for part in parts):
            raise UserError(f"{path}, [{table}], {name}: expected text, a number, true or false, or a list of these.")

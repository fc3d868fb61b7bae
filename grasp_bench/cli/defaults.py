"""Defaults of options that the user's config file declares, in ``[defaults]`` and ``[defaults.COMMAND]``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from typer.core import TyperGroup, TyperOption

from grasp_bench.data.root import config_path, user_config
from grasp_bench.errors import UserError, did_you_mean

NAME = "defaults"


class _Declared(NamedTuple):
    """A default, and the place of the config file where it stands."""

    where: str
    value: Any


def option_defaults(group: TyperGroup) -> dict[str, Any]:
    """Return command → parameter → its default by the user's config file, as click's ``default_map``.

    Options are called as on the command line, without dashes in front: ``device = "cuda"``. What stands in
    ``[defaults]`` itself holds for every command that has the option, and what stands in ``[defaults.cache]`` for every
    command of that group. Raises :class:`UserError`, with file and field, for an option that no command has, or that
    the named command has not, and for a value that the option does not take.
    """
    try:
        path, found = config_path(), user_config().get(NAME, {})
    except UserError:
        return {}  # a file that is needed, for the places of data, is read and complained of there
    if not isinstance(found, Mapping):
        raise UserError(f'{path}: {NAME} is no table. Expected [{NAME}] and lines such as device = "cuda".')
    return _of_group(path, NAME, group, found, {})


def _of_group(
    path: Path, table: str, group: TyperGroup, declared: Mapping[str, Any], above: Mapping[str, _Declared]
) -> dict[str, Any]:
    """Return the defaults of a group's commands by what its ``table`` says and, where that is silent, by ``above``."""
    own = {name: value for name, value in declared.items() if isinstance(value, Mapping)}
    here = {name: value for name, value in declared.items() if name not in own}
    for name in own:
        if name not in group.commands:
            raise UserError(f"{path}, [{table}.{name}]: no such command.{did_you_mean(name, group.commands)}")
    _check(path, table, here, {option for command in group.commands.values() for option in _every_option(command)})
    common = {**above, **{name: _Declared(f"{path}, [{table}], {name}", value) for name, value in here.items()}}
    found = dict[str, Any]()
    for name, command in group.commands.items():
        inner, values = f"{table}.{name}", own.get(name, {})
        if isinstance(command, TyperGroup):
            found[name] = _of_group(path, inner, command, values, common)
            continue
        options = _options(command)
        _check(path, inner, values, set(options))
        chosen = {**common, **{each: _Declared(f"{path}, [{inner}], {each}", value) for each, value in values.items()}}
        found[name] = {
            str(options[each].name): _taken(name, options[each], default)
            for each, default in chosen.items()
            if each in options
        }
    return found


def _every_option(command: Any) -> Iterator[str]:
    """Yield the long names of a command's options, or of all commands of a group."""
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            yield from _every_option(each)
    else:
        yield from _options(command)


def _options(command: Any) -> dict[str, TyperOption]:
    """Return the options of a command by their long names, without dashes in front."""
    return {
        name.removeprefix("--"): parameter
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


def _taken(command: str, option: TyperOption, default: _Declared) -> Any:
    """Return a default as the option of a command takes it: a list where it may be repeated.

    Raises :class:`UserError` for true or false, or a list, of an option that takes none.
    """
    value = default.value
    parts = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not option.multiple:
        expected = "one value and no list"
    elif any(isinstance(part, bool) != bool(option.is_flag) for part in parts):
        expected = "true or false" if option.is_flag else "a value and not true or false"
    else:
        return parts if option.multiple else value
    raise UserError(
        f"{default.where}: there, `{command}` takes {expected}. Give it in the table of each command that it is for, "
        f"such as [{NAME}.run]."
    )


def from_config(context: Any, parameter: str) -> bool:
    """Return whether a command's parameter has its value from the config file, given its context."""
    return _source(context, parameter) == "DEFAULT_MAP"


def on_command_line(context: Any, parameter: str) -> bool:
    """Return whether a command's parameter is given on the command line, given its context."""
    return _source(context, parameter) == "COMMANDLINE"


def _source(context: Any, parameter: str) -> str | None:
    source = context.get_parameter_source(parameter)
    return None if source is None else str(source.name)


def noted(error: UserError, context: Any) -> None:
    """Add to the message which options that it mentions, by name or value, have their values from the config file."""
    message = str(error)
    named = {
        option
        for option, parameter in _options(context.command).items()
        if from_config(context, str(parameter.name))
        and (_says(message, f"--{option}") or _says(message, context.params.get(str(parameter.name))))
    }
    if named:
        options = " and ".join(f"--{option}" for option in sorted(named))
        error.args = (f"{message}\nNot given, and so as in [{NAME}] of {config_path()}: {options}.", *error.args[1:])


def _says(message: str, value: object) -> bool:
    """Return whether a message has a text or a path as a whole word; numbers are in too many messages by chance."""
    if not isinstance(value, str | Path):
        return False
    return re.search(rf"(?<![\w-]){re.escape(str(value))}(?![\w-])", message) is not None

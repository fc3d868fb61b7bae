"""Help of commands: every argument and option with its type, default and bounds, and the text beneath."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterable

FACTS = "  ["
"""What separates the words on an option from its default and bounds in click's own records of it."""


def write_options(command: Any, context: Any, formatter: Any) -> None:
    """Write a command's arguments and options so that nothing of a name is cut off at any width."""
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        found = (each for each in command.get_params(context) if each.param_type_name == kind)
        _write_section(title, [record for each in found if (record := each.get_help_record(context))], formatter)


def _write_section(title: str, records: Iterable[tuple[str, str]], formatter: Any) -> None:
    if not records:
        return
    with formatter.section(title):
        for name, words in records:
            text, _, facts = words.rpartition(FACTS) if words.endswith("]") else (words, "", "")
            formatter.write_text(_titled(name, facts[:-1]))
            if text:
                with formatter.indentation(), formatter.indentation():
                    formatter.write_text(text)


def _titled(name: str, facts: str) -> str:
    """Return ``--seed (int, default 0, x>=0)`` for "--seed <int range>" and "default: 0; x>=0"."""
    called, _, kind = name.removesuffix(">").partition(" <")
    told = [kind.removesuffix(" range"), *facts.replace("default: ", "default ").split("; ")]
    return f"{called} ({listed})" if (listed := ", ".join(filter(None, told))) else called


class Group(TyperGroup):
    """A group of commands whose help has all that each of them says first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, then the commands."""
        write_options(self, ctx, formatter)
        shown = [(name, command) for name, command in self.commands.items() if not command.hidden]
        first = [(name, (command.help or "").partition("\n\n")[0]) for name, command in shown]
        _write_section("Commands", first, formatter)

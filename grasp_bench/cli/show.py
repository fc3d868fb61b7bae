"""``grasp-bench show NAME``: a plugin's description and its settings."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from grasp_bench import plugins
from grasp_bench.backbones import aliases
from grasp_bench.cli import completion
from grasp_bench.cli import options as shared
from grasp_bench.cli.list import version_name
from grasp_bench.cli.show_task import known_classes, recipe_settings, task_budgets, task_classes, task_details
from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.terminal import tell

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

LINE_END = re.compile(r"(?<!\n)\n(?![\n\s])")
"""End of a line within a paragraph, which a terminal breaks where it likes; lines of formulas are indented."""
BOUNDS = {
    "ge": "≥",
    "gt": ">",
    "le": "≤",
    "lt": "<",
    "multiple_of": "multiple of",
    "min_length": "length ≥",
    "max_length": "length ≤",
    "pattern": "matches",
}


def show_plugin(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=completion.any_name,
            help="Of a method, task, backbone, guidance, extractor or metric; or a task's TOML file.",
        ),
    ],
    json_: shared.PrintJson = False,
) -> None:
    """Describe a plugin that `grasp-bench list` prints: source, classes, settings with defaults and bounds."""
    from grasp_bench.cli.output import print_json

    if name.endswith(".toml"):
        from grasp_bench.run.resolve import make_task

        task = make_task(name, [], None)[1]
        described = [{"kind": "task", "name": name, **task_budgets(task), "classes": task_classes(task)}]
    else:
        family, _, _ = aliases.available().get(name, name).partition(":")
        described = [_described(kind, family, name) for kind in _kinds(family)]
    if json_:
        print_json(described)
        return
    if source := aliases.available().get(name):
        tell(f"{name} is short for {source}\n")
    for each in described:
        _print(each)


def _kinds(name: str) -> list[plugins.Kind]:
    """Return the kinds of plugins that have one of this name. Raises :class:`UserError` where none has."""
    kinds = [kind for kind in plugins.KINDS if name in plugins.entries(kind)]
    if not kinds:
        known = {kind: list(plugins.entries(kind)) for kind in plugins.KINDS}
        hint = did_you_mean(name, [each for names in known.values() for each in names])
        there = "; ".join(f"{kind} {', '.join(names) or 'none'}" for kind, names in known.items())
        raise UserError(f"nothing is called {name!r}.{hint} There are: {there}.")
    return kinds


def _described(kind: plugins.Kind, name: str, asked: str) -> dict[str, Any]:
    """Return what there is to say of a plugin; ``asked`` is its name or, of a backbone, an alias."""
    from grasp_bench.cli.output import version

    plugin = plugins.load(kind, name)
    found: dict[str, Any] = {
        "kind": plugins.SINGULAR[kind],
        "name": name,
        "description": inspect.getdoc(plugin) or "no description",
        "details": {version_name(kind): version(plugin), **DETAILS[kind](plugin)},
    }
    if hasattr(plugin, "Config"):
        found["settings"] = described_settings(plugin.Config, recipe_settings(plugin) if kind == "tasks" else {})
    if kind == "tasks":
        found |= (task_budgets(plugin(plugin.Config())) if plugin.budgets else {}) | {"classes": known_classes(name)}
    if kind == "backbones":
        found["recipe"] = _recipe(asked)
    return found


def _print(found: dict[str, Any]) -> None:
    """Print what :func:`_described` found, in full at any width."""
    from rich.padding import Padding
    from rich.text import Text

    from grasp_bench.cli.output import console, table

    out = console()
    out.print(Text(f"{found['kind']} {found['name']}", style="bold"))
    if "description" in found:
        out.print(Text(LINE_END.sub(" ", found["description"])), end="\n\n")
    for label, value in found.get("details", {}).items():
        out.print(Text(f"{label}: {value}"))
    if "settings" in found:
        out.print(Text("settings:" if found["settings"] else "settings: none"))
    for each in found.get("settings", ()):
        notes = ", ".join(filter(None, (each["type"], f"default {each['default']}", each["bounds"])))
        out.print(Padding(Text.assemble((each["name"], "bold"), f" ({notes})"), (0, 0, 0, 2), expand=False))
        if each["description"]:
            out.print(Padding(Text(LINE_END.sub(" ", each["description"])), (0, 0, 0, 6), expand=False))
    if budgets := found.get("budgets"):
        rows = [
            (name, *map(_plain, row["values"].values()), LINE_END.sub(" ", row["description"]))
            for name, row in budgets.items()
        ]
        columns = next(iter(budgets.values()))["values"]
        out.print(table(f"budgets with {found['backbone']}", ("budget", *columns, ""), rows))
    if isinstance(classes := found.get("classes"), str):
        out.print(Text(f"classes: {classes}"))
    elif classes:
        cells = [[_plain(value) for value in row.values()] for row in classes]
        out.print(table("classes", list(classes[0]), cells, right=["train images"]))
    if recipe := found.get("recipe"):
        if isinstance(recipe, str):
            out.print(Text(f"recipe: {recipe}"))
        else:
            out.print(table(f"recipe of {recipe['name']}", ("", "figure"), list(recipe["figures"].items())))
            out.print(Text(f"sources: {recipe['sources']}"))


def _recipe(name: str) -> dict[str, Any] | str:
    """Return how a backbone is fine-tuned and sampled from, and where the figures come from."""
    from grasp_bench.backbones.recipes import NOT_ITS_OWN, described, recipe_of

    recipe = recipe_of(name)
    if not recipe.name:
        budget = f"{recipe.parameters:,} trainable parameters, which the methods' own sizes are for"
        return f"{NOT_ITS_OWN}; parameter budget: {budget}" if recipe.parameters else NOT_ITS_OWN
    return {"name": recipe.name, "figures": dict(described(recipe)), "sources": recipe.source}


def _method(plugin: Any) -> dict[str, str]:
    from grasp_bench.tuning.ranges import tuned_ranges

    ranges = [
        f"{name} from {searched.low:g} to {searched.high:g}{' (in its logarithm)' if searched.log else ''}"
        for name, searched in tuned_ranges(plugin.Config).items()
    ]
    kind = "what the method beneath trains" if "on" in plugin.Config.model_fields else plugin.kind
    return {"paper": plugin.paper, "trains": kind} | {"searched by `grasp-bench tune`": ", ".join(ranges) or "nothing"}


DETAILS: dict[plugins.Kind, Callable[[Any], dict[str, str]]] = {
    "methods": _method,
    "tasks": task_details,
    "backbones": lambda plugin: {
        "image shape": f"{getattr(plugin, 'image_shape', 'by its files')} (channels, height, width)"
    },
    "guidance": lambda plugin: {"paper": plugin.paper},
    "extractors": lambda plugin: {},
    "metrics": lambda plugin: {
        name: str(getattr(plugin, name))
        for name in ("label", "direction", "bounds", "definition", "misleads", "source")
    },
}


def described_settings(
    config: type[BaseModel], defaults: Mapping[str, str] = MappingProxyType({})
) -> list[dict[str, str]]:
    """Return name, type, default, bounds and description of each field; ``defaults`` takes the place of their own."""
    return [
        {
            "name": name,
            "type": type_name(field.annotation),
            "default": defaults.get(name, _plain(field.get_default(call_default_factory=True))),
            "bounds": bounds(field),
            "description": field.description or "",
        }
        for name, field in config.model_fields.items()
    ]


def type_name(annotation: Any) -> str:
    """Return a field's type in words: ``float or none``, ``group or class``."""
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(type_name(part) for part in get_args(annotation))
    if get_origin(annotation) is Literal:
        return " or ".join(map(_plain, get_args(annotation)))
    if annotation is type(None):
        return "none"
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


def bounds(field: FieldInfo) -> str:
    """Return a field's bounds, such as ``≥ 1, ≤ 64``."""
    found = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join(found)


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)

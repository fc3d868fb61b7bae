"""``grasp-bench show NAME``: a plugin's description and its settings."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from grasp_bench import plugins
from grasp_bench.backbones import aliases
from grasp_bench.cli.list import version_name
from grasp_bench.contracts.task import MissingDataError
from grasp_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from rich.table import Table

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
            metavar="NAME", help="Of a method, task, backbone, guidance, extractor or metric; or a task's TOML file."
        ),
    ],
) -> None:
    """Describe a plugin that `grasp-bench list` prints: source, classes, settings with defaults and bounds."""
    if name.endswith(".toml"):
        from grasp_bench.cli.output import console
        from grasp_bench.run.resolve import make_task

        task = make_task(name, [], None)[1]
        console().print(_budgets_table(task), _classes_table(task))
        return
    asked = name
    if source := aliases.available().get(name):
        typer.echo(f"{name} is short for {source}\n")
        name = source.partition(":")[0]
    kinds = [kind for kind in plugins.KINDS if name in plugins.entries(kind)]
    if not kinds:
        known = {kind: list(plugins.entries(kind)) for kind in plugins.KINDS}
        hint = did_you_mean(name, [each for names in known.values() for each in names])
        there = "; ".join(f"{kind} {', '.join(names) or 'none'}" for kind, names in known.items())
        raise UserError(f"nothing is called {name!r}.{hint} There are: {there}.")
    for kind in kinds:
        _show(kind, name, plugins.load(kind, name))
        if kind == "backbones":
            _show_recipe(asked)


def _show(kind: plugins.Kind, name: str, plugin: Any) -> None:
    from rich.text import Text

    from grasp_bench.cli.output import console, version

    out = console()
    out.print(Text(f"{plugins.SINGULAR[kind]} {name}", style="bold"))
    out.print(Text(inspect.getdoc(plugin) or "no description"), end="\n\n")
    for label, value in {version_name(kind): version(plugin), **DETAILS[kind](plugin)}.items():
        out.print(Text(f"{label}: {value}"))
    if hasattr(plugin, "Config"):
        out.print(settings_table(plugin.Config))
    if kind == "tasks":
        if plugin.budgets:
            out.print(_budgets_table(plugin))
        out.print(_classes(name))


def _show_recipe(name: str) -> None:
    """Print how a backbone is fine-tuned and sampled from, and where the figures come from."""
    from rich.text import Text

    from grasp_bench.backbones.recipes import NOT_ITS_OWN, described, recipe_of
    from grasp_bench.cli.output import console, table

    out, recipe = console(), recipe_of(name)
    if not recipe.name:
        out.print(Text(f"recipe: {NOT_ITS_OWN}"))
        return
    out.print(table(f"recipe of {recipe.name}", ("", "figure"), list(described(recipe).items())))
    out.print(Text(f"sources: {recipe.source}"))


def _method(plugin: Any) -> dict[str, str]:
    from grasp_bench.tuning.ranges import tuned_ranges

    ranges = [
        f"{name} from {searched.low:g} to {searched.high:g}{' (in its logarithm)' if searched.log else ''}"
        for name, searched in tuned_ranges(plugin.Config).items()
    ]
    kind = "what the method beneath trains" if "on" in plugin.Config.model_fields else plugin.kind
    return {"paper": plugin.paper, "trains": kind} | {"searched by `grasp-bench tune`": ", ".join(ranges) or "nothing"}


def _task(plugin: Any) -> dict[str, str]:
    from grasp_bench.metrics.registry import classifier_metrics, feature_metrics

    return {
        "source": plugin.source,
        **({"folder of the download": plugin.layout} if plugin.layout else {}),
        "default backbone": plugin.backbone,
        "default guidance": plugin.guidance,
        "extractors": ", ".join(plugin.extractors),
        "scores": ", ".join(metric.name for metric in (*feature_metrics(), *classifier_metrics())),
        "downstream classifier": ", ".join(f"{name} {value}" for name, value in asdict(plugin.classifier).items()),
    }


DETAILS: dict[plugins.Kind, Callable[[Any], dict[str, str]]] = {
    "methods": _method,
    "tasks": _task,
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


def settings_table(config: type[BaseModel]) -> Table | str:
    """Return a table of a settings class: name, type, default, bounds and description of each field."""
    from grasp_bench.cli.output import table

    if not config.model_fields:
        return "settings: none"
    rows = []
    for name, field in config.model_fields.items():
        default = _plain(field.get_default(call_default_factory=True))
        rows.append((name, type_name(field.annotation), default, bounds(field), field.description or ""))
    return table("settings", ("setting", "type", "default", "bounds", "description"), rows)


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


def _budgets_table(task: Any) -> Table:
    from grasp_bench.cli.output import table
    from grasp_bench.contracts.spec import Budget
    from grasp_bench.run.budgets import budgets_of

    budgets = budgets_of(task)
    rows = [
        (name, *(_plain(getattr(budget, name)) for budget in budgets.values()), field.description or "")
        for name, field in Budget.model_fields.items()
        if name not in ("name", "described_by_file")
    ]
    return table("budgets", ("budget", *budgets, ""), rows)


def _classes(name: str) -> Table | str:
    """Return a table of a task's classes, or where they come from if its data is missing."""
    from grasp_bench.data.root import data_root

    task_class = plugins.load("tasks", name)
    config = task_class.Config()
    try:
        return _classes_table(task_class(config))
    except MissingDataError:
        pass
    if not task_class.layout:
        return "classes: those of your images"
    try:
        return _classes_table(task_class(config, data_root(name, None)))
    except UserError as error:
        return f"classes: come with the data ({error})"


def _classes_table(task: Any) -> Table:
    from grasp_bench.cli.output import table

    columns = ["class", "group", "train images", "prompt"]
    rows = [[info.name, info.group, str(info.train_count), info.prompt] for info in task.classes()]
    if task.generator:
        columns.append(f"class of {task.generator}")
        generator_class = plugins.load("tasks", task.generator)
        generator = generator_class(generator_class.Config())
        for row, index in zip(rows, task.generator_classes(generator), strict=True):
            row.append(generator.classes()[index].name)
    return table("classes", columns, rows, right=["train images"])

"""``grasp-bench show NAME``: a plugin's description and its settings."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from grasp_bench import plugins
from grasp_bench.backbones import aliases
from grasp_bench.contracts.task import MissingDataError
from grasp_bench.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from rich.table import Table

    from grasp_bench.contracts.recipe import Recipe

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
    if source := aliases.available().get(name):
        typer.echo(f"{name} is short for {source}\n")
        name = source.partition(":")[0]
    kinds = [kind for kind in plugins.KINDS if name in plugins.entries(kind)]
    if not kinds:
        raise UserError(_unknown(name))
    for kind in kinds:
        _show(kind, name, plugins.load(kind, name))


def _unknown(name: str) -> str:
    known = {kind: list(plugins.entries(kind)) for kind in plugins.KINDS}
    hint = did_you_mean(name, [each for names in known.values() for each in names])
    return (
        f"nothing is called {name!r}.{hint} There are: "
        + "; ".join(f"{kind} {', '.join(names) or 'none'}" for kind, names in known.items())
        + "."
    )


def _show(kind: plugins.Kind, name: str, plugin: Any) -> None:
    from rich.text import Text

    from grasp_bench.cli.output import console, version

    out = console()
    out.print(Text(f"{plugins.SINGULAR[kind]} {name}", style="bold"))
    out.print(Text(inspect.getdoc(plugin) or "no description"), end="\n\n")
    for label, value in {_version_name(kind): version(plugin), **DETAILS[kind](plugin)}.items():
        out.print(Text(f"{label}: {value}"))
    if hasattr(plugin, "Config"):
        out.print(settings_table(plugin.Config))
    if kind == "tasks":
        if plugin.budgets:
            out.print(_budgets_table(plugin))
        out.print(_classes(name))


def _version_name(kind: plugins.Kind) -> str:
    return "revision" if kind == "backbones" else "version"


def _paper(plugin: Any) -> dict[str, str]:
    return {"paper": plugin.paper}


def _method(plugin: Any) -> dict[str, str]:
    from grasp_bench.tuning.ranges import tuned_ranges

    ranges = [
        f"{name} from {searched.low:g} to {searched.high:g}{' (in its logarithm)' if searched.log else ''}"
        for name, searched in tuned_ranges(plugin.Config).items()
    ]
    return _paper(plugin) | {"searched by `grasp-bench tune`": ", ".join(ranges) or "nothing"}


def _task(plugin: Any) -> dict[str, str]:
    from grasp_bench.metrics.registry import classifier_metrics, feature_metrics

    return {
        "source": plugin.source,
        **({"folder of the download": plugin.layout} if plugin.layout else {}),
        "default backbone": plugin.backbone,
        "default guidance": plugin.guidance,
        "extractor": plugin.extractor,
        "scores": ", ".join(metric.name for metric in (*feature_metrics(), *classifier_metrics())),
        "downstream classifier": _recipe(plugin.classifier),
    }


def _metric(plugin: Any) -> dict[str, str]:
    facts = ("label", "direction", "bounds", "definition", "misleads", "source")
    return {name: str(getattr(plugin, name)) for name in facts}


def _backbone(plugin: Any) -> dict[str, str]:
    shape = getattr(plugin, "image_shape", "by its files")
    return {"image shape": f"{shape} (channels, height, width)"}


DETAILS: dict[plugins.Kind, Callable[[Any], dict[str, str]]] = {
    "methods": _method,
    "tasks": _task,
    "backbones": _backbone,
    "guidance": _paper,
    "extractors": lambda plugin: {},
    "metrics": _metric,
}


def settings_table(config: type[BaseModel]) -> Table | str:
    """Return a table of a settings class: name, type, default, bounds and description of each field."""
    from rich.table import Table
    from rich.text import Text

    if not config.model_fields:
        return "settings: none"
    table = Table("setting", "type", "default", "bounds", "description", title="settings", title_justify="left")
    for name, field in config.model_fields.items():
        default = _plain(field.get_default(call_default_factory=True))
        cells = [name, type_name(field.annotation), default, bounds(field), field.description or ""]
        table.add_row(*map(Text, cells))
    return table


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
    from rich.table import Table
    from rich.text import Text

    from grasp_bench.contracts.spec import Budget

    table = Table("budget", *task.budgets, "", title="budgets", title_justify="left")
    for name, field in Budget.model_fields.items():
        if name != "name":
            values = [_plain(getattr(budget, name)) for budget in task.budgets.values()]
            table.add_row(*map(Text, [name, *values, field.description or ""]))
    return table


def _recipe(recipe: Recipe) -> str:
    from dataclasses import asdict

    return ", ".join(f"{name} {value}" for name, value in asdict(recipe).items())


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
    from rich.table import Table
    from rich.text import Text

    table = Table(title="classes", title_justify="left")
    for heading in ("class", "group", "train images", "prompt"):
        table.add_column(heading, justify="right" if heading == "train images" else "left")
    infos, stand_ins = task.classes(), _stand_ins(task)
    if stand_ins:
        table.add_column(f"class of {task.generator}")
    for index, info in enumerate(infos):
        cells = [info.name, info.group, str(info.train_count), info.prompt, *stand_ins[index : index + 1]]
        table.add_row(*map(Text, cells))
    return table


def _stand_ins(task: Any) -> list[str]:
    """Return, for every class, the class of the generator that stands for it; empty for a task with its own."""
    if not task.generator:
        return []
    generator_class = plugins.load("tasks", task.generator)
    generator = generator_class(generator_class.Config())
    return [generator.classes()[index].name for index in task.generator_classes(generator)]

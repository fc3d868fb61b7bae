"""What ``grasp-bench show`` says of tasks: defaults and budgets as recipes of backbones have them, and classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from grasp_bench import plugins
from grasp_bench.contracts.recipe import PLAIN, BackboneRecipe
from grasp_bench.contracts.spec import STANDARD, Budget
from grasp_bench.contracts.task import MissingDataError, Task, TaskSettings
from grasp_bench.errors import UserError


def task_details(plugin: type[Task[TaskSettings]]) -> dict[str, str]:
    """Return label → text of what a task declares."""
    from grasp_bench.metrics.registry import classifier_metrics, feature_metrics

    classifying = [each for each in classifier_metrics() if each.of_sets or not plugin.multilabel]
    return {
        "source": plugin.source,
        **({"folder of the download": plugin.layout} if plugin.layout else {}),
        "default backbone": plugin.backbone,
        "default guidance": plugin.guidance,
        **dict(_tracks(plugin)),
        "extractors": ", ".join(plugin.extractors),
        "scores": ", ".join(metric.name for metric in (*feature_metrics(), *classifying)),
        "downstream classifier": ", ".join(f"{name} {value}" for name, value in asdict(plugin.classifier).items()),
    }


def _tracks(plugin: type[Task[TaskSettings]]) -> Iterator[tuple[str, str]]:
    """Yield what holds with the default backbone and that of the second track, where they have recipes."""
    from grasp_bench.run.recipes import guidance_defaults

    for name, what in ((plugin.backbone, "default"), (plugin.second_backbone, "second track")):
        recipe = _recipe(name)
        if not recipe.name:
            continue
        budget = _by_recipe(plugin(plugin.Config()), recipe)[STANDARD]
        scales = guidance_defaults(recipe, plugins.load("guidance", plugin.guidance))
        side = plugin.resolution if plugin.resolution in recipe.resolutions else recipe.resolutions[0]
        figures = [budget.precision, f"{budget.num_inference_steps} sampling steps"]
        figures += [f"{each.replace('_', ' ')} {value}" for each, value in scales.items()]
        yield f"with {name} at {side} pixels ({what})", ", ".join(figures)


def recipe_settings(plugin: type[Task[TaskSettings]]) -> dict[str, str]:
    """Return setting of a task → its default by the recipe of the default backbone, and whose that is."""
    from grasp_bench.run.recipes import task_defaults

    found = task_defaults(_recipe(plugin.backbone))
    return {name: f"{value} with {plugin.backbone}" for name, value in found.items()}


def _recipe(backbone: str) -> BackboneRecipe:
    """Return the recipe of a backbone that is named without a source, whose files would have to be looked at."""
    from grasp_bench.backbones.recipes import recipe_of

    return PLAIN if not backbone or ":" in backbone else recipe_of(backbone)


def _by_recipe(task: Task[TaskSettings], recipe: BackboneRecipe) -> dict[str, Budget]:
    from grasp_bench.run.budgets import budgets_of, choose_budget
    from grasp_bench.run.recipes import task_by_recipe

    chosen = task_by_recipe(task, recipe)
    return {name: choose_budget("", chosen, name, recipe) for name in budgets_of(task)}


def task_budgets(task: Task[TaskSettings]) -> dict[str, Any]:
    """Return the default backbone, and setting → its value in each of the task's budgets with it, and what it is."""
    budgets = _by_recipe(task, _recipe(task.backbone))
    rows = {
        name: {
            "values": {each: getattr(budget, name) for each, budget in budgets.items()},
            "description": field.description or "",
        }
        for name, field in Budget.model_fields.items()
        if name not in ("name", "described_by_file")
    }
    return {"backbone": task.backbone, "budgets": rows}


def known_classes(name: str) -> list[dict[str, Any]] | str:
    """Return a task's classes, or where they come from if its data is missing."""
    from grasp_bench.data.root import data_root

    task_class = plugins.load("tasks", name)
    config = task_class.Config()
    try:
        return task_classes(task_class(config))
    except MissingDataError:
        pass
    if not task_class.layout:
        return "those of your images"
    try:
        return task_classes(task_class(config, data_root(name, None)))
    except UserError as error:
        return f"come with the data ({error})"


def task_classes(task: Any) -> list[dict[str, Any]]:
    """Return the classes of a task, and of its generator where it has one."""
    rows: list[dict[str, Any]] = [
        {"class": info.name, "group": info.group, "train images": info.train_count, "prompt": info.prompt}
        for info in task.classes()
    ]
    if task.generator:
        generator_class = plugins.load("tasks", task.generator)
        generator = generator_class(generator_class.Config())
        for row, index in zip(rows, task.generator_classes(generator), strict=True):
            row[f"class of {task.generator}"] = generator.classes()[index].name
    return rows

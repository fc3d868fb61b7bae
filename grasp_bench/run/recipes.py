"""Defaults that a backbone's recipe gives to a run's method, guidance, task and budget; imports no torch.

What is given by hand comes first, then what a search chose, then the recipe, then the default of the setting itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Literal, TypeVar

from pydantic import JsonValue, ValidationError

from grasp_bench.contracts.guidance import Guidance
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.recipe import BackboneRecipe, Rate
from grasp_bench.contracts.settings import Settings, settings_of
from grasp_bench.contracts.spec import SMOKE, Budget
from grasp_bench.contracts.task import Task, TaskSettings
from grasp_bench.errors import UserError, first_fault

S = TypeVar("S", bound=Settings)
Searched = Literal["method", "guidance"]
"""The part of a run whose settings a search chooses."""

WIDENED = 2.0
"""The search for a guidance scale reaches up to this multiple of the recipe's."""


def method_defaults(recipe: BackboneRecipe, method: Method[MethodSettings]) -> dict[str, JsonValue]:
    """Return the recipe's settings of a method: the rate of what it trains, weight decay, and what its size is by."""
    rate = recipe.rates.get(method.kind)
    found: dict[str, JsonValue] = {} if rate is None else {"learning_rate": rate.value}
    if recipe.name and recipe.parameters is not None and method.by_parameters:
        found["parameters"] = recipe.parameters
    return found if recipe.weight_decay is None else found | {"weight_decay": recipe.weight_decay}


def guidance_defaults(recipe: BackboneRecipe, guidance: type[Guidance[Settings]]) -> dict[str, JsonValue]:
    """Return the recipe's settings of a guidance: the scale of classifier-free guidance, its own or that beneath it."""
    name = "guidance_scale" if guidance.classifier_free else "base_scale"
    if recipe.guidance_scale is None or name not in guidance.Config.model_fields:
        return {}
    scale = guidance.Config.model_fields[name]
    least = max((limit.ge for limit in scale.metadata if hasattr(limit, "ge")), default=0)
    return {name: max(recipe.guidance_scale, least)}


def task_defaults(recipe: BackboneRecipe) -> dict[str, JsonValue]:
    """Return the recipe's settings of a task: the precision."""
    return {} if recipe.precision is None else {"precision": recipe.precision}


def with_defaults(config: S, defaults: Mapping[str, JsonValue]) -> S:
    """Return settings with the recipe's defaults for those that were not given by hand, and do not count as given.

    Raises :class:`UserError` where they do not go together.
    """
    wanted = {name: value for name, value in defaults.items() if name not in config.model_fields_set}
    if not wanted:
        return config
    given: dict[str, Any] = {name: getattr(config, name) for name in config.model_fields_set}
    try:
        found = settings_of(type(config), given | wanted)
    except ValidationError as error:
        told = ", ".join(f"{name}={value}" for name, value in wanted.items())
        raise UserError(
            f"{type(config).__name__} does not take {told}, what the backbone's recipe has: "
            f"{first_fault(error)}. Set them by hand."
        ) from error
    found.model_fields_set.difference_update(wanted)
    return found


def task_by_recipe(task: Task[TaskSettings], recipe: BackboneRecipe) -> Task[TaskSettings]:
    """Return the task with the recipe's precision, unless one was given by hand."""
    config = with_defaults(task.config, task_defaults(recipe))
    if config is task.config:
        return task
    found = copy(task)
    found.config = config
    return found


def budget_by_recipe(budget: Budget, recipe: BackboneRecipe, task: Task[TaskSettings]) -> Budget:
    """Return the budget with the recipe's optimiser, and its sampling steps unless the budget is "smoke".

    What the task's own settings say by hand stays. The warm-up is never more than a tenth of the steps.
    """
    beta1, beta2 = recipe.betas
    wanted: dict[str, Any] = {"beta1": beta1, "beta2": beta2, "epsilon": recipe.epsilon, "clip_norm": recipe.clip_norm}
    if recipe.warmup_steps is not None:
        wanted["warmup_steps"] = min(recipe.warmup_steps, budget.steps // 10)
    if budget.name != SMOKE:
        wanted["num_inference_steps"] = recipe.sampling_steps
    by_hand = task.config.model_fields_set | getattr(getattr(task.config, "budget", None), "model_fields_set", set())
    return budget.model_copy(
        update={name: value for name, value in wanted.items() if value is not None and name not in by_hand}
    )


def searched_rates(
    recipe: BackboneRecipe, method: Method[MethodSettings], guidance: Guidance[Settings], of: Searched
) -> dict[str, Rate]:
    """Return setting → the recipe's default of it and the range in which a search looks, in place of the declared."""
    if of == "method":
        return {"learning_rate": recipe.rates[method.kind]} if method.kind in recipe.rates else {}
    scales = guidance_defaults(recipe, type(guidance))
    return {
        name: Rate(scale, 0.9, max(3.0, WIDENED * scale))
        for name, scale in scales.items()
        if isinstance(scale, float) and scale >= 1
    }


def rate_warning(recipe: BackboneRecipe, method: Method[MethodSettings], name: str) -> str | None:
    """Return what to say of a learning rate that is an order of magnitude outside of the recipe's range, or None."""
    rate, value = recipe.rates.get(method.kind), method.config.learning_rate
    if rate is None or not rate.is_far(value):
        return None
    return (
        f"learning_rate={value:g} of method {name} is far outside of what is used on {recipe.name} for {method.kind}: "
        f"{rate.low:g} to {rate.high:g}, {rate.value:g} by default."
    )


def check_settings(asked: Mapping[str, JsonValue], now: Mapping[str, JsonValue], backbone: str) -> None:
    """Raise :class:`UserError` where a recorded backbone was trained by another recipe than this version has."""
    if dict(asked) != dict(now):
        names = sorted(name for name in {*asked, *now} if asked.get(name) != now.get(name))
        told = "; ".join(f"{name} was {asked.get(name)}, is {now.get(name)}" for name in names)
        raise UserError(
            f"backbone {backbone}: the run was made by another recipe: {told}. Install the version of grasp-bench that "
            "made it, or run it again."
        )

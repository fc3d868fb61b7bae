"""The recipe of a backbone in words, for ``grasp-bench show`` and the documentation; imports no torch."""

from __future__ import annotations

from grasp_bench import plugins
from grasp_bench.backbones.aliases import available
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.recipe import PLAIN, BackboneRecipe, Timesteps
from grasp_bench.errors import UserError

NOT_ITS_OWN = "none: the task's, the method's and the guidance's own defaults hold"


def recipe_of(name: str) -> BackboneRecipe:
    """The recipe of a backbone that is named by an alias or its family."""
    family = available().get(name, name).partition(":")[0]
    kind: type[Backbone] = plugins.load("backbones", family)
    return kind.recipes.get(name, kind.recipe)


def recorded(backbone: str, name: str) -> BackboneRecipe:
    """The recipe that a record names, of a family of backbones; the plain one where it is not installed."""
    try:
        kind: type[Backbone] = plugins.load("backbones", backbone)
    except UserError:
        return PLAIN
    found = kind.recipes.get(name, kind.recipe)
    return found if found.name == name else PLAIN


def described(recipe: BackboneRecipe) -> dict[str, str]:
    """What a recipe says, as label → text; its sources are apart."""
    rates = {
        f"learning rate, {kind}": f"{_number(rate.value)} ({_number(rate.low)} to {_number(rate.high)})"
        for kind, rate in recipe.rates.items()
    }
    beta1, beta2 = recipe.betas
    budget = "the methods' own" if recipe.parameters is None else f"{recipe.parameters:,} trainable and active"
    return {
        "resolutions": ", ".join(map(str, recipe.resolutions)) or "that of the weights",
        **rates,
        "parameter budget": budget,
        "timesteps": _timesteps(recipe.timesteps),
        "losses weighted by": "t²" if recipe.weighting == "squared noise share" else "1",
        "AdamW": f"β {beta1:g} and {beta2:g}, ε {_number(recipe.epsilon)}",
        "weight decay": _or_task(recipe.weight_decay),
        "warm-up": _or_task(recipe.warmup_steps, " steps, at most a tenth of all"),
        "gradient norm": _or_task(recipe.clip_norm),
        "precision": _or_task(recipe.precision),
        "conditions": _conditions(recipe),
        "prompt": recipe.prompt_length,
        "latents": recipe.latents,
        "sampling": f"{recipe.sampler}, {_or_task(recipe.sampling_steps, ' steps')}",
        "guidance scale": _or_task(recipe.guidance_scale),
    }


def _timesteps(rule: Timesteps) -> str:
    density = f"logit-normal({rule.mean:g}, {rule.std:g})" if rule.density == "logit-normal" else "uniform"
    return density if rule.shift == 1 else f"{density}, shift {rule.shift:g}"


def _conditions(recipe: BackboneRecipe) -> str:
    if recipe.embedded_guidance is None:
        return recipe.conditions
    sampling = (
        f"{recipe.sampling_embedded_guidance:g} in sampling, {recipe.unguided_embedded_guidance:g} without guidance"
    )
    return f"{recipe.conditions}: {recipe.embedded_guidance:g} in training, {sampling}"


def _or_task(value: float | str | None, unit: str = "") -> str:
    if value is None:
        return "the task's"
    return value if isinstance(value, str) else f"{_number(value)}{unit}"


def _number(value: float) -> str:
    """Such as 1e-5, 3e-3 or 4.5."""
    return f"{value:g}" if value == 0 or value >= 0.1 else f"{value:.0e}".replace("e-0", "e-")

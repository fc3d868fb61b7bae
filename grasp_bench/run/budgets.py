"""Budgets of a run: those of its task, the lite one that every task has, or one from a TOML file; imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import JsonValue, ValidationError

from grasp_bench.contracts.recipe import BackboneRecipe
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.spec import SMOKE, SMOKE_EPOCHS, SMOKE_SEEDS, STANDARD, Budget, by_name, lite
from grasp_bench.contracts.task import Task, TaskSettings
from grasp_bench.documents import read_toml
from grasp_bench.errors import UserError, did_you_mean, first_fault
from grasp_bench.io import digest
from grasp_bench.run.recipes import budget_by_recipe

TRAINING = ("ema_decay", "horizontal_flip", "precision", "optimizer")
"""Settings of every task that become part of its budget and decide how a model is trained."""

SAMPLING = ("images_per_class", "num_inference_steps", "evaluations")
"""Fields of a budget that decide images, and not how a model is trained."""

SCORING = ("name", "described_by_file", "classifier_epochs", "classifier_seeds")
"""Fields of a budget that decide neither a training nor images."""

IN_FILE = (
    *("steps", "batch_size", "warmup_steps", "clip_norm", "prompt_dropout"),
    *("images_per_class", "num_inference_steps", "classifier_epochs", "classifier_seeds"),
)
"""Fields that a file may set, besides the ``base`` that gives the rest."""

OF_TASK = (*TRAINING, "evaluations")
"""Fields of a budget that settings of the task may set."""


def budgets_of(task: Task[TaskSettings] | type[Task[TaskSettings]]) -> dict[str, Budget]:
    """Return a task's budgets by name, with the lite one, unless it declares one of its own."""
    if STANDARD not in task.budgets:
        return task.budgets
    standard = task.budgets[STANDARD]
    return by_name(standard, lite(standard, task.classifier.epochs)) | task.budgets


def choose_budget(name: str, task: Task[TaskSettings], asked: str, recipe: BackboneRecipe) -> Budget:
    """Return the budget that is ``asked`` for: one of the task ``name``, or the one of a TOML file.

    It has the task's settings that are part of a budget, and what the backbone's ``recipe`` gives unless the task or
    the file says it. Raises :class:`UserError` for a name that the task has not, and for what is wrong in a file.
    """
    known = {
        each: budget_by_recipe(found.model_copy(update=_set(task)), recipe, task)
        for each, found in budgets_of(task).items()
    }
    if asked in known:
        return known[asked]
    if asked.endswith(".toml"):
        return _from_file(Path(asked), name, known)
    raise UserError(
        f"task {name} has no budget {asked!r}. It has: {', '.join(known)}. A budget of your own is a file: "
        "--budget FILE.toml."
    )


def _set(task: Task[TaskSettings]) -> dict[str, JsonValue]:
    return {each: getattr(task.config, each) for each in OF_TASK} | {"ema_warmup": task.config.ema_decay is not None}


def _from_file(path: Path, task: str, known: dict[str, Budget]) -> Budget:
    """Return what a file says over its base, named after both: an edited file is another budget."""
    content = _read(path)
    asked = content.pop("base", STANDARD)
    if not isinstance(asked, str) or asked not in known:
        raise UserError(f"{path}, base: task {task} has no budget {asked!r}. It has: {', '.join(known)}.")
    if wrong := [name for name in content if name not in IN_FILE]:
        raise UserError(f"{path}, {wrong[0]}: {_why_not(wrong[0])} It may say: base, {', '.join(IN_FILE)}.")
    base = known[asked]
    values = {name: getattr(base, name) for name in Budget.model_fields}
    if asked == SMOKE:  # whose classifiers are short by its name
        values |= {"classifier_epochs": SMOKE_EPOCHS, "classifier_seeds": SMOKE_SEEDS}
    try:
        found = Budget.model_validate(values | content)
    except ValidationError as error:
        raise UserError(f"{path}, {first_fault(error, value=True)}.") from error
    if "warmup_steps" not in content:
        found = found.model_copy(update={"warmup_steps": min(found.warmup_steps, found.steps // 10)})
    said: dict[str, JsonValue] = {name: getattr(found, name) for name in sorted(content)}
    named = f"{path.stem}-{digest(said | {'base': asked})[:8]}"
    return found.model_copy(update={"name": named, "described_by_file": True})


def _read(path: Path) -> dict[str, JsonValue]:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", path.stem):
        raise UserError(
            f"--budget {path}: the file's name becomes that of a folder. Let it have letters, digits, '-', '_' and '.' "
            "only."
        )
    return read_toml(path, "Name the TOML file of a budget.")


def _why_not(name: str) -> str:
    if name in OF_TASK:
        return f"this is a setting of the task: --task-set {name}=VALUE."
    if name in Settings.model_fields or name in Budget.model_fields:
        return "this is not for a file to say."
    return f"a budget has no such setting.{did_you_mean(name, IN_FILE)}"

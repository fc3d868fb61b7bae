"""Plans of runs: from the words of a command line, and from a recorded specification; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from grasp_bench import plugins
from grasp_bench.contracts.backbone import ChosenBackbone
from grasp_bench.contracts.entry import Entry
from grasp_bench.contracts.extractor import ChosenExtractor
from grasp_bench.contracts.guidance import Guidance
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.record import Tuning
from grasp_bench.contracts.row import Row, row_of
from grasp_bench.contracts.settings import Settings, parse_settings
from grasp_bench.contracts.spec import SMOKE, SMOKE_EPOCHS, SMOKE_SEEDS, STANDARD, Component, RunSpec
from grasp_bench.contracts.task import ClassifierRecipe, Task, TaskSettings
from grasp_bench.extractors import choose_extractors
from grasp_bench.run.budgets import TRAINING, choose_budget
from grasp_bench.run.labels import label_path, suffix
from grasp_bench.run.recipes import guidance_defaults, method_defaults, task_by_recipe, task_defaults, with_defaults
from grasp_bench.run.resolve import (
    INSTALLED,
    Opening,
    check_steps,
    choose_same_backbone,
    owned_elsewhere,
    recorded_task,
    restored,
    with_found_weights,
)

RULES_VERSION = "2.0"
"""The version of the fairness rules; results under one Major.Minor are comparable."""


@dataclass(frozen=True)
class Plan:
    """A run that can be started: its specification and the parts it names."""

    spec: RunSpec
    task: Task[TaskSettings]
    method: Method[MethodSettings]
    guidance: Guidance[Settings]
    backbone: ChosenBackbone
    extractors: tuple[ChosenExtractor, ...]
    """What distances and diversity are measured in; the first decides where one alone can."""
    generator: Plan | None = None
    """The run whose training this one uses, of a task that asks what another task's generator is good for."""
    tuned: Tuning | None = None
    """The search that settings of the method come from."""
    entry: Entry | None = None
    """What gives the images of a run of the open division; method and guidance are then stand-ins that do nothing."""
    metrics: Mapping[str, str] | None = None
    """Name → version of the metrics that a recorded run was scored by; None for those that are installed."""

    @property
    def trained_on(self) -> Plan:
        """The run whose task the method is fine-tuned on."""
        return self.generator or self

    @property
    def private(self) -> bool:
        """Whether the data, or those that the generator was trained on, may show a patient."""
        return self.task.private or self.trained_on.task.private

    @property
    def threads(self) -> int | None:
        """Usual threads of the CPU for what computes, backbone or what generates for an entry; None: torch's own."""
        if self.entry and self.entry.threads != "table's":
            return self.entry.threads
        return self.backbone.kind.threads

    @property
    def shape(self) -> list[JsonValue]:
        """C, H, W of the images that the backbone reads and makes."""
        return list(self.backbone.image_shape)

    @property
    def recipe(self) -> ClassifierRecipe:
        """How downstream classifiers are trained."""
        recipe, budget = self.task.classifier, self.spec.budget
        if budget.name == SMOKE:
            return replace(recipe, epochs=SMOKE_EPOCHS, seeds=SMOKE_SEEDS, patience=None)
        epochs, seeds = budget.classifier_epochs or recipe.epochs, budget.classifier_seeds or recipe.seeds
        return replace(recipe, epochs=epochs, seeds=seeds)

    @property
    def task_label(self) -> str:
        """Folder of the task: its name, and the budget and settings that are not the defaults."""
        name = self.spec.budget.name
        budget: dict[str, JsonValue] = {} if name == STANDARD else {"budget": name}
        return self.spec.task.name + suffix(budget | self._task_changed)

    @property
    def _task_changed(self) -> dict[str, JsonValue]:
        """The task's settings that are neither its defaults nor of the backbone's recipe, or what stands for them."""
        by_recipe = {} if self.task.described_by_file else task_defaults(self.backbone.recipe)
        return self.task.config.changed(by_recipe) if by_recipe else self.task.changed()

    @property
    def model_label(self) -> str:
        """What is trained: the method's name, and the backbone that is not the default."""
        backbone = "" if self.default_backbone else f"@{self.backbone.label}"
        return self.spec.method.name + backbone

    @property
    def changed(self) -> dict[str, dict[str, JsonValue]]:
        """``task``, ``method`` and ``guidance`` → the settings of each that are not the defaults for its backbone.

        Those are what the backbone's recipe says, and else each setting's own. Settings that a search chose are left
        out, since ``tuned`` has them, and so are those of a task that a file describes.
        """
        if self.entry:
            task: dict[str, JsonValue] = {} if self.task.described_by_file else self._task_changed
            return {"task": task, "method": dict(self.entry.shown), "guidance": {}}
        chosen = self.tuned.settings if self.tuned else {}
        recipe = self.backbone.recipe
        method = self.method.config.changed(method_defaults(recipe, self.method))
        guidance = self.guidance.config.changed(guidance_defaults(recipe, type(self.guidance)))
        scale = getattr(self.guidance.config, "guidance_scale", None)
        if self.tuned and self.tuned.scale not in (None, scale):
            guidance["guidance_scale"] = scale  # by hand, though it may be the default
        return {
            "task": {} if self.task.described_by_file else self._task_changed,
            "method": {name: value for name, value in method.items() if name not in chosen},
            "guidance": guidance,
        }

    @property
    def default_backbone(self) -> bool:
        """Whether the backbone is the task's own."""
        return self.backbone.name == self.task.backbone and self.backbone.is_usual(self.task.resolution)

    @property
    def default_guidance(self) -> bool:
        """Whether the guidance is the task's own, whatever its settings."""
        return self.spec.guidance.name == self.task.guidance

    def command(self) -> list[str]:
        """The words of the command line that makes this run; FILE stands for what only the user can name."""
        return self.spec.command(
            self.changed,
            task="FILE.toml" if self.task.described_by_file else None,
            backbone=None if self.default_backbone else self.backbone.name,
            tuned=self.tuned is not None,
        )

    @property
    def label(self) -> str:
        """Row of the method: its name, and the backbone, guidance and settings that are not the defaults.

        For settings that a search chose stands the number of its trials, and its sampler if that is not the default.
        """
        changed, tuned = self.changed, dict[str, JsonValue]()
        usual = self.entry or (self.default_guidance and not changed["guidance"])
        guidance = "" if usual else f"+{self.spec.guidance.name}"
        if self.tuned:
            tuned = {"tuned": self.tuned.words}
        if self.entry:
            tuned = {"division": "open"}
        return self.model_label + guidance + suffix(changed["guidance"]) + suffix(tuned | changed["method"])

    @property
    def row(self) -> Row:
        """What people read in place of the label."""
        backbone = "" if self.default_backbone else self.backbone.name
        words, scale = (self.tuned.words, self.tuned.scale) if self.tuned else ("", None)
        return row_of(self.spec, self.changed, backbone, words, scale, self.default_guidance)

    @property
    def folder(self) -> Path:
        """Folder of the record, below all results; :class:`UserError` for a label that can be no folder."""
        return label_path(self.task_label, self.label, f"seed-{self.spec.seed}")

    @property
    def title(self) -> str:
        """What messages and pictures call the run."""
        return f"{self.row} on {self.task_label}, seed {self.spec.seed}"


def plan(
    *,
    method: str,
    task: str,
    seed: int = 0,
    guidance: str | None = None,
    backbone: str | None = None,
    resolution: int | None = None,
    budget: str = STANDARD,
    method_settings: Iterable[str] = (),
    task_settings: Iterable[str] = (),
    guidance_settings: Iterable[str] = (),
    data_root: Path | None = None,
    download: Callable[[str], None] | None = None,
    opening: Opening = INSTALLED,
) -> Plan:
    """Return the plan of a run that is asked for by names and ``NAME=VALUE`` settings.

    ``task`` and ``budget`` may be the path of a TOML file that describes one; ``download`` and ``resolution`` are those
    of :func:`choose_backbone`, which is part of the ``opening``. Raises :class:`UserError` for whatever is unknown, out
    of bounds or absent.
    """
    method_class = plugins.load("methods", method)
    name, chosen = opening.task(task, task_settings, data_root)
    guidance_name = guidance or chosen.guidance
    guidance_class = plugins.load("guidance", guidance_name)
    chosen_backbone = opening.chosen(backbone, download, resolution, name, chosen)
    known, recipe = chosen_backbone.description, chosen_backbone.recipe
    chosen = task_by_recipe(with_found_weights(chosen), recipe)
    elsewhere = owned_elsewhere(name, chosen, guidance_name, guidance_class)
    method_config = parse_settings(method_class.Config, method_settings, f"method {method}", elsewhere)
    guidance_config = parse_settings(guidance_class.Config, guidance_settings, f"guidance {guidance_name}", {})
    method_config = with_defaults(method_config, method_defaults(recipe, method_class(method_config)))
    guidance_config = with_defaults(guidance_config, guidance_defaults(recipe, guidance_class))
    chosen_guidance = guidance_class(guidance_config)
    spec = RunSpec(
        task=task_component(name, chosen),
        method=_component(method, method_class.version, method_config),
        backbone=Component(name=chosen_backbone.family, version=known.revision, settings=dict(known.settings)),
        guidance=_component(guidance_name, guidance_class.version, guidance_config),
        budget=choose_budget(name, chosen, budget, recipe),
        seed=seed,
    )
    check_steps(spec, chosen_guidance)

    def with_data(name: str, settings: Mapping[str, JsonValue]) -> Task[TaskSettings]:
        return opening.task(name, [f"{key}={value}" for key, value in settings.items()], None)[1]

    return _assembled(spec, chosen, method_class(method_config), chosen_guidance, chosen_backbone, with_data)


def plan_of_spec(
    spec: RunSpec, task: Path | None = None, backbone: str | None = None, data_root: Path | None = None
) -> Plan:
    """Return the plan of a recorded specification, as this version makes it.

    A specification holds no paths: ``task`` is the TOML file of a task that is described by one, ``backbone`` names
    its weights where they are the user's, as in ``sd3:/models/sd3.5-medium``, and ``data_root`` is looked at only
    where a task's classes come with its data. The plan's own specification differs from ``spec`` where the task is of
    another version or its data are others. Raises :class:`UserError` for other parts that are not what they were.
    """
    chosen_backbone = choose_same_backbone(spec.backbone, backbone)
    chosen = recorded_task(spec.task, task, data_root)
    if chosen.described_by_file:  # the file says what was given by hand, a specification says all
        chosen = task_by_recipe(chosen, chosen_backbone.recipe)
    component = task_component(spec.task.name, chosen)
    if spec.division == "open":
        entry = Entry(spec.method.name, spec.method.settings)
        return open_plan(spec.model_copy(update={"task": component}), chosen, chosen_backbone, entry)

    def without_data(name: str, settings: Mapping[str, JsonValue]) -> Task[TaskSettings]:
        return recorded_task(Component(name=name, version="", settings=dict(settings)))

    return _assembled(
        spec.model_copy(update={"task": component}),
        chosen,
        restored("methods", spec.method),
        restored("guidance", spec.guidance),
        chosen_backbone,
        without_data,
    )


def open_plan(spec: RunSpec, task: Task[TaskSettings], backbone: ChosenBackbone, entry: Entry) -> Plan:
    """Return the plan of an entry of the open division."""
    stand_ins = Method(MethodSettings()), Guidance(Settings())
    return Plan(spec, task.for_seed(spec.seed), *stand_ins, backbone, choose_extractors(task.extractors), entry=entry)


def _assembled(
    spec: RunSpec,
    task: Task[TaskSettings],
    method: Method[MethodSettings],
    guidance: Guidance[Settings],
    backbone: ChosenBackbone,
    open_task: Callable[[str, Mapping[str, JsonValue]], Task[TaskSettings]],
) -> Plan:
    """Return the plan of these parts; ``open_task`` makes the task's generator from its name and changed settings."""
    found = Plan(spec, task.for_seed(spec.seed), method, guidance, backbone, choose_extractors(task.extractors))
    if not task.generator:
        return found
    changed = {name: value for name, value in task.config.changed().items() if name in TRAINING}
    other = open_task(task.generator, changed)
    other = task_by_recipe(other, backbone.recipe)
    component = task_component(task.generator, other)
    budget = spec.budget  # a file is not at hand where the plan is that of a record, and trains the same on both tasks
    if not budget.described_by_file:
        budget = choose_budget(task.generator, other, budget.name, backbone.recipe)
    budget = budget.model_copy(update={"ema_warmup": spec.budget.ema_warmup})  # which a recorded run may lack
    inner = spec.model_copy(update={"task": component, "budget": budget})
    fresh = type(method)(method.config)
    return replace(found, generator=_assembled(inner, other, fresh, guidance, backbone, open_task))


def task_component(name: str, task: Task[TaskSettings]) -> Component:
    """Return what a specification says of a task."""
    return Component(name=name, version=task.version, settings=task.identity())


def _component(name: str, version: str, config: Settings) -> Component:
    return Component(name=name, version=version, settings=config.model_dump(mode="json"))

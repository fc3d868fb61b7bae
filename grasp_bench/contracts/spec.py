"""What was asked: a run's specification and its identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from grasp_bench.bounds import Count, kept
from grasp_bench.contracts.settings import Settings
from grasp_bench.io import digest

Changed = Mapping[str, Mapping[str, JsonValue]]
"""``task``, ``method`` and ``guidance`` → the settings of each that are not its defaults."""
STANDARD = "standard"
"""Name of the budget that leaderboards are made with."""
LITE = "lite"
"""Name of the budget that costs a fraction of the standard one; see :func:`lite`."""
SMOKE = "smoke"
"""Name of the budget that shows that everything runs."""
SMOKE_EPOCHS, SMOKE_SEEDS = 2, 1
"""Epochs and number of downstream classifiers under that budget, whatever the task's are."""


MOST = 10**9
"""Largest number of steps, images or classifiers of a budget."""

Division = Literal["closed", "open"]
""""closed": trained and sampled under this harness; "open": images made elsewhere, scored by the same protocol."""
Precision = Literal["float32", "bfloat16"]
Optimizer = Literal["adamw", "adamw-fused", "adamw-8bit"]


class Budget(Settings):
    """What every method gets on a task: it belongs to the task, and no method may change it."""

    added: ClassVar[frozenset[str]] = frozenset(
        {
            *("horizontal_flip", "precision", "optimizer", "evaluations", "beta1", "beta2", "epsilon"),
            *("classifier_epochs", "classifier_seeds", "described_by_file", "ema_warmup"),
        }
    )

    name: str
    steps: int = Field(ge=1, le=MOST)
    """Optimiser steps."""
    batch_size: int = Field(ge=1, le=MOST)
    """Training images per step."""
    warmup_steps: int = Field(ge=0, le=MOST)
    """Steps over which the learning rate rises linearly from zero; it is constant afterwards."""
    clip_norm: float = Field(gt=0)
    """Largest global L2 norm of the gradient."""
    prompt_dropout: float = Field(ge=0, lt=1)
    """Share of samples trained without their prompt, for classifier-free guidance."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of the running mean of the trainable parameters that images are sampled from; none: no mean."""
    ema_warmup: bool = False
    """Whether the decay after n steps is at most (1 + n) / (10 + n), so that the mean leaves the initial weights
    behind; true of every new run with a mean, and not of those before it came."""
    horizontal_flip: bool = False
    """Mirror every training image with a chance of one half."""
    precision: Precision = "float32"
    """Precision of the transformer: float32, or bfloat16 autocast with frozen weights stored in bfloat16."""
    optimizer: Optimizer = "adamw"
    """Which implementation of AdamW."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of AdamW's running mean of gradients."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of AdamW's running mean of squared gradients."""
    epsilon: float = Field(default=1e-8, gt=0)
    """What AdamW adds to the denominator."""
    images_per_class: int = Field(ge=1, le=MOST)
    """Generated images per class."""
    num_inference_steps: int = Field(ge=1, le=MOST)
    """Sampling steps per image."""
    evaluations: int | None = Field(default=None, ge=1, le=MOST)
    """Most network function evaluations (NFE) per image; where set, every guidance takes as many sampling steps as they
    allow, whatever ``num_inference_steps`` says."""
    classifier_epochs: int | None = Field(default=None, ge=1, le=MOST)
    """Epochs of a downstream classifier; none: the task's."""
    classifier_seeds: int | None = Field(default=None, ge=1, le=MOST)
    """Downstream classifiers that scores are the mean of; none: the task's."""
    described_by_file: bool = False
    """Whether the budget is that of a TOML file (``--budget FILE.toml``) and not the task's."""


def budget(
    name: str, *, steps: int, batch_size: int, warmup_steps: int, images_per_class: int, num_inference_steps: int
) -> Budget:
    """A budget with the gradient's norm cut at 1 and a tenth of the prompts dropped, as all built-in tasks have."""
    return Budget(
        name=name,
        steps=steps,
        batch_size=batch_size,
        warmup_steps=warmup_steps,
        clip_norm=1.0,
        prompt_dropout=0.1,
        images_per_class=images_per_class,
        num_inference_steps=num_inference_steps,
    )


def smoke(batch_size: int = 8) -> Budget:
    """The budget that shows within seconds that everything runs."""
    return budget(SMOKE, steps=20, batch_size=batch_size, warmup_steps=2, images_per_class=8, num_inference_steps=4)


def lite(standard: Budget, classifier_epochs: int) -> Budget:
    """The budget of a first look on one GPU: about a twentieth of the standard training, and a quarter of the images.

    A tenth of the steps, half the batch, a quarter of the images per class but no fewer than 50 unless ``standard`` has
    fewer, and one downstream classifier of a quarter of the task's ``classifier_epochs``: our choice.
    """
    return standard.model_copy(
        update={
            "name": LITE,
            "steps": max(1, standard.steps // 10),
            "batch_size": max(1, standard.batch_size // 2),
            "warmup_steps": standard.warmup_steps // 10,
            "images_per_class": max(standard.images_per_class // 4, min(standard.images_per_class, 50)),
            "classifier_epochs": max(1, classifier_epochs // 4),
            "classifier_seeds": 1,
        }
    )


def by_name(*budgets: Budget) -> dict[str, Budget]:
    """The budgets of a task, by their names."""
    return {budget.name: budget for budget in budgets}


class Component(BaseModel):
    """A named, versioned part of a run with every one of its settings, defaults included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    settings: Annotated[dict[str, JsonValue], AfterValidator(kept)] = {}


class RunSpec(BaseModel):
    """One method (and guidance) on one task with one seed: everything that decides the scores, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    task: Component
    method: Component
    backbone: Component
    guidance: Component
    budget: Budget
    seed: Count
    division: Division = "closed"
    """In the open division ``method`` is the entry, and ``backbone`` and ``budget`` say in which table it stands."""

    @model_serializer(mode="wrap")
    def _without_closed(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the division where it is closed, so that identities of earlier runs do not change."""
        written: dict[str, Any] = dump(self)
        return {name: value for name, value in written.items() if (name, value) != ("division", "closed")}

    @property
    def id(self) -> str:
        """sha256 (hex) of the canonical JSON of the specification."""
        return digest(self.model_dump(mode="json"))

    def command(
        self,
        changed: Changed,
        *,
        task: str | None = None,
        backbone: str | None = None,
        tuned: bool = False,
        seeds: Iterable[int] | None = None,
    ) -> list[str]:
        """The words of the command line that makes this run; see :func:`run_command`.

        ``task`` is what ``--task`` takes where that is not the task's name, such as FILE.toml; ``backbone`` is the
        backbone's name, None for the task's own; ``seeds`` replaces the run's seed.
        """
        size = self.backbone.settings.get("resolution")
        if self.division == "open":
            words = ["grasp-bench", "evaluate", "--task", task or self.task.name, "--name", self.method.name]
            source = ("--images", "DIR") if "images" in self.method.settings else ("--pipeline", "FOLDER")
            chosen = [self.seed] if seeds is None else seeds
            return [*words, *source, *(word for seed in chosen for word in ("--seed", str(seed)))]
        unnamed = backbone == f"{self.backbone.name}-{self.backbone.version[:8]}"  # weights of the user's own
        return run_command(
            self.method.name,
            task or self.task.name,
            [self.seed] if seeds is None else seeds,
            guidance=self.guidance.name,
            backbone=f"{self.backbone.name}:FOLDER" if unnamed else backbone,
            resolution=size if backbone and isinstance(size, int) else None,
            budget="FILE.toml" if self.budget.described_by_file else self.budget.name,
            changed=changed,
            tuned=tuned,
        )


def run_command(
    method: str,
    task: str,
    seeds: Iterable[int | str],
    *,
    guidance: str | None = None,
    backbone: str | None = None,
    resolution: int | None = None,
    budget: str = STANDARD,
    changed: Changed = MappingProxyType({}),
    tuned: bool = False,
) -> list[str]:
    """The words of a ``grasp-bench run`` command line; a guidance or backbone of None is the task's own.

    With ``tuned``, ``changed`` leaves out the settings that the search chose.
    """
    words = ["grasp-bench", "run", "--method", method, "--task", task]
    words += [word for seed in seeds for word in ("--seed", str(seed))]
    named = {"--guidance": guidance, "--backbone": backbone, "--resolution": resolution}
    named["--budget"] = None if budget == STANDARD else budget
    words += [word for option, value in named.items() if value for word in (option, str(value))]
    for option, owner in (("--set", "method"), ("--task-set", "task"), ("--guidance-set", "guidance")):
        words += [word for name, value in changed.get(owner, {}).items() for word in (option, f"{name}={value}")]
    return [*words, "--tuned"] if tuned else words

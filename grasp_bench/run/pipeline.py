"""The stages of a run, in their order, and what a run that carries them out gives to its record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grasp_bench.contracts import record_v1
from grasp_bench.contracts.entry import Entered, Entry, Found
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import Cost, Score
from grasp_bench.errors import Skip
from grasp_bench.io import file_digest
from grasp_bench.processes import ALONE, Processes
from grasp_bench.run import context
from grasp_bench.run.context import Context, Inputs, Stage
from grasp_bench.run.files import (
    CLASSES,
    COPIES,
    GENERATE_SUMMARY,
    GENERATED_SHEET,
    IMAGES_NOTED,
    METRICS,
    PICTURE,
    REAL_SHEET,
    TRAIN_LOG,
    TRAIN_SUMMARY,
    WEIGHTS,
)
from grasp_bench.run.options import Options
from grasp_bench.run.plan import RULES_VERSION, Plan
from grasp_bench.run.seal import stage_key
from grasp_bench.run.stages import (
    classify,
    digests,
    extractor,
    features,
    generate,
    guide,
    latents,
    pixels,
    prepare,
    prompts,
    score,
    study,
    train,
)

if TYPE_CHECKING:
    import torch

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        prepare.STAGE,
        digests.STAGE,
        *extractor.STAGES,
        latents.STAGE,
        prompts.STAGE,
        study.STAGE,
        train.STAGE,
        guide.STAGE,
        generate.STAGE,
        *features.STAGES,
        pixels.STAGE,
        *classify.STAGES,
        score.STAGE,
    )
}
"""Name → stage; each comes after those that it reads."""


def stage_inputs(plan: Plan) -> dict[str, Inputs]:
    """Return what decides the outcome of every stage of a run, in which stages refer to others by their keys."""
    return context.stage_inputs(STAGES, plan)


def stage_keys(plan: Plan) -> dict[str, str]:
    """Return stage → sha256 (hex) of its inputs."""
    return {name: stage_key(name, inputs) for name, inputs in stage_inputs(plan).items()}


def protocol(plan: Plan) -> dict[str, str]:
    """Return the versions of whatever decides scores and is the same for every method, beyond the specification."""
    versions = {stage.name.partition("-")[0]: str(stage.version) for stage in STAGES.values() if stage.compared}
    for chosen in plan.extractors:
        if chosen.kind.version != "1":  # a first version is not named in records
            versions["extractor"] += f", {chosen.name}@{chosen.kind.version}"
    if plan.trained_on.spec.budget.ema_warmup:
        versions["running mean"] = "2"
    return {"rules": RULES_VERSION} | versions


@dataclass(frozen=True)
class Outcome:
    """What a finished run adds to its record."""

    fields: dict[str, Any]
    """Fields of the record."""
    files: list[Path]
    """Files to be kept beside the record."""
    worked_on: dict[str, Any]
    """Fields of its environment that the training found: how a step was made to fit in memory."""


class Pipeline(Context):
    """A run that is carried out by the stages of this package."""

    def __init__(
        self, plan: Plan, options: Options, device: torch.device, progress: Progress, processes: Processes = ALONE
    ) -> None:
        super().__init__(plan, options, device, progress, processes, STAGES)

    def outcome(self) -> Outcome | Skip:
        """Carry out the run up to its scores, or return why the method or the guidance does not apply here."""
        if skip := self._skipped():
            return skip
        self._check()
        if self.plan.entry:
            return self._entered(self.plan.entry)
        trained, generated, scored = self.trained, self.generated, self.folder("score")
        training = json.loads((trained / TRAIN_SUMMARY).read_text())
        return Outcome(
            {
                "streams": training["streams"],
                "weights": file_digest(trained / WEIGHTS),
                "cost": self._cost(trained, training, json.loads((generated / GENERATE_SUMMARY).read_text())),
                "scores": self._scores(scored),
                "diagnostics": training["diagnostics"],
                "sizes": training.get("sizes", {}),
            },
            [
                trained / TRAIN_LOG,
                *(trained / name for name in (*training["artifacts"], *training.get("pictures", ()))),
                *self._kept(scored),
            ],
            {name: training[name] for name in ("accumulate", "gradient_checkpointing") if name in training},
        )

    def _entered(self, entry: Entry) -> Outcome:
        """Return what an entry of the open division adds to its record; its images are looked at before all else."""
        found = Found.model_validate_json((self.generated / GENERATE_SUMMARY).read_text())
        scored = self.folder("score")
        entered = Entered(declared=entry.declared, found=found)
        noted = self.generated / IMAGES_NOTED
        files = [*self._kept(scored), *([noted] if noted.exists() else [])]
        return Outcome({"entry": entered, "scores": self._scores(scored)}, files, {})

    @staticmethod
    def _scores(scored: Path) -> list[Score]:
        return [Score.model_validate(record_v1.score(each)) for each in json.loads((scored / METRICS).read_text())]

    def _kept(self, scored: Path) -> list[Path]:
        """Return the files of the stage ``score`` that are kept beside the record, and what was noted of the data."""
        from grasp_bench.data.image_task import NOTED

        optional = (*(scored / name for name in (GENERATED_SHEET, REAL_SHEET)), self.folder("prepare") / NOTED)
        return [
            scored / CLASSES,
            scored / COPIES,
            *(() if self.plan.private else (scored / PICTURE,)),  # generated images may be copies of real ones
            *(path for path in optional if path.exists()),
        ]

    def _skipped(self) -> Skip | None:
        if self.plan.entry:
            return None
        from grasp_bench.run.applies import why_not

        return why_not(self.backbone, self.plan.task, self.plan.method, self.plan.guidance)

    def _check(self) -> None:
        """Raise :class:`UserError` for what is missing, before anything is trained."""
        from grasp_bench.downstream import networks
        from grasp_bench.extractors import check_weights

        check_weights(self.plan.extractors)  # before the data are prepared, which takes long
        recipe, (channels, height, _) = self.plan.recipe, self.plan.backbone.image_shape
        networks.check(recipe.network, channels, recipe.resolution or height, len(self.classes), recipe.initial)
        _ = self.extractors

    def _cost(self, trained: Path, training: Mapping[str, Any], generation: Mapping[str, Any]) -> Cost:
        """Return the cost, from the summaries of training and generation; old ones lack some of it."""
        return Cost(
            trainable_parameters=training["trainable_parameters"],
            active_parameters=training.get("active_parameters"),
            total_parameters=training["total_parameters"],
            train_seconds=training["seconds"],
            seconds_per_step=round(training["seconds"] / self.plan.spec.budget.steps, 5),
            peak_memory_mib=training["peak_memory_mib"],
            checkpoint_mib=round((trained / WEIGHTS).stat().st_size / 2**20, 4),
            generate_seconds=generation["seconds"],
            network_evaluations_per_image=generation["network_evaluations_per_image"],
            backward_passes_per_image=generation.get("backward_passes_per_image"),
            gflops_per_image=generation.get("gflops_per_image"),
            generate_peak_memory_mib=generation.get("peak_memory_mib"),
        )

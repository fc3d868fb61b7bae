"""Diagnosis of a training at a step, from its weights to the files with the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from grasp_bench import seeds
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.study import Study
from grasp_bench.diagnose.findings import DRAWS, cells, findings
from grasp_bench.diagnose.gradients import LEVELS, NOISES, Draws, Gradients, draw, measure
from grasp_bench.diagnose.partitions import partitions
from grasp_bench.diagnose.picture import draw_cosines
from grasp_bench.diagnose.sketch import WIDTH
from grasp_bench.diagnose.subject import LOG, Subject, training_log, weights_at
from grasp_bench.diagnose.words import paragraph
from grasp_bench.errors import Skip, UserError
from grasp_bench.io import read_tensors, write_bytes, write_json
from grasp_bench.run.context import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.sampling import Network


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of one step, as it was written."""

    path: Path
    """File of the numbers; the picture and the paragraph are beside it, as ``.png`` and ``.md``."""
    text: str


def diagnose(
    subject: Subject,
    steps: list[int],
    batches: int,
    seed: int,
    options: Options,
    device: torch.device,
    progress: Progress,
) -> list[Diagnosis]:
    """Measure the gradients of a training at each of ``steps``, on the same images and noise.

    Raises :class:`UserError` if the method does not apply to the task or its backbone.
    """
    pipeline = Pipeline(subject.fresh(), options, device, progress)
    _check_applies(pipeline)
    draws = draw(pipeline.data.train, pipeline.classes, batches, seed)
    clusters, refused = partitions(_study(pipeline))
    done = []
    for step in steps:
        weights = weights_at(subject, pipeline, step)
        gradients = _gradients(subject, pipeline, weights, draws, seed)
        found = _context(subject, pipeline, step, draws, batches, seed)
        found |= {"kinds": _sizes(gradients), "loss": _losses(gradients, pipeline, draws)}
        infos = [pipeline.classes[index] for index in draws.classes]
        groups = [group for group in pipeline.plan.task.groups if any(info.group == group for info in infos)]
        rng = seeds.rng("diagnose-null", seed)
        found |= findings(cells(gradients.values, gradients.apart), infos, groups, clusters, rng)
        found |= {"partitions": clusters, "no_partition": refused}
        found["training"] = _training(subject, weights, step)
        done.append(_write(options.results / subject.task_label / "diagnose" / subject.label, found))
    return done


def _check_applies(pipeline: Pipeline) -> None:
    plan = pipeline.plan
    skip = plan.method.supports(pipeline.backbone, plan.task)
    if isinstance(skip, Skip):
        raise UserError(f"method {plan.spec.method.name} does not apply here: {skip.reason}. Choose another.")


def _study(pipeline: Pipeline) -> Study:
    """Return what partitions are computed from: the pretrained backbone and the training data."""
    spec, backbone = pipeline.plan.spec, pipeline.backbone.to(pipeline.device)
    return Study(
        spec.task.name,
        pipeline.plan.task,
        spec.seed,
        backbone,
        pipeline.device,
        lambda: pipeline.data,
        lambda: pipeline.latents,
        lambda: pipeline.embed,
    )


def _gradients(subject: Subject, pipeline: Pipeline, weights: Path | None, draws: Draws, seed: int) -> Gradients:
    """Measure gradients of the method's trainable parameters, on a backbone of their own."""
    attached = Pipeline(subject.fresh(), pipeline.options, pipeline.device, pipeline.progress)
    if subject.studied is not None:
        attached.studied = subject.studied
    added = attached.attach()
    method, backbone = attached.plan.method, attached.backbone
    if weights is not None:
        method.load_state_dict(read_tensors(weights))
    backbone.transformer.eval()
    network = Network(backbone, method, pipeline.device, attached.plan.spec.budget.precision)
    with pipeline.progress.task("gradients", draws.images.size * len(LEVELS)) as advance:
        return measure(
            network,
            method.parameters(),
            added,
            pipeline.data.train,
            pipeline.latents,
            pipeline.embed,
            draws,
            seed,
            advance,
        )


def _context(subject: Subject, pipeline: Pipeline, step: int, draws: Draws, batches: int, seed: int) -> dict[str, Any]:
    """Return what was measured, and how."""
    spec, kept = pipeline.plan.spec, set(draws.classes.tolist())
    return {
        "schema_version": 1,
        "label": subject.label,
        "task": subject.task_label,
        "run_id": spec.id,
        "run_seed": spec.seed,
        "step": step,
        "seed": seed,
        "batches": len(draws.images),
        "batches_asked": batches,
        "interval": {"unit": "batch: one image of every class", "draws": DRAWS},
        "noises": NOISES,
        "levels": [list(level) for level in LEVELS],
        "left_out": [info.name for index, info in enumerate(pipeline.classes) if index not in kept],
    }


def _sizes(gradients: Gradients) -> dict[str, Any]:
    """Return each kind's number of parameters, and the width of its sketch if its gradients were projected."""
    return {
        kind: {"parameters": size, "projected_to": WIDTH if size > WIDTH else None}
        for kind, size in gradients.sizes.items()
    }


def _losses(gradients: Gradients, pipeline: Pipeline, draws: Draws) -> dict[str, list[float]]:
    """Return the mean squared error of every group at each noise level, with equal weight for its classes."""
    of_class = gradients.losses.mean(1)  # (levels, C)
    named = [pipeline.classes[index].group for index in draws.classes]
    return {
        group: of_class[:, [name == group for name in named]].mean(1).round(6).tolist()
        for group in dict.fromkeys(named)
    }


def _training(subject: Subject, weights: Path | None, step: int) -> list[dict[str, Any]]:
    """Return the training log up to ``step``: the run's own, or that of the rerun training."""
    beside = weights.with_name(LOG) if weights else None
    path = next((path for path in (subject.log, beside) if path and path.is_file()), None)
    return [row for row in training_log(path) if row["step"] <= step] if path else []


def _write(folder: Path, found: dict[str, Any]) -> Diagnosis:
    name, text = f"seed-{found['run_seed']}@{found['step']}", paragraph(found)
    write_bytes(folder / f"{name}.png", draw_cosines(found))
    write_bytes(folder / f"{name}.md", text.encode())
    write_json(folder / f"{name}.json", found)
    return Diagnosis(folder / f"{name}.json", text)

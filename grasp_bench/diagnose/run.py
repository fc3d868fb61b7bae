"""Diagnosis of a training at a step, from its weights to the files with the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from grasp_bench import seeds
from grasp_bench.contracts.progress import Progress
from grasp_bench.diagnose.findings import DRAWS, cells, findings
from grasp_bench.diagnose.gradients import LEVELS, NOISES, Draws, Gradients, draw, measure
from grasp_bench.diagnose.partitions import partitions
from grasp_bench.diagnose.picture import draw_cosines
from grasp_bench.diagnose.sketch import WIDTH
from grasp_bench.diagnose.subject import Subject, training_log, weights_at
from grasp_bench.diagnose.words import paragraph
from grasp_bench.errors import Skip, UserError
from grasp_bench.io import read_tensors, write_bytes, write_json
from grasp_bench.run.context import Context, Options
from grasp_bench.run.files import TRAIN_LOG
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
    context = Pipeline(subject.fresh(), options, device, progress)
    _check_applies(context)
    draws = draw(context.data.train, context.classes, batches, seed)
    clusters, refused = partitions(context.study())
    done = []
    for step in steps:
        weights = weights_at(subject, context, step)
        gradients = _gradients(subject, context, weights, draws, seed)
        found = _measured(subject, context, step, draws, batches, seed)
        found |= {"kinds": _sizes(gradients), "loss": _losses(gradients, context, draws)}
        infos = [context.classes[index] for index in draws.classes]
        groups = [group for group in context.plan.task.groups if any(info.group == group for info in infos)]
        rng = seeds.rng("diagnose-null", seed)
        found |= findings(cells(gradients.values, gradients.apart), infos, groups, clusters, rng)
        found |= {"partitions": clusters, "no_partition": refused}
        found["training"] = _training(subject, weights, step)
        done.append(_write(options.results / subject.task_label / "diagnose" / subject.label, found))
    return done


def _check_applies(context: Context) -> None:
    plan = context.plan
    skip = plan.method.supports(context.backbone, plan.task)
    if isinstance(skip, Skip):
        raise UserError(f"method {plan.spec.method.name} does not apply here: {skip.reason}. Choose another.")


def _gradients(subject: Subject, context: Context, weights: Path | None, draws: Draws, seed: int) -> Gradients:
    """Measure gradients of the method's trainable parameters, on a backbone of their own."""
    attached = Pipeline(subject.fresh(), context.options, context.device, context.progress)
    if subject.studied is not None:
        attached.studied = subject.studied
    added = attached.attach()
    method, backbone = attached.plan.method, attached.backbone
    if weights is not None:
        method.load_state_dict(read_tensors(weights))
    backbone.transformer.eval()
    network = Network(backbone, method, context.device, attached.plan.spec.budget.precision)
    with context.progress.task("gradients", draws.images.size * len(LEVELS)) as advance:
        return measure(
            network,
            method.parameters(),
            added,
            context.data.train,
            context.latents,
            context.embed,
            draws,
            seed,
            advance,
        )


def _measured(subject: Subject, context: Context, step: int, draws: Draws, batches: int, seed: int) -> dict[str, Any]:
    """Return what was measured, and how."""
    spec, kept = context.plan.spec, set(draws.classes.tolist())
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
        "left_out": [info.name for index, info in enumerate(context.classes) if index not in kept],
    }


def _sizes(gradients: Gradients) -> dict[str, Any]:
    """Return each kind's number of parameters, and the width of its sketch if its gradients were projected."""
    return {
        kind: {"parameters": size, "projected_to": WIDTH if size > WIDTH else None}
        for kind, size in gradients.sizes.items()
    }


def _losses(gradients: Gradients, context: Context, draws: Draws) -> dict[str, list[float]]:
    """Return the mean squared error of every group at each noise level, with equal weight for its classes."""
    of_class = gradients.losses.mean(1)  # (levels, C)
    named = [context.classes[index].group for index in draws.classes]
    return {
        group: of_class[:, [name == group for name in named]].mean(1).round(6).tolist()
        for group in dict.fromkeys(named)
    }


def _training(subject: Subject, weights: Path | None, step: int) -> list[dict[str, Any]]:
    """Return the training log up to ``step``: the run's own, or that of the rerun training."""
    beside = weights.with_name(TRAIN_LOG) if weights else None
    path = next((path for path in (subject.log, beside) if path and path.is_file()), None)
    return [row for row in training_log(path) if row["step"] <= step] if path else []


def _write(folder: Path, found: dict[str, Any]) -> Diagnosis:
    name, text = f"seed-{found['run_seed']}@{found['step']}", paragraph(found)
    write_bytes(folder / f"{name}.png", draw_cosines(found))
    write_bytes(folder / f"{name}.md", text.encode())
    write_json(folder / f"{name}.json", found)
    return Diagnosis(folder / f"{name}.json", text)

"""Diagnosis of a training at a step, from its weights to the files with the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from grasp_bench import seeds
from grasp_bench.adapters import clustering
from grasp_bench.adapters.partition import Partition, by_class, by_group, cluster_count
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.study import Study
from grasp_bench.diagnose.findings import DRAWS, cells, findings
from grasp_bench.diagnose.gradients import LEVELS, NOISES, WIDTH, Draws, Gradients, draw, measure
from grasp_bench.diagnose.picture import draw_cosines
from grasp_bench.diagnose.subject import Subject, training_log, weights_at
from grasp_bench.diagnose.words import document, paragraph
from grasp_bench.errors import UserError
from grasp_bench.io import read_tensors, write_bytes, write_json
from grasp_bench.run.applies import why_not
from grasp_bench.run.context import Context
from grasp_bench.run.files import TRAIN_LOG
from grasp_bench.run.labels import label_path
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.threads import threads_taken
from grasp_bench.sampling import Network

OF_IMAGES = {"metadata": "it partitions images, not classes, and the gradients that are compared are those of classes."}


def diagnose(
    subject: Subject,
    steps: list[int],
    batches: int,
    seed: int,
    options: Options,
    device: torch.device,
    progress: Progress,
) -> list[tuple[Path, str]]:
    """Measure the gradients of a training at each of ``steps``, on the same images and noise.

    Returns the file of each step's numbers and its paragraph; the picture and the paragraph are beside the file, as
    ``.png`` and ``.md``. Raises :class:`UserError` if the method does not apply to the task or its backbone.
    """
    with threads_taken(options.threads, subject.plan.threads):
        context = Pipeline(subject.fresh(), options, device, progress)
        if skip := why_not(context.backbone, context.plan.task, context.plan.method):
            name = context.plan.spec.method.name
            raise UserError(f"method {name} does not apply here: {skip.reason}. Choose another.")
        draws = draw(context.data.train, context.classes, batches, seed)
        clusters, refused = partitions(context.study())
        done = []
        for step in steps:
            found = _measured(subject, context, step, draws, batches, seed)
            found |= _found(subject, context, step, draws, clusters, seed)
            found |= {"partitions": clusters, "no_partition": refused}
            done.append((_written(found, subject, options.results), paragraph(found)))
        return done


def _found(
    subject: Subject, context: Context, step: int, draws: Draws, clusters: Mapping[str, Mapping[str, int]], seed: int
) -> dict[str, Any]:
    """Return what the gradients at a step say, and how far the training had come."""
    weights = weights_at(subject, context, step)
    gradients = _gradients(subject, context, weights, draws, seed)
    kinds = {
        kind: {"parameters": size, "projected_to": WIDTH if size > WIDTH else None}
        for kind, size in gradients.sizes.items()
    }
    infos = [context.classes[index] for index in draws.classes]
    groups = [group for group in context.plan.task.groups if any(info.group == group for info in infos)]
    rng = seeds.rng("diagnose-null", seed)
    return {
        "kinds": kinds,
        "loss": _losses(gradients, context, draws),
        **findings(cells(gradients.values, gradients.apart), infos, groups, clusters, rng),
        "training": _training(subject, weights, step),
    }


def _written(found: dict[str, Any], subject: Subject, results: Path) -> Path:
    """Write the numbers, a picture and a text of them; return the file of the numbers, which is written last."""
    name = f"seed-{found['run_seed']}@{found['step']}.json"
    file = results / label_path(subject.task_label, "diagnose", subject.label, name)
    write_bytes(file.with_suffix(".png"), draw_cosines(found))
    write_bytes(file.with_suffix(".md"), document(found).encode())
    write_json(file, found)
    return file


def partitions(study: Study) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Return every partition of the classes into as many clusters as the partition by group has.

    The first mapping is name → {class: cluster}; the second is name → why that partition does not exist, such as the
    partition by text without a text encoder.
    """
    task = study.task
    count = cluster_count(task, None)
    ways: dict[str, Callable[[], Partition]] = {
        "group": lambda: by_group(task),
        "class": lambda: by_class(task, count),
        "text": lambda: clustering.by_text(study, count),
        "gradient": lambda: clustering.by_gradient(study, count),
    }
    found, refused = dict[str, dict[str, int]](), dict(OF_IMAGES)
    for name, make in ways.items():
        try:
            found[name] = make().classes
        except UserError as error:
            refused[name] = str(error)
    return found, refused


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
        data, latents, embed = context.data.train, context.latents, context.embed
        return measure(network, method.parameters(), added, data, latents, embed, draws, seed, advance)


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

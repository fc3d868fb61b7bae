"""The generate stage, and the guide stage of a guidance that learns something first."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_bench import seeds
from grasp_bench.checked import remove_checked
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.workshop import Workshop
from grasp_bench.io import read_tensors
from grasp_bench.run import sampling as generation
from grasp_bench.run.training.loop import WEIGHTS
from grasp_bench.run.training.precision import store_frozen

if TYPE_CHECKING:
    import torch

    from grasp_bench.run.pipeline import Pipeline


def build(pipeline: Pipeline, folder: Path) -> None:
    """Leave in ``folder`` the images of every class, and none of the batches that they were made in."""
    if not pipeline.processes.first_says((folder / generation.SUMMARY).exists):
        _generate(pipeline, folder)
    if pipeline.processes.is_first:
        remove_checked(folder, generation.KIND)


def _generate(pipeline: Pipeline, folder: Path) -> None:
    plan = pipeline.plan
    trained = pipeline.trained  # first, since training ends with another backbone
    embed = pipeline.trainer.embed
    pipeline.attach()
    plan.method.load_state_dict(read_tensors(trained / WEIGHTS))
    precision = plan.trained_on.spec.budget.precision
    sampler = generation.Sampler(pipeline.backbone, plan.method, plan.guidance, pipeline.device, precision, embed)
    _prepare_guidance(pipeline, sampler)
    batch_size, processes, progress = pipeline.options.batch_size, pipeline.processes, pipeline.progress
    generation.generate(plan.spec, _subjects(pipeline), sampler, folder, batch_size, processes, progress)


def _subjects(pipeline: Pipeline) -> list[generation.Subject]:
    """What every class is sampled with; where the task has another's generator, that class's which stands for it."""
    if not pipeline.plan.generator:
        return [generation.Subject(info.prompt, index) for index, info in enumerate(pipeline.classes)]
    known = pipeline.plan.generator.task
    infos, indices = known.classes(), pipeline.plan.task.generator_classes(known)
    return [generation.Subject(infos[index].prompt, index) for index in indices]


def _prepare_guidance(pipeline: Pipeline, sampler: generation.Sampler) -> None:
    """Let the guidance learn what it needs, once, and make itself ready."""
    guidance, trainer = pipeline.plan.guidance, pipeline.trainer
    sampler.place(pipeline.backbone)
    workshop = Workshop(
        pipeline.plan.spec,
        trainer.plan.task,
        pipeline.backbone,
        pipeline.plan.method,
        pipeline.device,
        sampler.embed,
        sampler.networks[0],
        lambda: trainer.data,
        trainer.trained_after,
        lambda weights: _second_network(pipeline, sampler, weights),
        pipeline.progress,
    )
    folder = None
    if guidance.learns:
        _ = trainer.data  # a stage of its own, which the one below may not run
        folder = pipeline.stages.run("guide", pipeline.inputs["guide"], partial(guidance.learn, workshop))
    guidance.prepare(workshop, folder)


def _second_network(
    pipeline: Pipeline, sampler: generation.Sampler, weights: dict[str, torch.Tensor] | None
) -> generation.Network:
    """A network beside the sampler's own: with other weights of the method, or without the method."""
    trained_on, own = pipeline.plan.trained_on, pipeline.plan.method
    spec, backbone = trained_on.spec, pipeline.fresh_backbone()
    method: Method[MethodSettings] = Method(own.config)
    if weights is not None:
        method = type(own)(own.config)
        method.studied = own.studied
        generator = seeds.generator("init", spec.task.name, spec.seed, spec.method.name)
        method.attach(backbone, trained_on.task, generator)
        method.load_state_dict(weights)
    store_frozen(backbone.transformer, sampler.precision)
    sampler.place(backbone.to(pipeline.device))
    network = generation.Network(backbone, method, pipeline.device, sampler.precision)
    sampler.networks.append(network)
    return network

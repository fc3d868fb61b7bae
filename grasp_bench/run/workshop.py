"""What a run gives to its guidance, beyond the network that is guided."""

from __future__ import annotations

import torch

from grasp_bench import seeds
from grasp_bench.contracts.guidance import Workshop
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.io import read_tensors
from grasp_bench.precision import store_frozen
from grasp_bench.run.context import Context
from grasp_bench.run.files import WEIGHTS
from grasp_bench.sampling import Network


def make_workshop(context: Context) -> Workshop:
    """Return the workshop of the run's sampler."""
    sampler, trainer = context.sampler, context.trainer
    return Workshop(
        context.plan.spec,
        trainer.plan.task,
        context.backbone,
        context.plan.method,
        context.device,
        sampler.embed,
        sampler.networks[0],
        lambda: trainer.data,
        lambda steps: read_tensors(trainer.trained_after(steps) / WEIGHTS),
        lambda weights: _second_network(context, weights),
        context.progress,
    )


def _second_network(context: Context, weights: dict[str, torch.Tensor] | None) -> Network:
    """Return a network beside the sampler's own: with other weights of the method, or for None without the method."""
    trained_on, own, sampler = context.plan.trained_on, context.plan.method, context.sampler
    spec, backbone = trained_on.spec, context.fresh_backbone()
    method: Method[MethodSettings] = Method(own.config)
    if weights is not None:
        method = type(own)(own.config)
        method.studied = own.studied
        generator = seeds.generator("init", spec.task.name, spec.seed, spec.method.name)
        method.attach(backbone, trained_on.task, generator)
        method.load_state_dict(weights)
    store_frozen(backbone.transformer, sampler.precision)
    sampler.place(backbone.to(context.device))
    network = Network(backbone, method, context.device, sampler.precision)
    sampler.networks.append(network)
    return network

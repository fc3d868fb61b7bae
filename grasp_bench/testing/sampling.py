"""A run that is sampled from under a guidance, and what the guidance did to the network meanwhile."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep, Workshop
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.spec import Budget
from grasp_bench.errors import Skip
from grasp_bench.io import read_tensors
from grasp_bench.run.files import GENERATE_SUMMARY, IMAGES
from grasp_bench.run.plan import Plan
from grasp_bench.sampling import Network, Sampler, noise_stream
from grasp_bench.testing.anatomy import Anatomy, anatomy
from grasp_bench.testing.checks import NotApplicable, require
from grasp_bench.testing.rig import CPU, Watched, planned

Predict = Callable[[torch.Tensor, Condition], torch.Tensor]

METHOD = "lora"
TRAINED: tuple[tuple[str, ...], ...] = ((), ("tread=0.5",))
"""Settings of the method that is sampled from: the first that the guidance supports."""


class Witness(Guidance[Settings]):
    """A guidance in whose place it stands, and what was there before it."""

    workshop: Workshop
    before: Anatomy
    """The fine-tuned network before the guidance has seen it."""
    prediction: torch.Tensor
    """What that network predicts."""

    def __init__(self, guidance: Guidance[Settings]) -> None:
        super().__init__(guidance.config)
        self.guidance, self.learns = guidance, guidance.learns  # type: ignore[misc] # of the class elsewhere
        self.passed = 0
        """Samples that went forward through a transformer in sampling."""
        self.others: list[Backbone] = []
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def learn(self, workshop: Workshop, folder: Path) -> None:
        self._look(workshop)
        self.guidance.learn(workshop, folder)

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        self._look(workshop)
        self.guidance.prepare(replace(workshop, second=self._second), folder)
        for backbone in (workshop.backbone, *self.others):
            self.hooks.append(backbone.transformer.register_forward_pre_hook(self._count, with_kwargs=True))

    def evaluations(self, steps: int) -> int:
        return self.guidance.evaluations(steps)

    def steps(self, budget: Budget) -> int:
        return self.guidance.steps(budget)

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        return self.guidance.predict(model, latents, step)

    def leave(self) -> None:
        """Count no more."""
        for hook in self.hooks:
            hook.remove()

    @torch.no_grad()
    def own_prediction(self) -> torch.Tensor:
        """What the fine-tuned network predicts for a few classes when no guidance asks."""
        workshop, labels = self.workshop, torch.arange(3)
        noise = torch.randn(3, *workshop.backbone.latent_shape, generator=torch.Generator().manual_seed(0))
        latents, timesteps = noise.to(workshop.dtype), torch.full((3,), 0.5, dtype=workshop.dtype)
        prompts = workshop.embed([info.prompt for info in workshop.task.classes()[:3]]).to(latents)
        return workshop.network(latents, Condition(labels, labels < 0, prompts, timesteps))

    def _look(self, workshop: Workshop) -> None:
        if not hasattr(self, "workshop"):
            self.workshop = workshop
            self.before, self.prediction = anatomy(workshop.backbone.transformer), self.own_prediction()

    def _second(self, weights: dict[str, torch.Tensor] | None) -> Predict:
        network = self.workshop.second(weights)
        if isinstance(network, Network):
            self.others.append(network.backbone)
        return network

    def _count(self, module: torch.nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        self.passed += len(arguments[0] if arguments else named["hidden_states"])


class Sampled(Watched):
    """The stages of a run up to its images."""

    counted: float
    """Network evaluations an image, as a record tells them; set with ``pixels``, since runs share their folder."""

    def __init__(self, plan: Plan, batch_size: int) -> None:
        self.witness = Witness(plan.guidance)
        super().__init__(replace(plan, guidance=self.witness), batch_size=batch_size)

    @functools.cached_property
    def pixels(self) -> torch.Tensor:
        """The images, uint8 (n, C, H, W), generated once for this object."""
        self.forget("generate")
        images = read_tensors(self.generated / IMAGES)["images"]
        self.witness.leave()
        summary = json.loads((self.generated / GENERATE_SUMMARY).read_text())
        self.counted = float(summary["network_evaluations_per_image"])
        return images

    @property
    def learned(self) -> Path:
        """The folder of what the guidance learned. Raises :class:`NotApplicable` where it learns nothing."""
        if not self.witness.learns:
            raise NotApplicable("it learns nothing")
        _ = self.pixels
        return self.store.folder("guide", self.inputs["guide"])

    def denoise(self, numbers: list[int]) -> torch.Tensor:
        """Latents (len(numbers), ...) of an image each of the classes ``numbers``, in one batch."""
        spec, workshop = self.plan.spec, self.witness.workshop
        sampler = Sampler(workshop.backbone, workshop.method, self.witness, CPU, spec.budget.precision, workshop.embed)
        streams = [noise_stream(spec.task.name, spec.seed, number, 0) for number in numbers]
        noise = torch.stack([torch.randn(workshop.backbone.latent_shape, generator=stream) for stream in streams])
        prompts, steps = [self.classes[number].prompt for number in numbers], self.witness.steps(spec.budget)
        return sampler.denoise(noise, prompts, torch.tensor(numbers), steps, streams)


class Subject:
    """A guidance with its settings on a backbone."""

    def __init__(self, name: str, settings: tuple[str, ...], backbone: str) -> None:
        self.name, self.settings, self.backbone = name, settings, backbone

    @functools.cached_property
    def made(self) -> Sampled:
        """A run whose guidance has learned, and whose images are made, for this subject."""
        run = self.run()
        if run.witness.learns:
            run.forget("guide")
        _ = run.pixels
        return run

    def run(self, batch_size: int = 100) -> Sampled:
        """A run with a guidance of its own, and whatever was learned before.

        Raises :class:`NotApplicable` where the guidance supports none of the methods.
        """
        for trained in TRAINED:
            plan = planned(self.backbone, METHOD, trained, self.name, self.settings)
            run = Sampled(plan, batch_size)
            skip = plan.guidance.supports(run.backbone, plan.method)
            require(skip is None or isinstance(skip, Skip), f"supports() gives {skip!r}, expected None or a Skip")
            if skip is None:
                run.refuse()
                return run
        raise NotApplicable(skip.reason if skip else "")

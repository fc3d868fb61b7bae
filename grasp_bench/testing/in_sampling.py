"""The checks of a guidance on one backbone; the docstring of each is its contract."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep, Workshop
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.settings import Settings
from grasp_bench.contracts.spec import Budget
from grasp_bench.errors import UserError
from grasp_bench.io import read_tensors
from grasp_bench.run.files import GENERATE_SUMMARY, IMAGES
from grasp_bench.run.plan import Plan
from grasp_bench.run.threads import threads_taken
from grasp_bench.sampling import Network, Sampler, noise_stream
from grasp_bench.testing.checks import NotApplicable, require
from grasp_bench.testing.compare import Anatomy, anatomy, changed_values, changes, none, share, some
from grasp_bench.testing.rig import CPU, Watched, planned, refuse

TRAINED: tuple[tuple[str, ...], ...] = ((), ("tread=0.5",))
"""Settings of LoRA that is sampled from: the first that the guidance supports."""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""What rounding may do to latents in batches of another size, as a share of their root mean square."""


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

    def _second(self, weights: dict[str, torch.Tensor] | None) -> Callable[[torch.Tensor, Condition], torch.Tensor]:
        network = self.workshop.second(weights)
        if isinstance(network, Network):
            self.others.append(network.backbone)
        return network

    def _count(self, module: torch.nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        self.passed += len(arguments[0] if arguments else named["hidden_states"])


class Sampled(Watched):
    """The stages of a run up to its images."""

    counted: float
    """Network evaluations per image, as a record tells them; set with ``pixels``, since runs share their folder."""

    def __init__(self, plan: Plan, batch_size: int) -> None:
        self.witness = Witness(plan.guidance)
        super().__init__(replace(plan, guidance=self.witness), batch_size=batch_size)

    @functools.cached_property
    def pixels(self) -> torch.Tensor:
        """The images, uint8 (n, C, H, W), generated once for this object."""
        self.forget("generate")
        images = read_tensors(self.generated / IMAGES)["images"]
        for hook in self.witness.hooks:
            hook.remove()
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


@dataclass
class Subject:
    """A guidance with its settings on a backbone."""

    name: str
    settings: tuple[str, ...]
    backbone: str

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
            plan = planned(self.backbone, "lora", trained, guidance=self.name, guidance_settings=self.settings)
            run = Sampled(plan, batch_size)
            try:
                refuse(plan.guidance.supports(run.backbone, plan.method))
            except NotApplicable as reason:
                skip = reason
                continue
            run.refuse()
            return run
        raise skip


def finite_images(subject: Subject) -> None:
    """Sampling ends with finite latents, and images of every class."""
    run = subject.made
    classes, latents = len(run.classes), run.denoise([0])
    expected = (classes, *run.plan.backbone.image_shape)
    require(tuple(run.pixels.shape) == expected, f"images of shape {tuple(run.pixels.shape)}, expected {expected}")
    require(bool(latents.isfinite().all()), "latents are not finite")
    shape = run.witness.workshop.backbone.latent_shape
    require(latents.shape[1:] == shape, f"latents of shape {tuple(latents.shape[1:])}, expected {shape}")


def deterministic(subject: Subject) -> None:
    """Equal noise and streams give equal images, bit for bit, whatever was drawn before."""
    numbers, found = [0, 3, 9], []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(subject.made.denoise(numbers))
    require(
        torch.equal(*found),
        f"the same batch twice differs by {share(*found):.2g} of its size. Does it draw from a global generator, or "
        "keep something from one batch to the next? SamplingStep has generators and memory for both",
    )


def image_alone(subject: Subject) -> None:
    """An image depends on no other image of its batch, up to rounding."""
    run = subject.made
    numbers = list(range(len(run.classes)))
    together = run.denoise(numbers)
    distances = {number: share(run.denoise([number])[0], together[number]) for number in numbers}
    far = [number for number, distance in distances.items() if not distance <= TOLERANCE[together.dtype]]
    require(
        not far,
        f"{len(far)} of {len(numbers)} images differ by themselves from what they are among others, by up to "
        f"{max(distances.values()):.2g} of their size",
    )


def batch_size(subject: Subject) -> None:
    """Images that are generated in batches of another size are equal, up to a grey level."""
    found, expected = subject.run(batch_size=3).pixels.int(), subject.made.pixels.int()
    apart = (found - expected).abs().flatten(1).max(1).values
    require(
        bool((apart <= 1).all()),
        f"{int((apart > 1).sum())} of {len(apart)} images differ in batches of 3, by up to {apart.max()} grey levels",
    )


def evaluations(subject: Subject) -> None:
    """The counter of the network sees every evaluation, and there are no more than the guidance says."""
    run = subject.made
    passed = run.witness.passed / len(run.pixels)
    require(
        passed == run.counted,
        f"{passed:g} samples per image went through the network, and its counter saw {run.counted:g}: predict by the "
        "model that predict() is given, or the workshop's networks",
    )
    steps = run.witness.steps(run.plan.spec.budget)
    try:
        stated = run.witness.evaluations(steps)
    except UserError:  # it does not say: it cannot be run at equal evaluations
        return
    require(passed <= stated, f"{steps} steps took {passed:g} evaluations of an image, and evaluations() says {stated}")


def weights_untouched(subject: Subject) -> None:
    """Learning and sampling change no weight of the network, nor its own predictions."""
    run = subject.made
    witness = run.witness
    none("values differ after sampling", changed_values(witness.before))
    with threads_taken(run.options.threads, run.plan.threads):  # those of the stage, on which the last bits depend
        before, after = witness.prediction, witness.own_prediction()
    require(torch.equal(before, after), f"after sampling, its own predictions differ by {share(after, before):.2g}")


def learned_files(subject: Subject) -> None:
    """What it learns is kept as safetensors and JSON alone, and prepare() adds nothing."""
    names = {path.name for path in subject.made.learned.iterdir()}
    odd = {name for name in names if not name.endswith((".safetensors", ".json"))}
    require(not odd, f"it leaves {some(odd)}")


def learned_again(subject: Subject) -> None:
    """Learning again gives the same tensors, bit for bit."""
    folder = subject.made.learned
    before = _tensors(folder)
    again = subject.run()
    again.forget("guide")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        after = _tensors(again.learned)
    none("it keeps other tensors", before.keys() ^ after.keys())
    none("tensors differ", changes(before, after), ". The workshop's generator() gives a stream of the run's own")


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor in the files of a folder, by file and name."""
    return {
        f"{path.name}: {name}": tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in read_tensors(path).items()
    }

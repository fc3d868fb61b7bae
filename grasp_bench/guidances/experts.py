"""Plug-and-play guidance: a classifier of clean images becomes several of noisy ones, each for a range of noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.guidances.cfg import BASE_SCALE, BaseScale, base_prediction
from grasp_bench.guidances.image_classifier import (
    WEIGHTS,
    ClassifierGuided,
    ClassifierSettings,
    ImageClassifier,
    loaded,
)

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from grasp_bench.contracts.guidance import Workshop

EXPERTS = "experts.safetensors"
POOL = 4096  # draws of training timesteps, of which each expert has an equal part


class PpapSettings(ClassifierSettings):
    """Settings of plug-and-play guidance by experts."""

    guidance_scale: Annotated[float, Tuned(0.03, 3, log=True)] = Field(default=1.0, ge=0, le=100)
    """s: factor of the gradient of an expert's log-probability, of which 1 is Bayes' rule; 0: none"""
    experts: int = Field(default=5, ge=1, le=64)
    """Ranges of noise, each with an expert; every range holds as many of training's timesteps"""
    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of an expert's update of a layer; biases and scales of batch normalisation are trained as they are"""
    samples: int = Field(default=16, ge=1, le=10_000)
    """Images of every class that the fine-tuned model makes for the experts to learn from"""
    expert_steps: int = Field(default=300, ge=1, le=1_000_000)
    """Training steps of each expert"""
    batch_size: int = Field(default=64, ge=2, le=4096)
    """Noisy images per training step of an expert"""
    expert_rate: float = Field(default=1e-3, gt=0, le=1)
    """Learning rate of AdamW for experts, which falls linearly to zero"""
    teacher_temperature: float = Field(default=0.25, gt=0, le=10)
    """What the classifier's logits at clean images are divided by before experts learn them; 1 leaves them"""
    base_scale: BaseScale = 1.0

    added: ClassVar[frozenset[str]] = BASE_SCALE


class ExpertGuidance(ClassifierGuided[PpapSettings]):
    """After PPAP: classifiers of noisy images, each for a range of noise, guide by the gradient of the sample's class

    A classifier is trained on the task's images. An expert is that classifier with low-rank updates, taught without
    data: the fine-tuned model makes images, and at noisy versions of them the expert learns to say what the classifier
    says of the clean ones. With p the probability that the expert of t's range gives the sample's class at x_t, and
    x_t = a x_0 + s e, the estimate of the clean image moves by w (s² / a) ∇ log p: for w = ``guidance_scale`` = 1 and a
    perfect p, that turns the field without a condition into that of the class, by Bayes' rule. Nothing moves at t = 1,
    where the image has no part in x_t. One NFE per step, and a backward pass of an expert and, where there is one, of
    the decoder, by which noisy latents are turned into what an expert sees.

    Updates stand where the published code has them: in a ResNet at the stem and the first two convolutions of every
    block, in a vision transformer at the attention's projections. In other networks, such as small-cnn, they stand at
    every linear and convolutional layer. Biases and scales of batch normalisation are trained, too, and its running
    statistics follow the noisy images. The last layer stays as it is, and so do kernels of grouped convolutions.
    """

    Config: ClassVar[type[Settings]] = PpapSettings
    version = "2"
    paper = (
        "after Go et al. 2023, Towards Practical Plug-and-Play Diffusion Models, arXiv 2212.05973. Simplified: experts "
        "learn from a few images of every class by the fine-tuned model, without mirroring, rather than from 500,000 "
        "by the unconditional one; each starts from the classifier rather than from the expert before; updates of "
        "kernels have peft's form, of rank r, where its code has kernel side times r of a reshaped kernel; the bias of "
        "a vision transformer's last layer stays, and scales in a ResNet's shortcuts are trained; latents are decoded; "
        "ranges hold equally many training timesteps; and guidance acts on the conditional model"
    )

    @property
    def evaluations_per_step(self) -> int:
        return 1 + (self.config.base_scale != 1)

    def learn(self, workshop: Workshop, folder: Path) -> None:
        import torch

        from grasp_bench.guidances.teaching import drawn, taught
        from grasp_bench.io import write_tensors

        super().learn(workshop, folder)
        config, decode, device = self.config, workshop.backbone.decode, workshop.device
        teacher = loaded(workshop, config.recipe, folder / WEIGHTS)
        clean = drawn(workshop, config.samples)
        with torch.no_grad():
            logits = torch.cat([teacher(decode(part.to(device))) for part in clean.split(config.batch_size)])
        answers = (logits / config.teacher_temperature).softmax(1).cpu()
        objective = workshop.backbone.objective
        parts = objective.timesteps(POOL, workshop.generator("experts")).sort().values.tensor_split(config.experts)
        with workshop.progress.task("experts of guidance", len(parts) * config.expert_steps) as advance:
            for number, times in enumerate(parts):
                expert = taught(
                    teacher.network,
                    lambda network, noisy: ImageClassifier(network, config.recipe)(decode(noisy)),
                    clean,
                    answers,
                    times,
                    objective,
                    rank=config.rank,
                    steps=config.expert_steps,
                    batch_size=config.batch_size,
                    learning_rate=config.expert_rate,
                    generator=workshop.generator("expert", number),
                    advance=advance,
                )
                write_tensors(folder / expert_file(number), expert.state_dict())
        write_tensors(folder / EXPERTS, {"above": torch.tensor([part[0] for part in parts[1:]])})

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        from grasp_bench.io import read_tensors

        super().prepare(workshop, folder)
        assert folder is not None  # it learns
        paths = [folder / expert_file(number) for number in range(self.config.experts)]
        self.experts = [loaded(workshop, self.config.recipe, path) for path in paths]
        self.above = read_tensors(folder / EXPERTS)["above"]
        self.decode = workshop.backbone.decode

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        _, base = base_prediction(model, latents, step.timesteps, self.config.base_scale)
        if self.config.guidance_scale == 0:
            return base
        t, ones = step.timesteps, latents.new_ones(len(latents), *[1] * (latents.ndim - 1))
        signal = model.objective.add_noise(ones, 0 * ones, t)
        noise = model.objective.add_noise(0 * ones, ones, t)
        size = (noise.square() / signal).where(signal > 0, 0.0)
        clean = model.objective.clean(latents, base, t)
        moved = clean + self.config.guidance_scale * size * self._gradient(latents, t, model.labels)
        return model.objective.prediction(latents, moved, t)

    def _gradient(self, latents: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The gradient of each sample's log-probability of its class, by the expert of its own timestep: (B, ...)."""
        import torch

        from grasp_bench.known import known, on_host

        found = torch.zeros_like(latents)
        numbers = expert_of(on_host(timesteps), self.above)
        for number in sorted(set(numbers.tolist())):
            rows = known((numbers == number).nonzero().squeeze(1), latents.device)
            with torch.enable_grad():
                leaf = latents[rows].detach().requires_grad_()
                chances = self.experts[number](self.decode(leaf)).log_softmax(1)
                (gradient,) = torch.autograd.grad(chances.gather(1, labels[rows][:, None]).sum(), leaf)
            found[rows] = gradient
        return found


def expert_file(number: int) -> str:
    """Name of the file of an expert's weights."""
    return f"expert-{number}.safetensors"


def expert_of(timesteps: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
    """Number of the expert of each timestep, int64 (B,): how many of the lower ends ``above`` it has reached."""
    import torch

    return torch.searchsorted(above.to(timesteps), timesteps.contiguous(), right=True)

"""Oriented calibration: noisy images of rare classes are explained by images of frequent ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, JsonValue

from grasp_bench.contracts.method import Batch, MethodSettings
from grasp_bench.processes import sent

from .on_top import OnTop, OnTopSettings

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings

SMALLEST_TIMESTEP = 1e-6  # at 0 every image but its own is infinitely unlikely


UNFLATTENED = 64
"""Numbers in a latent of ``digits-lt``, of 8 by 8 grey pixels: up to here the posterior is the published one."""


class OcSettings(OnTopSettings):
    """Settings of oriented calibration."""

    flattening: float = Field(default=1.0, ge=0, le=1)
    """Power κ of the posterior's temperature (d / 64)^κ for latents of d > 64 numbers: at 0 it is the published
    posterior, at 1 about as flat as that of 64 numbers"""


class OrientedCalibration(OnTop[OcSettings]):
    """OC: the target of a noisy image may come from a batch neighbour of a class at least as frequent

    For a sample x_t = a x_0 + s e of the batch, an image j of the batch is drawn by its posterior probability
    p_j ∝ exp(-‖x_t - a x_0j‖² / 2s²T). If j's class has at least as many training images as the sample's own, the
    target is the prediction that leads from x_t to x_0j; the sample's prompt and adapters stay its own.

    With the published temperature T = 1 the posterior depends on the size of the latents: squared distances grow with
    their d numbers, so the probability that another image of a batch of 64 explains a noisy one is on average 0.15 at
    1×8×8, 0.002 at 4×32×32 and below 0.00001 at 16×64×64 (independent latents of unit variance, timesteps that are
    logit-normal; with a shift of 3: 0.49, 0.01 and below 0.00001). The loss is plain training there. Here it is
    T = (d / 64)^κ for d > 64, with κ the setting ``flattening``: at κ = 1 the same figures are 0.15, 0.06 and 0.09
    (with a shift of 3: 0.49, 0.35 and 0.37; `results/perf/sizes.json`). Such a posterior is not that of the noise that
    was added, but that of latents which vary in 64 directions.

    A batch method: which images a target may come from are those that a process works on at a time, so results
    depend on the number of processes and of accumulated parts.
    """

    Config: ClassVar[type[MethodSettings]] = OcSettings
    version = "2"
    paper = (
        "after oriented calibration from tail to head (ICLR 2024, OpenReview NW2s5XXwXU), as its code has it, which "
        "draws images plainly (its flag for balanced sampling is never read); on the objective's own prediction and in "
        "latents, for samples with a dropped prompt too. The temperature of the posterior is ours: flattening=0 is the "
        "published one. Version 1 drew classes evenly by default and had no temperature"
    )

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        import torch

        super().attach(backbone, task, generator)
        self.groups, self.group_of_class = task.groups, torch.from_numpy(task.group_indices())
        self.seen, self.transferred = torch.zeros(2, len(self.groups))

    @property
    def needs_whole_batch(self) -> str | None:
        return "oc draws a sample's target among the images that are worked on together"

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        import torch

        references = self.references(batch)
        timesteps = batch.condition.timesteps
        target = self.backbone.objective.prediction(batch.noisy, batch.latents[references], timesteps)
        own = references == torch.arange(len(references), device=references.device)
        self.group_of_class = self.group_of_class.to(own.device)
        self._count(self.group_of_class[batch.condition.labels], self._same_image(batch, references))
        target = torch.where(own.reshape(-1, *[1] * (target.ndim - 1)), batch.target, target)
        return super().losses(replace(batch, target=target), prediction)

    def _same_image(self, batch: Batch, references: torch.Tensor) -> torch.Tensor:
        """Whether each sample's target comes from its own image, which a batch may hold several times: bool (B,)."""
        import torch

        first = {name: row for row, name in reversed([*enumerate(batch.ids)])}
        images = sent(torch.tensor([first[name] for name in batch.ids]), references.device)
        return images[references] == images

    def _count(self, groups: torch.Tensor, own: torch.Tensor) -> None:
        """Count samples of ``groups`` (B,), and those whose target is not their ``own`` image; nothing waits for it."""
        self.seen, self.transferred = (each.to(own.device) for each in (self.seen, self.transferred))
        self.seen.index_add_(0, groups, own.new_ones(len(own), dtype=self.seen.dtype))
        self.transferred.index_add_(0, groups, (~own).to(self.seen))

    def references(self, batch: Batch) -> torch.Tensor:
        """The image in the batch that each sample's target comes from: int64 (B,)."""
        import torch

        coins = batch.draw(lambda count, generator: torch.rand(count, 1, generator=generator, dtype=torch.float64))
        cumulative = self.posterior(batch).cumsum(1)
        last = len(cumulative) - 1
        drawn = torch.searchsorted(cumulative, coins).squeeze(1).clamp(max=last)  # the sum may be a little under 1
        self.counts = self.counts.to(drawn.device)
        counts = self.counts[batch.condition.labels]
        return torch.where(counts[drawn] >= counts, drawn, torch.arange(last + 1, device=drawn.device))

    def posterior(self, batch: Batch) -> torch.Tensor:
        """The probability that a noisy latent (row) came from each image of the batch (column): float64 (B, B).

        It is flattened as the settings say.
        """
        import torch

        add_noise = self.backbone.objective.add_noise
        timesteps = batch.condition.timesteps.double().clamp(min=SMALLEST_TIMESTEP)
        one, zero = torch.ones_like(timesteps), torch.zeros_like(timesteps)
        signal, noise = add_noise(one, zero, timesteps)[:, None], add_noise(zero, one, timesteps)[:, None]  # a, s
        noisy, clean = batch.noisy.double().flatten(1), batch.latents.double().flatten(1)
        # ‖x_t - a x_0‖², without ‖x_t‖², which is the same for all of a row
        distances = signal.square() * clean.square().sum(1) - 2 * signal * (noisy @ clean.T)
        temperature = max(1.0, clean.shape[1] / UNFLATTENED) ** self.config.flattening
        posterior: torch.Tensor = (-distances / (2 * noise.square() * temperature)).softmax(1)
        return posterior

    def counters(self) -> dict[str, torch.Tensor]:
        return super().counters() | {"seen": self.seen, "transferred": self.transferred}

    def diagnostics(self) -> dict[str, JsonValue]:
        """The share of each group's samples whose target came from another image, by the images' ids."""
        from grasp_bench.exchange import total

        seen, transferred = (total(each).cpu() for each in (self.seen, self.transferred))
        shares = (transferred / seen.clamp(min=1)).tolist()
        self.seen.zero_()
        self.transferred.zero_()
        return super().diagnostics() | {"transferred": dict(zip(self.groups, shares, strict=True))}

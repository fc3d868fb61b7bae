"""Classifier-free guidance folded into adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from grasp_bench.contracts.guidance import Workshop
    from grasp_bench.guidances.distillation import Adapters

WEIGHTS = "adapters.safetensors"
REPORT = "distilled.json"
STATES = "states"


class DistilledSettings(Settings):
    """Settings of distilled guidance."""

    guidance_scale: float = Field(default=2.0, ge=1, le=100)
    """w of the classifier-free guidance that is learned; 1 is the conditional prediction, with nothing to learn"""
    rank: int = Field(default=64, ge=1, le=4096)
    """Bottleneck width of the adapter in each feed-forward layer"""
    trajectories: int = Field(default=8, ge=1, le=10000)
    """Guided sampling trajectories per class that adapters learn from; the states that are drawn wait on the disk"""
    steps: int = Field(default=500, ge=1, le=1_000_000)
    """Training steps of the adapters"""
    batch_size: int = Field(default=32, ge=1, le=4096)
    """States per training step"""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate of AdamW, reached after a tenth of the steps; it falls to zero along a cosine"""


class DistilledGuidance(Guidance[DistilledSettings]):
    """After AGD: classifier-free guidance in one NFE per step, by small adapters on the frozen fine-tuned network

    The fine-tuned network samples images of every class alike under classifier-free guidance; adapters then learn to
    predict, from the prompt alone, what guidance made of the two predictions at the states on the way. They start as
    the conditional prediction. The network is what it was outside of this guidance's own evaluations.

    Of the states on the way those wait on the disk that training will draw, and those of one more trajectory per class,
    on which errors are measured: with 1,000 classes, 28 steps and latents of 16 × 128 × 128 that are 16,000 and 28,000
    states of 2 MiB, 86 GiB, where all states would be 528 GB. An interrupted collection goes on where it was; the
    files are removed when the adapters are written.

    Simplified: the scale is fixed, where the paper's adapters read it and learn a range of them; adapters are parallel
    to feed-forward layers, whose input knows prompt and time, where the paper's follow attention; rank, trajectories
    and training steps are sized for a benchmark.
    """

    Config: ClassVar[type[Settings]] = DistilledSettings
    version = "1"
    paper = (
        "after Jensen & Sadat 2025, Efficient Distillation of Classifier-Free Guidance Using Adapters, arXiv "
        "2503.07274; one fixed scale, adapters in the feed-forward layers"
    )
    learns = True
    classifier_free = True
    evaluations_per_step = 1

    def learn(self, workshop: Workshop, folder: Path) -> None:
        """Write the adapters, and each class's error on a trajectory that they were not trained on.

        An error is relative to that of the conditional prediction: 0 is the guided prediction, 1 the error without
        adapters. At scale 1 both predictions are the same, and there are no errors to report.
        """
        from grasp_bench.io import remove, write_json, write_tensors

        adapters = self._attach(workshop)
        states = folder / STATES
        shares = self._distil(workshop, adapters, states) if self.config.guidance_scale != 1 else {}
        write_json(folder / REPORT, {"remaining_error": shares})
        write_tensors(folder / WEIGHTS, adapters.parameters())
        adapters.remove()
        remove(states)

    def _distil(self, workshop: Workshop, adapters: Adapters, folder: Path) -> dict[str, float]:
        """Train the adapters on states that ``folder`` keeps; class → error."""
        from grasp_bench.guidances import distillation
        from grasp_bench.guidances.states import collect
        from grasp_bench.memory import Portion

        config, progress, names = self.config, workshop.progress, [info.name for info in workshop.task.classes()]
        prompts, steps = distillation.Prompts(workshop), self.steps(workshop.spec.budget)
        count = len(names) * config.trajectories * steps
        order = distillation.draws(count, config.steps, config.batch_size, workshop.generator("order"))
        with progress.task("guided trajectories", len(names) * (config.trajectories + 1)) as advance:
            seen, unseen = (
                collect(
                    workshop, config.guidance_scale, steps, numbers, config.batch_size, advance, folder / part, wanted
                )
                for part, numbers, wanted in (
                    ("seen", range(config.trajectories), order),
                    ("unseen", [config.trajectories], None),
                )
            )
        portion = Portion(config.batch_size, "states are worked on", progress.say)
        before = distillation.class_errors(adapters, prompts, unseen, len(names), portion)
        with progress.task("distil guidance", config.steps) as advance:
            distillation.fit(adapters, prompts, seen, order, config.learning_rate, portion, advance)
        after = distillation.class_errors(adapters, prompts, unseen, len(names), portion)
        return dict(zip(names, (after / before.clamp_min(1e-30)).tolist(), strict=True))

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        from grasp_bench.io import read_tensors

        assert folder is not None  # it learns
        self.adapters = self._attach(workshop)
        self.adapters.load(read_tensors(folder / WEIGHTS))

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        with self.adapters.active():
            return model.conditional(latents, step.timesteps)

    def _attach(self, workshop: Workshop) -> Adapters:
        """Fresh adapters, which do nothing yet."""
        import torch

        from grasp_bench.guidances.distillation import Adapters

        like = torch.zeros(0, dtype=workshop.dtype, device=workshop.device)
        return Adapters(workshop.backbone, self.config.rank, workshop.generator("init"), like)

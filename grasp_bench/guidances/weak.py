"""Guidance by a weaker network: a less trained one, or the pretrained one without what was fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

from pydantic import Field

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.guidances.cfg import BASE_SCALE, BaseScale, base_prediction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from grasp_bench.contracts.guidance import Workshop
    from grasp_bench.contracts.method import Condition


class WeakSettings(Settings):
    """Settings of guidance by a weaker network."""

    guidance_scale: Annotated[float, Tuned(0.9, 3, log=True)] = Field(default=2.0, ge=0, le=100)
    """w in b + w (g - b), b being the weaker network; 1 is the fine-tuned network alone (one NFE per step less)"""
    base_scale: BaseScale = 1.0

    added: ClassVar[frozenset[str]] = BASE_SCALE


C_co = TypeVar("C_co", bound=WeakSettings, covariant=True)


class WeakNetworkGuidance(Guidance[C_co]):
    """The fine-tuned network's conditional prediction, pushed away from a weaker network's under the same prompt.

    With classifier-free guidance beneath, the two differences add: g + (w - 1) (g - b) + (w_base - 1) (g - u), where
    g, b and u are the conditional predictions of the two networks and the unconditional one of the fine-tuned one.
    """

    weak: Callable[[torch.Tensor, Condition], torch.Tensor]
    """Set by :meth:`prepare`, unless the scale is 1."""

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        if self.config.guidance_scale != 1:
            self.weak = workshop.second(self.weak_weights(workshop))

    def weak_weights(self, workshop: Workshop) -> dict[str, torch.Tensor] | None:
        """Weights of the method for the weaker network; None if that is the pretrained network."""
        raise NotImplementedError

    @property
    def evaluations_per_step(self) -> int:
        """NFE per step, of both networks together."""
        if self.config.base_scale == 1:
            return 1 if self.config.guidance_scale in (0, 1) else 2
        return 2 + (self.config.guidance_scale != 1)

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        scale, base_scale = self.config.guidance_scale, self.config.base_scale
        if scale == 1:
            return base_prediction(model, latents, step.timesteps, base_scale)[1]
        weak = model.on(self.weak).conditional(latents, step.timesteps)
        if scale == 0 and base_scale == 1:
            return weak
        conditional, base = base_prediction(model, latents, step.timesteps, base_scale)
        guided = weak + scale * (conditional - weak)
        return guided if base_scale == 1 else guided + (base - conditional)


class AutoguidanceSettings(WeakSettings):
    """Settings of autoguidance."""

    weak_share: float = Field(default=0.0625, gt=0, le=1)
    """Share of the run's training steps that the weaker network has had, at least one step"""


class Autoguidance(WeakNetworkGuidance[AutoguidanceSettings]):
    """Autoguidance: away from what the same run predicted early in its training

    The weaker network is the same method's, after fewer steps on the same data in the same order; where the run keeps a
    running mean of its weights, so does the weaker one, whose decay rises with its steps as the run's does. Two
    networks are in memory. What diffusers calls autoguidance is another method: it weakens the network itself by
    leaving out layers.
    """

    Config: ClassVar[type[Settings]] = AutoguidanceSettings
    version = "1"
    paper = (
        "Karras et al. 2024, Guiding a Diffusion Model with a Bad Version of Itself, arXiv 2406.02507. The weaker "
        "network has had a sixteenth of the training, as there, but it is not smaller, and its running mean's decay is "
        "the run's; the scale is our own choice"
    )

    def weak_weights(self, workshop: Workshop) -> dict[str, torch.Tensor]:
        steps = max(1, round(self.config.weak_share * workshop.spec.budget.steps))
        return workshop.trained(steps)


class AdapterOffGuidance(WeakNetworkGuidance[WeakSettings]):
    """Adapter-off guidance: away from what the pretrained model predicts for the same prompt

    It exaggerates what fine-tuning changed, whatever the method: for one that trains the pretrained weights themselves
    the comparison is with what they were. Two networks are in memory.
    """

    Config: ClassVar[type[Settings]] = WeakSettings
    version = "1"
    paper = (
        "the rule of Karras et al. 2024, arXiv 2406.02507, with the pretrained model in the weaker network's place: "
        "our own control. It is not the paper's method, whose weaker network has learned the same data"
    )

    def weak_weights(self, workshop: Workshop) -> None:
        return None

"""Gradient-free classifier guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from grasp_bench.contracts.guidance import Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.guidances.cfg import BASE_SCALE, BaseScale, base_prediction
from grasp_bench.guidances.image_classifier import ClassifierGuided, ClassifierSettings

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from grasp_bench.contracts.guidance import Workshop


class GfcgSettings(ClassifierSettings):
    """Settings of gradient-free classifier guidance."""

    max_scale: Annotated[float, Tuned(1, 3, log=True)] = Field(default=3.0, ge=1, le=100)
    """Scale where the classifier is sure of another class; 1: no reference class (one NFE per step less)"""
    from_timestep: float = Field(default=0.8, ge=0, le=1)
    """Noise share t below which guidance acts; above it the estimated image is too blurred to classify"""
    base_scale: BaseScale = 1.0

    added: ClassVar[frozenset[str]] = BASE_SCALE


class GradientFreeClassifierGuidance(ClassifierGuided[GfcgSettings]):
    """After GFCG: pushed away from the class that a classifier confuses the image with, as far as it confuses them

    Each step the classifier sees the decoded estimate of the clean image, without a gradient. With its probabilities
    p, the reference is the likeliest class r other than the sample's own y, the scale is
    w = 1 + (max_scale - 1) p_r / (p_r + p_y), and the prediction is v_r + w (v_y - v_r). It costs a second NFE
    per step where it acts. Under r a method that routes uses the adapter of r. With classifier-free guidance beneath,
    the classifier sees the estimate of the guided prediction, and the two differences add:
    v_y + (w - 1) (v_y - v_r) + (w_base - 1) (v_y - v_null).

    **At other sizes of latents.** No distance is compared, so nothing in the rule has a size. But the more elements an
    image has, the surer a classifier is and the less w differs from 1: for two classes whose means differ by 0.4
    standard deviations in each element, Bayes' p_r / (p_r + p_y) is 0.08 on the mean over clean images of 1 × 8 × 8
    and below 1e-6 on those of 16 × 64 × 64. There the guidance acts only where an image looks like another class, and
    else costs an NFE for nothing: look at the validation recall that the classifier's report has. Estimates are also
    sharper at the same t: at 0.8 they have 40 % of an image's energy at 16 × 64 × 64 and 13 % at 1 × 8 × 8, by the
    1 / f² spectrum of natural images, so that ``from_timestep`` could be higher there.

    Where it acts the host waits once a step for the reference classes: they decide whose prompts are sent to the
    device, which need not have room for those of all classes, and which adapter a method that routes uses.

    Only the abstract of the paper and an account of it were at hand: that a classifier in inference mode chooses the
    reference class and the scale is from there, and both formulas are ours. The combination with a weaker model is left
    out, and the reference classes that were chosen are not recorded.
    """

    Config: ClassVar[type[Settings]] = GfcgSettings
    version = "1"
    paper = (
        "after the abstract of Shenoy et al. 2024, Gradient-Free Classifier Guidance, arXiv 2411.15393; how reference "
        "class and scale follow from the classifier's probabilities is our own choice"
    )

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        super().prepare(workshop, folder)
        self.decode = workshop.backbone.decode_latents
        self.prompts = workshop.embed([info.prompt for info in workshop.task.classes()])

    @property
    def evaluations_per_step(self) -> int:
        """NFE per step where it acts, below a t; how many steps that are is known only to the backbone's schedule."""
        acts = self.config.max_scale != 1 and self.config.from_timestep != 0
        return 1 + acts + (self.config.base_scale != 1)

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        from grasp_bench.known import known, on_host

        conditional, base = base_prediction(model, latents, step.timesteps, self.config.base_scale)
        times = on_host(step.timesteps)
        acts = times < self.config.from_timestep
        if self.config.max_scale == 1 or not acts.any():
            return base
        chosen, t = known(acts.nonzero().squeeze(1), latents.device), known(times[acts], latents.device)
        own = conditional[chosen]
        images = self.decode(model.objective.clean(latents[chosen], base[chosen], t))
        probabilities = self.classify(images / 127.5 - 1).softmax(1)
        reference, scale = confusion(probabilities, model.labels[chosen], self.config.max_scale)
        reference = known(reference.cpu(), latents.device)
        prompts = self.prompts[on_host(reference)].to(latents)
        other = model.rows(chosen).of_classes(reference, prompts).conditional(latents[chosen], t)
        scale = scale.to(own).reshape(-1, *[1] * (own.ndim - 1))
        guided = base.clone()
        guided[chosen] = other + scale * (own - other)
        if base is not conditional:
            guided[chosen] += base[chosen] - own
        return guided


def confusion(probabilities: torch.Tensor, labels: torch.Tensor, max_scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest class other than the sample's own, and the scale, in [1, max_scale]: both (B,).

    ``probabilities`` (B, classes) are the classifier's, ``labels`` (B,) the samples' own classes.
    """
    own = probabilities.gather(1, labels[:, None])[:, 0]
    other, reference = probabilities.scatter(1, labels[:, None], -1.0).max(1)
    both = (other + own).clamp_min(1e-30)  # both may be 0, where a third class has been ruled out as well
    return reference, 1 + (max_scale - 1) * other / both

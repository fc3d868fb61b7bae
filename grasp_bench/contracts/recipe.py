"""The recipe of a backbone: how its publishers and diffusers' fine-tuning examples train it and sample from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue

from grasp_bench.contracts.spec import Precision

ParameterKind = Literal["all weights", "low rank", "adapters", "gates"]
"""What a method trains, as far as learning rates depend on it: the pretrained weights themselves, matrices of low rank
beside them (LoRA and its relatives), fresh layers (adapters), or experts with the gates that choose among them."""


@dataclass(frozen=True)
class Rate:
    """A value of a setting, and the range in which ``grasp-bench tune`` searches, uniformly in the logarithm."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.value <= self.high or self.low == self.high:
            raise ValueError(f"{self}: expected 0 < low <= value <= high, and a range that is not empty")

    def is_far(self, value: float) -> bool:
        """Whether a value lies an order of magnitude or more outside of the range."""
        return value >= 10 * self.high * (1 - 1e-9) or value <= self.low / 10 * (1 + 1e-9)


@dataclass(frozen=True)
class Timesteps:
    """How training timesteps t are drawn under flow matching.

    A draw u is logit-normal, with ``mean`` and ``std`` of its logit, or uniform on (0, 1); t = s u / (1 + (s - 1) u)
    with the ``shift`` s (Esser et al. 2024, arXiv 2403.03206, sections 3.1 and 5.3.2): above 1 it moves towards the
    noise.
    """

    density: Literal["logit-normal", "uniform"] = "logit-normal"
    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0


@dataclass(frozen=True)
class BackboneRecipe:
    """What decides how a backbone is fine-tuned and sampled from, beside the method; None leaves it to the task.

    The default has no figure of its own: whatever the task, the method and the guidance say holds.
    """

    name: str = ""
    """The backbone that the recipe is of, as ``--backbone`` takes it; empty where the recipe changes nothing."""
    source: str = ""
    """Where every figure comes from, and why it differs where it does; one sentence each."""
    resolutions: tuple[int, ...] = ()
    """Pixels a side that the weights support; the first is the native one."""
    rates: Mapping[ParameterKind, Rate] = field(default_factory=dict)
    """Learning rate by what a method trains; without one the method's own default holds."""
    parameters: int | None = None
    """Parameter budget: how many parameters a method with a size is to train, as near as it gets, and to have at work
    for each image, which only those without routes do at the same time. A recipe without a name changes nothing: there
    methods have this size by their own defaults."""
    timesteps: Timesteps = Timesteps()
    """The draw of training timesteps; only flow matching reads it."""
    weighting: Literal["none", "squared noise share"] = "none"
    """What the squared error of the predicted velocity is multiplied by: 1, or t², which makes it that of x_0."""
    precision: Precision | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the two moments."""
    epsilon: float = 1e-8
    """AdamW's summand of the denominator."""
    weight_decay: float | None = None
    warmup_steps: int | None = None
    """Steps over which the learning rate rises; never more than a tenth of the budget's."""
    clip_norm: float | None = None
    """Largest global L2 norm of the gradient."""
    guidance_scale: float | None = None
    """Default scale of classifier-free guidance in this package's convention, where 1 is the conditional prediction."""
    embedded_guidance: float | None = None
    """Scale that a guidance-distilled transformer is told in training; None where it reads none."""
    sampling_embedded_guidance: float | None = None
    """Scale that a guidance-distilled transformer is told in sampling."""
    unguided_embedded_guidance: float | None = None
    """Scale that a guidance-distilled transformer is told in sampling without guidance."""
    sampling_steps: int | None = None
    sampler: str = "by the backbone"
    """The sampler and its shift, which the saved pipeline states."""
    prompt_length: str = "by the backbone"
    """The most tokens of a prompt that the transformer reads."""
    latents: str = "by the backbone"
    """Shift and scale of the autoencoder's latents, which the saved pipeline states."""
    conditions: str = "none"
    """What the transformer reads or predicts beyond the latents, the timestep and the prompt."""

    def settings(self) -> dict[str, JsonValue]:
        """What decides training or sampling of the backbone itself, where it differs from a recipe without figures.

        It enters a run's identity as settings of the backbone; rates and the like enter with what they are settings of.
        """
        plain, timesteps = BackboneRecipe(), Timesteps()
        changed: dict[str, JsonValue] = {
            name: value for name, value in vars(self.timesteps).items() if value != vars(timesteps)[name]
        }
        names = ("weighting", "embedded_guidance", "sampling_embedded_guidance", "unguided_embedded_guidance")
        return changed | {name: getattr(self, name) for name in names if getattr(self, name) != getattr(plain, name)}


PLAIN = BackboneRecipe()
"""The recipe without a figure of its own."""

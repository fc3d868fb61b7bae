"""Mixtures of adapters with a learned gate, of tokens or of samples."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, JsonValue, model_validator

from grasp_bench.contracts.method import Batch, Condition, MethodSettings
from grasp_bench.contracts.recipe import ParameterKind
from grasp_bench.contracts.sized import SizedMethod, SizedSettings
from grasp_bench.errors import Skip

if TYPE_CHECKING:
    import torch
    from torch import nn

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings


class MoeSettings(SizedSettings):
    """Settings of the mixture."""

    learning_rate: float = Field(default=3e-2, gt=0, le=1)
    """Peak learning rate of AdamW; the best of six on validation images (`results/digits-lt/learning-rates.json`)"""
    experts: int = Field(default=4, ge=2, le=256)
    """Number of adapters in every feed-forward layer"""
    top_k: int = Field(default=2, ge=1)
    """Number of experts that each token is sent to"""
    rank: int | None = Field(default=12, ge=1, le=4096)
    """Bottleneck width of each expert; 4 experts of 12 are as wide as GRASP's three clusters of 16"""
    scale: float = Field(default=1.0, gt=0)
    """Factor on what the experts add"""
    balance_weight: float = Field(default=0.01, ge=0)
    """Weight of the load-balancing loss over tokens that are no padding, averaged over layers"""
    z_weight: float = Field(default=0.0, ge=0)
    """Weight of the router's z-loss, the mean squared logsumexp of its logits, averaged over layers"""

    added: ClassVar[frozenset[str]] = SizedSettings.added | {"z_weight"}

    @model_validator(mode="after")
    def _top_k_at_most_experts(self) -> Self:
        if self.top_k > self.experts:
            raise ValueError(f"top_k ({self.top_k}) must be at most experts ({self.experts})")
        return self


class MoeSampleSettings(MoeSettings):
    """Settings of the mixture that is gated by sample."""

    learning_rate: float = Field(default=3e-2, gt=0, le=1)
    """Peak learning rate of AdamW; that of the other adapters, not chosen for this method"""
    top_k: int = Field(default=1, ge=1)
    """Number of experts that each sample is sent to, in every layer"""
    rank: int | None = Field(default=11, ge=1, le=4096)
    """Bottleneck width of each expert; 4 experts of 11 and their gates are as large as GRASP's defaults on tiny-sd3"""


class MixtureOfExperts(SizedMethod[MoeSettings]):
    """Mixture of adapters in every feed-forward layer with a learned token-level top-k gate

    Loads are balanced over tokens that stand for something: the padding of prompts, which joint attention reads like
    other tokens, is left out of the balance, the z-loss and the recorded usage, where version 1 counted it. On
    SD3.5-medium that is most of a short prompt's 77 + 256 tokens.
    """

    Config: ClassVar[type[MethodSettings]] = MoeSettings
    kind: ParameterKind = "gates"
    version = "2"
    paper = (
        "after DiT-MoE (Fei et al. 2024, arXiv 2407.11633) and Switch Transformers (Fedus et al. 2021, arXiv "
        "2101.03961); the experts are residual adapters beside a frozen layer rather than copies of it, each of two "
        "matrices rather than a SwiGLU. Left out are DiT-MoE's shared experts, which every token passes through, and "
        "Switch's capacity factor: no token is dropped"
    )

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        import torch

        from grasp_bench.adapters.inject import input_width, wrap
        from grasp_bench.adapters.mixture import GatedAdapters, GateLog

        config = self.config
        self.transformer = backbone.transformer
        self.groups = task.groups
        self.group_of_class = torch.from_numpy(task.group_indices())
        self.log = GateLog()
        self.usage = torch.zeros(len(task.groups), config.experts)
        rank, sample_width = self.find_size(backbone, task), self.sample_width(backbone)
        shape = (config.experts, config.top_k, rank, config.scale)

        of_prompts = backbone.prompt_feed_forwards()
        prompt_layers = {id(layer) for name, layer in backbone.feed_forwards().items() if name in of_prompts}

        def gated(layer: nn.Module) -> GatedAdapters:
            of_prompt = id(layer) in prompt_layers
            return GatedAdapters(layer, input_width(layer), *shape, generator, sample_width, of_prompt)

        wrap(self.transformer, list(backbone.feed_forwards()), gated)

    def sample_width(self, backbone: Backbone) -> int | None:
        """Width of the features of a sample that the gates read; None where they read tokens."""
        return None

    def count(self, backbone: Backbone, task: Task[TaskSettings]) -> Callable[[int], int]:
        from grasp_bench.adapters.inject import input_width

        read, experts = self.sample_width(backbone), self.config.experts
        layers = [input_width(layer) for layer in backbone.feed_forwards().values()]
        gates = experts * sum(read or width for width in layers)
        return lambda rank: gates + experts * 2 * sum(layers) * rank

    def active_parameters(self) -> int:
        """Return the parameters of the gates and of the experts that a token, or a sample, is sent to."""
        from grasp_bench.adapters.mixture import GatedAdapters

        layers = [each for each in self.transformer.modules() if isinstance(each, GatedAdapters)]
        experts = sum(layer.down.numel() + layer.up.numel() for layer in layers)
        return super().active_parameters() - experts + experts * self.config.top_k // self.config.experts

    def detach(self) -> None:
        from grasp_bench.adapters.inject import unwrap
        from grasp_bench.adapters.mixture import GatedAdapters

        unwrap(self.transformer, GatedAdapters)

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        from grasp_bench.adapters.mixture import GateLog
        from grasp_bench.contracts.scope import scope

        self.log = GateLog(padding=condition.prompts.padding)
        return scope(self.log)

    @property
    def needs_whole_batch(self) -> str | None:
        if self.config.balance_weight == self.config.z_weight == 0:
            return None
        return "the experts' loads are balanced over the samples that are worked on together"

    def auxiliary_loss(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor | None:
        import torch

        from grasp_bench.adapters.mixture import balance, z_loss

        usage = torch.stack(self.log.usage).sum(0)
        self.usage, self.group_of_class = (each.to(usage.device) for each in (self.usage, self.group_of_class))
        self.usage.index_add_(0, self.group_of_class[batch.condition.labels], usage)
        loss = self.config.balance_weight * balance(self.log, self.config.top_k)
        if self.config.z_weight:
            loss = loss + self.config.z_weight * z_loss(self.log)
        return loss

    def counters(self) -> dict[str, torch.Tensor]:
        return {"usage": self.usage}

    def diagnostics(self) -> dict[str, JsonValue]:
        from grasp_bench.exchange import total

        usage = total(self.usage).cpu()
        share = usage / usage.sum(1, keepdim=True).clamp(min=1)
        self.usage.zero_()
        return {"expert_usage": {group: share[i].tolist() for i, group in enumerate(self.groups)}}


class SampleMixture(MixtureOfExperts):
    """Mixture of adapters in every feed-forward layer with a learned gate that reads the prompt and the timestep"""

    Config: ClassVar[type[MethodSettings]] = MoeSampleSettings
    version = "1"
    paper = (
        "our contrast to GRASP's static partition (arXiv 2512.01675), after Switch Transformers (Fedus et al. 2021, "
        "arXiv 2101.03961): one choice a sample and layer, from a linear gate on the normalised prompt and timestep; "
        "no shared experts, no SwiGLU and no capacity factor, as in moe. That the balance is of the shares of the "
        "batch's own samples, rather than of their moving average, is our choice"
    )

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        if backbone.prompt_width() is None:
            return Skip("the gate reads prompts, and the backbone does not say how wide they are")
        return None

    def sample_width(self, backbone: Backbone) -> int | None:
        from grasp_bench.adapters.mixture import TIMESTEP_WIDTH

        width = backbone.prompt_width()
        assert width is not None, "see supports()"
        self.prompt_width = width
        return width + TIMESTEP_WIDTH

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        from grasp_bench.adapters.mixture import GateLog, sample_features
        from grasp_bench.contracts.scope import scope

        self.log = GateLog(sample_features(condition, self.prompt_width))
        return scope(self.log)

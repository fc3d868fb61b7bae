"""Sparse guidance: away from what the network predicts when more of the image's tokens skip its middle blocks."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.errors import Skip
from grasp_bench.guidances.cfg import BASE_SCALE, BaseScale, base_prediction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.guidance import Workshop
    from grasp_bench.contracts.method import Method, MethodSettings


class SparseSettings(Settings):
    """Settings of sparse guidance."""

    guidance_scale: Annotated[float, Tuned(0.9, 3, log=True)] = Field(default=1.5, ge=0, le=100)
    """w in weak + w (strong - weak); 1: strong alone and 0: weak alone (one NFE per step)"""
    strong_ratio: float = Field(default=0.3, ge=0, lt=1)
    """Share of the image's tokens that skip the middle blocks in the strong prediction"""
    weak_ratio: float = Field(default=0.7, ge=0, lt=1)
    """Share of the image's tokens that skip the middle blocks in the weak prediction; at least strong_ratio"""
    weak_prompt: Literal["own", "null"] = "own"
    """What the weak prediction is conditioned on: the sample's prompt, or, with classifier-free guidance, the null
    condition"""
    force: bool = False
    """Whether to guide a model that was trained with all tokens, too: a negative control"""
    base_scale: BaseScale = 1.0

    added: ClassVar[frozenset[str]] = BASE_SCALE

    @model_validator(mode="after")
    def _weak_is_weaker(self) -> Self:
        if self.weak_ratio < self.strong_ratio:
            raise ValueError(
                f"weak_ratio={self.weak_ratio} is below strong_ratio={self.strong_ratio}: more tokens have to skip "
                "blocks in the weak prediction; raise it, or lower the other"
            )
        return self


class SparseGuidance(Guidance[SparseSettings]):
    """Sparse guidance: away from the prediction of the same network when more tokens skip its middle blocks

    Both predictions leave out tokens that are drawn again for each sample, step and prediction, from the sample's own
    stream; the blocks are those that ``tread`` skips in training. The NFE are two per step, each of them
    cheaper than one with all tokens. Classifier-free guidance beneath adds (w_base - 1) (strong - u), u being the
    unconditional prediction that leaves out the same tokens as the strong one.
    """

    Config = SparseSettings
    version = "1"
    paper = (
        "after Sparse Guidance, arXiv 2601.01608, as TREAD's public code samples, except that both predictions have "
        "the prompt there only where its drop rate is set to 0; an exact number of tokens, where the paper draws each "
        "by itself"
    )

    backbone: Backbone
    """Set by :meth:`prepare`."""

    def supports(self, backbone: Backbone, method: Method[MethodSettings]) -> Skip | None:
        from grasp_bench.adapters.tread import refusal

        if method.config.tread == 0 and not self.config.force:
            return Skip(
                "sparse guidance needs a model that was trained with tokens left out, as with --set tread=0.5; "
                "--guidance-set force=true samples from another as a negative control"
            )
        return refusal(backbone)

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        self.backbone = workshop.backbone

    @property
    def evaluations_per_step(self) -> int:
        if self.config.base_scale == 1:
            return 1 if self.config.guidance_scale in (0, 1) or self._weak_is_strong else 2
        return 2 + (self.config.guidance_scale != 1 and not self._weak_is_strong)

    @property
    def _weak_is_strong(self) -> bool:
        return self.config.weak_ratio == 0 and self.config.weak_prompt == "own"

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        config = self.config
        scale, null = config.guidance_scale, config.weak_prompt == "null"
        if scale == 0 and config.base_scale == 1:
            return self._weak(model, latents, step, null)
        with self._routed(latents, step, config.strong_ratio, 1 if config.base_scale == 1 else 2):
            strong, base = base_prediction(model, latents, step.timesteps, config.base_scale)
        if scale == 1 or self._weak_is_strong:
            return base
        weak = self._weak(model, latents, step, null)
        guided = weak + scale * (strong - weak)
        return guided if config.base_scale == 1 else guided + (base - strong)

    def _weak(self, model: Model, latents: torch.Tensor, step: SamplingStep, null: bool) -> torch.Tensor:
        """The prediction (B, ...) when most tokens skip the middle blocks."""
        predict = model.unconditional if null else model.conditional
        with self._routed(latents, step, self.config.weak_ratio):
            return predict(latents, step.timesteps)

    @contextmanager
    def _routed(self, latents: torch.Tensor, step: SamplingStep, ratio: float, times: int = 1) -> Iterator[None]:
        """Inside the block, a share ``ratio`` of each sample's tokens skips the middle blocks.

        The samples go through the network ``times`` over at once, with the same tokens each time.
        """
        import torch

        from grasp_bench.adapters.tread import draw_kept, token_routing
        from grasp_bench.processes import sent

        if ratio == 0:
            yield
            return
        tokens = self.backbone.image_tokens(latents)
        with token_routing(self.backbone.blocks()) as routing:
            kept = torch.cat([draw_kept(1, tokens, ratio, generator) for generator in step.generators])
            routing.kept = sent(kept.repeat(times, 1), latents.device)
            yield

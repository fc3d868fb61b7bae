"""Perturbed-attention guidance: away from what the network predicts when image tokens do not see each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.errors import Skip, UserError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.guidance import Workshop
    from grasp_bench.contracts.method import Method, MethodSettings


class PerturbedSettings(Settings):
    """Settings of perturbed-attention guidance."""

    guidance_scale: Annotated[float, Tuned(0.9, 3, log=True)] = Field(default=2.0, ge=0, le=100)
    """w of classifier-free guidance, u + w (c - u); 1: none (one NFE per step less)"""
    pag_scale: Annotated[float, Tuned(0.3, 6, log=True)] = Field(default=3.0, ge=0, le=100)
    """s in s (c - p), added to the guided prediction; p is the perturbed one. 0: none (one NFE per step less)"""
    layers: str = ""
    """Names of the transformer's blocks, all of whose attentions of image tokens are perturbed, such as
    transformer_blocks.1, or of single attention layers, such as transformer_blocks.1.attn, separated by commas; empty:
    the block in the middle"""


class PerturbedAttentionGuidance(Guidance[PerturbedSettings]):
    """Perturbed-attention guidance: away from what the network predicts when image tokens cannot see each other

    The prediction is u + w (c - u) + s (c - p), p being the conditional prediction with attention perturbed in a few
    blocks. Self-attention there gives every token its own value. In the joint attention of SD3 only the map of image
    tokens to image tokens is made diagonal: they still attend to the prompt, and it to them. diffusers' pipelines do
    the same; its guider differs: it perturbs prompt tokens too, early steps only, and without classifier-free guidance
    it starts from p rather than from c.

    A block may have several attentions of image tokens: the first 13 of SD3.5-medium's 24 have a joint one and a
    self-attention. Both are perturbed, since otherwise image tokens still see each other there; diffusers' pipeline,
    too, perturbs every attention whose name a block's matches. Version 1 perturbed the single layer in the middle of
    all, which on SD3.5-medium was one of the two of block 9; where blocks have one, as on tiny-sd3, nothing changed.
    """

    Config = PerturbedSettings
    classifier_free = True
    version = "2"
    paper = (
        "Ahn et al. 2024, Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance, arXiv 2403.17377, "
        "which is about a U-Net's self-attention. Joint attention is perturbed as in diffusers' pipeline for SD3; "
        "perturbing the block in the middle by default is our own choice, and so is the scale of classifier-free "
        "guidance"
    )

    layers: list[Any]
    """The attention layers that are perturbed; set by :meth:`prepare`."""

    def supports(self, backbone: Backbone, method: Method[MethodSettings]) -> Skip | None:
        """Raises :class:`UserError` for a layer that the backbone does not have."""
        if not (found := backbone.image_attentions()):
            kind = type(backbone.transformer).__name__
            return Skip(f"pag perturbs attention layers of diffusers' Attention class, and {kind} has none for images")
        self._chosen(found)
        return None

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        self.layers = self._chosen(workshop.backbone.image_attentions())

    def _chosen(self, found: dict[str, Any]) -> list[Any]:
        """The layers that are asked for, of those that there are, in the order of the forward pass."""
        blocks = dict.fromkeys(map(_block, found))
        names = [name.strip() for name in self.config.layers.split(",") if name.strip()]
        if unknown := next((name for name in names if name not in found and name not in blocks), None):
            raise UserError(
                f"settings of guidance pag: layers={self.config.layers!r}: the transformer has no block and no "
                f"attention layer {unknown!r} to perturb.{did_you_mean(unknown, [*blocks, *found])} Choose of the "
                f"blocks {', '.join(blocks)}, or of the layers {', '.join(found)}."
            )
        chosen = names or [list(blocks)[len(blocks) // 2]]
        return [layer for name, layer in found.items() if name in chosen or _block(name) in chosen]

    @property
    def evaluations_per_step(self) -> int:
        return 1 + (self.config.guidance_scale != 1) + (self.config.pag_scale != 0)

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        from grasp_bench.guidances.perturbed import perturbed

        scale, pag_scale, t = self.config.guidance_scale, self.config.pag_scale, step.timesteps
        if scale == 1:
            guided = conditional = model.conditional(latents, t)
        else:
            conditional, unconditional = model.both(latents, t)
            guided = unconditional + scale * (conditional - unconditional)
        if pag_scale == 0:
            return guided
        with perturbed(self.layers):
            weak = model.conditional(latents, t)
        return guided + pag_scale * (conditional - weak)


def _block(layer: str) -> str:
    """The name of the block that an attention layer belongs to."""
    return layer.rpartition(".")[0]

"""Stable Diffusion 3 and 3.5: an MMDiT under flow matching; CLIP-L, CLIP-G and T5 (Esser et al. 2024, 2403.03206)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from grasp_bench.backbones.diffusers_model import JOINT_ATTENTION, SECOND_ATTENTION, DiffusersBackbone
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.contracts.backbone import Block, PromptEmbeddings

if TYPE_CHECKING:
    import torch
    from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

    from grasp_bench.backbones.files import SavedPipeline


class MMDiT(DiffusersBackbone):
    """What all backbones with diffusers' ``SD3Transformer2DModel`` share."""

    attention_projections: ClassVar[tuple[str, ...]] = (*JOINT_ATTENTION, *SECOND_ATTENTION)
    """SD3.5-medium's second attention is of the image to itself."""
    prompt_setting: ClassVar[str] = "pooled_projection_dim"

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, prompts: PromptEmbeddings) -> torch.Tensor:
        output: torch.Tensor = self.transformer(
            latents,
            encoder_hidden_states=prompts.tokens,
            pooled_projections=prompts.pooled,
            timestep=self.objective.clock(timesteps),
            return_dict=False,
        )[0]
        return output

    def blocks(self) -> list[Block]:
        return [Block(each, True, not each.context_pre_only) for each in self.transformer.transformer_blocks]

    def conditioning(self) -> torch.nn.Module:
        return self.transformer.time_text_embed  # type: ignore[no-any-return] # untyped in diffusers


class SD3(MMDiT, SavedBackbone):
    """Stable Diffusion 3 medium, 3.5 medium and 3.5 large, from a saved pipeline

    The source is a folder, as in ``sd3:/models/sd3.5-medium``, or a repository in the hub's local cache, as in
    ``sd3:stabilityai/stable-diffusion-3.5-medium``. A pipeline saved without T5 does without it.
    """

    components: ClassVar[dict[str, str]] = {
        "transformer": "diffusers.SD3Transformer2DModel",
        "vae": "diffusers.AutoencoderKL",
        "text_encoder": "transformers.CLIPTextModelWithProjection",
        "tokenizer": "transformers.CLIPTokenizer",
        "text_encoder_2": "transformers.CLIPTextModelWithProjection",
        "tokenizer_2": "transformers.CLIPTokenizer",
        "text_encoder_3": "transformers.T5EncoderModel",
        "tokenizer_3": "transformers.T5TokenizerFast",
    }
    optional: ClassVar[tuple[str, ...]] = ("text_encoder_3", "tokenizer_3")
    pipeline_class: ClassVar[str] = "StableDiffusion3Pipeline"
    example: ClassVar[str] = "sd3:stabilityai/stable-diffusion-3.5-medium"

    def __init__(self, saved: SavedPipeline) -> None:
        from grasp_bench.contracts.objective import FlowMatching

        super().__init__(saved)
        self.objective = FlowMatching()

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        """Tokens (1, 77 + 256, D) and the pooled embedding (1, P) of a prompt.

        Tokens are the last but one hidden states of CLIP-L and CLIP-G side by side, padded to T5's width D, then those
        of T5, which are zeros without it. The pooled embedding is that of CLIP-L and CLIP-G.
        """
        tokens, _, pooled, _ = self.text_pipeline.encode_prompt(
            prompt, prompt_2=None, prompt_3=None, device=self.device, do_classifier_free_guidance=False
        )
        return PromptEmbeddings(tokens, pooled)

    def scheduler(self, steps: int, device: torch.device) -> FlowMatchEulerDiscreteScheduler:
        from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

        scheduler = FlowMatchEulerDiscreteScheduler.from_config(self.scheduler_config())
        scheduler.set_timesteps(steps, device=device)
        return scheduler

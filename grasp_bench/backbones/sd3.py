"""Stable Diffusion 3 and 3.5: an MMDiT under flow matching; CLIP-L, CLIP-G and T5 (Esser et al. 2024, 2403.03206)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from grasp_bench.backbones.diffusers_model import JOINT_ATTENTION, SECOND_ATTENTION, DiffusersBackbone, padding
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.contracts.backbone import Block, PromptEmbeddings
from grasp_bench.contracts.recipe import BackboneRecipe, Rate, Timesteps
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import torch
    from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

    from grasp_bench.backbones.files import SavedPipeline

CLIP_TOKENS, T5_TOKENS = 77, 256  # of every prompt
MEDIUM = BackboneRecipe(
    name="sd3.5-medium",
    source=(
        "Timesteps (logit-normal with mean 0 and standard deviation 1, shift 3, the error of x_0), AdamW (betas 0.9 "
        "and 0.999, epsilon 1e-8, weight decay 1e-4, gradient norm 1) and the LoRA rate of 1e-4 are the defaults of "
        "diffusers' examples/dreambooth/train_dreambooth_lora_sd3.py and train_dreambooth_sd3.py, whose README takes "
        "4e-4 for LoRA. The script draws LoRA's first factor with a standard deviation of 1 / rank, our lora as its "
        "authors' code does, which is smaller by a factor of 4 at rank 16. "
        "Our choice, without a source: 1e-5 for all weights, where the README has 1e-4 for 500 steps of "
        "one subject, since runs here are many times longer; LoRA's rate for adapters and gates; all ranges of "
        "searches, 3e-3 being the upper end for adapters. Warm-up is the script's argument of 500 steps, which its "
        "default schedule ignores and Adam's first steps need. Precision is bfloat16 where the README has fp16, which "
        "needs a scaled loss. "
        "Guidance 4.5 and 40 steps are those of the model card of stabilityai/stable-diffusion-3.5-medium, which also "
        "says that it was trained at 256, 512, 768, 1024 and 1440 pixels; shift, scale and prompt length are the saved "
        "pipeline's. Positions are cropped from the centre of its table."
        " The parameter budget, our choice, is that of LoRA at rank 16."
    ),
    resolutions=(1024, 512, 256),
    rates={
        "all weights": Rate(1e-5, 1e-6, 1e-4),
        "low rank": Rate(1e-4, 1e-5, 1e-3),
        "adapters": Rate(1e-4, 1e-5, 3e-3),
        "gates": Rate(1e-4, 1e-5, 3e-3),
    },
    parameters=12_000_000,
    timesteps=Timesteps("logit-normal", shift=3.0),
    weighting="squared noise share",
    precision="bfloat16",
    weight_decay=1e-4,
    warmup_steps=500,
    clip_norm=1.0,
    guidance_scale=4.5,
    sampling_steps=40,
    sampler="Euler, shift 3",
    prompt_length="77 of CLIP, 256 of T5",
    latents="1.5305 (z - 0.0609)",
)
LARGE = replace(
    MEDIUM,
    name="sd3.5-large",
    source=(
        "As sd3.5-medium; guidance 3.5 and 28 steps are those of the model card of stabilityai/stable-diffusion-3.5-"
        "large; 512 and 256 pixels are our choice, since that card names no sizes of training."
    ),
    parameters=24_000_000,
    guidance_scale=3.5,
    sampling_steps=28,
)
FIRST = replace(
    MEDIUM,
    name="sd3-medium",
    source=(
        "As sd3.5-medium; guidance 7 and 28 steps are the defaults of diffusers' StableDiffusion3Pipeline and those of "
        "the model card of stabilityai/stable-diffusion-3-medium-diffusers; its pretraining began at 256 pixels (arXiv "
        "2403.03206, section 5.3.2)."
    ),
    parameters=9_400_000,
    guidance_scale=7.0,
    sampling_steps=28,
)


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
    recipe = MEDIUM
    recipes: ClassVar[Mapping[str, BackboneRecipe]] = {each.name: each for each in (FIRST, MEDIUM, LARGE)}

    def __init__(self, saved: SavedPipeline, resolution: int | None = None) -> None:
        from grasp_bench.contracts.objective import FlowMatching

        super().__init__(saved, resolution)
        self.objective = FlowMatching(self.recipe)

    @classmethod
    def _recipe_of(cls, saved: SavedPipeline) -> BackboneRecipe:
        """3.5-large by its 38 blocks; 3.5-medium by its second attention, which 3-medium has not."""
        config = saved.config("transformer")
        if config.get("num_layers") == 38:
            return cls.recipes["sd3.5-large"]
        return cls.recipe if config.get("dual_attention_layers") else cls.recipes["sd3-medium"]

    @classmethod
    def _size(cls, saved: SavedPipeline, resolution: int | None) -> int:
        """Return the size as every family does. Raise UserError where it exceeds the table of position embeddings."""
        size = super()._size(saved, resolution)
        token = cls._patch(saved) * cls._latent_factor(saved)
        if size > (largest := saved.setting("transformer", "pos_embed_max_size") * token):
            raise UserError(
                f"--resolution {resolution}: {saved.folder} has position embeddings for at most {largest} pixels a "
                "side. Choose a smaller one."
            )
        return size

    def encode_together(self, prompts: list[str]) -> PromptEmbeddings:
        """Tokens (B, 77 + 256, D), the pooled embedding (B, P) and the padding (B, 77 + 256) of prompts.

        Tokens are the last but one hidden states of CLIP-L and CLIP-G side by side, padded to T5's width D, then those
        of T5, which are zeros and all padding without it. The pooled embedding is that of CLIP-L and CLIP-G. The
        transformer attends to padding, too.
        """
        import torch

        pipeline = self.text_pipeline
        tokens, _, pooled, _ = pipeline.encode_prompt(
            prompts, prompt_2=None, prompt_3=None, device=self.device, do_classifier_free_guidance=False
        )
        clip = padding(pipeline.tokenizer, prompts, pipeline.tokenizer_max_length)
        length = tokens.shape[1] - clip.shape[1]
        t5 = torch.ones(len(prompts), length, dtype=torch.bool)
        if pipeline.tokenizer_3 is not None:
            t5 = padding(pipeline.tokenizer_3, prompts, length)
        return PromptEmbeddings(tokens, pooled, padding=torch.cat([clip, t5], 1))

    def blank_prompts(self, count: int) -> PromptEmbeddings:
        import torch

        config = self.transformer.config
        tokens = torch.zeros(count, CLIP_TOKENS + T5_TOKENS, config["joint_attention_dim"])
        return PromptEmbeddings(tokens, torch.zeros(count, config["pooled_projection_dim"]))

    def scheduler(self, steps: int, device: torch.device) -> FlowMatchEulerDiscreteScheduler:
        from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

        with self.loading_scheduler():
            scheduler = FlowMatchEulerDiscreteScheduler.from_config(self.scheduler_config())
            scheduler.set_timesteps(steps, device=device)
        return scheduler

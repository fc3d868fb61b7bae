"""FLUX.1: double and single transformer blocks under flow matching, with CLIP-L and T5 (Black Forest Labs 2024)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from grasp_bench.backbones.diffusers_model import JOINT_ATTENTION, DiffusersBackbone, padding
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.contracts.backbone import Block, PromptEmbeddings
from grasp_bench.contracts.recipe import BackboneRecipe, Rate, Timesteps
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

    from grasp_bench.backbones.files import SavedPipeline

PATCH = 2  # latents that are one token, each way
DEV_TOKENS, SCHNELL_TOKENS = 512, 256  # of T5


DEV = BackboneRecipe(
    name="flux-dev",
    source=(
        "Timesteps (uniform, not shifted, losses alike: the weighting scheme `none`), AdamW (betas 0.9 and 0.999, "
        "epsilon 1e-8, weight decay 1e-4, gradient norm 1) and the LoRA rate of 1e-4 are the defaults of diffusers' "
        "examples/dreambooth/train_dreambooth_lora_flux.py. Its default guidance in training is 3.5; every command of "
        "its README has 1, as here, and bf16, but Prodigy instead of a rate. Our choice, without a source: 1e-5 for "
        "all weights, where train_dreambooth_flux.py has 1e-4 by default and its example ends after 500 steps; LoRA's "
        "rate for adapters and gates; all ranges of searches. Warm-up is the script's argument of 500 steps, which "
        "its default schedule ignores. Sampling: diffusers' FluxPipeline has 28 steps, an embedded guidance of 3.5, "
        "and no classifier-free guidance, which would double the cost: its scale is 1 here. The sampler's shift "
        "follows the number of tokens. That README trains at 512 and 1024 pixels; 256 is our choice."
        " The parameter budget, our choice, is that of LoRA at rank 16."
    ),
    resolutions=(1024, 512, 256),
    rates={
        "all weights": Rate(1e-5, 1e-6, 1e-4),
        "low rank": Rate(1e-4, 1e-5, 1e-3),
        "adapters": Rate(1e-4, 1e-5, 3e-3),
        "gates": Rate(1e-4, 1e-5, 3e-3),
    },
    parameters=26_000_000,
    timesteps=Timesteps("uniform"),
    precision="bfloat16",
    weight_decay=1e-4,
    warmup_steps=500,
    clip_norm=1.0,
    guidance_scale=1.0,
    embedded_guidance=1.0,
    sampling_embedded_guidance=3.5,
    unguided_embedded_guidance=1.0,
    sampling_steps=28,
    sampler="Euler, shifted by the number of tokens",
    prompt_length="77 of CLIP, 512 of T5",
    latents="0.3611 (z - 0.1159)",
    conditions="the scale of the distilled guidance",
)
SCHNELL = replace(
    DEV,
    name="flux-schnell",
    source=(
        "As flux-dev, but it is told no guidance. 4 steps are those of the example in diffusers' FluxPipeline, and "
        "256 tokens of T5 the most that diffusers' page on Flux allows it. No script is for it: fine-tuned so, it may "
        "lose what its distillation to few steps gave it."
    ),
    embedded_guidance=None,
    sampling_embedded_guidance=None,
    unguided_embedded_guidance=None,
    sampling_steps=4,
    sampler="Euler, not shifted",
    prompt_length="77 of CLIP, 256 of T5",
    conditions="none",
)


class Flux(DiffusersBackbone, SavedBackbone):
    """FLUX.1 dev and schnell, from a saved pipeline; adapters go beside the feed-forwards of its double blocks only

    The source is a folder, as in ``flux:/models/flux.1-dev``, or a repository in the hub's local cache, as in
    ``flux:black-forest-labs/FLUX.1-dev``. Images are of the ``sample_size`` of its autoencoder, 1024 pixels: its
    transformer states no size.

    A single block has no feed-forward module: its projections are fused with the attention's. So no adapter serves it;
    a method that replaces feed-forwards reaches the double blocks, 19 of 57. dev is told a guidance of 1 in
    fine-tuning and 3.5 in sampling, where classifier-free guidance on top, with the empty prompt as in the pipeline's
    "true" guidance, is off unless it is asked for: ``cfg`` with a scale above 1 guides twice. Under the guidance
    ``none`` it is told 1, so that its images have no guidance at all. Prompts have 512 tokens of T5 for dev and 256 for
    schnell.
    """

    attention_projections: ClassVar[tuple[str, ...]] = JOINT_ATTENTION  # single blocks have the first three alone
    prompt_setting: ClassVar[str] = "pooled_projection_dim"
    needs_all_tokens: ClassVar[str] = "its blocks are given the places of all tokens for all samples alike"
    components: ClassVar[dict[str, str]] = {
        "transformer": "diffusers.FluxTransformer2DModel",
        "vae": "diffusers.AutoencoderKL",
        "text_encoder": "transformers.CLIPTextModel",
        "tokenizer": "transformers.CLIPTokenizer",
        "text_encoder_2": "transformers.T5EncoderModel",
        "tokenizer_2": "transformers.T5TokenizerFast",
    }
    pipeline_class: ClassVar[str] = "FluxPipeline"
    example: ClassVar[str] = "flux:black-forest-labs/FLUX.1-dev"
    recipe = DEV
    recipes: ClassVar[Mapping[str, BackboneRecipe]] = {each.name: each for each in (DEV, SCHNELL)}

    def __init__(self, saved: SavedPipeline, resolution: int | None = None) -> None:
        from grasp_bench.contracts.objective import FlowMatching

        super().__init__(saved, resolution)
        self.told = self.recipe.embedded_guidance
        self.objective = FlowMatching(self.recipe)

    @classmethod
    def _recipe_of(cls, saved: SavedPipeline) -> BackboneRecipe:
        return cls.recipe if saved.config("transformer").get("guidance_embeds") else SCHNELL

    @classmethod
    def _patch(cls, saved: SavedPipeline) -> int:
        return PATCH

    @classmethod
    def _prompt_length(cls, saved: SavedPipeline) -> int | None:
        return SCHNELL_TOKENS if cls._recipe_of(saved) is SCHNELL else None

    def prepare_sampling(self) -> None:
        """Tell the transformer the distilled guidance of sampling instead of that of training."""
        self.told = self.recipe.sampling_embedded_guidance

    def leave_out_guidance(self) -> None:
        """Tell the transformer the distilled guidance that stands for none."""
        self.told = self.recipe.unguided_embedded_guidance

    @classmethod
    def _latent_shape(cls, saved: SavedPipeline) -> tuple[int, int, int]:
        """Latents as the autoencoder has them; they are packed into tokens of 2×2 on their way to the transformer."""
        pixels, factor = saved.setting("vae", "sample_size"), cls._latent_factor(saved)
        if pixels % (PATCH * factor):
            raise UserError(
                f"{saved.folder / 'vae' / 'config.json'}: sample_size, the images' size in pixels, is {pixels}, "
                f"expected a multiple of {PATCH * factor}. Set it to one."
            )
        size = pixels // factor
        return saved.setting("transformer", "in_channels") // PATCH**2, size, size

    def encode_together(self, prompts: list[str]) -> PromptEmbeddings:
        """Tokens (B, T, D): the last hidden states of T5, 512 for dev, 256 for schnell. Pooled (B, P): CLIP's.

        Padding (B, T), which the transformer attends to, too.
        """
        length = self.prompt_length
        tokens, pooled, _ = self.text_pipeline.encode_prompt(prompts, device=self.device, max_sequence_length=length)
        return PromptEmbeddings(tokens, pooled, padding=padding(self.text_pipeline.tokenizer_2, prompts, length))

    @property
    def prompt_length(self) -> int:
        """Tokens of T5 that a prompt is padded or cut to."""
        return self._prompt_length(self.saved) or DEV_TOKENS

    def blank_prompts(self, count: int) -> PromptEmbeddings:
        import torch

        config = self.transformer.config
        tokens = torch.zeros(count, self.prompt_length, config["joint_attention_dim"])
        return PromptEmbeddings(tokens, torch.zeros(count, config["pooled_projection_dim"]))

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, prompts: PromptEmbeddings) -> torch.Tensor:
        import torch
        from torch.nn import functional

        patches = functional.pixel_unshuffle(latents, PATCH)  # (B, 4 C, h / 2, w / 2)
        rows, columns = (torch.arange(length, device=latents.device) for length in patches.shape[2:])
        output: torch.Tensor = self.transformer(
            patches.flatten(2).transpose(1, 2),  # (B, h w / 4, 4 C)
            encoder_hidden_states=prompts.tokens,
            pooled_projections=prompts.pooled,
            timestep=timesteps,  # its clock runs to 1
            img_ids=torch.cartesian_prod(rows[:1], rows, columns),  # (h w / 4, 3): 0, row and column
            txt_ids=rows.new_zeros(prompts.tokens.shape[1], 3),
            guidance=None if self.told is None else torch.full_like(timesteps, self.told),
            return_dict=False,
        )[0]
        return functional.pixel_shuffle(output.transpose(1, 2).reshape(patches.shape), PATCH)

    def blocks(self) -> list[Block]:
        """The double blocks, then the single ones, which have no feed-forward layer that is a module."""
        both = (*self.transformer.transformer_blocks, *self.transformer.single_transformer_blocks)
        return [Block(block, joint=True, returns_prompt=True) for block in both]

    def image_tokens(self, latents: torch.Tensor) -> int:
        return latents.shape[-2] // PATCH * (latents.shape[-1] // PATCH)

    def conditioning(self) -> torch.nn.Module:
        return self.transformer.time_text_embed  # type: ignore[no-any-return] # untyped in diffusers

    def scheduler(self, steps: int, device: torch.device) -> FlowMatchEulerDiscreteScheduler:
        """Euler, never its stochastic variant, shifted for the number of tokens of an image where the saved one is."""
        import numpy as np
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift
        from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

        config = self.scheduler_config() | {"stochastic_sampling": False}
        bounds = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        _, height, width = self.latent_shape
        with self.loading_scheduler():
            scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
            shift = calculate_shift(height * width // PATCH**2, *(scheduler.config[name] for name in bounds))
            scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=shift, device=device)
        return scheduler

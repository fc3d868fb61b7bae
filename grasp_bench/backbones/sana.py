"""Sana: a linear-attention DiT on 32-fold compressed latents; flow matching (Xie et al. 2024, arXiv 2410.10629)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from grasp_bench.backbones.diffusers_model import (
    FIRST_ATTENTION,
    SECOND_ATTENTION,
    DiffusersBackbone,
    place_patches,
)
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.recipe import BackboneRecipe, Rate, Timesteps
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import torch

    from grasp_bench.backbones.files import SavedPipeline

TOKENS = 300  # of every prompt
SCHEDULERS: dict[str, dict[str, Any]] = {
    "DPMSolverMultistepScheduler": {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
    "FlowMatchEulerDiscreteScheduler": {},
}
"""Schedulers that sample a flow → what their settings must be for that."""
DETERMINISTIC: dict[str, dict[str, Any]] = {
    "DPMSolverMultistepScheduler": {"algorithm_type": "dpmsolver++"},
    "FlowMatchEulerDiscreteScheduler": {"stochastic_sampling": False},
}
"""Scheduler → settings that keep it from drawing noise."""


SMALL = BackboneRecipe(
    name="sana-0.6b",
    source=(
        "Timesteps (logit-normal with mean 0 and standard deviation 1, flow_shift 3, losses alike) are those of "
        "NVlabs/Sana, configs/sana_config/512ms/Sana_600M_img512.yaml; diffusers' "
        "examples/dreambooth/train_dreambooth_lora_sana.py draws them evenly. AdamW (betas 0.9 and 0.999, epsilon "
        "1e-8, weight decay 1e-4, gradient norm 1), the LoRA rate of 1e-4 and the warm-up's 500 steps are that "
        "script's, whose default schedule ignores the latter. Pretraining has CAME at 1e-4 in that configuration, "
        "AdamW at 1e-4 with weight decay 1e-2 in configs/sana_config/1024ms/Sana_1600M_img1024_AdamW.yaml and CAME at "
        "2e-5 in configs/sana1-5_config, with 2000 steps of warm-up and gradient norm 0.1. Our choice, without a "
        "source: 1e-5 for all weights, to stay near the pretrained ones; LoRA's rate for adapters and gates; all "
        "ranges of searches. Precision is bfloat16 where the configuration has fp16. Guidance 4.5 and 20 steps are the "
        "defaults of diffusers' SanaPipeline. There are no position embeddings, so that weights serve several sizes: "
        "512 and 1024 pixels are published, each as weights of its own; 256 is our choice, since the publishers' "
        "configuration of that size (Sana_600M_img256.yaml) is of a model with positions and T5."
        " The parameter budget, our choice, is that of LoRA at rank 16."
    ),
    resolutions=(512, 1024, 256),
    rates={
        "all weights": Rate(1e-5, 1e-6, 1e-4),
        "low rank": Rate(1e-4, 1e-5, 1e-3),
        "adapters": Rate(1e-4, 1e-5, 3e-3),
        "gates": Rate(1e-4, 1e-5, 3e-3),
    },
    parameters=8_300_000,
    timesteps=Timesteps("logit-normal", shift=3.0),
    precision="bfloat16",
    weight_decay=1e-4,
    warmup_steps=500,
    clip_norm=1.0,
    guidance_scale=4.5,
    sampling_steps=20,
    sampler="DPM-Solver++, flow_shift 3",
    prompt_length="300 of Gemma-2",
    latents="0.41407 z",
    conditions="none",
)
LARGE = replace(
    SMALL,
    name="sana-1.6b",
    source="As sana-0.6b, in configs/sana_config/1024ms/Sana_1600M_img1024.yaml; its own size is 1024 pixels.",
    resolutions=(1024, 512, 256),
    parameters=11_000_000,
)


class Sana(DiffusersBackbone, SavedBackbone):
    """Sana 0.6B and 1.6B at any resolution, from a saved pipeline

    The source is a folder, as in ``sana:/models/sana-600m``, or a repository in the hub's local cache, as in
    ``sana:Efficient-Large-Model/Sana_600M_512px_diffusers``. Sana-Sprint, which samples in another way, is refused.

    Prompts follow Gemma-2's instruction to enhance them, as in diffusers' pipeline; the null condition is the empty
    prompt without it. Timesteps are drawn as the paper draws them; images are square.
    """

    attention_projections: ClassVar[tuple[str, ...]] = (*FIRST_ATTENTION, *SECOND_ATTENTION)
    prompt_setting: ClassVar[str] = "caption_channels"
    needs_all_tokens: ClassVar[str] = "its convolutional feed-forward layers need the whole grid"
    components: ClassVar[dict[str, str]] = {
        "transformer": "diffusers.SanaTransformer2DModel",
        "vae": "diffusers.AutoencoderDC",
        "text_encoder": "transformers.Gemma2Model",
        "tokenizer": "transformers.GemmaTokenizerFast",
    }
    pipeline_class: ClassVar[str] = "SanaPipeline"
    example: ClassVar[str] = "sana:Efficient-Large-Model/Sana_600M_512px_diffusers"
    recipe = SMALL
    recipes: ClassVar[Mapping[str, BackboneRecipe]] = {each.name: each for each in (SMALL, LARGE)}

    def __init__(self, saved: SavedPipeline, resolution: int | None = None) -> None:
        from grasp_bench.contracts.objective import FlowMatching

        super().__init__(saved, resolution)
        self.timestep_scale: float = self.transformer.config["timestep_scale"]
        place_patches(self.transformer.patch_embed, self.latent_shape)
        self.objective = FlowMatching(self.recipe)

    @classmethod
    def _find(cls, source: str) -> SavedPipeline:
        saved = super()._find(source)
        kind, config = saved.index["scheduler"][1], saved.scheduler_config()
        if kind not in SCHEDULERS:
            raise UserError(
                f"{saved.folder / 'model_index.json'}: its scheduler is of the class {kind}, expected one of "
                f"{', '.join(SCHEDULERS)}. Choose a pipeline that is saved with one of them."
            )
        for name, value in SCHEDULERS[kind].items():
            if config.get(name) != value:
                raise UserError(
                    f"{saved.folder / 'scheduler' / 'scheduler_config.json'}: {name} is {config.get(name)!r}, expected "
                    f"{value!r}, since Sana predicts a flow. Choose a pipeline that is saved with it."
                )
        return saved

    @classmethod
    def _recipe_of(cls, saved: SavedPipeline) -> BackboneRecipe:
        """1.6B by its 20 blocks, where 0.6B has 28 narrower ones."""
        return LARGE if saved.config("transformer").get("num_layers") == 20 else SMALL

    @classmethod
    def _latent_factor(cls, saved: SavedPipeline) -> int:
        factor: int = 2 ** (saved.length("vae", "encoder_block_out_channels") - 1)
        return factor

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, 3, H, W) → latents (B, C, h, w): the autoencoder's, which has no distribution, scaled."""
        import torch

        with torch.no_grad():
            encoded = self.autoencoder.encode(images.to(self.device).float() / 127.5 - 1).latent
        latents: torch.Tensor = encoded * self.autoencoder.config.scaling_factor
        return latents

    def encode_together(self, prompts: list[str]) -> PromptEmbeddings:
        """Tokens (B, 300, D): Gemma-2's last hidden states, of each prompt alone. Mask (B, 300): not padding."""
        pipeline = self.text_pipeline
        instruction = inspect.signature(pipeline.__call__).parameters["complex_human_instruction"].default
        tokens, mask, _, _ = pipeline.encode_prompt(
            prompts,
            do_classifier_free_guidance=False,
            device=self.device,
            complex_human_instruction=instruction if any(prompts) else None,
        )
        return PromptEmbeddings(tokens, mask=mask.bool())

    def blank_prompts(self, count: int) -> PromptEmbeddings:
        import torch

        tokens = torch.zeros(count, TOKENS, self.transformer.config["caption_channels"])
        return PromptEmbeddings(tokens, mask=torch.ones(count, TOKENS, dtype=torch.bool))

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, prompts: PromptEmbeddings) -> torch.Tensor:
        output: torch.Tensor = self.transformer(
            latents,
            encoder_hidden_states=prompts.tokens,
            encoder_attention_mask=prompts.mask,
            timestep=self.objective.clock(timesteps) * self.timestep_scale,
            return_dict=False,
        )[0]
        return output[:, : self.latent_shape[0]]  # the mean; a predicted variance follows it

    def feed_forwards(self) -> dict[str, torch.nn.Module]:
        """Convolutional ones, which read (B, C, H, W)."""
        from diffusers.models.transformers.sana_transformer import GLUMBConv

        return {name: module for name, module in self.transformer.named_modules() if isinstance(module, GLUMBConv)}

    def conditioning(self) -> torch.nn.Module:
        return getattr(self.transformer.time_embed, "emb", self.transformer.time_embed)  # type: ignore[no-any-return] # the latter where it reads a guidance

    def scheduler(self, steps: int, device: torch.device) -> Any:
        """The saved scheduler with its shift; of one that is stochastic, the deterministic variant."""
        from diffusers import schedulers

        kind = self.saved.index["scheduler"][1]
        with self.loading_scheduler():
            scheduler = getattr(schedulers, kind).from_config(self.scheduler_config() | DETERMINISTIC[kind])
            scheduler.set_timesteps(steps, device=device)
        return scheduler

"""PixArt-α and PixArt-Σ: a DiT that attends to T5's tokens, under DDPM's diffusion.

Chen et al. 2023, arXiv 2310.00426; 2024, arXiv 2403.04692.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

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
    from diffusers.schedulers import DPMSolverMultistepScheduler

    from grasp_bench.backbones.files import SavedPipeline

PROMPT_LENGTHS = {"PixArtAlphaPipeline": 120, "PixArtSigmaPipeline": 300}
"""Pipeline → the tokens of T5 that its transformer was trained on."""


SIGMA = BackboneRecipe(
    name="pixart-sigma",
    source=(
        "The objective (error of the predicted noise, the predicted variance left out, steps drawn evenly, size "
        "conditions where the latents are 128 wide), AdamW (betas 0.9 and 0.999, epsilon 1e-8, weight decay 1e-2, "
        "gradient norm 1) and 500 steps of warm-up are those of PixArt-alpha/PixArt-alpha, "
        "train_scripts/train_pixart_lora_hf.py. Pretraining adds a bound on the variance, epsilon 1e-10 and weight "
        "decay 3e-2 (configs/PixArt_xl2_internal.py). All weights have 5e-6, that of configs/pixart_app_config/"
        "PixArt_xl2_img1024_dreambooth.py, where the gradient norm is 0.01; PixArt-alpha/PixArt-sigma, "
        "configs/pixart_sigma_config, has 2e-5 with CAME. Our choice, without a source: 1e-4 for low rank, which is "
        "that of diffusers' scripts of other families where this script has 1e-6 by default; the same for adapters and "
        "gates; all ranges of searches. Precision is bfloat16 where the configurations have fp16. "
        "Guidance 4.5 and 20 steps are the defaults of diffusers' PixArtSigmaPipeline. Positions are scaled to span "
        "the native image's, as the publishers' weights for 256, 512 and 1024 pixels do."
        " The parameter budget, our choice, is that of LoRA at rank 16."
    ),
    resolutions=(1024, 512, 256),
    rates={
        "all weights": Rate(5e-6, 1e-6, 1e-4),
        "low rank": Rate(1e-4, 1e-6, 1e-3),
        "adapters": Rate(1e-4, 1e-5, 3e-3),
        "gates": Rate(1e-4, 1e-5, 3e-3),
    },
    parameters=8_300_000,
    timesteps=Timesteps("uniform"),
    precision="bfloat16",
    weight_decay=1e-2,
    warmup_steps=500,
    clip_norm=1.0,
    guidance_scale=4.5,
    sampling_steps=20,
    sampler="DPM-Solver++",
    prompt_length="300 of T5",
    latents="0.13025 z",
    conditions="a variance is predicted, and left out",
)
ALPHA = replace(
    SIGMA,
    name="pixart-alpha",
    source="As pixart-sigma; guidance 4.5 and 20 steps are the defaults of diffusers' PixArtAlphaPipeline.",
    prompt_length="120 of T5",
    latents="0.18215 z",
    conditions="height, width and their ratio; a variance is predicted, and left out",
)
ALPHA_512 = replace(
    ALPHA,
    name="pixart-alpha-512",
    source="As pixart-alpha, at 512 pixels, where it reads no size.",
    resolutions=(512, 256),
    conditions=SIGMA.conditions,
)


class PixArt(DiffusersBackbone, SavedBackbone):
    """PixArt-α and PixArt-Σ at any resolution, from a saved pipeline

    The source is a folder, as in ``pixart:/models/pixart-sigma``, or a repository in the hub's local cache, as in
    ``pixart:PixArt-alpha/PixArt-Sigma-XL-2-1024-MS``. Which of the two it is, its ``model_index.json`` says.

    Fine-tuning differs from the papers' as the publishers' own LoRA script does: the loss is the error of the predicted
    noise alone, timesteps drawn evenly, and the variance that the transformer also predicts is neither trained nor
    used. Latents are the mode of the autoencoder's distribution; images are square; a dropped prompt is the empty one.
    Prompts are put in lower case, as diffusers does, but not cleaned of what web captions contain, which it does only
    where optional packages are installed.
    """

    attention_projections: ClassVar[tuple[str, ...]] = (*FIRST_ATTENTION, *SECOND_ATTENTION)
    prompt_setting: ClassVar[str] = "caption_channels"
    components: ClassVar[dict[str, str]] = {
        "transformer": "diffusers.PixArtTransformer2DModel",
        "vae": "diffusers.AutoencoderKL",
        "text_encoder": "transformers.T5EncoderModel",
        "tokenizer": "transformers.T5TokenizerFast",
    }
    pipeline_class: ClassVar[str] = "PixArtSigmaPipeline"  # α's encodes by the same code, with another length
    example: ClassVar[str] = "pixart:PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"
    recipe = SIGMA
    recipes: ClassVar[Mapping[str, BackboneRecipe]] = {each.name: each for each in (SIGMA, ALPHA, ALPHA_512)}

    def __init__(self, saved: SavedPipeline, resolution: int | None = None) -> None:
        import torch

        from grasp_bench.contracts.objective import VariancePreserving

        super().__init__(saved, resolution)
        place_patches(self.transformer.pos_embed, self.latent_shape)
        self.prompt_length = PROMPT_LENGTHS[saved.index["_class_name"]]
        self.reads_size: bool = self.transformer.use_additional_conditions
        self.objective = VariancePreserving.of(self.scheduler(1, torch.device("cpu")))

    @classmethod
    def _recipe_of(cls, saved: SavedPipeline) -> BackboneRecipe:
        """Σ or α by the pipeline's class, and α's 512 pixels by its latents of 64."""
        if saved.index["_class_name"] == "PixArtSigmaPipeline":
            return SIGMA
        return ALPHA_512 if saved.setting("transformer", "sample_size") == 64 else ALPHA

    @classmethod
    def _find(cls, source: str) -> SavedPipeline:
        saved = super()._find(source)
        if (found := saved.index.get("_class_name")) not in PROMPT_LENGTHS:
            raise UserError(
                f"{saved.folder / 'model_index.json'}: its _class_name is {found!r}, expected one of "
                f"{', '.join(PROMPT_LENGTHS)}. Choose a pipeline that was saved as one of them."
            )
        return saved

    def encode_together(self, prompts: list[str]) -> PromptEmbeddings:
        """Tokens (B, T, D): T5's last hidden states, T being 120 for α and 300 for Σ. Mask (B, T): not padding."""
        tokens, mask, _, _ = self.text_pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, device=self.device, max_sequence_length=self.prompt_length
        )
        return PromptEmbeddings(tokens, mask=mask.bool())

    def blank_prompts(self, count: int) -> PromptEmbeddings:
        import torch

        tokens = torch.zeros(count, self.prompt_length, self.transformer.config["caption_channels"])
        return PromptEmbeddings(tokens, mask=torch.ones(count, self.prompt_length, dtype=torch.bool))

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, prompts: PromptEmbeddings) -> torch.Tensor:
        output: torch.Tensor = self.transformer(
            latents,
            encoder_hidden_states=prompts.tokens,
            encoder_attention_mask=prompts.mask,
            timestep=self.objective.clock(timesteps),
            added_cond_kwargs=self._size_conditions(latents),
            return_dict=False,
        )[0]
        return output[:, : self.latent_shape[0]]  # the mean; a predicted variance follows it

    def _size_conditions(self, latents: torch.Tensor) -> dict[str, torch.Tensor | None]:
        """Height and width of the images in pixels (B, 2) and their ratio (B, 1), which α reads at 1024 pixels."""
        if not self.reads_size:
            return {"resolution": None, "aspect_ratio": None}
        _, height, width = self.image_shape
        resolution = latents.new_tensor([height, width]).expand(len(latents), 2)
        return {"resolution": resolution, "aspect_ratio": latents.new_full((len(latents), 1), height / width)}

    def conditioning(self) -> torch.nn.Module:
        return self.transformer.adaln_single.emb  # type: ignore[no-any-return] # untyped in diffusers

    def scheduler(self, steps: int, device: torch.device) -> DPMSolverMultistepScheduler:
        """DPM-Solver++ of the ODE, so without added noise, on the noise levels of whatever scheduler was saved."""
        from diffusers.schedulers import DPMSolverMultistepScheduler

        config = self.scheduler_config() | {"algorithm_type": "dpmsolver++", "variance_type": None}
        with self.loading_scheduler():
            scheduler = DPMSolverMultistepScheduler.from_config(config)
            scheduler.set_timesteps(steps, device=device)
        return scheduler

"""Sana: a linear-attention DiT on 32-fold compressed latents; flow matching (Xie et al. 2024, arXiv 2410.10629)."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from grasp_bench.backbones.diffusers_model import FIRST_ATTENTION, SECOND_ATTENTION, DiffusersBackbone
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import torch

    from grasp_bench.backbones.files import SavedPipeline

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


class Sana(DiffusersBackbone, SavedBackbone):
    """Sana 0.6B and 1.6B at any resolution, from a saved pipeline

    The source is a folder, as in ``sana:/models/sana-600m``, or a repository in the hub's local cache, as in
    ``sana:Efficient-Large-Model/Sana_600M_512px_diffusers``. Sana-Sprint, which samples in another way, is refused.

    Prompts follow Gemma-2's instruction to enhance them, as in diffusers' pipeline; the null condition is the empty
    prompt without it. Fine-tuning draws logit-normal timesteps, not shifted towards the noise by the schedule's
    ``flow_shift`` as in the paper; diffusers' own script draws them evenly. The loss is not weighted, and images are
    square and of the size that the transformer was trained at.
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

    def __init__(self, saved: SavedPipeline) -> None:
        from grasp_bench.contracts.objective import FlowMatching

        super().__init__(saved)
        self.timestep_scale: float = self.transformer.config["timestep_scale"]
        self.objective = FlowMatching()

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
    def _latent_factor(cls, saved: SavedPipeline) -> int:
        factor: int = 2 ** (len(saved.setting("vae", "encoder_block_out_channels")) - 1)
        return factor

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, 3, H, W) → latents (B, C, h, w): the autoencoder's, which has no distribution, scaled."""
        import torch

        with torch.no_grad():
            encoded = self.autoencoder.encode(images.to(self.device).float() / 127.5 - 1).latent
        latents: torch.Tensor = encoded * self.autoencoder.config.scaling_factor
        return latents

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        """Tokens (1, 300, D): Gemma-2's last hidden states, of the prompt alone. Mask (1, 300): not padding."""
        pipeline = self.text_pipeline
        instruction = inspect.signature(pipeline.__call__).parameters["complex_human_instruction"].default
        tokens, mask, _, _ = pipeline.encode_prompt(
            prompt,
            do_classifier_free_guidance=False,
            device=self.device,
            complex_human_instruction=instruction if prompt else None,
        )
        return PromptEmbeddings(tokens, mask=mask.bool())

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
        scheduler = getattr(schedulers, kind).from_config(self.scheduler_config() | DETERMINISTIC[kind])
        scheduler.set_timesteps(steps, device=device)
        return scheduler

"""Stable Diffusion 3 and 3.5: an MMDiT under flow matching, with CLIP-L, CLIP-G and T5 (Esser et al. 2024, 2403.03206).

A saved pipeline is read from a folder or the hub's local cache, and only its safetensors.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Self

from grasp_bench.backbones.base import Backbone, PromptEmbeddings
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline
    from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

    from grasp_bench.backbones.files import SavedPipeline

TIMESTEP_SCALE = 1000  # the transformer's clock runs to 1000, ours to 1
PROMPTS_KEPT = 64  # about 5 MB each at the size of SD3; sampling asks for the same few again and again


class MMDiT(Backbone):
    """What all backbones with diffusers' ``SD3Transformer2DModel`` share."""

    attention_projections: ClassVar[tuple[str, ...]] = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
        "attn2.to_q",  # SD3.5-medium's second attention, of the image to itself
        "attn2.to_k",
        "attn2.to_v",
        "attn2.to_out.0",
    )

    transformer: SD3Transformer2DModel

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, prompts: PromptEmbeddings) -> torch.Tensor:
        output: torch.Tensor = self.transformer(
            latents,
            encoder_hidden_states=prompts.tokens,
            pooled_projections=prompts.pooled,
            timestep=timesteps * TIMESTEP_SCALE,
            return_dict=False,
        )[0]
        return output

    def feed_forwards(self) -> dict[str, torch.nn.Module]:
        from diffusers.models.attention import FeedForward

        return {name: module for name, module in self.transformer.named_modules() if isinstance(module, FeedForward)}

    def enable_gradient_checkpointing(self) -> None:
        from grasp_bench.adapters.scope import checkpoint

        self.transformer.enable_gradient_checkpointing(checkpoint)


class SD3(MMDiT):
    """Stable Diffusion 3 medium, 3.5 medium and 3.5 large, from a saved pipeline

    The source is a folder, as in ``sd3:/models/sd3.5-medium``, or a repository in the hub's local cache, as in
    ``sd3:stabilityai/stable-diffusion-3.5-medium``. A pipeline saved without T5 does without it.
    """

    sampling_dtype: ClassVar[str] = "float32"

    def __init__(self, pipeline: StableDiffusion3Pipeline, revision: str, image_shape: tuple[int, int, int]) -> None:
        from grasp_bench.backbones.objective import FlowMatching

        self.revision, self.image_shape = revision, image_shape
        self.pipeline = pipeline
        self.transformer = pipeline.transformer
        self.vae: AutoencoderKL = pipeline.vae
        self.vae.enable_slicing()  # one image at a time: bounded memory, and the same image in any batch
        self.objective = FlowMatching()
        self._encode_prompt = functools.lru_cache(PROMPTS_KEPT)(self._encode_one_prompt)

    @classmethod
    def describe(cls, source: str) -> tuple[str, tuple[int, int, int]]:
        return _describe(_find(source))

    @classmethod
    def load(cls, source: str = "") -> Self:
        """The pipeline on the CPU in float32, frozen and in evaluation mode. Raises :class:`UserError`."""
        saved = _find(source)
        revision, image_shape = _describe(saved)
        return cls(_load(saved), revision, image_shape)

    def to(self, device: torch.device) -> Self:
        import torch

        for part in self.pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.to(device)
        return self

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, 3, H, W) → latents (B, C, h, w): the mode of the autoencoder's distribution, shifted and scaled."""
        import torch

        config = self.vae.config
        with torch.no_grad():
            mode = self.vae.encode(images.float() / 127.5 - 1).latent_dist.mode()
        latents: torch.Tensor = (mode - config.shift_factor) * config.scaling_factor
        return latents

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        import torch

        config = self.vae.config
        with torch.no_grad():
            images: torch.Tensor = self.vae.decode(latents.float() / config.scaling_factor + config.shift_factor).sample
        return ((images / 2 + 0.5).clamp(0, 1) * 255).round().byte()

    def encode_prompts(self, prompts: list[str]) -> PromptEmbeddings:
        """What diffusers' pipeline makes of each prompt by itself, on the CPU, wherever the encoders are.

        Tokens (B, 77 + 256, D): the last but one hidden states of CLIP-L and CLIP-G side by side, padded to T5's width
        D, then those of T5, which are zeros without it. Pooled (B, P): of CLIP-L and CLIP-G. Longer prompts are cut, as
        the pipeline does, with its warning.
        """
        import torch

        encoded = [self._encode_prompt(prompt) for prompt in prompts]
        return PromptEmbeddings(*(torch.cat(each) for each in zip(*encoded, strict=True)))

    def _encode_one_prompt(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        with torch.no_grad():
            tokens, _, pooled, _ = self.pipeline.encode_prompt(
                prompt, prompt_2=None, prompt_3=None, device=self.vae.device, do_classifier_free_guidance=False
            )
        return tokens.cpu(), pooled.cpu()

    def scheduler(self) -> FlowMatchEulerDiscreteScheduler:
        from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

        return FlowMatchEulerDiscreteScheduler.from_config(self.pipeline.scheduler.config)


def _find(source: str) -> SavedPipeline:
    from grasp_bench.backbones.files import find_pipeline

    if not source:
        raise UserError(
            "backbone sd3: needs the folder of a pipeline or a repository in the hub's local cache, as in "
            "sd3:stabilityai/stable-diffusion-3.5-medium."
        )
    return find_pipeline(source, "SD3Transformer2DModel", ("text_encoder", "text_encoder_2"), ("text_encoder_3",))


def _describe(saved: SavedPipeline) -> tuple[str, tuple[int, int, int]]:
    # each block of the autoencoder but the last halves the image
    factor: int = 2 ** (len(saved.setting("vae", "block_out_channels")) - 1)
    size: int = saved.setting("transformer", "sample_size") * factor
    return saved.revision(), (3, size, size)


def _load(saved: SavedPipeline) -> StableDiffusion3Pipeline:
    from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline
    from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

    models = {
        "transformer": SD3Transformer2DModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModelWithProjection,
        "text_encoder_2": CLIPTextModelWithProjection,
        "text_encoder_3": T5EncoderModel,
    }
    others = {
        "scheduler": FlowMatchEulerDiscreteScheduler,
        "tokenizer": CLIPTokenizer,
        "tokenizer_2": CLIPTokenizer,
        "tokenizer_3": T5TokenizerFast,
    }
    parts: dict[str, Any] = dict.fromkeys(("text_encoder_3", "tokenizer_3"))  # None without T5
    for part in saved.parts:
        if part in models:
            parts[part] = _load_model(saved.folder / part, models[part])
        else:
            parts[part] = others[part].from_pretrained(saved.folder / part, local_files_only=True)
    return StableDiffusion3Pipeline(**parts)


def _load_model(folder: Path, kind: Any) -> Any:
    """A model in float32, whatever its file holds, frozen. Raises :class:`UserError` for weights that do not fit."""
    try:
        model, report = kind.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{folder}: cannot be loaded as a {kind.__name__} ({error}). Fetch it again.") from error
    if odd := sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])):
        raise UserError(
            f"{folder}: its weights do not fit its config.json: {', '.join(odd[:5])} missing or of another shape. "
            "Fetch both from the same repository."
        )
    return model.float().requires_grad_(False).eval()

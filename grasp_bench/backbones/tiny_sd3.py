"""Stable Diffusion 3's transformer at a size that trains on a CPU, shipped with its weights.

Two members of one family: ``tiny-sd3`` draws 8×8 grey glyphs, ``tiny-sd3-32`` 32×32 colour scenes. They have no
autoencoder (a latent is the image in [-1, 1]) and their prompt encoder needs no download; everything else is the code
path that SD3.5 takes: diffusers' ``SD3Transformer2DModel``, flow matching, Euler sampling.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from grasp_bench import seeds
from grasp_bench.backbones.sd3 import MMDiT
from grasp_bench.contracts.backbone import Description, PromptEmbeddings
from grasp_bench.contracts.recipe import BackboneRecipe
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import torch
    from diffusers import SD3Transformer2DModel
    from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

WEIGHTS = Path(__file__).parent / "weights"
PROMPT_WIDTH = 64


class TinySD3Family(MMDiT):
    """What the members share; a member states its sizes and its revision."""

    name: ClassVar[str]
    """Names the weights' file and keys the draw of the initial weights."""
    revision: ClassVar[str]
    image_shape: ClassVar[tuple[int, int, int]]
    architecture: ClassVar[dict[str, Any]]
    """Arguments of ``SD3Transformer2DModel`` beyond those that follow from the image and the prompt."""
    prompt_length: ClassVar[int]
    """The most words that a prompt may have."""
    threads = 1  # tensors are so small that threads wait for each other
    sampling_dtype: ClassVar[str] = "float64"  # cheap at this size, and images cannot depend on the batch's size

    transformer: SD3Transformer2DModel

    def __init__(self, transformer: SD3Transformer2DModel) -> None:
        from grasp_bench.backbones.words import WordEncoder
        from grasp_bench.contracts.objective import FlowMatching

        self.transformer = transformer
        self.latent_shape = self.image_shape
        self.objective = FlowMatching()
        self.encode_words = WordEncoder(PROMPT_WIDTH, self.prompt_length)

    @classmethod
    def initialise(cls) -> Self:
        """The backbone before pretraining: always the same initial weights, trainable."""
        from diffusers import SD3Transformer2DModel

        channels, _, size = cls.image_shape
        with seeds.global_seed(seeds.generator("init", cls.name)):
            transformer = SD3Transformer2DModel(
                sample_size=size,
                in_channels=channels,
                out_channels=channels,
                joint_attention_dim=PROMPT_WIDTH,
                pooled_projection_dim=PROMPT_WIDTH,
                pos_embed_max_size=size // cls.architecture["patch_size"],
                **cls.architecture,
            )
        return cls(transformer)

    @classmethod
    def weights(cls) -> Path:
        """The safetensors file that ships with the package; its card is the JSON file beside it."""
        return WEIGHTS / f"{cls.name}.safetensors"

    @classmethod
    def describe(cls, source: str, resolution: int | None = None) -> Description:
        if source:
            raise UserError(f"backbone {cls.name} ships with its weights: leave out {':' + source!r}.")
        if resolution not in (None, cls.image_shape[-1]):
            raise UserError(
                f"--resolution {resolution}: backbone {cls.name} makes images of {cls.image_shape[-1]} pixels a side "
                "only. Leave the option out, or choose another backbone."
            )
        return Description(cls.revision, cls.image_shape)

    @classmethod
    def load(cls, source: str = "", resolution: int | None = None) -> Self:
        from grasp_bench.io import file_digest, read_tensors

        path = cls.weights()
        if not file_digest(path).startswith(cls.revision):
            raise RuntimeError(f"{path} is not the file of revision {cls.revision}, which begins its sha256")
        backbone = cls.initialise()
        backbone.transformer.load_state_dict(read_tensors(path))
        backbone.transformer.requires_grad_(False).eval()
        return backbone

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        return images.float() / 127.5 - 1

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        return ((latents + 1) * 127.5).round().clamp(0, 255).byte()

    def encode_prompts(self, prompts: list[str]) -> PromptEmbeddings:
        return self.encode_words(prompts)

    def scheduler(self, steps: int, device: torch.device) -> FlowMatchEulerDiscreteScheduler:
        from diffusers.schedulers import FlowMatchEulerDiscreteScheduler

        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(steps, device=device)
        return scheduler


class TinySD3(TinySD3Family):
    """SD3's transformer at 0.6 M parameters on 8×8 grey pixels, pretrained on printed glyphs; ships with the package

    Made by ``python -m grasp_bench.backbones.pretrain tiny-sd3``. Prompts are any words, at most 12 of them.
    """

    caution = "8×8, pretrained on glyphs: shows that the code runs"  # noqa: RUF001 # as it is written
    name: ClassVar[str] = "tiny-sd3"
    revision = "0b6966488a08"
    recipe = BackboneRecipe(parameters=43_008)
    image_shape = (1, 8, 8)
    architecture: ClassVar[dict[str, Any]] = {
        "patch_size": 2,
        "num_layers": 4,
        "attention_head_dim": 32,
        "num_attention_heads": 2,
        "caption_projection_dim": 64,
    }
    prompt_length: ClassVar[int] = 12


class TinySD3At32(TinySD3Family):
    """SD3's transformer at 1.3 M parameters on 32×32 colour pixels, pretrained on drawn scenes; ships with the package

    Made by ``python -m grasp_bench.backbones.pretrain tiny-sd3-32``. Prompts are any words, at most 24 of them.
    """

    caution = "32×32, pretrained on drawings: shows that the code runs"  # noqa: RUF001 # as it is written
    name: ClassVar[str] = "tiny-sd3-32"
    revision = "c3f24179d8ff"
    recipe = BackboneRecipe(parameters=64_512)
    image_shape = (3, 32, 32)
    architecture: ClassVar[dict[str, Any]] = {
        "patch_size": 4,
        "num_layers": 4,
        "attention_head_dim": 32,
        "num_attention_heads": 3,
        "caption_projection_dim": 96,
    }
    prompt_length: ClassVar[int] = 24

"""What all backbones from a saved diffusers pipeline share: parts that are loaded when they are first used.

A pipeline is read from a folder or the hub's local cache, and only its safetensors.
"""

from __future__ import annotations

import functools
import importlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Self

from grasp_bench.backbones.files import check_scaling, loading
from grasp_bench.contracts.backbone import Backbone, Description, PromptEmbeddings
from grasp_bench.contracts.recipe import BackboneRecipe
from grasp_bench.errors import UserError
from grasp_bench.io import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from grasp_bench.backbones.files import SavedPipeline

PROMPTS_KEPT = 64  # about 5 MB each at the size of SD3; sampling asks for the same few again and again
PROMPTS_AT_ONCE = 16  # always: another number would change the last bits of embeddings


class SavedBackbone(Backbone):
    """A transformer over an autoencoder's latents, with text encoders, in float32 whatever the files hold.

    A family names its parts and says how its prompts are encoded and its transformer is called.
    """

    sampling_dtype: ClassVar[str] = "float32"
    components: ClassVar[dict[str, str]]
    """Part of the pipeline → library and class; without the scheduler."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Text encoders that a pipeline may be saved without."""
    pipeline_class: ClassVar[str]
    """diffusers' pipeline of the family, whose own way to encode a prompt is used."""
    example: ClassVar[str]
    """A source, for messages."""

    def __init__(self, saved: SavedPipeline, resolution: int | None = None) -> None:
        """``resolution`` is that of images in pixels a side; None for the native one."""
        import torch

        self.saved = saved
        description = self._described(saved, resolution)
        self.revision, self.image_shape, self.recipe = description.revision, description.image_shape, description.recipe
        channels, size = self._latent_shape(saved)[0], self.image_shape[-1] // self._latent_factor(saved)
        self.latent_shape = (channels, size, size)
        self.device = torch.device("cpu")
        self.transformer = self._load("transformer")
        self._kept: dict[str, dict[str, torch.Tensor]] = {}

    @classmethod
    def describe(cls, source: str, resolution: int | None = None) -> Description:
        return cls._described(cls._find(source), resolution)

    @classmethod
    def load(cls, source: str = "", resolution: int | None = None) -> Self:
        return cls(cls._find(source), resolution)

    @classmethod
    def download(cls, source: str, say: Callable[[str], None]) -> None:
        from grasp_bench.backbones.download import download_pipeline

        download_pipeline(*cls._wanted(source), say=say)

    @classmethod
    def _find(cls, source: str) -> SavedPipeline:
        from grasp_bench.backbones.files import find_pipeline

        return find_pipeline(*cls._wanted(source))

    @classmethod
    def _wanted(cls, source: str) -> tuple[str, str, list[str], tuple[str, ...]]:
        """The source, the transformer's class, and the parts that are needed and those that are welcome."""
        if not source:
            raise UserError(
                "this backbone needs the folder of a saved pipeline or a repository in the hub's local cache, as in "
                f"{cls.example}."
            )
        required = [part for part in cls.components if part not in cls.optional]
        return source, cls.components["transformer"].partition(".")[2], required, cls.optional

    @classmethod
    def _described(cls, saved: SavedPipeline, resolution: int | None = None) -> Description:
        size, recipe = cls._size(saved, resolution), cls._recipe_of(saved)
        texts = [part for part in saved.parts if part.startswith(("text_encoder", "tokenizer"))]
        # the kind of pipeline, too: PixArt-α and PixArt-Σ have one encoder and read it at different lengths
        encoding: list[Any] = [saved.index.get("_class_name"), saved.part_revision(texts)]
        if length := cls._prompt_length(saved):
            encoding.append(length)
        return Description(
            saved.revision(),
            (3, size, size),
            autoencoder=saved.part_revision(["vae"]),
            text_encoder=digest(encoding)[:12] if texts else None,
            recipe=recipe,
            native=cls._latent_shape(saved)[-1] * cls._latent_factor(saved),
            settings={"resolution": size} | recipe.settings(),
        )

    @classmethod
    def _recipe_of(cls, saved: SavedPipeline) -> BackboneRecipe:
        """The recipe of a pipeline's own weights, told by its configuration."""
        return cls.recipe

    @classmethod
    def _prompt_length(cls, saved: SavedPipeline) -> int | None:
        """Tokens of a prompt, where they are fewer than the pipeline's default; part of the text encoder's hash."""
        return None

    @classmethod
    def _size(cls, saved: SavedPipeline, resolution: int | None) -> int:
        """Pixels a side of the images. Raises :class:`UserError` for a resolution that is not supported."""
        factor = cls._latent_factor(saved)
        native = cls._latent_shape(saved)[-1] * factor
        if resolution is None or resolution == native:
            return native
        supported = sorted({native, *cls._recipe_of(saved).resolutions})
        if resolution not in supported:
            raise UserError(
                f"--resolution {resolution}: {saved.folder} supports {', '.join(map(str, supported))} pixels a side; "
                f"{native} is its own. Choose one of them."
            )
        if resolution % (multiple := factor * cls._patch(saved)):
            raise UserError(
                f"--resolution {resolution}: {saved.folder} needs a multiple of {multiple} pixels, which is what one "
                f"token of its transformer stands for. Leave the option out for its own {native}."
            )
        return resolution

    @classmethod
    def _patch(cls, saved: SavedPipeline) -> int:
        """Latents a side that are one token."""
        return saved.setting("transformer", "patch_size")

    @classmethod
    def _latent_shape(cls, saved: SavedPipeline) -> tuple[int, int, int]:
        """(C, h, w) of the latents that the transformer was trained on."""
        size = saved.setting("transformer", "sample_size")
        return saved.setting("transformer", "in_channels"), size, size

    @classmethod
    def _latent_factor(cls, saved: SavedPipeline) -> int:
        """How many pixels wide a latent is: each block of the autoencoder but the last halves the image."""
        factor: int = 2 ** (saved.length("vae", "block_out_channels") - 1)
        return factor

    def to(self, device: torch.device) -> Self:
        self.device = device
        self.transformer.to(device)
        return self

    def encode_on(self, device: torch.device) -> Self:
        """The backbone itself, of which only autoencoder and text encoders will be on ``device``.

        Both are float32, whatever the precision of training. diffusers' scripts hold text encoders in that of training,
        which takes half the memory and gives other embeddings.
        """
        self.device = device
        return self

    @functools.cached_property
    def autoencoder(self) -> Any:
        """Images to latents and back, on the backbone's device."""
        vae = self._load("vae").to(self.device)
        check_scaling(self.saved.folder / "vae", vae.config)
        vae.enable_slicing()  # one image at a time: bounded memory, and the same image in any batch
        return vae

    @functools.cached_property
    def text_pipeline(self) -> Any:
        """diffusers' pipeline to encode prompts with, its text encoders on the backbone's device."""
        parts = dict.fromkeys([*self.components, "scheduler"])
        for part in self.saved.parts:
            if part.startswith("tokenizer"):
                parts[part] = self._load(part)
            elif part.startswith("text_encoder"):
                parts[part] = self._load(part).to(self.device)
        parts["transformer"] = self.transformer  # whose widths some ask for; it stays where it is
        return _class("diffusers." + self.pipeline_class)(**parts)

    def release_encoders(self) -> None:
        import torch

        for name in ("autoencoder", "text_pipeline"):
            self.__dict__.pop(name, None)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, 3, H, W) → latents (B, C, h, w): the mode of the autoencoder's distribution, shifted and scaled."""
        import torch

        config = self.autoencoder.config
        with torch.no_grad():
            mode = self.autoencoder.encode(images.to(self.device).float() / 127.5 - 1).latent_dist.mode()
        latents: torch.Tensor = (mode - (config.shift_factor or 0)) * config.scaling_factor
        return latents

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        config = self.autoencoder.config
        scaled = latents.to(self.device).float() / config.scaling_factor + (getattr(config, "shift_factor", None) or 0)
        images: torch.Tensor = self.autoencoder.decode(scaled).sample
        return images

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.no_grad():
            return ((self.decode(latents) / 2 + 0.5).clamp(0, 1) * 255).round().byte()

    def encode_prompts(self, prompts: list[str]) -> PromptEmbeddings:
        """What diffusers' pipeline makes of the distinct prompts, 16 at a time in their order; long ones are cut.

        The empty prompt is encoded by itself, and is the pipeline's own null condition to the bit. Of others the last
        bits may depend on which prompts are encoded together, as those of any product of matrices do.
        """
        import torch

        distinct = dict.fromkeys(prompts)
        found = {prompt: self._kept.pop(prompt) for prompt in distinct if prompt in self._kept}
        missing = [prompt for prompt in distinct if prompt and prompt not in found]
        parts = [missing[start : start + PROMPTS_AT_ONCE] for start in range(0, len(missing), PROMPTS_AT_ONCE)]
        if "" in distinct and "" not in found:
            parts.append([""])
        for part in parts:
            found |= zip(part, self._encode_on_cpu(part), strict=True)
        self._kept |= found
        for prompt in list(self._kept)[:-PROMPTS_KEPT]:
            del self._kept[prompt]
        rows = [found[prompt] for prompt in prompts]
        return PromptEmbeddings(**{name: torch.cat([row[name] for row in rows]) for name in rows[0]})

    def _encode_on_cpu(self, prompts: list[str]) -> list[dict[str, torch.Tensor]]:
        """Each prompt's own tensors, of one row."""
        import torch

        with torch.no_grad():
            together = self.encode_together(prompts).to(torch.empty(0))
        rows = (together[torch.tensor([row])] for row in range(len(prompts)))  # copies
        return [row.tensors() for row in rows]

    def encode_together(self, prompts: list[str]) -> PromptEmbeddings:
        """Embeddings of prompts in one pass, wherever the text encoders are; the empty prompt comes by itself."""
        raise NotImplementedError

    def blank_prompts(self, count: int) -> PromptEmbeddings | None:
        """Zeros of the shapes that ``count`` prompts are embedded in, without an encoder; None where nothing says so.

        An estimate takes them for prompts.
        """
        return None

    def scheduler_config(self) -> dict[str, Any]:
        """The saved scheduler's settings."""
        return self.saved.scheduler_config()

    def loading_scheduler(self) -> AbstractContextManager[None]:
        """Turn what diffusers raises inside the block for settings of another form into a :class:`UserError`."""
        return loading(self.saved.folder / "scheduler", "scheduler")

    def _load(self, part: str) -> Any:
        """A tokenizer, or a model in float32, frozen. Raises :class:`UserError` for weights that do not fit."""
        import torch

        kind, folder = _class(self.components[part]), self.saved.folder / part
        options = {"use_safetensors": True, "output_loading_info": True, "variant": self.saved.variant(part)}
        with loading(folder, kind.__name__):
            if part.startswith("tokenizer"):
                return kind.from_pretrained(folder, local_files_only=True)
            with torch.random.fork_rng(devices=[]):  # some models draw weights before the stored ones replace them
                model, progress = kind.from_pretrained(folder, local_files_only=True, **options)
        if odd := sorted(map(str, [*progress["missing_keys"], *progress["mismatched_keys"]])):
            raise UserError(
                f"{folder}: its weights do not fit its config.json: {', '.join(odd[:5])} missing or of another shape. "
                "Fetch both from the same repository."
            )
        return model.float().requires_grad_(False).eval()


def _class(name: str) -> Any:
    """``library.Class``, imported."""
    library, _, kind = name.partition(".")
    return getattr(importlib.import_module(library), kind)

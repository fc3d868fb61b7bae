"""A pipeline of diffusers as an entry of the open division: it is given every class's prompt, and its images scored.

Weights are read from safetensors alone, and no code that a folder brings is run. Each image has a noise stream of its
own, so that neither the batch's size nor an interruption decides what an image is made from.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import JsonValue

from grasp_bench.backbones.files import PIPELINE, check_scaling, weights_digest
from grasp_bench.contracts.entry import Found, Request
from grasp_bench.errors import UserError
from grasp_bench.io import check_file, digest, file_digest, read_object
from grasp_bench.run.entry.generated import generate
from grasp_bench.text import printable
from grasp_bench.weights import refuse_pickled_adapters, shards

if TYPE_CHECKING:
    import torch

READ = (".json", ".txt", ".model", ".safetensors")
"""Endings of the files that a pipeline is loaded from."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
INDICES = "*.safetensors.index*.json"
"""Names of the files that list the files of large weights, which a loader follows whatever they name."""
HALF = ".fp16."
IMAGES = ("image", "mask_image", "control_image")
"""Arguments of pipelines that start from images; text-to-image ones do without, unless they are controlled by them."""
CONTROLLED = "Control"
ALPHA = ".alpha"  # ends the name of a LoRA's scale in kohya's layout
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class GivenPipeline:
    """A saved text-to-image pipeline, the LoRA file that is loaded into it, and how it is called."""

    folder: Path
    lora: Path | None = None
    guidance_scale: float | None = None
    """Scale of classifier-free guidance; None for the pipeline's own."""
    steps: int | None = None
    """Sampling steps; None for the pipeline's own number."""
    precision: Precision = "float32"

    @cached_property
    def settings(self) -> dict[str, JsonValue]:
        """Whatever decides the images: hashes of the weights, and how the pipeline is called.

        Raises :class:`UserError` for a folder that is no whole pipeline, or that cannot be read without running code.
        """
        _check(self.folder)
        if self.lora and (self.lora.suffix != ".safetensors" or not self.lora.is_file()):
            found = "there is no such file" if not self.lora.exists() else "is no .safetensors file"
            raise UserError(f"--lora {self.lora}: {found}. Pickles can run any code and are not read.")
        given: dict[str, JsonValue] = {
            "lora": file_digest(self.lora) if self.lora else None,
            "guidance_scale": self.guidance_scale,
            "steps": self.steps,
        }
        own = {name: value for name, value in given.items() if value is not None}
        return {"pipeline": _revision(self.folder), "precision": self.precision, **own}

    def make(self, request: Request, folder: Path) -> Found:
        """Leave images of every class in ``folder``, in batches that an interruption does not lose."""
        return generate(request, folder, partial(self._images, self.load(request.device), request))

    def load(self, device: torch.device) -> Any:
        """Return the pipeline on a device, with the LoRA in it. Raises :class:`UserError` where it does not fit."""
        import torch
        from diffusers import DiffusionPipeline

        names = [path.name for path in self.folder.glob("*/*.safetensors")]
        half = any(HALF in name for name in names) and not any(HALF not in name for name in names)
        low = {} if self.precision == "float32" else {"torch_dtype": getattr(torch, self.precision)}
        try:
            pipeline = DiffusionPipeline.from_pretrained(
                self.folder,
                local_files_only=True,
                use_safetensors=True,
                variant="fp16" if half else None,
                **low,
            )
        except Exception as error:  # diffusers raises nearly anything for files of another form or version
            raise UserError(
                f"{self.folder}: diffusers cannot load it as a pipeline: {_first_line(error)}. Save it whole, with "
                "this version of diffusers or an older one."
            ) from error
        self._check_call(pipeline)
        if autoencoder := getattr(pipeline, "vae", None):
            check_scaling(self.folder / "vae", autoencoder.config)
        if self.lora:
            _load_lora(pipeline, self.lora)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(device)

    def _check_call(self, pipeline: Any) -> None:
        """Raise :class:`UserError` unless images come of prompts alone, with the options that are asked for."""
        from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

        takes, kind = inspect.signature(pipeline.__call__).parameters, type(pipeline).__name__
        asked = {"guidance_scale": self.guidance_scale, "num_inference_steps": self.steps}
        for name in ("prompt", "generator", *(name for name, value in asked.items() if value is not None)):
            if name not in takes:
                raise UserError(f"{self.folder}: a {kind} takes no {name}. Expected a text-to-image pipeline.")
        without = type(pipeline) in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values() and CONTROLLED not in kind
        if (beside := [name for name in IMAGES if name in takes]) and not without:
            raise UserError(f"{self.folder}: a {kind} needs {beside[0]} beside a prompt. Expected a text-to-image one.")

    def _images(self, pipeline: Any, request: Request, numbers: list[int]) -> list[np.ndarray]:
        """Return the images of those ``numbers``, uint8 (3, H, W) each."""
        from grasp_bench.sampling import noise_stream

        spec, (subjects, _) = request.spec, request.sampled()
        places = [divmod(number, spec.budget.images_per_class) for number in numbers]
        asked = {"guidance_scale": self.guidance_scale, "num_inference_steps": self.steps}
        output = pipeline(
            prompt=[subjects[number][0] for number in numbers],
            generator=[noise_stream(spec.task.name, spec.seed, *place) for place in places],
            output_type="pil",
            **{name: value for name, value in asked.items() if value is not None},
        )
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            raise UserError(
                f"{self.folder}: its safety checker blacked images out, which would be scored as they are. Save the "
                "pipeline with safety_checker=None."
            )
        return [np.asarray(image.convert("RGB")).transpose(2, 0, 1) for image in output.images]


def _check(folder: Path) -> None:
    """Raise :class:`UserError` for what is missing of a pipeline, and for what only code could read."""
    index = folder / PIPELINE
    if not index.is_file():
        raise UserError(f"{folder}: has no {PIPELINE}, so it is no pipeline as `save_pretrained` writes it.")
    named = read_object(index)
    if code := sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py")):
        raise UserError(f"{folder}: brings code of its own ({', '.join(code)}), which is not run.")
    if not isinstance(named.get("_class_name"), str):
        raise UserError(f"{index}: _class_name is {named.get('_class_name')!r}, expected a class of diffusers.")
    for listed in sorted(folder.rglob(INDICES)):
        shards(listed)
    refuse_pickled_adapters(folder)
    parts = [part for part, value in named.items() if isinstance(value, list) and len(value) == 2 and value[1]]
    for part in parts:
        there = [path.name for path in (folder / part).iterdir()] if (folder / part).is_dir() else []
        if not there:
            raise UserError(f"{folder}: {part} is not there, which {PIPELINE} names. Save the pipeline whole.")
        pickled = sorted(name for name in there if Path(name).suffix in PICKLES)
        if pickled and not any(name.endswith(".safetensors") for name in there):
            raise UserError(
                f"{folder / part}: {', '.join(pickled)}: a pickle can run any code and is not read. Save the pipeline "
                "with safe_serialization=True."
            )


def _revision(folder: Path) -> str:
    """12 hex digits of a sha256 over the files of a pipeline; of weights, header and edges enter."""
    rows: Sequence[JsonValue] = [
        [path.relative_to(folder).as_posix(), weights_digest(path) if path.suffix == READ[-1] else file_digest(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in READ and not path.relative_to(folder).as_posix().startswith(".")
    ]
    return digest(list(rows))[:12]


def _load_lora(pipeline: Any, path: Path) -> None:
    """Load a LoRA in peft's, diffusers' or kohya's layout.

    Raises :class:`UserError` where the pipeline takes none, or not the whole of this one.
    """
    from safetensors import safe_open

    kind = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights"):
        raise UserError(f"--lora {path}: a {kind} takes no LoRA.")
    try:
        with safe_open(check_file(path), "np") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys() if not name.endswith(ALPHA)]  # noqa: SIM118
        pipeline.load_lora_weights(path.parent, weight_name=path.name, local_files_only=True)
    except Exception as error:  # likewise
        raise UserError(f"--lora {path}: does not fit this {kind}: {_first_line(error)}") from error
    given, loaded = sum(int(np.prod(shape)) for shape in shapes), _lora_size(pipeline)
    if not loaded or loaded < given:
        raise UserError(
            f"--lora {path}: {loaded:,} of its {given:,} numbers have a place in this {kind}: it is of another model."
        )


def _first_line(error: Exception) -> str:
    """Return the first line of an exception's text, or its name."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0])


def _lora_size(pipeline: Any) -> int:
    """Numbers in the LoRA layers of a pipeline's models."""
    models = [part for part in pipeline.components.values() if hasattr(part, "named_parameters")]
    return sum(parameter.numel() for model in models for name, parameter in model.named_parameters() if "lora_" in name)

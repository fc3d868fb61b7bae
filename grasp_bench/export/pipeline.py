"""A fine-tuned backbone as one of diffusers' pipelines: it generates images of a class as the harness does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from PIL import Image

from grasp_bench import plugins, seeds
from grasp_bench.contracts.backbone import Backbone, ChosenBackbone, PromptEmbeddings
from grasp_bench.contracts.guidance import Guidance
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.settings import Settings, parse_settings
from grasp_bench.contracts.task import ClassInfo, Task, TaskSettings
from grasp_bench.errors import UserError, did_you_mean
from grasp_bench.export.manifest import Manifest, read_manifest
from grasp_bench.export.smaller import dequantized
from grasp_bench.io import canonical_json, read_tensors
from grasp_bench.precision import quick_products, store_frozen
from grasp_bench.processes import pick_device
from grasp_bench.run.files import WEIGHTS
from grasp_bench.run.resolve import choose_same_backbone, restored, validated
from grasp_bench.run.threads import threads_taken
from grasp_bench.sampling import Sampler, noise_stream


class FineTunedPipeline(DiffusionPipeline):  # type: ignore[misc] # diffusers is Any to us
    """Generates images of the classes that a method was fine-tuned on; the class decides the route.

    With the run's seed, image number i of a class is the one that the run generated, as long as prompt, guidance and
    steps are the run's. Where text encoders compute embeddings, it is so up to what follows from their last bits, which
    depend on the prompts that are encoded together.
    """

    backbone: Backbone
    method: Method[MethodSettings]
    manifest: Manifest
    encodes_text: bool
    """Whether the backbone has text encoders, so that a run stores what they make of its prompts."""

    def __init__(self, transformer: torch.nn.Module, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)

    @classmethod
    def assemble(cls, manifest: Manifest, weights: Path, chosen: ChosenBackbone) -> FineTunedPipeline:
        """Return the pipeline on the CPU. Raises :class:`UserError` for weights that do not fit the manifest."""
        spec, backbone = manifest.spec, chosen.load()
        backbone.set_classes([info.prompt for info in manifest.classes])
        method: Method[MethodSettings] = restored("methods", spec.method)
        method.studied = manifest.artifacts
        generator = seeds.generator("init", spec.task.name, spec.seed, spec.method.name)
        method.detachable = False
        method.attach(backbone, _KnownClasses(manifest), generator)
        store_frozen(backbone.transformer, spec.budget.precision)
        try:
            stored = read_tensors(weights)
            method.load_state_dict(dequantized(stored) if manifest.quantized else stored)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{weights}: does not fit method {spec.method.name}: {error}.") from error
        if canonical_json(method.artifacts()) != canonical_json(manifest.artifacts):
            raise UserError(
                f"{weights}: method {spec.method.name} would serve its classes otherwise than it was trained to "
                f"({', '.join(manifest.artifacts)}). Install the version that made it."
            )
        backbone.transformer.eval()
        pipeline = cls(backbone.transformer, backbone.scheduler(spec.budget.num_inference_steps, torch.device("cpu")))
        pipeline.backbone, pipeline.method, pipeline.manifest = backbone, method, manifest
        pipeline.encodes_text = chosen.description.text_encoder is not None
        return pipeline

    def __call__(
        self,
        prompt: str | None = None,
        class_name: str | None = None,
        num_images: int = 4,
        seed: int | None = None,
        num_inference_steps: int | None = None,
        guidance: str | None = None,
        guidance_settings: Mapping[str, Any] | None = None,
        batch_size: int = 100,
    ) -> ImagePipelineOutput:
        """Return ``num_images`` PIL images of one class; see :meth:`sample` for the arguments."""
        arrays = self.sample(
            prompt, class_name, num_images, seed, num_inference_steps, guidance, guidance_settings, batch_size
        )
        return ImagePipelineOutput([Image.fromarray(_pixels(each)) for each in arrays])

    def sample(
        self,
        prompt: str | None = None,
        class_name: str | None = None,
        num_images: int = 4,
        seed: int | None = None,
        num_inference_steps: int | None = None,
        guidance: str | None = None,
        guidance_settings: Mapping[str, Any] | None = None,
        batch_size: int = 100,
        threads: int | None = None,
    ) -> torch.Tensor:
        """Return uint8 images (num_images, C, H, W) of one class.

        The class may be left out only where the prompt is that of one class alone, and the prompt where it is the
        class's own: every class has its noise and, with methods that route, its route, so no other prompt says which.
        Seed, steps and guidance are those of the run unless they are given; settings of a guidance that are not
        given are those of the run, or where it is another guidance its defaults. ``batch_size`` images are made at a
        time, by ``threads`` of a CPU, or else as many as are usual for the backbone. Raises :class:`UserError` for
        whatever is unknown or out of bounds.
        """
        named = {"num_images": num_images, "batch_size": batch_size, "threads": threads, "seed": seed}
        for name, value in named.items():
            if value is not None and value < (name != "seed"):
                raise UserError(f"{name}={value}: expected at least {int(name != 'seed')}.")
        spec, index = self.manifest.spec, self.class_index(prompt, class_name)
        sampler = self.sampler(guidance, guidance_settings or {})
        steps = sampler.guidance.steps(spec.budget) if num_inference_steps is None else num_inference_steps
        if steps < 1:
            raise UserError(f"num_inference_steps={steps}: expected at least 1.")
        known, own = spec.seed if seed is None else seed, prompt or self.manifest.classes[index].prompt
        batches = [range(start, min(start + batch_size, num_images)) for start in range(0, num_images, batch_size)]
        with threads_taken(threads, self.backbone.threads):
            return torch.cat(
                [
                    self.images(
                        sampler,
                        [(own, index)] * len(numbers),
                        [noise_stream(spec.task.name, known, index, number) for number in numbers],
                        steps,
                    )
                    for numbers in batches
                ]
            )

    def images(
        self,
        sampler: Sampler,
        subjects: Sequence[tuple[str, int]],
        streams: list[torch.Generator],
        steps: int,
    ) -> torch.Tensor:
        """Return uint8 images (B, C, H, W) of these prompts and class indices, from a stream of noise each.

        Products are made as a run makes them: on a GPU, float32 ones of TF32 factors.
        """
        noise = torch.stack([torch.randn(self.backbone.latent_shape, generator=stream) for stream in streams])
        prompts, labels = zip(*subjects, strict=True)
        with quick_products(sampler.precision, sampler.device):
            return sampler(noise, list(prompts), torch.tensor(labels), steps, streams)

    def class_index(self, prompt: str | None, class_name: str | None) -> int:
        """Return the index of the class that is asked for, by its name or by the prompt that is its own alone.

        Raises :class:`UserError` where it is unknown, or where neither says which.
        """
        names = [info.name for info in self.manifest.classes]
        if class_name in names:
            return names.index(class_name)
        there = f" There are: {', '.join(names)}."
        if class_name is not None:
            raise UserError(f"unknown class {class_name!r}.{did_you_mean(class_name, names)}{there}")
        owners = [index for index, info in enumerate(self.manifest.classes) if info.prompt == prompt]
        if len(owners) == 1:
            return owners[0]
        if prompt is None:
            raise UserError(f"neither a class nor a prompt is given. Name a class.{there}")
        whose = f"the prompt of {len(owners)} classes" if owners else "no class's own prompt"
        raise UserError(f"{prompt!r} is {whose}, so it does not say which class it is of. Name a class, too.{there}")

    def save_pretrained(self, *arguments: Any, **options: Any) -> NoReturn:
        """Refuse, since the transformer's own file could not be loaded without the method."""
        raise NotImplementedError("copy the folder that `grasp-bench export` wrote, which is what load reads")

    def sampler(
        self,
        name: str | None,
        settings: Mapping[str, Any],
        embed: Callable[[Sequence[str]], PromptEmbeddings] | None = None,
    ) -> Sampler:
        """Return the harness's sampler on the device where the transformer is, in the precision of the run.

        ``name`` and ``settings`` are of the guidance, as in :meth:`sample`; ``embed`` is where embeddings of prompts
        come from, if not from the backbone. Raises :class:`UserError` for one that needs more than the weights.
        """
        precision, device = self.manifest.spec.budget.precision, self.transformer.device
        found = self._guidance(name, settings)
        if type(found).prepare is not Guidance.prepare:
            name = name or self.manifest.spec.guidance.name
            raise UserError(
                f"guidance {name} needs more of the run than its weights: sample by `grasp-bench run --guidance "
                f"{name}`, or choose another guidance here, such as cfg."
            )
        sampler = Sampler(self.backbone.to(device), self.method, found, device, precision, embed)
        sampler.place(self.backbone)
        return sampler

    def _guidance(self, name: str | None, settings: Mapping[str, Any]) -> Guidance[Settings]:
        """Return the run's guidance with ``settings``, or another guidance in its place."""
        own = self.manifest.spec.guidance
        if name in (None, own.name) and not settings:
            return restored("guidance", own)  # type: ignore[no-any-return] # a plugin
        name = name or own.name
        kind, owner = plugins.load("guidance", name), f"guidance {name}"
        given = parse_settings(kind.Config, [f"{key}={value}" for key, value in settings.items()], owner, {})
        base = own.settings if name == own.name else {}
        merged = base | given.model_dump(mode="json", include=given.model_fields_set)
        return kind(validated(kind.Config, merged, owner))  # type: ignore[no-any-return] # a plugin


class _KnownClasses(Task[TaskSettings]):
    """The task that was fine-tuned on, as far as a method has to know it to be attached again: its classes."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(TaskSettings())
        self.manifest = manifest

    def classes(self) -> list[ClassInfo]:
        return self.manifest.classes


def load(folder: Path, backbone: str | None = None, device: str = "auto") -> FineTunedPipeline:
    """Return the pipeline that ``grasp-bench export`` wrote; see :func:`grasp_bench.load`."""
    where, manifest = pick_device(device), read_manifest(folder)
    chosen = choose_same_backbone(manifest.spec.backbone, backbone)
    return FineTunedPipeline.assemble(manifest, folder / WEIGHTS, chosen).to(where)  # type: ignore[no-any-return]


def _pixels(image: torch.Tensor) -> Any:
    """Return a uint8 image (C, H, W) as PIL reads it: (H, W) if it is grey, else (H, W, 3)."""
    return image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()

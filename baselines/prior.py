"""Prior preservation: the base model's own images of a class join its training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, JsonValue

from grasp_bench import seeds
from grasp_bench.contracts.method import Batch, MethodSettings
from grasp_bench.contracts.settings import Tuned
from grasp_bench.contracts.study import Presumed

from .base_model import sampled
from .on_top import OnTop, OnTopSettings, squared_distance

if TYPE_CHECKING:
    import numpy as np
    import torch

    from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
    from grasp_bench.contracts.spec import Precision
    from grasp_bench.contracts.study import Study
    from grasp_bench.contracts.task import Task, TaskSettings

SAMPLES = "prior.json"
HALF = "half"
AT_ONCE = 64
PLAIN_SCALE = 2.0
"""Guidance scale of the base model's images on backbones whose recipe has none."""


class PriorSettings(OnTopSettings):
    """Settings of prior preservation."""

    prior_weight: Annotated[float, Tuned(0.1, 10, log=True)] = Field(default=1.0, ge=0)
    """Weight of the loss on the base model's own images"""
    prior_images: int = Field(default=16, ge=1, le=10_000)
    """Images of every class that the base model makes, once, before training"""
    prior_steps: int = Field(default=20, ge=1, le=1000)
    """Sampling steps of the base model's images"""
    prior_scale: float | None = Field(default=None, ge=0, le=100)
    """Scale of classifier-free guidance that they are sampled with; none: that of the backbone's recipe, else 2"""


class Prior(OnTop[PriorSettings]):
    """Prior preservation: with every training image goes one that the base model made of the same class

    Before training, the pretrained backbone samples ``prior_images`` of every class. The loss of a sample is that of
    the method beneath plus ``prior_weight`` times the squared error on one of its class's base images, drawn in every
    step and noised by a draw of its own to the sample's timestep. Route and dropped prompts are the sample's; the
    prompt is the class's, under which the base image was made, also where the sample's own names several labels.

    The second image takes a forward and a backward pass of its own, so a step costs about two plain ones.
    """

    Config: ClassVar[type[MethodSettings]] = PriorSettings
    version = "1"
    paper = (
        "after Ruiz et al. 2022, DreamBooth, arXiv 2208.12242, whose prior-preservation loss and weight of 1 it has. "
        "There a prompt with a rare word stands for the subject and one without it for the class; here both are the "
        "class's prompt, since classes are what is learned. Our own: a base image has its partner's timestep, latents "
        "are kept as sampled, in half precision, and are neither decoded nor encoded again"
    )

    @property
    def studies(self) -> bool:
        return self.config.prior_weight > 0 or self.beneath.studies

    def study(self, study: Study) -> dict[str, JsonValue]:
        found = super().study(study) if self.beneath.studies else {}
        if self.config.prior_weight == 0:
            return found
        latents = self._sample(study.backbone, study.task, study.embed(), study.stream, study.precision, study.say)
        return found | {SAMPLES: packed(latents.numpy())}

    def presumed(self, backbone: Backbone, task: Task[TaskSettings]) -> Presumed | None:
        """One blank image of every class stands for all of them: a step draws one, however many there are."""
        import numpy as np

        found = super().presumed(backbone, task) if self.beneath.studies else Presumed({})
        if found is None or self.config.prior_weight == 0:
            return found
        classes = len(task.classes())
        blank = packed(np.zeros((classes, 1, *backbone.latent_shape), np.float16))
        of_an_image = self.config.prior_steps * (1 if self._scale(backbone) == 1 else 2)
        evaluations = classes * self.config.prior_images * of_an_image
        return Presumed(found.found | {SAMPLES: blank}, found.evaluations + evaluations)

    def _scale(self, backbone: Backbone) -> float:
        scale = self.config.prior_scale
        return (backbone.recipe.guidance_scale or PLAIN_SCALE) if scale is None else scale

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        """Attach the method beneath; without a study, the base model's images are made here, and no file keeps them."""
        found = self.studied.get(SAMPLES)
        if self.config.prior_weight == 0 or (isinstance(found, dict) and HALF not in found):
            self.samples = None
        elif found is not None:
            self.samples = unpacked(found)
        else:
            self.samples = self._sample(backbone, task, lambda prompts: backbone.encode_prompts(list(prompts)))
        super().attach(backbone, task, generator)

    def _sample(
        self,
        trained: Backbone,
        task: Task[TaskSettings],
        embed: Callable[[Sequence[str]], PromptEmbeddings],
        stream: Callable[..., int] = seeds.stream,
        precision: Precision = "float32",
        say: Callable[[str], None] = lambda message: None,
    ) -> torch.Tensor:
        """Latents (classes, prior_images, *latent_shape) of the base model's images, float32 on the CPU."""
        import torch

        from grasp_bench.memory import Portion
        from grasp_bench.precision import autocast, quick_products

        backbone = copy(trained)  # what the transformer is told in sampling is not told to the training's
        backbone.prepare_sampling()
        scale = self._scale(backbone)
        infos, each = task.classes(), self.config.prior_images
        keys = [(label, number) for label in range(len(infos)) for number in range(each)]
        device = next(backbone.transformer.parameters()).device
        like = torch.empty(0, device=device)

        def made(part: list[tuple[int, int]]) -> torch.Tensor:
            streams = [torch.Generator().manual_seed(stream("prior", *key)) for key in part]
            noise = torch.stack([torch.randn(backbone.latent_shape, generator=each) for each in streams])
            prompts, null = (embed(each).to(like) for each in ([infos[at].prompt for at, _ in part], [""] * len(part)))
            with torch.no_grad(), autocast(precision, device), quick_products(precision, device):
                return sampled(backbone, noise.to(like), prompts, self.config.prior_steps, scale, null).cpu()

        portion = Portion(AT_ONCE, "images of the base model are sampled", say)
        return torch.cat(list(portion.over(keys, made))).reshape(len(infos), each, *backbone.latent_shape)

    def artifacts(self) -> dict[str, JsonValue]:
        """Return the studies' findings; of the base model's images a digest stands there, since sampling needs none."""
        import hashlib

        theirs = super().artifacts()
        if self.samples is None:  # nothing was added, or this is an exported method, which was given the digest
            return theirs | {name: self.studied[name] for name in (SAMPLES,) if name in self.studied}
        half = self.samples.numpy().astype("<f2").tobytes()
        return theirs | {SAMPLES: {"shape": list(self.samples.shape), "sha256": hashlib.sha256(half).hexdigest()}}

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        own = super().losses(batch, prediction)
        if self.config.prior_weight == 0:
            return own
        theirs = self.partners(batch)
        error = squared_distance(self.predict(theirs, theirs.condition), theirs.target)
        return own + self.config.prior_weight * error

    def partners(self, batch: Batch) -> Batch:
        """Return a batch of the base model's images: for each sample one of its class, with the prompt of that image.

        Labels, dropped prompts and timesteps are those of ``batch``, and noise is drawn anew.
        Raises RuntimeError for an exported method, which has no images to train on.
        """
        import torch

        from grasp_bench.known import on_host
        from grasp_bench.processes import sent

        if self.samples is None:
            raise RuntimeError("prior cannot be trained without the base model's images, of which this has a digest")
        count, shape = self.samples.shape[1], batch.noise.shape[1:]

        def numbers(n: int, stream: torch.Generator) -> torch.Tensor:
            return torch.randint(count, (n,), generator=stream)

        def normal(n: int, stream: torch.Generator) -> torch.Tensor:
            numbers(n, stream)  # every draw begins at the same place of the stream
            return torch.randn(n, *shape, generator=stream)

        chosen, noise = batch.draw(numbers), batch.draw(normal).to(batch.noise)
        condition = batch.condition
        labels, dropped, timesteps = map(on_host, (condition.labels, condition.dropped, condition.timesteps))
        latents = self.samples[labels, on_host(chosen)]
        latents = sent(latents.to(batch.latents.dtype), batch.latents.device)
        objective = self.backbone.objective
        noisy, target = objective.add_noise(latents, noise, timesteps), objective.target(latents, noise, timesteps)
        of = zip(labels.tolist(), dropped.tolist(), strict=True)
        prompts = self.embed(batch, ["" if without else self.prompts[label] for label, without in of])
        condition = replace(condition, prompts=prompts)
        return replace(batch, latents=latents, noise=noise, noisy=noisy, target=target, condition=condition)


def packed(latents: np.ndarray) -> JsonValue:
    """Arrays of any shape as JSON, in half precision."""
    import base64

    return {"shape": list(latents.shape), HALF: base64.b64encode(latents.astype("<f2").tobytes()).decode()}


def unpacked(found: JsonValue) -> torch.Tensor:
    """What :func:`packed` was given, as a tensor, float32 on the CPU."""
    import base64

    import numpy as np
    import torch

    assert isinstance(found, dict)
    shape, half = found["shape"], found[HALF]
    assert isinstance(shape, list)
    assert isinstance(half, str)
    values = np.frombuffer(base64.b64decode(half), "<f2").astype(np.float32)
    return torch.from_numpy(values.reshape([int(str(side)) for side in shape]))

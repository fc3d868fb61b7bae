"""The checks of a backbone as a whole; the docstring of each is its contract."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from grasp_bench.contracts.backbone import Backbone, ChosenBackbone, PromptEmbeddings
from grasp_bench.errors import UserError
from grasp_bench.run.resolve import choose_backbone
from grasp_bench.testing.checks import NotApplicable, imported_by, require
from grasp_bench.testing.compare import ATOL, RTOL, changes, close, distance, equal, none

PROMPTS = ["a handwritten digit seven", "one", "a letter"]
STEPS = 6
CPU = torch.device("cpu")


@dataclass
class Subject:
    """A backbone by its name, and what it makes of a few images and prompts."""

    name: str

    @functools.cached_property
    def chosen(self) -> ChosenBackbone:
        """The backbone before it is loaded. Raises :class:`NotApplicable` where its weights are not here."""
        try:
            return choose_backbone(self.name)
        except UserError as error:
            raise NotApplicable(str(error)) from error

    def load(self) -> Backbone:
        """The backbone, loaded again, for classes of the prompts."""
        backbone = self.chosen.load()
        backbone.set_classes(PROMPTS)
        return backbone

    @functools.cached_property
    def backbone(self) -> Backbone:
        """The backbone, loaded once; checks leave it as it is."""
        return self.load()

    @functools.cached_property
    def images(self) -> torch.Tensor:
        """uint8 (3, C, H, W), smooth so that autoencoders know what to do with them."""
        coarse = torch.rand(3, self.chosen.image_shape[0], 4, 4, generator=torch.Generator().manual_seed(0))
        smooth = torch.nn.functional.interpolate(coarse, self.chosen.image_shape[1:], mode="bilinear")
        return (smooth * 255).round().byte()

    @functools.cached_property
    def prompts(self) -> PromptEmbeddings:
        """Two prompts and the null condition."""
        return self.backbone.encode_prompts([*PROMPTS[:2], ""])

    @functools.cached_property
    def noisy(self) -> torch.Tensor:
        """Noise (3, ...)."""
        return torch.randn(3, *self.backbone.latent_shape, generator=torch.Generator().manual_seed(2))

    @functools.cached_property
    def timesteps(self) -> torch.Tensor:
        """Three of the objective's training timesteps."""
        return self.backbone.objective.timesteps(3, torch.Generator().manual_seed(3))

    def predict(self, backbone: Backbone | None = None, rows: slice = slice(None)) -> torch.Tensor:
        """The prediction (B, ...) for ``rows`` of the samples."""
        return (backbone or self.backbone).predict(self.noisy[rows], self.timesteps[rows], self.prompts[rows])


def describe(subject: Subject) -> None:
    """describe() tells revision and shapes without torch, and load() gives what it tells."""
    chosen, backbone = subject.chosen, subject.load()
    told = chosen.description
    require(isinstance(told.revision, str) and told.revision, f"revision is {told.revision!r}, expected text")
    recipe = told.recipe
    require(not recipe.name or recipe.source.strip(), f"the recipe of {recipe.name} names no source of its figures")
    shape = tuple(backbone.decode_latents(torch.zeros(1, *backbone.latent_shape)).shape[1:])
    require(shape == told.image_shape, f"image_shape is {told.image_shape}, and images have {shape}")
    latents = backbone.encode_images(subject.images[:1])
    require(torch.equal(latents, subject.load().encode_images(subject.images[:1])), "loaded again, latents differ")
    kind = chosen.kind
    call = f"importlib.import_module({kind.__module__!r}).{kind.__qualname__}.describe({chosen.source!r})"
    heavy = imported_by(f"import importlib; {call}", ("torch", "diffusers"))
    require(not heavy, f"describe() imports {heavy}")


def frozen(subject: Subject) -> None:
    """load() gives the same frozen float32 weights each time, in evaluation mode, and draws nothing."""
    before = torch.get_rng_state()
    first, second = (subject.chosen.load().transformer for _ in range(2))
    require(torch.equal(torch.get_rng_state(), before), "load() draws from torch's global generator")
    parameters = dict(first.named_parameters())
    none("parameters require a gradient", [name for name, parameter in parameters.items() if parameter.requires_grad])
    odd = [name for name, each in parameters.items() if each.dtype != torch.float32 or each.device != CPU]
    none("parameters are not float32 on the CPU", odd)
    require(not any(module.training for module in first.modules()), "modules are in training mode")
    none("loaded again, weights differ", changes(first.state_dict(), second.state_dict()))


@torch.no_grad()
def images(subject: Subject) -> None:
    """Latents are finite and of latent_shape; an image's latents depend on no other image, nor its decoding."""
    backbone, given = subject.backbone, subject.images.clone()
    latents = backbone.encode_images(given)
    expected = (3, *backbone.latent_shape)
    require(tuple(latents.shape) == expected, f"latents of shape {tuple(latents.shape)}, expected {expected}")
    require(latents.is_floating_point() and latents.isfinite().all(), "latents are not finite numbers")
    require(torch.equal(given, subject.images), "encode_images() changes its images")
    require(close(backbone.encode_images(given[1:2]), latents[1:2]), "latents differ with the batch")
    decoded = backbone.decode_latents(latents)
    apart = (backbone.decode_latents(latents[1:2]).int() - decoded[1:2].int()).abs().max()
    require(apart <= 1, f"decoded images differ with the batch by {apart} grey levels")


def decode(subject: Subject) -> None:
    """decode() gives images of image_shape that a gradient flows through; decode_latents() gives the same, clipped to
    uint8.
    """
    backbone = subject.backbone
    with torch.no_grad():
        latents = backbone.encode_images(subject.images)
    leaf = latents.clone().requires_grad_()
    decoded, pixels = backbone.decode(leaf), backbone.decode_latents(latents)
    expected = (3, *subject.chosen.image_shape)
    require(tuple(decoded.shape) == expected, f"decode() gives the shape {tuple(decoded.shape)}, expected {expected}")
    require(pixels.dtype == torch.uint8, f"decode_latents() gives {pixels.dtype}, expected uint8")
    shown = ((decoded.detach() / 2 + 0.5).clamp(0, 1) * 255 - pixels).abs().max().item()
    require(shown < 0.51, f"decode_latents() is {shown:.3g} grey levels from decode() in [-1, 1]")
    (gradient,) = torch.autograd.grad(decoded.square().sum(), leaf)
    require(bool(gradient.isfinite().all()) and gradient.any(), "no gradient flows through decode()")


def prompts(subject: Subject) -> None:
    """A prompt's embedding depends on no other prompt, serves training, and differs from the null condition; released
    encoders give it again.
    """
    backbone, given = subject.load().encode_on(CPU), [*PROMPTS[:2], ""]
    with torch.inference_mode():
        together = backbone.encode_prompts(given)
    again = backbone.encode_prompts(given)
    for name, tensor in again.tensors().items():
        require(len(tensor) == 3 and tensor.device == CPU, f"{name} of 3 prompts is {tuple(tensor.shape)}")
        require(not tensor.requires_grad and not tensor.is_inference(), f"{name} cannot serve training")
        alone = backbone.encode_prompts(given[1:2]).tensors()[name]
        require(close(alone, tensor[1:2]), f"{name} of a prompt differs with the batch")
        require(torch.equal(together.tensors()[name], tensor), f"{name} differs when it is encoded again")
    for row in (1, 2):
        same = all(torch.equal(tensor[0], tensor[row]) for tensor in again.tensors().values())
        require(not same, f"{given[0]!r} and {given[row]!r} have the same embedding")
    backbone.release_encoders()
    require(not changes(backbone.encode_prompts(given).tensors(), again.tensors()), "released encoders differ")


def prompt_width(subject: Subject) -> None:
    """prompt_width() is the width of what encode_prompts() gives."""
    declared, found = subject.backbone.prompt_width(), subject.prompts
    if declared is None:
        raise NotApplicable("it does not say how wide a prompt is")
    if not found.tokens.is_floating_point():
        largest = int(found.tokens.max())
        require(largest < declared, f"prompt_width() is {declared}, and there is a class index {largest}")
        return
    width = (found.tokens if found.pooled is None else found.pooled).shape[-1]
    require(width == declared, f"prompt_width() is {declared}, and embeddings have {width}")


@torch.no_grad()
def padding(subject: Subject) -> None:
    """What a prompt's mask leaves out has no influence on predictions."""
    mask = subject.prompts.mask
    if mask is None:
        raise NotApplicable("its prompts have no mask")
    tokens = subject.prompts.tokens.masked_fill(~mask[..., None], 7.0)
    other = PromptEmbeddings(tokens, subject.prompts.pooled, mask)
    found = subject.backbone.predict(subject.noisy, subject.timesteps, other)
    equal(found, subject.predict(), "predictions move by up to {}")


def objective(subject: Subject) -> None:
    """From a prediction, clean() gives the data back, and prediction() the prediction, at every level."""
    objective = subject.backbone.objective
    levels = objective.levels(subject.backbone.scheduler(STEPS, CPU)).double()[:-1]
    timesteps = torch.cat([levels, objective.timesteps(20, torch.Generator().manual_seed(0)).double()])
    require(bool(((timesteps >= 0) & (timesteps <= 1)).all()), "timesteps are not all in [0, 1]")
    shape = (len(timesteps), *subject.backbone.latent_shape)
    data, noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noisy, target = objective.add_noise(data, noise, timesteps), objective.target(data, noise, timesteps)
    for name, found, expected in (
        ("clean", objective.clean(noisy, target, timesteps), data),
        ("prediction", objective.prediction(noisy, data, timesteps), target),
    ):
        kept = torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
        require(kept, f"{name}() is off by up to {distance(found, expected):.2g}")


@torch.no_grad()
def scheduler(subject: Subject) -> None:
    """A scheduler is deterministic, its levels descend to 0, and exact predictions lead it to the data."""
    backbone, ends = subject.backbone, []
    data = torch.full_like(subject.noisy, 0.3).double()
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            made = backbone.scheduler(STEPS, CPU)
            levels, latents = backbone.objective.levels(made).double(), subject.noisy.double()
            require(len(made.timesteps) == STEPS, f"it has {len(made.timesteps)} timesteps, expected {STEPS}")
            kept = len(levels) == STEPS + 1 and levels[-1] == 0
            require(kept, "levels() are not one more than steps, ending at 0")
            require(bool((levels.diff() < 0).all()), "levels do not descend")
            for level, timestep in zip(levels, made.timesteps, strict=False):
                exact = backbone.objective.prediction(latents, data, level.expand(3))
                latents = made.step(exact, timestep, latents, return_dict=False)[0].double()
            ends.append(latents)
    require(torch.equal(*ends), "sampling draws from a global generator")
    require(torch.allclose(ends[0], data, atol=0.02), f"exact predictions end {distance(ends[0], data):.2g} off")


@torch.no_grad()
def predict(subject: Subject) -> None:
    """A prediction has the latents' shape and depends on latents, timestep and prompt, and on nothing drawn."""
    backbone, noisy, times, prompts = subject.backbone, subject.noisy, subject.timesteps, subject.prompts
    before = torch.get_rng_state()
    found = subject.predict()
    require(torch.equal(torch.get_rng_state(), before), "predict() draws from torch's global generator")
    require(found.shape == noisy.shape, f"predictions of shape {tuple(found.shape)}, expected {tuple(noisy.shape)}")
    require(torch.equal(subject.predict(), found), "the same samples are predicted otherwise a second time")
    turned = torch.tensor([2, 0, 1])
    for what, other in (
        ("latents", backbone.predict(-noisy, times, prompts)),
        ("timesteps", backbone.predict(noisy, 1 - times, prompts)),
        ("prompts", backbone.predict(noisy, times, prompts[turned])),
    ):
        require(not torch.equal(other, found), f"predictions do not depend on {what}")


@torch.no_grad()
def train_mode(subject: Subject) -> None:
    """Predictions in training mode are those of evaluation mode: what is random belongs to the loop."""
    backbone, many = subject.load(), 100
    expected = subject.predict(backbone, slice(1))
    backbone.transformer.train()
    rows = torch.zeros(many, dtype=torch.long)
    found = backbone.predict(subject.noisy[rows], subject.timesteps[rows], subject.prompts[rows])
    moved = (~torch.isclose(found, expected, rtol=RTOL, atol=ATOL)).flatten(1).any(1).sum()
    require(not moved, f"{moved} of {many} predictions of one sample differ in training mode")


@torch.no_grad()
def mixed_batch(subject: Subject) -> None:
    """A prediction depends on no other sample of its batch, up to rounding (1e-4 of it, or 1e-5)."""
    together = subject.predict()
    alone = torch.cat([subject.predict(rows=slice(row, row + 1)) for row in range(3)])
    require(close(alone, together), f"samples by themselves differ by up to {distance(alone, together):.2g}")


@torch.no_grad()
def sampling_dtype(subject: Subject) -> None:
    """In sampling_dtype the transformer predicts in that precision."""
    backbone, dtype = subject.load(), getattr(torch, subject.backbone.sampling_dtype)
    torch.nn.Module.to(backbone.transformer, dtype)
    latents = subject.noisy.to(dtype)
    found = backbone.predict(latents, subject.timesteps.to(dtype), subject.prompts.to(latents))
    require(found.dtype == dtype, f"predictions are {found.dtype}, expected {dtype}")

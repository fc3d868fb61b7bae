"""LoRA on the attention layers through which a prompt decides what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, JsonValue

from grasp_bench import seeds
from grasp_bench.contracts.method import MethodSettings
from grasp_bench.contracts.study import Presumed
from grasp_bench.errors import Skip, UserError

from .base_model import sampled
from .lora import Lora, LoraSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
    from grasp_bench.contracts.study import Study
    from grasp_bench.contracts.task import Task, TaskSettings

    Embed = Callable[[Sequence[str]], PromptEmbeddings]

FOUND = "attention.json"
DIGITS = 4


class LoraAttentionSettings(LoraSettings):
    """Settings of LoRA on localised attention."""

    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate of AdamW; LoRA's, not chosen for this method"""
    parameters: int | None = Field(default=43_008, ge=1)
    """Trainable parameters that the rank follows from, as near as it gets, since the number of layers that are chosen
    is not known before; the default is GRASP's size on tiny-sd3"""
    rank: int | None = Field(default=None, ge=1, le=1024)
    """Width of the low-rank update; none where it follows from the number of parameters"""
    alpha: float | None = Field(default=None, gt=0)
    """Scale of the update, which is multiplied by alpha / rank; none: the rank"""
    share: float = Field(default=0.8, gt=0, le=1)
    """Share of the effect of all attention layers that those with an update must have together"""
    pairs: int = Field(default=4, ge=1, le=64)
    """Pairs of a frequent and a rare class's prompt that layers are compared on; at most half as many as classes"""
    localisation_steps: int = Field(default=4, ge=1, le=100)
    """Sampling steps in which each layer's effect is measured"""


class LoraAttention(Lora):
    """LoRA on the fewest attention layers that carry a prompt's effect, found by patching their keys and values"""

    Config: ClassVar[type[MethodSettings]] = LoraAttentionSettings
    version = "1"
    paper = (
        "after Staniszewski et al. 2025, arXiv 2502.09935, which we know by others' code: keys and values of the text "
        "are patched layer by layer. Our own: prompts of classes rather than of words to be rendered, the distance "
        "between final latents as the measure, sampling without guidance, and how many layers are chosen. Layers are "
        "found on the task's own prompts, which images are generated from later, and are not compared with as many "
        "random ones. FLUX's single-stream blocks, whose text has no projections of its own, are left out"
    )
    config: LoraAttentionSettings
    studies = True

    def study(self, study: Study) -> dict[str, JsonValue]:
        return {FOUND: asdict(self._localise(study.backbone, study.task, study.embed()))}

    def presumed(self, backbone: Backbone, task: Task[TaskSettings]) -> Presumed | None:
        """All layers are presumed to be chosen, with a rank that gives them as many parameters as fewer would have."""
        layers = list(backbone.prompt_projections())
        found = Localisation(dict.fromkeys(layers, 1.0), 1.0, layers, 1.0)
        samplings = len(self._pairs(task)) * most_samplings(len(layers))
        return Presumed({FOUND: asdict(found)}, samplings * self.config.localisation_steps)

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        if not backbone.prompt_projections():
            return Skip("the transformer has no attention to a prompt's tokens in which an effect could be found")
        if len(task.classes()) < 2:
            return Skip("layers are compared on the prompts of two classes, but the task has one class")
        return None

    def targets(self, backbone: Backbone, task: Task[TaskSettings]) -> list[str]:
        """Every projection of the chosen attention layers, which are found here unless :meth:`study` found them."""
        found: Any = self.studied.get(FOUND)
        if found is not None:
            self.found = Localisation(**found)
        else:
            self.found = self._localise(backbone, task, lambda prompts: backbone.encode_prompts(list(prompts)))
        inside = tuple(f"{layer}." for layer in self.found.chosen)
        return [name for name in super().targets(backbone, task) if name.startswith(inside)]

    def _localise(self, backbone: Backbone, task: Task[TaskSettings], embed: Embed) -> Localisation:
        return localise(backbone, embed, self._pairs(task), self.config.localisation_steps, self.config.share)

    def _pairs(self, task: Task[TaskSettings]) -> list[tuple[str, str]]:
        """Prompts of the most frequent class and the rarest, of the second of both, and so on."""
        infos = sorted(task.classes(), key=lambda info: -info.train_count)
        count = min(self.config.pairs, len(infos) // 2)
        return [(infos[number].prompt, infos[-1 - number].prompt) for number in range(count)]

    def artifacts(self) -> dict[str, JsonValue]:
        return {FOUND: asdict(self.found)}


@dataclass(frozen=True)
class Localisation:
    """How far each attention layer alone moves images of one prompt towards another's: 0 not at all, 1 all the way."""

    effects: dict[str, float]
    """Layer → effect, in the order of the forward pass."""
    all_layers: float
    """Effect of all layers together."""
    chosen: list[str]
    """The fewest layers of the largest effects that have the share together."""
    chosen_layers: float
    """Effect of the chosen layers together."""


def localise(backbone: Backbone, embed: Embed, pairs: list[tuple[str, str]], steps: int, share: float) -> Localisation:
    """Find the attention layers that matter to ``pairs`` of prompts (A, B).

    Images of A are sampled again from the same noise with the text's keys and values of single layers replaced, at
    every step, by those of the run under B. The prompts alone and a fixed stream decide the outcome. Takes
    :func:`most_samplings` at most, with one sample per pair. Raises :class:`UserError` where the base model draws the
    same under A and B.
    """
    import torch

    runs = _Runs(backbone, embed, pairs, steps)
    layers = list(backbone.prompt_projections())
    with torch.no_grad():
        runs.sample_ends()
        effects = {layer: runs.effect([layer]) for layer in layers}
        all_layers = runs.effect(layers)
        ranked = sorted(layers, key=lambda layer: -effects[layer])
        for count in range(1, len(layers) + 1):
            chosen = ranked[:count]
            effect = all_layers if count == len(layers) else runs.effect(chosen)
            if effect >= share * all_layers:
                break
    return Localisation(effects, all_layers, [layer for layer in layers if layer in chosen], effect)


def most_samplings(layers: int) -> int:
    """Samplings by which layers are found: both prompts', each layer's, all layers', and those of growing choices."""
    return 2 + layers + 1 + (layers - 1)


class _Runs:
    """Samplings under A, under B, and under A with layers patched: one sample per pair, always from the same noise."""

    def __init__(self, backbone: Backbone, embed: Embed, pairs: list[tuple[str, str]], steps: int) -> None:
        import torch

        self.backbone, self.pairs, self.steps = backbone, pairs, steps
        like = next(backbone.transformer.parameters())
        generator = seeds.generator("localisation")
        self.noise = torch.randn(len(pairs), *backbone.latent_shape, generator=generator).to(like)
        first, second = (embed(prompts).to(like) for prompts in zip(*pairs, strict=True))
        self.first, self.second = _same_mask(first, second), _same_mask(second, first)

    def sample_ends(self) -> None:
        """Sample under A, and under B with its keys and values kept."""
        self.start = self._sample(self.first)
        names = [name for pair in self.backbone.prompt_projections().values() for name in pair]
        self.cache: dict[str, list[torch.Tensor]] = {name: [] for name in names}  # outputs, one per sampling step
        with _hooked(self.backbone.transformer, {name: _keep(kept) for name, kept in self.cache.items()}):
            self.way = self._sample(self.second) - self.start  # (pairs, ...)
        self.length = self.way.flatten(1).square().sum(1)
        for (first, second), length in zip(self.pairs, self.length.tolist(), strict=True):
            if not length:
                raise UserError(
                    f"the base model draws the same under {first!r} and {second!r}, so no attention layer can be found "
                    "to matter. Choose a backbone that reads these prompts, or method lora."
                )

    def effect(self, layers: Iterable[str]) -> float:
        """How far patching the layers moves the latents along the way from A's to B's, on the mean of the pairs."""
        found = self.backbone.prompt_projections()
        hooks = {name: _replace(self.cache[name]) for layer in layers for name in found[layer]}
        with _hooked(self.backbone.transformer, hooks):
            moved = self._sample(self.first) - self.start
        shares = (moved * self.way).flatten(1).sum(1) / self.length
        return round(shares.mean().item(), DIGITS)

    def _sample(self, prompts: PromptEmbeddings) -> torch.Tensor:
        """Final latents (pairs, ...), without guidance."""
        return sampled(self.backbone, self.noise, prompts, self.steps)


def _same_mask(prompts: PromptEmbeddings, other: PromptEmbeddings) -> PromptEmbeddings:
    """``prompts`` where the longer of both is attended to: else keys of one are masked by the length of the other."""
    if prompts.mask is None or other.mask is None:
        return prompts
    return replace(prompts, mask=prompts.mask | other.mask)


@contextmanager
def _hooked(transformer: nn.Module, hooks: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Inside the block, each named module calls its forward hook."""
    with ExitStack() as stack:
        for name, hook in hooks.items():
            stack.enter_context(transformer.get_submodule(name).register_forward_hook(hook))
        yield


def _keep(kept: list[torch.Tensor]) -> Callable[..., None]:
    """A hook that keeps a module's outputs."""
    return lambda module, inputs, output: kept.append(output)


def _replace(kept: list[torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A hook that puts what was kept, call by call, in the place of a module's output."""
    outputs = iter(kept)
    return lambda module, inputs, output: next(outputs)

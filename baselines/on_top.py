"""What methods share that are a loss on top of another method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pydantic import JsonValue, ModelWrapValidatorHandler, model_validator

from grasp_bench.contracts.method import Batch, Condition, Method, MethodSettings
from grasp_bench.errors import Skip

from .grasp import Grasp
from .lora import Lora
from .shared_adapter import SharedAdapter
from .vanilla_ft import VanillaFineTuning

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
    from grasp_bench.contracts.task import Task, TaskSettings

BENEATH: dict[str, type[Method[Any]]] = {
    "vanilla-ft": VanillaFineTuning,
    "lora": Lora,
    "grasp": Grasp,
    "shared-adapter": SharedAdapter,
}


class OnTopSettings(MethodSettings):
    """Settings of a loss on top of another method; its learning rate is by default that of the method beneath."""

    on: Literal["vanilla-ft", "lora", "grasp", "shared-adapter"] = "vanilla-ft"
    """The method beneath, with the defaults of its own: what is trained, and with which routes"""

    searched_with: ClassVar[frozenset[str]] = frozenset({"on"})

    @model_validator(mode="wrap")
    @classmethod
    def _learning_rate_of_the_method_beneath(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """A default like others: the rate does not count as set, and so gives way to what a search chose."""
        beneath = BENEATH.get(values.get("on", cls.model_fields["on"].default))
        if beneath is None or "learning_rate" in values:
            return handler(values)
        settings = handler({"learning_rate": beneath.Config().learning_rate} | values)
        settings.model_fields_set.discard("learning_rate")
        return settings


C_co = TypeVar("C_co", bound=OnTopSettings, covariant=True)


class OnTop(Method[C_co]):
    """A loss on top of another method, which attaches, routes and stores; a subclass overrides :meth:`losses`."""

    Config: ClassVar[type[MethodSettings]] = OnTopSettings

    def __init__(self, config: C_co) -> None:
        super().__init__(config)
        kind = BENEATH[config.on]
        self.beneath: Method[MethodSettings] = kind(
            kind.Config(learning_rate=config.learning_rate, weight_decay=config.weight_decay)
        )

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        return self.beneath.supports(backbone, task)

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        import torch

        self.beneath.attach(backbone, task, generator)
        self.backbone, self.transformer = backbone, backbone.transformer
        self.prompts = [info.prompt for info in task.classes()]
        self.counts = torch.tensor([info.train_count for info in task.classes()])  # (classes,)

    def detach(self) -> None:
        self.beneath.detach()

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        return self.beneath.condition(condition)

    def export(self, folder: Path) -> str:
        return self.beneath.export(folder)

    def artifacts(self) -> dict[str, JsonValue]:
        return self.beneath.artifacts()

    def pictures(self) -> dict[str, bytes]:
        return self.beneath.pictures()

    def embed(self, batch: Batch, prompts: Sequence[str]) -> PromptEmbeddings:
        """Embeddings of prompts of classes and of the null condition, beside the latents of ``batch``."""
        return (batch.embed or self.backbone.encode_prompts)(list(prompts)).to(batch.latents)

    def predict(self, batch: Batch, condition: Condition) -> torch.Tensor:
        """The prediction (B, ...) at the noisy latents of ``batch`` under another condition, with its gradient.

        A second forward pass of a training step, which may use no parameter that the first one did not: the routes
        of ``condition`` are those of the samples' own classes.
        """
        with self.condition(condition), self._own_transformer():
            prediction = self.backbone.predict(batch.noisy, condition.timesteps, condition.prompts)
        return prediction.to(batch.target)

    @contextmanager
    def _own_transformer(self) -> Iterator[None]:
        """Past a wrapper: DistributedDataParallel believes that what the last pass left out has no gradient."""
        wrapped, self.backbone.transformer = self.backbone.transformer, self.transformer
        try:
            yield
        finally:
            self.backbone.transformer = wrapped


def squared_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The mean squared difference of each sample: (B, ...), (B, ...) → (B,)."""
    return (a - b).square().flatten(1).mean(1)

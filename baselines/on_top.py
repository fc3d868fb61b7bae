"""What all methods that add a loss to another method share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pydantic import Field, JsonValue, ModelWrapValidatorHandler, ValidationError, model_validator

from grasp_bench import plugins
from grasp_bench.contracts.method import Batch, Condition, Method, MethodSettings
from grasp_bench.errors import Skip, UserError, first_fault

if TYPE_CHECKING:
    import numpy as np
    import torch

    from grasp_bench.adapters.tap import Tap
    from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
    from grasp_bench.contracts.second_stage import SecondStage
    from grasp_bench.contracts.study import Presumed, Study
    from grasp_bench.contracts.surgery import Surgery
    from grasp_bench.contracts.task import Split, Task, TaskSettings


class OnTopSettings(MethodSettings):
    """Settings of a loss on top of another method; its learning rate is by default that of the method beneath."""

    on: str = "vanilla-ft"
    """Name of the method beneath, which decides what is trained and how samples are routed; it has its own defaults,
    except for the settings that every method has, which are those given here"""
    on_version: str = "1"
    """Version of the method beneath; it follows from what is installed and cannot be chosen"""
    parameters: int | None = Field(default=None, ge=1)
    """Trainable parameters that the size of the method beneath follows from; none: that size has its default"""

    added: ClassVar[frozenset[str]] = MethodSettings.added | {"on_version", "parameters"}
    searched_with: ClassVar[frozenset[str]] = frozenset({"on"})

    @model_validator(mode="wrap")
    @classmethod
    def _of_the_method_beneath(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Defaults like others: neither counts as set, so that the rate gives way to what a search chose."""
        name = str(values.get("on", cls.model_fields["on"].default))
        try:
            kind = plugins.load("methods", name)
        except UserError as error:
            raise ValueError(f"on={name}: {error}") from error
        if kind.Config is cls:
            raise ValueError(f"on={name}: a loss does not go on top of itself; choose the method that it trains")
        if values.get("parameters") is not None and "parameters" not in kind.Config.model_fields:
            raise ValueError(f"parameters={values['parameters']}: {name} has no size to choose; leave it out")
        if (asked := values.get("on_version", kind.version)) != kind.version:
            raise ValueError(
                f"on={name}: version {kind.version} of it is installed, expected {asked}; install that version, or "
                "leave on_version out"
            )
        defaults = {"learning_rate": kind.Config().learning_rate, "on_version": kind.version}
        settings = handler(defaults | values)
        settings.model_fields_set.difference_update(defaults.keys() - values.keys())
        try:
            settings.beneath()
        except ValidationError as error:
            raise ValueError(f"on={name}: {first_fault(error)}") from error
        return settings

    def beneath(self) -> Method[MethodSettings]:
        """The method beneath, with these settings where every method has them and its own defaults elsewhere."""
        kind: type[Method[MethodSettings]] = plugins.load("methods", self.on)
        given = {name: getattr(self, name) for name in MethodSettings.model_fields}
        return kind(kind.Config(**given | self.beneath_size()))

    def beneath_size(self) -> dict[str, int]:
        """What the size of the method beneath follows from, where it does."""
        return {} if self.parameters is None else {"parameters": self.parameters}


C_co = TypeVar("C_co", bound=OnTopSettings, covariant=True)


class OnTop(Method[C_co]):
    """A loss on top of another method, which attaches, routes and stores; a subclass overrides :meth:`losses`.

    What the method beneath does beyond attaching (a study, losses of its own, clusters, diagnostics) stays in force. A
    subclass may add trainable modules to the transformer after :meth:`attach`.
    """

    Config: ClassVar[type[MethodSettings]] = OnTopSettings

    def __init__(self, config: C_co) -> None:
        super().__init__(config)
        self.beneath = config.beneath()
        self.kind = self.beneath.kind
        self.auxiliary: torch.Tensor | None = None

    @property
    def studies(self) -> bool:
        return self.beneath.studies

    @property
    def by_parameters(self) -> bool:
        return self.beneath.by_parameters

    def study(self, study: Study) -> dict[str, JsonValue]:
        return self.beneath.study(study)

    def presumed(self, backbone: Backbone, task: Task[TaskSettings]) -> Presumed | None:
        return self.beneath.presumed(backbone, task)

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        return self.beneath.supports(backbone, task)

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        import torch

        self.beneath.studied, self.beneath.detachable = self.studied, self.detachable
        self.find_sizes(backbone, task)
        self.beneath.attach(backbone, task, generator)
        self.backbone, self.transformer = backbone, backbone.transformer
        self.prompts = [info.prompt for info in task.classes()]
        self.counts = torch.tensor([info.train_count for info in task.classes()])  # (classes,)

    def find_sizes(self, backbone: Backbone, task: Task[TaskSettings]) -> dict[str, int]:
        self.beneath.studied, self.beneath.sizes = self.studied, self.sizes
        self.sizes = self.beneath.find_sizes(backbone, task)
        return self.sizes

    def active_parameters(self) -> int:
        return self.beneath.active_parameters() + sum(each.numel() for each in self._own_parameters().values())

    def detach(self) -> None:
        self.beneath.detach()

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return self.beneath.parameters() | self._own_parameters()

    def state_dict(self) -> dict[str, torch.Tensor]:
        own = {name: parameter.detach() for name, parameter in self._own_parameters().items()}
        return self.beneath.state_dict() | own

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        own = self._own_parameters()
        if missing := sorted(own.keys() - state.keys())[:3]:
            raise ValueError(f"weights of another method or setting: {missing} are missing")
        self.beneath.load_state_dict({name: tensor for name, tensor in state.items() if name not in own})
        for name, parameter in own.items():
            parameter.data.copy_(state[name])

    def finished(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        own = {name: tensor for name, tensor in state.items() if name in self._own_parameters()}
        return self.beneath.finished({name: state[name] for name in state if name not in own}) | own

    def _own_parameters(self) -> dict[str, torch.nn.Parameter]:
        """Parameters that the loss added, where the method beneath does not find them in the transformer itself."""
        theirs = {id(parameter) for parameter in self.beneath.parameters().values()}
        named = super().parameters().items()
        return {name: parameter for name, parameter in named if id(parameter) not in theirs}

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        return self.beneath.condition(condition)

    def sample_weights(self, counts: np.ndarray) -> np.ndarray | None:
        return self.beneath.sample_weights(counts)

    def loss_weights(self, counts: np.ndarray) -> np.ndarray | None:
        return self.beneath.loss_weights(counts)

    def training_clusters(self, train: Split) -> np.ndarray | None:
        return self.beneath.training_clusters(train)

    @property
    def needs_whole_batch(self) -> str | None:
        return self.beneath.needs_whole_batch

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        """The losses (B,) of the method beneath, which draws from a stream of its own.

        Called before any second forward pass, so that its auxiliary loss is that of the first.
        """
        theirs = replace(batch, generator=_apart(batch.generator))
        losses = self.beneath.losses(theirs, prediction)
        self.auxiliary = self.beneath.auxiliary_loss(theirs, prediction)
        return losses

    def auxiliary_loss(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor | None:
        """The auxiliary loss of the method beneath, as :meth:`losses` found it."""
        auxiliary, self.auxiliary = self.auxiliary, None
        return auxiliary

    def second_stage(self, steps: int, counts: np.ndarray) -> SecondStage | None:
        return self.beneath.second_stage(steps, counts)

    def surgery(self) -> Surgery | None:
        return self.beneath.surgery()

    def export(self, folder: Path) -> str:
        return self.beneath.export(folder)

    def counters(self) -> dict[str, torch.Tensor]:
        return self.beneath.counters()

    def artifacts(self) -> dict[str, JsonValue]:
        return self.beneath.artifacts()

    def pictures(self) -> dict[str, bytes]:
        return self.beneath.pictures()

    def diagnostics(self) -> dict[str, JsonValue]:
        return self.beneath.diagnostics()

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
        """Call the transformer without its wrapper: DistributedDataParallel ignores what its last pass left out."""
        wrapped, self.backbone.transformer = self.backbone.transformer, self.transformer
        try:
            yield
        finally:
            self.backbone.transformer = wrapped


class OnBlock(OnTop[C_co]):
    """A loss on the image's tokens after one transformer block, which ``tap`` reads; a subclass sets it in attach()."""

    tap: Tap

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        from grasp_bench.adapters.tap import blocks

        if not blocks(backbone):
            return Skip("the contrast is made in a transformer block, and this backbone lists none")
        return super().supports(backbone, task)

    def detach(self) -> None:
        self.tap.remove()
        super().detach()


def _apart(stream: torch.Generator) -> torch.Generator:
    """A stream seeded by ``stream``, which stays where it is."""
    import torch

    return torch.Generator().manual_seed(int(torch.randint(2**62, (2,), generator=stream.clone_state())[1]))


def squared_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The mean squared difference of each sample: (B, ...), (B, ...) → (B,)."""
    return (a - b).square().flatten(1).mean(1)

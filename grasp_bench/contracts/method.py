"""The contract of a method: what it adds to a backbone and trains. The loop belongs to the harness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import Field, JsonValue, model_validator

from grasp_bench.contracts.recipe import ParameterKind
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.errors import Skip
from grasp_bench.known import joined, known

if TYPE_CHECKING:
    import numpy as np
    import torch

    from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
    from grasp_bench.contracts.second_stage import SecondStage
    from grasp_bench.contracts.study import Presumed, Study
    from grasp_bench.contracts.surgery import Surgery
    from grasp_bench.contracts.task import Split, Task, TaskSettings


class MethodSettings(Settings):
    """Settings every method has; a method adds its own."""

    learning_rate: Annotated[float, Tuned(1e-4, 1e-1, log=True)] = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate of AdamW"""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Decoupled weight decay of AdamW"""
    sampling: Literal["natural", "sqrt", "balanced"] = "natural"
    """How often each class is drawn: in proportion to its images, to the root of their number, or equally often"""
    weighting: Literal["none", "effective-number"] = "none"
    """What each sample's loss is multiplied by: 1, or the inverse of its class's effective number of images"""
    effective_number_beta: float = Field(default=0.999, ge=0, lt=1)
    """β of a class's effective number (1 - β^n) / (1 - β) of n images: 1 at β = 0, about n near β = 1"""
    tread: float = Field(default=0.0, ge=0, lt=1)
    """Share of the image's tokens that skip the middle blocks in training, drawn again for every sample and step"""

    added: ClassVar[frozenset[str]] = frozenset({"sampling", "weighting", "effective_number_beta", "tread"})
    searched_with: ClassVar[frozenset[str]] = frozenset()
    """Settings on which the meaning of others depends: what a search chose holds only where they are the same"""

    @model_validator(mode="after")
    def _beta_is_used(self) -> Self:
        default = type(self).model_fields["effective_number_beta"].default
        if self.weighting == "none" and self.effective_number_beta != default:
            raise ValueError(
                f"effective_number_beta={self.effective_number_beta} does nothing with weighting=none; "
                "set weighting=effective-number, or leave it out"
            )
        return self


@dataclass(frozen=True)
class Condition:
    """What a forward pass may know of its B samples, in training and in sampling alike."""

    labels: torch.Tensor
    """The class index of each sample, int64 (B,), in the order of ``task.classes()``."""
    dropped: torch.Tensor
    """Whether a sample's prompt was replaced by the null condition, bool (B,); its label is still that of its class."""
    prompts: PromptEmbeddings
    """The prompts' embeddings that the forward pass is given, every tensor of length B."""
    timesteps: torch.Tensor
    """The noise level of each sample, (B,) in [0, 1], where 0 is data and 1 is noise."""
    clusters: torch.Tensor | None = None
    """What :meth:`Method.training_clusters` gave for each sample's image, int64 (B,); None where it gives nothing,
    and in sampling, where there is no training image."""

    def __getitem__(self, rows: slice) -> Condition:
        clusters = None if self.clusters is None else self.clusters[rows]
        return Condition(self.labels[rows], self.dropped[rows], self.prompts[rows], self.timesteps[rows], clusters)

    def cat(self, other: Condition) -> Condition:
        """The samples of ``self``, then those of ``other``."""
        return Condition(
            joined(self.labels, other.labels),
            joined(self.dropped, other.dropped),
            self.prompts.cat(other.prompts),
            joined(self.timesteps, other.timesteps),
            None if self.clusters is None or other.clusters is None else joined(self.clusters, other.clusters),
        )


@dataclass(frozen=True)
class Batch:
    """One training step's samples, or the part of them that one process works on at a time."""

    ids: list[str]
    """The B names of the training images, unique in the training set."""
    latents: torch.Tensor
    """The clean latents x_0, (B, *latent_shape), on the device of training."""
    noise: torch.Tensor
    """The noise that the latents are mixed with, standard normal, (B, *latent_shape)."""
    noisy: torch.Tensor
    """The noisy latents x_t that the network is given, (B, *latent_shape)."""
    target: torch.Tensor
    """What the objective asks the network to predict at x_t, (B, *latent_shape)."""
    condition: Condition
    """The classes, prompts and timesteps of the B samples."""
    generator: torch.Generator
    """The step's stream for draws of the method's own, apart from noise, timesteps and order; see :meth:`draw`."""
    digest: bytes
    """The sha256 of what decides the step's samples, of all processes together."""
    weights: torch.Tensor | None = None
    """What the training loop multiplies the samples' losses by, (B,); None stands for 1."""
    offset: int = 0
    """How many of the step's samples come before these."""
    step_size: int | None = None
    """How many samples the whole step has; None where these are all of them."""
    embed: Callable[[Sequence[str]], PromptEmbeddings] | None = None
    """Prompts of classes, or "" for the null condition, → their embeddings beside the latents; None where none are
    stored, and the backbone encodes them."""

    def draw(self, make: Callable[[int, torch.Generator], torch.Tensor]) -> torch.Tensor:
        """The rows of these samples, (B, ...), of what ``make`` draws from a generator for all samples of the step.

        Every part of a step begins at the same place of the stream, so what a sample gets depends neither on how
        many processes there are nor on how often the gradient is accumulated. The rows are on
        the device of the latents.
        """
        drawn = make(self.step_size or len(self.ids), self.generator.clone_state())
        return known(drawn[self.offset : self.offset + len(self.ids)], self.latents.device)

    def split(self, parts: int) -> list[Batch]:
        """``parts`` batches of equal size, for a step whose gradient is accumulated."""
        if parts == 1:
            return [self]
        size = len(self.ids) // parts
        return [self._rows(slice(start, start + size)) for start in range(0, len(self.ids), size)]

    def _rows(self, rows: slice) -> Batch:
        names = ("ids", "latents", "noise", "noisy", "target", "condition", "weights")
        parts = {name: value[rows] for name in names if (value := getattr(self, name)) is not None}
        return replace(self, **parts, offset=self.offset + rows.start, step_size=self.step_size or len(self.ids))


C_co = TypeVar("C_co", bound=MethodSettings, covariant=True)


class Method(Generic[C_co]):
    """A way to fine-tune a backbone.

    A subclass declares its settings as ``Config`` and overrides :meth:`attach`; everything else has a default that
    suits a method whose trained tensors are exactly the transformer's parameters that require a gradient after
    :meth:`attach`. Modules of subclasses import torch inside functions only, so that listing them stays quick.
    """

    Config: ClassVar[type[MethodSettings]] = MethodSettings
    version: ClassVar[str]
    """The version; it is raised whenever the method computes something else."""
    paper: ClassVar[str]
    """Where it comes from, and what is our own choice."""

    kind: ParameterKind = "low rank"
    """What it trains, which decides the learning rate that a backbone's recipe gives it."""
    transformer: torch.nn.Module
    """Set by :meth:`attach`."""
    detachable: bool = True
    """Whether :meth:`detach` may be called, set before :meth:`attach`: false in runs, where nothing need be kept for
    it."""

    def __init__(self, config: C_co) -> None:
        self.config = config
        self.studied: dict[str, JsonValue] = {}
        """What :meth:`study` gave, set before :meth:`attach`."""
        self.sizes: dict[str, int] = {}
        """Name → size in force, such as a rank, which :meth:`attach` finds unless it was set before."""

    @property
    def studies(self) -> bool:
        """Whether :meth:`study` has to be called before :meth:`attach`."""
        return False

    @property
    def by_parameters(self) -> bool:
        """Whether its size may follow from a number of trainable parameters, so that a recipe's holds."""
        return False

    def study(self, study: Study) -> dict[str, JsonValue]:
        """File name → JSON that the method needs of the data or the pretrained backbone; found once, and kept.

        What sampling needs of it must be among :meth:`artifacts`, which is where an exported method has it from.
        """
        raise NotImplementedError

    def presumed(self, backbone: Backbone, task: Task[TaskSettings]) -> Presumed | None:
        """What an estimate takes in the place of :meth:`study`; None: nothing can be said without looking.

        The backbone has its shapes and no weights, and the task may know its classes alone.
        """
        return None

    def supports(self, backbone: Backbone, task: Task[TaskSettings]) -> Skip | None:
        """None, or why the method does not apply here."""
        return None

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        """Add what is trained to the frozen backbone; fresh weights are drawn from ``generator`` alone.

        At step 0 the backbone's output must equal the base model's exactly, unless the method says why not.
        """
        raise NotImplementedError

    def find_sizes(self, backbone: Backbone, task: Task[TaskSettings]) -> dict[str, int]:
        """``sizes`` on a backbone that is as it was loaded, by the settings or what they follow from."""
        return {}

    def active_parameters(self) -> int:
        """Trainable parameters that one sample's forward pass uses once the method is attached, all by default."""
        return sum(parameter.numel() for parameter in self.parameters().values())

    def detach(self) -> None:
        """Leave the backbone as it was before :meth:`attach`."""
        raise NotImplementedError

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Name → what the optimiser sees. A parameter without a gradient in a step keeps its value and state."""
        named = self.transformer.named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Only what the method owns."""
        return {name: parameter.detach() for name, parameter in self.parameters().items()}

    def finished(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What is kept of :meth:`state_dict` after the last step, all by default; :meth:`load_state_dict` takes it."""
        return dict(state)

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what :meth:`state_dict` gave; the names must match exactly."""
        own = self.parameters()
        if own.keys() != state.keys():
            odd = sorted(own.keys() ^ state.keys())[:3]
            raise ValueError(f"weights of another method or setting: {odd} do not match")
        for name, parameter in own.items():
            parameter.data.copy_(state[name])

    def condition(self, condition: Condition) -> AbstractContextManager[object]:
        """A context in which the forward pass of ``condition``'s samples runs; routing lives here."""
        return nullcontext()

    def sample_weights(self, counts: np.ndarray) -> np.ndarray | None:
        """How often an image of each class is drawn, from the train counts (classes,); None: all images alike."""
        if self.config.sampling == "natural":
            return None
        import numpy as np

        weights: np.ndarray = np.maximum(counts, 1) ** (-1.0 if self.config.sampling == "balanced" else -0.5)
        return weights

    def loss_weights(self, counts: np.ndarray) -> np.ndarray | None:
        """What losses of each class's samples are multiplied with, from the train counts (classes,); None: 1.

        The inverse of the effective number of images (Cui et al. 2019, arXiv 1901.05555, equation 2), divided by its
        mean over samples as :meth:`sample_weights` has them drawn, so that the learning rate keeps its meaning.
        """
        if self.config.weighting == "none":
            return None
        import numpy as np

        beta, drawn_as_often = self.config.effective_number_beta, self.sample_weights(counts)
        weights = (1 - beta) / (1 - beta ** np.maximum(counts, 1))
        drawn = counts if drawn_as_often is None else counts * drawn_as_often
        normalised: np.ndarray = weights * drawn.sum() / (weights * drawn).sum()
        return normalised

    def training_clusters(self, train: Split) -> np.ndarray | None:
        """A number of every training image, int64 (n,), that :meth:`condition` finds in training; None: no use for it.

        For routing by more than the class. It is called after :meth:`attach`.
        """
        return None

    @property
    def needs_whole_batch(self) -> str | None:
        """Why a step's samples must be worked on together, as a clause; None where each one's gradient is its own.

        Such a step is not worked on in parts unless the user asks for parts.
        """
        return None

    def losses(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor:
        """The loss of each sample, (B,), from the network's prediction (B, ...): its mean squared error."""
        return (prediction - batch.target).square().flatten(1).mean(1)

    def auxiliary_loss(self, batch: Batch, prediction: torch.Tensor) -> torch.Tensor | None:
        """A scalar added to the mean of :meth:`losses`, after the forward pass that gave ``prediction``."""
        return None

    def second_stage(self, steps: int, counts: np.ndarray) -> SecondStage | None:
        """What the last of ``steps`` steps do differently, from the train counts (classes,); None: nothing.

        It is called before :meth:`attach`, too.
        """
        return None

    def surgery(self) -> Surgery | None:
        """How a step's gradient is put together from those of groups of classes; None: it is that of the mean loss.

        It is called after :meth:`attach`, and costs a backward pass for every group that has samples in a step.
        """
        return None

    def export(self, folder: Path) -> str:
        """Write what was trained in a format of the method's own, too; Markdown that says how that loads.

        The method is attached, with its trained weights. Nothing is written where there is no such format.
        """
        return ""

    def counters(self) -> dict[str, torch.Tensor]:
        """Name → a tensor, changed in place, that counts for :meth:`diagnostics` what steps did since its last call.

        Checkpoints keep them, and they are set back after a step that ran out of memory.
        """
        return {}

    def artifacts(self) -> dict[str, JsonValue]:
        """File name → JSON to keep beside the record, such as the cluster map."""
        return {}

    def pictures(self) -> dict[str, bytes]:
        """File name → PNG to keep beside the record."""
        return {}

    def diagnostics(self) -> dict[str, JsonValue]:
        """What to log since the last call, for example expert usage; goes into the training log and the record.

        What it needs of the steps in between belongs into :meth:`counters`.
        """
        return {}

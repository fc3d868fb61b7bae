"""The contract of a guidance: a per-step function of the model's predictions, applied while sampling."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from grasp_bench import seeds
from grasp_bench.contracts.settings import Settings
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from grasp_bench.contracts.backbone import Backbone, PromptEmbeddings
    from grasp_bench.contracts.method import Condition, Method, MethodSettings
    from grasp_bench.contracts.objective import Objective
    from grasp_bench.contracts.progress import Progress
    from grasp_bench.contracts.spec import Budget, RunSpec
    from grasp_bench.contracts.task import Dataset, Task, TaskSettings
    from grasp_bench.errors import Skip


C_co = TypeVar("C_co", bound=Settings, covariant=True)


@dataclass(frozen=True)
class Model:
    """A fine-tuned network and the samples of one batch, as a guidance sees them."""

    network: Callable[[torch.Tensor, Condition], torch.Tensor]
    """Noisy latents (B, ...) and what is known of them → prediction; counts its evaluations."""
    objective: Objective
    """What the prediction is of."""
    labels: torch.Tensor
    """Class indices (B,)."""
    prompts: PromptEmbeddings
    null: PromptEmbeddings
    """Embeddings of the null condition, (B, ...)."""

    def conditional(self, latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Prediction (B, ...) under the samples' prompts, at timesteps (B,)."""
        return self.network(latents, self._condition(timesteps, dropped=False))

    def unconditional(self, latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Prediction (B, ...) under the null condition, at timesteps (B,)."""
        return self.network(latents, self._condition(timesteps, dropped=True))

    def both(self, latents: torch.Tensor, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(conditional, unconditional) from one forward pass of twice the batch."""
        import torch

        condition, null = (self._condition(timesteps, dropped=each) for each in (False, True))
        output = self.network(torch.cat([latents, latents]), condition.cat(null))
        return output[: len(latents)], output[len(latents) :]

    def on(self, network: Callable[[torch.Tensor, Condition], torch.Tensor]) -> Model:
        """A model of these samples on another network, such as a weaker one."""
        return replace(self, network=network)

    def rows(self, chosen: torch.Tensor) -> Model:
        """The samples at the indices ``chosen``, or where it is true."""
        return replace(self, labels=self.labels[chosen], prompts=self.prompts[chosen], null=self.null[chosen])

    def of_classes(self, labels: torch.Tensor, prompts: PromptEmbeddings) -> Model:
        """A model of these samples under other classes (B,) and their prompts."""
        return replace(self, labels=labels, prompts=prompts)

    def _condition(self, timesteps: torch.Tensor, dropped: bool) -> Condition:
        import torch

        from grasp_bench.contracts.method import Condition
        from grasp_bench.known import noted

        flags = noted(torch.full_like(self.labels, dropped, dtype=torch.bool), torch.full((len(self.labels),), dropped))
        return Condition(self.labels, flags, self.null if dropped else self.prompts, timesteps)


@dataclass(frozen=True)
class SamplingStep:
    """Where the sampler is on its way from noise to images."""

    index: int
    """Number of the step, counted from 0."""
    count: int
    """Number of steps in all."""
    timesteps: torch.Tensor
    """Timesteps t of the latents (B,), in [0, 1]; 1 is noise."""
    next_timesteps: torch.Tensor
    """Timesteps (B,) that the sampler goes to."""
    memory: dict[str, torch.Tensor]
    """What a guidance keeps between the steps of one batch, such as momentum; empty at the first step."""
    generators: list[torch.Generator]
    """One a sample, for draws of the guidance's own: an image's draws depend on no other image."""


@dataclass(frozen=True)
class Workshop:
    """What a guidance may learn from and sample with, beyond the network that it guides."""

    spec: RunSpec
    task: Task[TaskSettings]
    """That the method was fine-tuned on."""
    backbone: Backbone
    method: Method[MethodSettings]
    """Attached to the backbone, with its trained weights."""
    device: torch.device
    embed: Callable[[Sequence[str]], PromptEmbeddings]
    """Embeddings of the classes' prompts and of the null condition, on the CPU."""
    network: Callable[[torch.Tensor, Condition], torch.Tensor]
    """The fine-tuned network; its evaluations are counted."""
    data: Callable[[], Dataset]
    """Opens the task's data; a guidance may use its training and validation images."""
    trained: Callable[[int], dict[str, torch.Tensor]]
    """Number of training steps → the method's weights after that many steps of the same run."""
    second: Callable[[dict[str, torch.Tensor] | None], Callable[[torch.Tensor, Condition], torch.Tensor]]
    """A second network beside the first, with other weights of the method or, for None, the base model without it;
    its evaluations are counted too."""
    progress: Progress

    @property
    def dtype(self) -> torch.dtype:
        """Precision of latents while sampling."""
        import torch

        half = self.spec.budget.precision == "bfloat16"  # autocast leaves double precision alone
        return torch.float32 if half else getattr(torch, self.backbone.sampling_dtype)

    def generator(self, *keys: str | int) -> torch.Generator:
        """A stream of the run's own for what a guidance learns."""
        return seeds.generator("guidance", self.spec.task.name, self.spec.seed, self.spec.guidance.name, *keys)


class Guidance(Generic[C_co]):
    """A way to sample from a fine-tuned backbone; combines with every method without retraining.

    A guidance may need something learned first: it then sets ``learns`` and overrides :meth:`learn`, whose outcome is
    kept as a stage of its own. One that needs more than the fine-tuned network while sampling takes it from the
    workshop in :meth:`prepare`. No gradient is recorded while sampling unless a guidance enables it.

    Guidances are compared at equal network evaluations, too: one whose steps all take as many says how many in
    :attr:`evaluations_per_step`, any other overrides :meth:`evaluations`. What counts is a pass forward of a sample
    through a network, the fine-tuned one or a weaker one; backward passes, classifiers and what is learned before
    sampling do not.

    Every backbone's scheduler evaluates the network once a step, so gates by ``step.index`` and what is kept in
    ``memory`` act once a step. A solver of several evaluations a step, such as Heun's, would have to ask a guidance
    again within one step, with the same index and the memory changed by the first alone.
    """

    Config: ClassVar[type[Settings]] = Settings
    version: ClassVar[str]
    paper: ClassVar[str]
    learns: ClassVar[bool] = False
    """Whether :meth:`learn` has to be called before sampling."""
    classifier_free: ClassVar[bool] = False
    """Whether its ``guidance_scale`` is that of classifier-free guidance, whose default a backbone's recipe gives.

    Otherwise the recipe gives it to a setting ``base_scale``, where there is one.
    """
    guides: ClassVar[bool] = True
    """Whether it guides at all; if not, a transformer into which guidance was distilled is told to leave it out."""

    def __init__(self, config: C_co) -> None:
        self.config = config

    def learn(self, workshop: Workshop, folder: Path) -> None:
        """Leave in ``folder``, as safetensors and JSON, whatever :meth:`prepare` reads."""
        raise NotImplementedError

    @property
    def evaluations_per_step(self) -> int:
        """Network evaluations that a sampling step of an image takes, at most.

        Raises :class:`UserError` where the guidance does not say.
        """
        raise UserError(
            f"guidance {type(self).__name__} does not say how many network evaluations a step takes. Give it "
            "evaluations_per_step, or leave evaluations out."
        )

    def evaluations(self, steps: int) -> int:
        """Network evaluations that ``steps`` sampling steps of an image take, at most; a step takes one or more."""
        return steps * self.evaluations_per_step

    def steps_within(self, evaluations: int) -> int:
        """The most sampling steps that never take more than ``evaluations`` of an image; 0 where not one fits."""
        return bisect_right(range(1, evaluations + 1), evaluations, key=self.evaluations)

    def steps(self, budget: Budget) -> int:
        """Sampling steps of an image under a budget."""
        return budget.num_inference_steps if budget.evaluations is None else self.steps_within(budget.evaluations)

    def supports(self, backbone: Backbone, method: Method[MethodSettings]) -> Skip | None:
        """None, or why the guidance does not apply to a backbone with a method that is not attached yet."""
        return None

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        """Called once before sampling, with the folder that :meth:`learn` left."""

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        """The prediction that the sampler follows from noisy ``latents`` (B, ...) at ``step``."""
        raise NotImplementedError

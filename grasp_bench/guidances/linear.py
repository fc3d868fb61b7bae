"""Linear adaptive guidance: unconditional predictions replaced by a regression on the predictions so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from grasp_bench.contracts.guidance import Guidance, Model, SamplingStep
from grasp_bench.contracts.settings import Settings, Tuned
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from grasp_bench.contracts.guidance import Workshop

COEFFICIENTS = "coefficients.safetensors"
SUMMARY = "linear.json"
HISTORY = "linear-history"
AT_ONCE = 10  # trajectories that are sampled together
RTOL = 1e-10  # predictions of neighbouring steps are nearly alike; below this they cannot be told apart


class LinearSettings(Settings):
    """Settings of linear adaptive guidance."""

    guidance_scale: Annotated[float, Tuned(0.9, 3, log=True)] = Field(default=2.0, ge=0, le=100)
    """w in u + w (c - u) in the first half of the steps, and of the trajectories that are learned from"""
    trajectories: int = Field(default=200, ge=1, le=100_000)
    """Images whose sampling is learned from, spread evenly over the classes"""


class LinearAdaptiveGuidance(Guidance[LinearSettings]):
    """Linear adaptive guidance: every other unconditional prediction is a regression, and late steps have none

    In the first half of the steps the unconditional prediction is the network's and, every second step, a linear
    combination of all earlier predictions of the same sample and this step's conditional one; the second half is
    conditional. So of N steps with two NFE each, a quarter keeps both. The coefficients of each step are least
    squares over trajectories of classifier-free guidance from the fine-tuned network itself, which makes them its own,
    and those of one number of sampling steps. Their noise is no image's that is scored.
    """

    Config = LinearSettings
    classifier_free = True
    version = "1"
    paper = (
        "after LinearAG of Castillo et al. 2023, Adaptive Guidance: Training-free Acceleration of Conditional "
        "Diffusion Models, arXiv 2312.12487, from accounts of it. Prompts of the task's classes, evenly, are learned "
        "from; the regression is on what the network predicts, velocities under flow matching"
    )
    learns = True

    coefficients: torch.Tensor
    """(G, 2 G) for G steps in the first half; set by :meth:`prepare`."""
    count: int
    """Number of sampling steps that the coefficients were learned for."""

    def evaluations(self, steps: int) -> int:
        """A second one in every other step of the first half; the trajectories that are learned from do not count."""
        both = 0 if self.config.guidance_scale == 1 else (steps // 2 + 1) // 2
        return steps + both

    def learn(self, workshop: Workshop, folder: Path) -> None:
        from grasp_bench.io import write_json, write_tensors

        count = self.steps(workshop.spec.budget)
        coefficients, errors = regress(self._products(workshop, count))
        write_tensors(folder / COEFFICIENTS, {"coefficients": coefficients})
        write_json(folder / SUMMARY, {"num_inference_steps": count, "relative_squared_errors": errors})

    def _products(self, workshop: Workshop, count: int) -> torch.Tensor:
        """Inner products of the predictions c_0, u_0, c_1, u_1, ... of the first half, summed over trajectories."""
        import torch

        from grasp_bench.guidances.trajectories import trajectories

        each, known = self.config.trajectories, 2 * (count // 2)
        total = torch.zeros(known, known, dtype=torch.float64)
        labels = [number * len(workshop.task.classes()) // each for number in range(each)]
        keys = [(number,) for number in range(each)]
        with workshop.progress.task("guide", each) as advance:
            parts = trajectories(workshop, lambda _: Recorder(self.config), count, labels, keys, AT_ONCE, advance)
            for recorder in parts:
                for products in recorder.products:
                    total = total + products
        return total

    def prepare(self, workshop: Workshop, folder: Path | None) -> None:
        from grasp_bench.io import read_tensors

        assert folder is not None  # it learns
        self.count = self.steps(workshop.spec.budget)
        learned = read_tensors(folder / COEFFICIENTS)["coefficients"]
        self.coefficients = learned.to(workshop.device, workshop.dtype)

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        """Raises :class:`UserError` for another number of steps than was learned."""
        import torch

        if step.count != self.count:
            raise UserError(
                f"guidance linear-ag has learned to sample in {self.count} steps, but {step.count} are asked for. "
                f"Sample in {self.count} steps, or choose another guidance."
            )
        scale, t = self.config.guidance_scale, step.timesteps
        if scale == 1 or step.index >= len(self.coefficients):
            return model.conditional(latents, t)
        history = step.memory.get(HISTORY, latents[None][:0])  # (2 index, B, ...)
        if step.index % 2 == 0:
            conditional, unconditional = model.both(latents, t)
        else:
            conditional = model.conditional(latents, t)
            known = torch.cat([history, conditional[None]])
            unconditional = torch.tensordot(self.coefficients[step.index, : len(known)].to(known), known, 1)
        step.memory[HISTORY] = torch.cat([history, conditional[None], unconditional[None]])
        return unconditional + scale * (conditional - unconditional)


class Recorder(Guidance[LinearSettings]):
    """Classifier-free guidance that keeps the inner products of its predictions in the first half of the steps."""

    def __init__(self, config: LinearSettings) -> None:
        super().__init__(config)
        self.seen: list[torch.Tensor] = []
        self.products: list[torch.Tensor] = []
        """Scalar products (2 G, 2 G) of each trajectory's predictions, in the order c_0, u_0, c_1, u_1, ..."""

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        import torch

        guided_steps = step.count // 2
        if step.index >= guided_steps:
            return model.conditional(latents, step.timesteps)
        conditional, unconditional = model.both(latents, step.timesteps)
        self.seen += [conditional, unconditional]
        if step.index == guided_steps - 1:
            for trajectory in torch.stack(self.seen, 1):  # one by one: in double precision they need not fit together
                rows = trajectory.flatten(1).double()  # (2 G, D)
                self.products.append((rows @ rows.T).cpu())
            self.seen = []
        return unconditional + self.config.guidance_scale * (conditional - unconditional)


def regress(products: torch.Tensor) -> tuple[torch.Tensor, list[float]]:
    """Coefficients (G, 2 G) of u_k on c_0, u_0, ..., c_k, zeros after them, and each one's relative squared error.

    ``products`` (2 G, 2 G) are inner products of c_0, u_0, c_1, u_1, ...; the solution is the shortest of the best.
    """
    import torch

    steps = len(products) // 2
    coefficients, errors = products.new_zeros(steps, 2 * steps), []
    for step in range(steps):
        known = 2 * step + 1
        sought = products[:known, known]
        solution = torch.linalg.pinv(products[:known, :known], rtol=RTOL, hermitian=True) @ sought
        coefficients[step, :known] = solution
        total = products[known, known]
        left = total - 2 * solution @ sought + solution @ products[:known, :known] @ solution
        errors.append((left / total).clamp_min(0).item())
    return coefficients, errors

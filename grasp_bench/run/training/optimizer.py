"""The optimiser of every method: AdamW, in the implementation that the task names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from grasp_bench.contracts.method import MethodSettings
from grasp_bench.contracts.spec import Budget
from grasp_bench.errors import UserError


def make_optimizer(
    budget: Budget, parameters: Iterable[torch.nn.Parameter], settings: MethodSettings
) -> torch.optim.Optimizer:
    """AdamW with the method's learning rate and weight decay, and the budget's decays and epsilon.

    Raises :class:`UserError` where the package of the implementation is missing.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    betas, epsilon = (budget.beta1, budget.beta2), budget.epsilon
    if budget.optimizer == "adamw-8bit":
        return eight_bit_adamw()(parameters, lr=rate, betas=betas, eps=epsilon, weight_decay=decay)
    fused = budget.optimizer == "adamw-fused"
    return torch.optim.AdamW(parameters, rate, betas, epsilon, weight_decay=decay, fused=fused)


def eight_bit_adamw() -> Callable[..., torch.optim.Optimizer]:
    """Return the class of bitsandbytes. Raises :class:`UserError` where the package is missing."""
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise UserError(
            f"optimizer=adamw-8bit needs bitsandbytes ({error}): pip install 'grasp-bench[8bit]', or leave the "
            "setting at adamw."
        ) from error
    found: Callable[..., torch.optim.Optimizer] = AdamW8bit
    return found

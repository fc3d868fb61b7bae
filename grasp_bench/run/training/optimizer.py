"""The optimiser of every method: AdamW, in the implementation that the task names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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
    trained = list(parameters)
    fused, foreach = budget.optimizer == "adamw-fused" or None, None if fits_at_once(trained) else False
    return torch.optim.AdamW(trained, rate, betas, epsilon, weight_decay=decay, foreach=foreach, fused=fused)


def fits_at_once(parameters: Sequence[torch.nn.Parameter]) -> bool:
    """Return whether a GPU has room for what AdamW takes to update all parameters together, which is quicker.

    That is a copy of them beside gradients and moments. Both ways make the same of each number; on a CPU torch always
    goes through the parameters one by one.
    """
    devices = {parameter.device for parameter in parameters if parameter.is_cuda}
    return all(
        4 * sum(each.nbytes for each in parameters if each.device == device) <= torch.cuda.mem_get_info(device)[0]
        for device in devices
    )


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

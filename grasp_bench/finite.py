"""Finding a loss or a gradient that is not finite without making every step of a training wait for the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from grasp_bench.errors import NonFiniteError

AT_ONCE = {"cpu": 1}
"""Kind of device → steps whose numbers are read together."""
OTHERWISE = 5


@dataclass(frozen=True)
class Seen:
    """Numbers of some steps."""

    steps: list[tuple[int, list[str]]]
    """The steps, counted from 0, and the names of their samples."""
    values: torch.Tensor
    """What was seen of each, (n, number of names)."""
    copied: torch.cuda.Event | None = None
    """When ``values`` are there; None where they already are."""


class FiniteCheck:
    """Reads the numbers of steps in groups, each while the device works on the next one.

    So a loss that is not finite is found after two groups at most, and at once on the CPU. Until then the parameters
    may be spoiled: :meth:`settle` before they are kept.
    """

    def __init__(self, device: torch.device, names: Sequence[str] = ("loss", "gradient's norm")) -> None:
        """``names`` are those of the numbers of a step, for messages."""
        self.at_once, self.names = AT_ONCE.get(device.type, OTHERWISE), names
        self._steps: list[tuple[int, list[str]]] = []
        self._values: list[torch.Tensor] = []
        self._under_way: Seen | None = None

    def see(self, step: int, ids: list[str], *numbers: torch.Tensor) -> None:
        """Take note of a step's numbers, and raise :class:`NonFiniteError` for one of the steps before it.

        On the CPU it is raised for this step, too. ``ids`` are the names of the step's samples.
        """
        self._steps.append((step, ids))
        self._values.append(torch.stack([each.detach().to(numbers[0]) for each in numbers]))
        if len(self._steps) >= self.at_once:
            self._check()
            self._begin()
        if self.at_once == 1:
            self._check()

    def settle(self) -> None:
        """Raise :class:`NonFiniteError` for whichever step so far has numbers that are not finite."""
        self._check()
        self._begin()
        self._check()

    def _begin(self) -> None:
        """Begin to copy the numbers that were noted."""
        if not self._steps:
            return
        values, event = torch.stack(self._values), None
        if values.is_cuda:
            values = values.to("cpu", non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._under_way = Seen(self._steps, values, event)
        self._steps, self._values = [], []

    def _check(self) -> None:
        seen, self._under_way = self._under_way, None
        if seen is None:
            return
        if seen.copied:
            seen.copied.synchronize()
        for (step, ids), values in zip(seen.steps, seen.values.tolist(), strict=True):
            for name, value in zip(self.names, values, strict=True):
                if not math.isfinite(value):
                    raise NonFiniteError(f"the {name} is {value} at step {step}; the batch's samples: {', '.join(ids)}")

"""How a training step is made to fit in memory: the parts that its batch is worked on in, and checkpointing.

Neither changes the batch. Both are found before the training where they are left at ``auto``: a step is tried, and
halved where memory runs out. Activations are recomputed only where no part fits without that, since parts cost no
further arithmetic and recomputing costs a third more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.exchange import largest
from grasp_bench.io import read_object, write_json
from grasp_bench.memory import has_room, release
from grasp_bench.processes import Processes
from grasp_bench.run.files import LAYOUT

Auto = Literal["auto"]


@dataclass(frozen=True)
class Layout:
    """How a step is worked on."""

    parts: int = 1
    """Backward passes whose sum is the gradient of a step."""
    checkpointing: bool = False
    """Whether activations are recomputed in the backward pass."""

    def __str__(self) -> str:
        parts = "in one part" if self.parts == 1 else f"in {self.parts} parts"
        return parts + (" with gradient checkpointing" if self.checkpointing else "")


def layouts(rows: int, accumulate: int | Auto, checkpointing: bool | Auto, whole: bool) -> list[Layout]:
    """Return what to try for a step of ``rows`` samples in a process, in that order.

    ``whole`` says that a step must be worked on in one part unless the user has chosen otherwise.
    """
    parts = [accumulate] if accumulate != "auto" else [1] if whole else list(_halvings(rows))
    kinds = [False, True] if checkpointing == "auto" else [checkpointing]
    return [Layout(count, kind) for kind in kinds for count in parts]


def _halvings(rows: int) -> Iterator[int]:
    """Yield numbers of equal parts of ``rows`` samples, each at least double the one before where that divides."""
    parts = 1
    while True:
        yield parts
        if parts == rows:
            return
        larger = [count for count in range(parts + 1, rows + 1) if rows % count == 0]
        parts = next((count for count in larger if count >= 2 * parts), larger[-1])


class Fitting:
    """The layout of a training's steps, and those that are left to try when memory runs out."""

    def __init__(
        self,
        tried: Iterable[Layout],
        method: Method[MethodSettings],
        folder: Path,
        processes: Processes,
        say: Callable[[str], None],
    ) -> None:
        """``folder`` keeps what was found, so that a training that is resumed goes on with equal bits."""
        self.left, self.method, self.path = list(tried), method, folder / LAYOUT
        self.processes, self.say = processes, say

    @property
    def layout(self) -> Layout:
        """What a step is worked on in."""
        return self.left[0]

    @property
    def kinds(self) -> set[bool]:
        """Whether activations may be recomputed: what is left to choose from."""
        return {layout.checkpointing for layout in self.left}

    @property
    def is_open(self) -> bool:
        """Whether there is another layout to try."""
        return len(self.left) > 1

    def find(self, attempt: Callable[[Layout], None], device: torch.device) -> None:
        """Go on to the first layout that ``attempt`` has memory for in every process, and tell which it is.

        Where none has, the last one stays, and the training says what to do.
        """
        if not self.is_open or self.found_before():
            return
        fits = (n for n, layout in enumerate(self.left[:-1]) if has_room(partial(attempt, layout)))
        self.choose(next(fits, len(self.left) - 1), device)

    def choose(self, position: int, device: torch.device) -> None:
        """Go on to the layout at a position, or a later one where another process needs that, and tell which it is."""
        whole = self.left[0]
        self._go_to(largest(position, device))
        release()
        if self.layout != whole:
            self.say(f"a training step does not fit in memory {whole}: it is worked on {self.layout}{self._reason()}")

    def smaller(self) -> None:
        """Go on to the next layout, of which there must be one, because a step ran out of memory, and tell."""
        self._go_to(1)
        self.say(f"memory ran out: from here on a training step is worked on {self.layout}{self._reason()}")

    def by_hand(self) -> str:
        """Return what to ask for where a step ran out of memory and cannot be worked on again."""
        then = self.left[1]
        return (
            "With --shard a step is not worked on again: the other processes wait for this one's weights in the middle "
            f"of it. Try --accumulate {then.parts} --gradient-checkpointing {'on' if then.checkpointing else 'off'}, "
            "which goes on from the newest checkpoint"
        )

    def _reason(self) -> str:
        reason = self.method.needs_whole_batch
        return f", not in parts, since {reason}" if reason and self.layout.parts == 1 else ""

    def found_before(self) -> bool:
        """Go on to the layout that an interrupted training found, if there was one, and return whether there was."""
        known = self.processes.first_says(lambda: read_object(self.path) if self.path.exists() else None)
        if known is None or (layout := Layout(**known)) not in self.left:
            return False
        self.left = self.left[self.left.index(layout) :]
        return True

    def _go_to(self, position: int) -> None:
        self.left = self.left[position:]
        if self.processes.is_first:
            write_json(self.path, asdict(self.layout))


@contextmanager
def undone(counters: Callable[[], dict[str, torch.Tensor]]) -> Iterator[None]:
    """Set counters back to what they were, however the block ends."""
    before = {name: value.clone() for name, value in counters().items()}
    try:
        yield
    finally:
        set_counters(counters(), before)


def set_counters(counters: dict[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    """Set counters to earlier values of theirs, as far as there are any."""
    for name, value in values.items():
        counters[name].copy_(value)

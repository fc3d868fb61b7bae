"""States of guided trajectories, written to the disk as they are made and mapped from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from grasp_bench.contracts.guidance import Model, SamplingStep, Workshop
from grasp_bench.contracts.progress import Advance
from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance
from grasp_bench.guidances.trajectories import trajectories
from grasp_bench.io import read_tensors, write_tensors
from grasp_bench.places import free_bytes

TOLD_FROM = 2**30  # bytes of states from which on their size is told
ROWS = "rows"


@dataclass(frozen=True)
class States:
    """States on the way of guided sampling, and the prediction it followed at each; every field has length n."""

    latents: torch.Tensor
    """x_t, (n, ...)."""
    timesteps: torch.Tensor
    labels: torch.Tensor
    """Class indices."""
    guided: torch.Tensor
    """The guided prediction, (n, ...)."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: torch.Tensor) -> States:
        return States(self.latents[rows], self.timesteps[rows], self.labels[rows], self.guided[rows])

    def to(self, device: torch.device) -> States:
        """The states on ``device``."""
        return States(*(tensor.to(device) for tensor in vars(self).values()))


def joined(parts: Sequence[States]) -> States:
    """All states of ``parts``, in their order."""
    return States(*(torch.cat(each) for each in zip(*(vars(part).values() for part in parts), strict=True)))


class StoredStates:
    """States in files, each of which has those of one batch of trajectories; what is asked for is read.

    A state is known by its number among all, those that were left out included.
    """

    def __init__(self, paths: Sequence[Path], count: int) -> None:
        self.paths, self.count = list(paths), count

    def __len__(self) -> int:
        return self.count

    @cached_property
    def _files(self) -> list[dict[str, torch.Tensor]]:
        """The mapped files' tensors."""
        return [read_tensors(path) for path in self.paths]

    @cached_property
    def _rows(self) -> torch.Tensor:
        """Numbers of the states that are there, ascending."""
        return torch.cat([file[ROWS] for file in self._files])

    @cached_property
    def _starts(self) -> torch.Tensor:
        """Place of each file's first state among those that are there: (files,)."""
        return torch.tensor([0, *(len(file[ROWS]) for file in self._files)]).cumsum(0)[:-1]

    def __getitem__(self, rows: torch.Tensor) -> States:
        """The states of the numbers ``rows`` (n,), each of which has to be there."""
        places = torch.searchsorted(self._rows, rows)
        files = torch.searchsorted(self._starts, places, right=True) - 1
        found = []
        for file, place in zip(files.tolist(), (places - self._starts[files]).tolist(), strict=True):
            tensors = self._files[file]
            found.append(States(*(tensors[name][place : place + 1] for name in States.__annotations__)))
        return joined(found)


class Recorder(ClassifierFreeGuidance):
    """Classifier-free guidance that keeps states of its trajectories."""

    def __init__(
        self, guidance_scale: float, part: range, batch: int, wanted: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        """``part`` are the places of the trajectories among the ``batch`` by which states are numbered.

        ``wanted`` is given the numbers (n,) of states, from 0 on, and says of each whether it is kept.
        """
        super().__init__(CfgSettings(guidance_scale=guidance_scale))
        self.part, self.batch, self.wanted = torch.arange(part.start, part.stop), batch, wanted
        self.rows: list[torch.Tensor] = []
        self.found: list[States] = []

    def predict(self, model: Model, latents: torch.Tensor, step: SamplingStep) -> torch.Tensor:
        guided = super().predict(model, latents, step)
        numbers = step.index * self.batch + self.part
        kept = self.wanted(numbers)
        states = States(latents, step.timesteps, model.labels, guided)
        self.rows.append(numbers[kept])
        self.found.append(states[kept.to(latents.device)].to(torch.device("cpu")))
        return guided


def collect(
    workshop: Workshop,
    guidance_scale: float,
    steps: int,
    numbers: Sequence[int],
    batch_size: int,
    advance: Advance,
    folder: Path,
    wanted: torch.Tensor | None = None,
) -> StoredStates:
    """States of one guided trajectory of ``steps`` for each class and each of ``numbers``, written to ``folder``.

    ``wanted`` are numbers of states to be kept; None keeps all. States are numbered batch by batch, and in a batch step
    by step. Batches that ``folder`` has from an interrupted call are not recomputed. Raises :class:`UserError` where
    the disk has no room.
    """
    keys = [(label, number) for number in numbers for label in range(len(workshop.task.classes()))]
    count = len(keys) * steps
    keep = torch.ones(count, dtype=torch.bool)
    if wanted is not None:
        keep = torch.zeros(count, dtype=torch.bool).index_fill_(0, wanted.flatten(), True)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{start:08d}.safetensors" for start in range(0, len(keys), batch_size)]
    _check_space(workshop, folder, int(keep.sum()), paths)
    for path, start in zip(paths, range(0, len(keys), batch_size), strict=True):
        part = keys[start : start + batch_size]
        if path.exists():
            advance(len(part))
            continue

        def teacher(rows: range, batch: int = len(part), first: int = start * steps) -> Recorder:
            return Recorder(guidance_scale, rows, batch, lambda numbers: keep[first + numbers])

        teachers = list(trajectories(workshop, teacher, steps, [label for label, _ in part], part, batch_size, advance))
        rows = torch.cat([rows for each in teachers for rows in each.rows])
        states, order = joined([states for each in teachers for states in each.found]), rows.argsort()
        write_tensors(path, {ROWS: start * steps + rows[order], **vars(states[order])})
    return StoredStates(paths, count)


def _check_space(workshop: Workshop, folder: Path, count: int, paths: Sequence[Path]) -> None:
    """Tell how large ``count`` states are, if they are large, and raise :class:`UserError` where they have no room."""
    state = torch.empty(workshop.backbone.latent_shape, dtype=workshop.dtype, device="meta")
    size = 2 * state.nbytes * count
    there = sum(path.stat().st_size for path in paths if path.exists())
    free = free_bytes(folder)
    if free < size - there:
        raise UserError(
            f"{folder}: {free / 2**30:.1f} GiB are free, and states of guided trajectories need "
            f"{(size - there) / 2**30:.1f} GiB there. Free some space, choose another --work-dir, or set fewer "
            "trajectories, steps or a smaller batch_size of guidance distilled."
        )
    if size >= TOLD_FROM:
        workshop.progress.say(f"states of guided trajectories: {size / 2**30:.1f} GiB in {folder}, removed afterwards")

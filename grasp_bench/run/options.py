"""How a run is carried out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes a score, so none of it is part of the specification."""

    results: Path
    work_dir: Path
    device: str = "auto"
    batch_size: int = 100
    """Images generated at a time."""
    log_every: int = 50
    """Steps between rows of the training log."""
    checkpoint_minutes: float = 10
    """Minutes between checkpoints of the training; 0: one with every row of the log."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Whether activations are recomputed in the backward pass; ``auto``: where a step does not fit otherwise."""
    accumulate: int | Literal["auto"] = "auto"
    """Backward passes whose sum is the gradient of a training step; ``auto``: as few as fit."""
    shard: bool = False
    """Whether several processes hold shares of the pretrained weights rather than copies."""
    compile: bool = False
    """Whether the transformer is compiled for training."""
    verify_stages: bool = False
    """Whether files of finished stages are read and their hashes compared, also where size and time are as recorded."""
    trackers: tuple[str, ...] = ()
    """Experiment trackers beside the training log."""
    cache_dir: Path | None = None
    """Folder of the stages that are caches, on a quick disk of this machine, say; None for the work folder."""
    sync_to: Path | None = None
    """Folder where stages and checkpoints are kept as well, and taken from where the work folder lacks them."""
    threads: int | None = None
    """Threads of a CPU that torch takes during the run; None for the number that is usual for the backbone."""

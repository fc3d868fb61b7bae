"""Random streams keyed by purpose, so that no draw depends on how many came before it.

Data order, noise, timesteps and prompt dropout depend on task, seed and step alone; only the ``init`` stream
knows the method's name. Methods therefore see identical data and noise, and a run resumes from a step count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def stream(purpose: str, *keys: str | int) -> int:
    """A seed in [0, 2^63) for ``purpose`` and ``keys``; the type of a key counts, so 1 and "1" differ."""
    name = json.dumps([purpose, *keys], separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def generator(purpose: str, *keys: str | int) -> torch.Generator:
    """A CPU generator for the stream; draws are made on the CPU so that every device sees the same numbers."""
    import torch

    return torch.Generator().manual_seed(stream(purpose, *keys))


def rng(purpose: str, *keys: str | int) -> np.random.Generator:
    """A numpy generator for the stream."""
    import numpy as np

    return np.random.default_rng(stream(purpose, *keys))


@contextmanager
def global_seed(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global generator from ``generator`` inside the block, for libraries that draw from it."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        yield

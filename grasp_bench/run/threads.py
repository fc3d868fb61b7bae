"""How many threads of the CPU torch takes while something is computed, and no longer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def threads_of(asked: int | None, usual: int | None) -> int | None:
    """Threads of a CPU for torch: ``asked``, else ``usual`` unless OMP_NUM_THREADS is set; None: its own number."""
    return asked or (None if os.environ.get("OMP_NUM_THREADS") else usual)


@contextmanager
def threads_taken(asked: int | None, usual: int | None) -> Iterator[None]:
    """Let torch take the threads inside the block that are asked for, or else those usual for what computes.

    Afterwards it takes as many as before, since the process may be a user's own program. The number belongs to the
    process: other threads of that program compute with as many meanwhile.
    """
    count = threads_of(asked, usual)
    if count is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Whether several processes can share a run."""

from __future__ import annotations

from typing import Literal

from grasp_bench.errors import UserError
from grasp_bench.run.plan import Plan


def check_sharing(plan: Plan, accumulate: int | Literal["auto"], shard: bool, count: int) -> None:
    """Raise :class:`UserError` where ``count`` processes cannot share a training step's images, or its weights."""
    batch = plan.trained_on.spec.budget.batch_size
    parts = 1 if accumulate == "auto" else accumulate
    if batch % (count * parts):
        raise UserError(
            f"a step's {batch} images cannot be shared evenly by {count} processes with --accumulate "
            f"{parts}: their product must divide {batch}."
        )
    if shard and count == 1:
        raise UserError("--shard shares weights between processes, and there is one: add --processes, or leave it out.")

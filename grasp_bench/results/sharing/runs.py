"""Whether this version and this machine can rerun a recorded run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from grasp_bench.contracts.record import RunRecord
from grasp_bench.data.root import data_root as data_root_of
from grasp_bench.errors import UserError
from grasp_bench.run.pipeline import protocol, stage_keys
from grasp_bench.run.plan import Plan


def with_data(plan: Plan, data_root: Path | None) -> Plan:
    """Return ``plan`` with the folder of its task's download. Raises :class:`UserError` if there is none."""
    task = plan.task
    if not task.layout or task.root is not None:
        return plan
    opened = type(task)(task.config, data_root_of(plan.spec.task.name, data_root))
    return replace(plan, task=opened.for_seed(plan.spec.seed))


def check_current(run: Path, plan: Plan, record: RunRecord) -> None:
    """Raise :class:`UserError` that names the first part whose version differs from the one in ``record``."""
    here = protocol(plan)
    for name in dict.fromkeys([*record.protocol, *here]):
        if here.get(name) != record.protocol.get(name):
            raise UserError(
                f"{run}: {name} is of version {here.get(name, 'none')} here, the run was made with "
                f"{record.protocol.get(name, 'none')}, so its scores mean something else. Install the version of "
                "grasp-bench that made it, or run it again."
            )
    if stale := [stage for stage, key in stage_keys(plan).items() if record.stages.get(stage) != key]:
        raise UserError(
            f"{run}: its stage {stale[0]} is not the one of this version of grasp-bench. Install the version that made "
            "the run, or run it again."
        )

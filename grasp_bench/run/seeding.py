"""Plans of the same run with another seed; imports no torch."""

from __future__ import annotations

from dataclasses import replace

from grasp_bench.run.plan import Plan


def with_seed(plan: Plan, seed: int) -> Plan:
    """Return the run with another seed, and with its task and its generator's as that seed has them."""
    generator = with_seed(plan.generator, seed) if plan.generator else None
    spec = plan.spec.model_copy(update={"seed": seed})
    return replace(plan, spec=spec, task=plan.task.for_seed(seed), generator=generator)

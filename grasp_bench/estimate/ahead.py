"""What is said of a run or a sweep before it begins: an estimate in one line, made in a process of its own.

So nothing of the simulation is left in the run: no patched torch, no drawn random number, no memory; and it sees no
GPU, which is how it is tested. Runs on backbones that ship with the package, and of the smoke budget, are over about as
soon as that: of those, the steps are said, and how long recorded runs took or, on a tiny backbone, what passes that are
timed just then make of it. Imports no torch itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.contracts.record import RECORD_NAME, RunRecord, read_record
from grasp_bench.contracts.spec import SMOKE
from grasp_bench.errors import UserError
from grasp_bench.estimate.devices import of_card
from grasp_bench.run.options import Options
from grasp_bench.run.plan import Plan

if TYPE_CHECKING:
    import torch

PATIENCE = 300
"""Seconds after which an estimate is given up."""
AT_MOST = 6
"""Different runs of a sweep up to which they are estimated before it begins."""
SHARDED = "the weights are sharded over the processes, which an estimate does not cover"
"""Why a run with ``--shard`` has no estimate."""
REFERENCE = "h100-80gb"
"""The GPU that is estimated for where there is none."""


def before_run(
    plan: Plan,
    task: str,
    budget: str,
    options: Options,
    processes: int,
    card: tuple[str, float] | None,
    device: torch.device | None = None,
) -> str:
    """Return one line on what a run will take; where that cannot be told, the line says why.

    ``task`` and ``budget`` are what the user names them; ``card`` the GPU's name and its GiB, None on a CPU; ``device``
    is where passes of a tiny backbone are timed, None for nowhere.
    """
    if is_small(plan):
        return _small(plan, options, processes, device)
    if options.shard:
        return f"no estimate: {SHARDED}"
    gpu, where = _gpu(card)
    if gpu is None:
        return f"no estimate: {where}"
    words = [
        *("--method", plan.spec.method.name, "--task", task, "--backbone", _backbone(plan), "--budget", budget),
        *("--guidance", plan.spec.guidance.name, "--gpu", gpu),
        *("--processes", str(processes), "--accumulate", str(options.accumulate)),
        *("--gradient-checkpointing", _switch(options.gradient_checkpointing), "--batch-size", str(options.batch_size)),
        *_settings("--set", {**(plan.tuned.settings if plan.tuned else {}), **plan.changed["method"]}),
        *_settings("--guidance-set", plan.changed["guidance"]),
    ]
    if plan.backbone.resolution is not None:
        words += ["--resolution", str(plan.backbone.resolution)]
    if not plan.task.described_by_file:
        words += _settings("--task-set", plan.task.config.changed())
    return _asked(tuple(words), where)


def before_sweep(path: Path, plans: Iterable[Plan], card: Callable[[], tuple[str, float] | None] | None) -> str:
    """Return one line on what the runs of a sweep's file will take, finished ones included.

    ``card`` is asked only where that matters, since it imports torch; it is None for runs that begin elsewhere.
    """
    kinds = {(plan.backbone.label, plan.task_label, plan.label): plan for plan in plans if not is_small(plan)}
    if not kinds:
        return "no estimate: its runs are of backbones or budgets too small for one"
    if len(kinds) > AT_MOST:
        return f"no estimate, since its runs are of {len(kinds)} kinds: grasp-bench estimate {path} makes one"
    gpu, where = _gpu(card()) if card else (REFERENCE, "; which GPUs the runs will have is not known here")
    return f"no estimate: {where}" if gpu is None else _asked((str(path), "--gpu", gpu), where)


def is_small(plan: Plan) -> bool:
    """Whether a run is over about as soon as its estimate would be."""
    return plan.spec.budget.name == SMOKE or not issubclass(plan.backbone.kind, SavedBackbone)


def _small(plan: Plan, options: Options, processes: int, device: torch.device | None) -> str:
    budget, trained = plan.spec.budget, plan.trained_on.spec.budget
    evaluations = plan.guidance.evaluations(plan.guidance.steps(budget))
    caution = plan.backbone.kind.caution
    tiny = f"{plan.backbone.name} is a tiny backbone ({caution}); " if caution else ""
    ahead = (
        f"{tiny}ahead: {trained.steps:,} steps of {trained.batch_size} images, then {budget.images_per_class:,} images "
        f"per class with {evaluations} network evaluations each"
    )
    known = next(_recorded(options.results / plan.folder.parent), None)
    if known is not None and known.cost is not None:
        return (
            f"{ahead}; seed {known.spec.seed} took {known.cost.train_seconds:.0f} s to train and "
            f"{known.cost.generate_seconds:.0f} s to generate on {known.environment.device}"
        )
    if tiny and device and processes == 1 and budget.name != SMOKE:
        return f"{ahead}; {_timed(plan, options, device)}"
    return f"{ahead}; no such run is recorded yet"


def _timed(plan: Plan, options: Options, device: torch.device) -> str:
    from grasp_bench.estimate.timing import timed

    train, generate = map(_rounded, timed(plan, device, options.batch_size))
    return (
        f"estimate: about {train} to train and {generate} to generate on {device.type}, by passes of its transformer "
        "that were timed just now; features and classifiers come on top"
    )


def _rounded(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds:.0f} s"


def _recorded(folder: Path) -> Iterator[RunRecord]:
    """Yield the finished records of a run's seeds."""
    for path in sorted(folder.glob(f"seed-*/{RECORD_NAME}")):
        try:
            record = read_record(path)
        except UserError:
            continue
        if record.status == "finished" and record.cost:
            yield record


def _gpu(card: tuple[str, float] | None) -> tuple[str | None, str]:
    """Return what ``--gpu`` takes for a card, and what is to be added; None and why where it is not known."""
    if card is None:
        return REFERENCE, "; here it runs on the CPU, which no estimate is made for"
    name, memory = card
    if (found := of_card(name, memory)) is None:
        return None, f"the speed of {name} is not known; grasp-bench estimate --gpu GiB,TFLOPs,GB/s takes it"
    return found.name, ""


def _backbone(plan: Plan) -> str:
    chosen = plan.backbone
    return f"{chosen.family}:{chosen.source}" if chosen.source else chosen.family


def _switch(value: object) -> str:
    return "auto" if value == "auto" else "on" if value else "off"


def _settings(option: str, values: Mapping[str, JsonValue]) -> list[str]:
    return [word for name, value in values.items() for word in (option, f"{name}={value}")]


@cache
def _asked(words: tuple[str, ...], where: str) -> str:
    """Return what ``grasp-bench estimate`` says in short and ``where``, or why it says nothing; it sees no GPU.

    Runs that differ in their seeds alone share it.
    """
    command = [sys.executable, "-P", "-m", "grasp_bench", "--no-defaults", "estimate", *words, "--short"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        environment.pop(name, None)
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return f"no estimate: it took more than {PATIENCE} s"
    except OSError as error:
        return f"no estimate: {error}"
    lines = (said.stdout if said.returncode == 0 else said.stderr).strip().splitlines()
    told = lines[-1] if lines else f"exit code {said.returncode}"
    return f"estimate: {told}{where}" if said.returncode == 0 else f"no estimate: {told.removeprefix('error: ')}"

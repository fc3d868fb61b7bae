"""What the harness adds to a training step, and what stored latents and embeddings save.

``PYTHONPATH=tests python -m bench.bench_training`` writes results/perf/training.json and takes a quarter of an hour on
two cores; ``--quick`` tries it at a small size.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from grasp_bench.contracts.progress import Advance, Progress
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import Plan, plan
from grasp_bench.run.training.batches import Batches

from .bare import BareLoop
from .encoding import PipelineSizes, Training, save_pipeline
from .recording import RESULTS, TRIALS, Measure, interleaved, record, timed

METHODS = ("vanilla-ft", "grasp")
TURN = 10  # steps that one loop makes before the other makes as many
MIB = 2**20


@dataclass(frozen=True)
class Sizes:
    """What is measured at which size."""

    steps: dict[str, int]
    """Backbone → steps, a multiple of those between two checkpoints."""
    batch: int
    pipeline: PipelineSizes


FULL = Sizes({"tiny-sd3": 600, "tiny-sd3-32": 550}, 64, PipelineSizes())
QUICK = Sizes(
    {"tiny-sd3": 150},
    4,
    PipelineSizes(width=64, blocks=1, latent_side=4, text_layers=3, text_widths=(64, 64, 128), images=8, batch=2),
)


class Turns(Progress):
    """Makes steps of another loop between the harness's own, so that a busy spell of the machine falls on both.

    The harness says when it has made a step. A checkpoint follows that, so its time falls into the turn after it.
    """

    def __init__(self, other: Callable[[], None]) -> None:
        super().__init__()
        self.other = other
        self.seconds: dict[str, list[float]] = {"harness": [], "bare": []}
        """Of every turn."""

    def task(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Advance]:
        return self._train() if name == "train" else super().task(name, total, done)

    @contextmanager
    def _train(self) -> Iterator[Advance]:
        steps, started = 0, time.perf_counter()

        def advance(count: int) -> None:
            nonlocal steps, started
            steps += count
            if steps % TURN == 0:
                self.seconds["harness"].append(time.perf_counter() - started)
                self.seconds["bare"].append(timed(self._turn)[0])
                started = time.perf_counter()

        yield advance

    def _turn(self) -> None:
        for _ in range(TURN):
            self.other()

    def rounds(self, turns: int) -> dict[str, list[float]]:
        """Seconds of every ``turns`` consecutive turns, without those that warm up."""
        return {
            name: [sum(each[start : start + turns]) for start in range(turns, len(each) - turns + 1, turns)]
            for name, each in self.seconds.items()
        }


def shortened(chosen: Plan, steps: int, batch: int) -> Plan:
    """The same plan with another number of steps and another batch."""
    budget = chosen.spec.budget.model_copy(update={"steps": steps, "batch_size": batch})
    return replace(chosen, spec=chosen.spec.model_copy(update={"budget": budget}))


def harness_over_bare(method: str, backbone: str, sizes: Sizes) -> Measure:
    """The training of a run against the same arithmetic in a loop of its own."""

    def chosen() -> Plan:
        return shortened(plan(method=method, task="digits-lt", backbone=backbone), sizes.steps[backbone], sizes.batch)

    with tempfile.TemporaryDirectory() as folder:
        options = Options(Path(folder) / "results", Path(folder) / "work", device="cpu")
        harness = Pipeline(chosen(), options, torch.device("cpu"), Progress())
        bare = BareLoop(chosen(), harness.data.train)
        harness.progress = turns = Turns(bare)
        _ = harness.trained
    rounds = turns.rounds(options.log_every // TURN)
    ratios = [ours / theirs for ours, theirs in zip(rounds["harness"], rounds["bare"], strict=True)]
    trained = sum(parameter.numel() for parameter in bare.parameters)
    return Measure(
        name=f"harness over a bare loop: {method}, {backbone}",
        value=statistics.median(ratios),
        unit="times",
        at_most=1.03,
        method=(
            f"Median ratio of {len(ratios)} rounds of {options.log_every} steps after one to warm up. The loops take "
            f"turns of {TURN} steps in one process. The harness logs and writes a checkpoint once a round; the bare "
            f"loop has its images in memory and neither logs, saves nor checks anything. digits-lt, batch "
            f"{sizes.batch}, {trained:,} parameters trained, float32."
        ),
        details={
            "ratios": ratios,
            "median_seconds_a_step": {
                name: statistics.median(each) / options.log_every for name, each in rounds.items()
            },
            "round_seconds": rounds,
        },
    )


def encoding_over_stored(sizes: PipelineSizes) -> Measure:
    """A step that encodes its images and prompts against one that reads what was stored."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pipeline = save_pipeline(folder / "pipeline", folder / "scratch", sizes)
        training = Training(pipeline, folder, sizes)
        training.check_agreement()
        calls = {
            "stored": consecutive(training, training.stored),
            "encoded": consecutive(training, training.encoded),
        }
        interleaved(calls, 1)
        seconds = interleaved(calls, sizes.repeats)
        stored = {kind: _mib(folder / kind) for kind in ("latents", "prompts")}
        prompts = len({"", *training.split.prompts})
    medians = {kind: statistics.median(each) for kind, each in seconds.items()}
    return Measure(
        name="encoding images and prompts at every step over reading them stored",
        value=medians["encoded"] / medians["stored"],
        unit="times",
        method=(
            f"Medians of {sizes.repeats} interleaved steps of GRASP after one to warm up. Batch {sizes.batch}, images "
            f"of {sizes.image_side} by {sizes.image_side} pixels, float32, random weights of the sizes stated. "
            "The next step's images and prompts, these in one pass, are encoded or read in the background."
        ),
        details={
            "parameters": training.sizes,
            "median_seconds": medians,
            "seconds": seconds,
            "seconds_to_store": training.seconds_to_store,
            "images": sizes.images,
            "prompts": prompts,
            "stored_mib": stored,
        },
    )


def consecutive(training: Training, batches: Batches) -> Callable[[], None]:
    """What makes the next step at every call, so that what was read ahead is what comes."""
    numbers = itertools.count(1)
    return lambda: training.step(batches, next(numbers))


def _mib(folder: Path) -> float:
    """Size of the files of a folder."""
    return sum(path.stat().st_size for path in folder.iterdir()) / MIB


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench.bench_training", description="Time the harness and its caches.")
    parser.add_argument("--quick", action="store_true", help="small sizes, for which the target is not meant")
    quick = parser.parse_args().quick
    sizes = QUICK if quick else FULL
    measures = [harness_over_bare(method, backbone, sizes) for backbone in sizes.steps for method in METHODS]
    measures.append(encoding_over_stored(sizes.pipeline))
    record("training", measures, ["transformers"], TRIALS if quick else RESULTS)


if __name__ == "__main__":
    main()

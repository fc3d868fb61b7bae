"""Whether the harness does on a GPU what it does on a CPU, and what a simulated GPU says: four parts in ten minutes.

``PYTHONPATH=tests python -m bench.gpu_check`` writes results/perf/gpu-check.json, after each part anew, and begins none
once ``--minutes`` have passed; ``grasp-bench estimate`` shows the errors that it finds. ``--tiny`` tries it at a toy
size, also with ``--device cpu``, where memory is the whole process's and nothing of it says anything of a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from device.tiny import save
from helpers.datasets import make_cifar

from grasp_bench import api
from grasp_bench.contracts.progress import Progress
from grasp_bench.estimate.devices import DEVICES, of_card
from grasp_bench.estimate.parts import attached, batches
from grasp_bench.estimate.subject import Subject, choose
from grasp_bench.io import read_object
from grasp_bench.processes import ALONE
from grasp_bench.run.environment import card, peak_mib, reset_peak_memory
from grasp_bench.run.files import GENERATE_SUMMARY, TRAIN_SUMMARY
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan
from grasp_bench.run.training.backward import GroupLoss, backward
from grasp_bench.run.training.checkpoint import Checkpoints, History, State, restore_checkpoint
from grasp_bench.run.training.loop import update
from grasp_bench.run.training.optimizer import make_optimizer
from grasp_bench.run.training.placement import Placement, clip_gradients

from . import cpu_record, recording
from .bench_gpu import release
from .products import share_of_peak, top_ten
from .recording import RESULTS, TRIALS, Measure, record, timed

NAME = "gpu-check"
GIB, ROOM = 2**30, 9.0  # GiB of the card that estimates leave, for their error
MEMORY, TIME = 0.1, 0.3  # errors of an estimate that are taken
REPEATS = 3
GRADIENTS = 0.05  # bfloat16, and sums in any order


@dataclass(frozen=True)
class Sizes:
    """What is checked at which size."""

    backbones: tuple[str, ...]
    resolution: int | None
    methods: tuple[str, ...]
    task: str
    small: str
    """Budget of the run on cifar10-lt whose images are counted."""
    whole: str
    """Budget of the run from end to end."""


TRUE = Sizes(
    ("sd3.5-medium", "sana-0.6b"),
    512,
    ("grasp", "lora", "vanilla-ft", "moe"),
    "mimic-lt",
    "standard",
    "standard",
)


class Steps:
    """Training steps of a run on a device, on black images, with random weights of the transformer's true size."""

    def __init__(self, subject: Subject, device: torch.device, parts: int = 1) -> None:
        self.subject, self.device, self.parts = subject, device, parts
        with torch.device(device):
            self.backbone, self.method = attached(subject, device)
        self.backbone.transformer.train()
        self.parameters = self.method.parameters()
        self.optimizer = make_optimizer(subject.budget, self.parameters.values(), self.method.config)
        self.group_loss = GroupLoss(subject.task.groups, subject.task.group_indices(), device)
        self.placement = Placement(self.backbone, list(self.parameters.values()), set(), ALONE)
        self.size = subject.budget.batch_size
        self.batches = batches(subject, self.backbone, self.method, self.size, device)

    @property
    def state(self) -> State:
        """What a checkpoint keeps."""
        return State(self.parameters, {}, self.optimizer)

    def gradients(self, step: int = 0) -> dict[str, torch.Tensor]:
        """The gradients of a step, of the parameters that it reaches."""
        self.optimizer.zero_grad()
        shared = (self.group_loss, self.subject.budget.precision, self.placement, lambda batch: None)
        backward(self.batches.batch(step).split(self.parts), self.backbone, self.method, *shared)
        return {name: each.grad for name, each in self.parameters.items() if each.grad is not None}

    def __call__(self, step: int = 0) -> None:
        """Forward and backward passes, clipping and AdamW; done when it returns."""
        self.gradients(step)
        clip_gradients(list(self.parameters.values()), self.subject.budget.clip_norm)
        update(self.state, self.subject.budget, step)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self) -> float:
        """The median of some steps, after one to warm up."""
        reset_peak_memory(self.device)
        self(0)
        return statistics.median(timed(lambda: self(1))[0] for _ in range(REPEATS))


def estimated(words: list[str]) -> dict[str, Any]:
    """What ``grasp-bench estimate`` says, in a process that sees no GPU."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "found.json")
        command = [sys.executable, "-P", "-m", "grasp_bench", "estimate", *words, "--json", str(path)]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
        found: dict[str, Any] = json.loads(path.read_text())
    return found


class Check:
    """The four parts."""

    def __init__(self, sizes: Sizes, device: torch.device, folder: Path) -> None:
        self.sizes, self.device, self.folder = sizes, device, folder
        self.card = card(device)
        name, memory = self.card or ("cpu", 16.0)
        self.details = {"device": name}
        self.peak = of_card(name, memory)
        rates = self.peak or DEVICES["h100-80gb"]  # an unknown card's micro-batch depends on its memory alone
        self.gpu = f"{memory - ROOM:.1f},{rates.tflops:g},{rates.bandwidth:g}"
        self.estimates: dict[tuple[str, str], dict[str, Any]] = {}

    def estimate_all(self) -> None:
        """Make all estimates, several at a time."""
        pairs = [(self.sizes.backbones[0], method) for method in self.sizes.methods]
        pairs += [(backbone, self.sizes.methods[0]) for backbone in self.sizes.backbones[1:]]

        def make(pair: tuple[str, str]) -> dict[str, Any]:
            words = ["-t", self.sizes.task, "--backbone", pair[0], "-m", pair[1], "--gpu", self.gpu]
            return estimated(words + (["--resolution", str(self.sizes.resolution)] if self.sizes.resolution else []))

        with ThreadPoolExecutor(4) as pool:
            self.estimates = dict(zip(pairs, pool.map(make, pairs), strict=True))

    def subject(self, backbone: str, method: str) -> Subject:
        """The run that is estimated."""
        return choose(method, self.sizes.task, backbone, resolution=self.sizes.resolution)

    def equality(self) -> Iterator[Measure]:
        """Gradients with and without checkpointing, and a training that is resumed, on the device."""
        steps = Steps(self.subject(self.sizes.backbones[-1], "grasp"), self.device)
        steps(0)  # after which no weight of an adapter is zero, behind which the gradient of another would be
        plain = {name: each.clone() for name, each in steps.gradients(1).items()}
        steps.backbone.enable_gradient_checkpointing()
        again = steps.gradients(1)
        farthest = max(
            ((again[name] - each).norm() / each.norm().clamp(min=1e-12)).item() for name, each in plain.items()
        )
        yield Measure(
            name="gradients of grasp's routes with checkpointing against those without",
            value=farthest,
            unit="of their norm",
            at_most=GRADIENTS,
            method="The largest difference of a parameter's gradient in one step.",
            details=self.details,
        )
        with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder)) as checkpoints:
            checkpoints.save(History(step=1), steps.state)
            checkpoints.save(History(step=1), steps.state)  # waits for the first
            steps(1)
            expected = {name: each.detach().clone() for name, each in steps.parameters.items()}
            restore_checkpoint(Path(folder), steps.state, lambda message: None, ALONE)
            steps(1)
        same = all(torch.equal(each, steps.parameters[name]) for name, each in expected.items())
        yield Measure(
            name="a step after a checkpoint is read has the bits of the same step before",
            value=float(same),
            unit="",
            at_least=1,
            method="All parameters after the step are compared.",
            details=self.details,
        )

    def against_estimates(self) -> Iterator[Measure]:
        """One step of each method at true size, against what the simulated GPU says of it."""
        for method in self.sizes.methods:
            found = self.estimates[self.sizes.backbones[0], method]
            layout = found["training"] if found["training"]["micro_batch"] else found["training_checkpointed"]
            steps = Steps(self.subject(self.sizes.backbones[0], method), self.device, layout["accumulate"])
            if layout["checkpointing"]:
                steps.backbone.enable_gradient_checkpointing()
            seconds, peak = steps.seconds(), 0.0
            peak = peak_mib(self.device) * 2**20
            stage = next(each for each in found["stages"] if each["name"] == "train")
            told = stage["hours"] * 3600 / steps.subject.budget.steps
            on_gpu = self.device.type == "cuda"
            errors = [("memory", peak / layout["peak"] - 1, MEMORY)]
            if self.peak or not on_gpu:  # no time can be estimated for a card whose speed is not known
                errors.append(("time", seconds / told - 1, TIME))
            for name, value, most in errors:
                yield Measure(
                    name=f"{self.sizes.backbones[0]}, {method}: {name} against the estimate",
                    value=value,
                    unit="of the estimate",
                    at_least=-most if on_gpu else None,
                    at_most=most if on_gpu else None,
                    method=f"A step of {steps.size} images in {steps.parts} parts; the median of {REPEATS}.",
                    details=self.details | {"kind": name, "seconds": seconds, "peak": peak, "estimated_seconds": told},
                )
            del steps
            release()

    def speed(self) -> Iterator[Measure]:
        """Share of the peak, with torch.compile and without, and where the time goes."""
        for backbone, compiled in itertools.product(self.sizes.backbones, (False, True)):
            method = self.sizes.methods[0]
            found = self.estimates[backbone, method]
            steps = Steps(self.subject(backbone, method), self.device, found["training"]["accumulate"])
            if compiled:
                steps.backbone.transformer.compile()
            seconds = steps.seconds()
            rate = steps.size * found["flops_per_training_image"] / seconds
            details = self.details | {"seconds": seconds, "images_per_second": steps.size / seconds}
            if not compiled:
                details |= {"top_ten": top_ten(lambda steps=steps: steps(2))}
            name = f"{backbone}, {method}{', compiled' if compiled else ''}"
            how = f"FLOPs of the estimate over the median of {REPEATS} steps, one to warm up."
            yield share_of_peak(name, rate, self.peak, how, details)
            del steps
            release()

    def whole(self) -> Iterator[Measure]:
        """digits-lt from end to end on the device, beside the record that a CPU made."""
        known = cpu_record.find(recording.ROOT / "results", self.sizes.whole)
        with tempfile.TemporaryDirectory() as work:
            if not isinstance(known, str):
                yield from cpu_record.carried_out(known, Path(work), self.device, self.details, recording.ROOT)
                return
            yield cpu_record.absent(known, self.details)
            options = {"results": Path(work, "results"), "work_dir": Path(work, "work"), "device": str(self.device)}
            seconds, _ = timed(lambda: api.run("grasp", "digits-lt", budget=self.sizes.whole, **options))
        yield cpu_record.from_end_to_end(seconds, f"Budget {self.sizes.whole}, seed 0.", self.details)

    def small(self) -> Iterator[Measure]:
        """Images per second of a whole run's training and sampling on cifar10-lt, of as many images of noise."""
        with tempfile.TemporaryDirectory() as work:
            data, folders = Path(work, "cifar"), (Path(work, "results"), Path(work, "work"))
            make_cifar(data, 10, train=5000, test=1000)
            planned = plan(method="grasp", task="cifar10-lt", budget=self.sizes.small, data_root=data)
            pipeline = Pipeline(planned, Options(*folders, device=str(self.device)), self.device, Progress())
            trained, made = (
                read_object(folder / name)
                for folder, name in ((pipeline.trained, TRAIN_SUMMARY), (pipeline.generated, GENERATE_SUMMARY))
            )
        asked = planned.spec.budget
        for name, images, found in (
            ("training", asked.steps * asked.batch_size, trained),
            ("sampling", len(planned.task.classes()) * asked.images_per_class, made),
        ):
            yield Measure(
                name=f"{planned.backbone.name} on cifar10-lt, grasp, a whole run: {name}",
                value=images / found["seconds"],
                unit="images/s",
                method=f"All {images} images of the budget {asked.name}, which took {found['seconds']} s.",
                details=self.details,
            )


def check(sizes: Sizes, device: torch.device, minutes: float, folder: Path) -> list[Measure]:
    """Every part that is begun within ``minutes``; what there is so far is written after each."""
    deadline, made = time.monotonic() + 60 * minutes, list[Measure]()
    asked = Check(sizes, device, folder)
    asked.estimate_all()
    left_out = []
    for part in (asked.equality, asked.against_estimates, asked.speed, asked.whole, asked.small):
        if time.monotonic() > deadline:
            left_out.append(part.__name__)
            continue
        try:
            made += part()
        except Exception as error:  # the other parts are of use without this one
            made.append(
                Measure(
                    f"{part.__name__} ended with an error", 1, "", str(error)[:300], at_most=0, details=asked.details
                )
            )
        release()
        record(NAME, made, [], folder)
    made.append(
        Measure(
            name="parts left out",
            value=len(left_out),
            unit="",
            at_most=0,
            method=f"Those that were not begun within {minutes:g} minutes.",
            details={"left_out": left_out},
        )
    )
    record(NAME, made, [], folder)
    return made


def tiny(folder: Path) -> Sizes:
    """The same on a toy pipeline, which shows that the script works; compiling is most of what it takes."""
    return Sizes((save("pixart", folder / "pixart"),), None, ("grasp", "lora"), "digits-lt", "smoke", "smoke")


def main() -> None:
    """Check and write."""
    parser = argparse.ArgumentParser(prog="bench.gpu_check", description="The harness on a GPU, and its estimates.")
    parser.add_argument("--device", default="cuda", help="cuda (the default) or cuda:N; cpu with --tiny alone")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, which show that the script works")
    parser.add_argument("--minutes", type=float, default=8, help="begin no part after so many (default 8)")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    if device.type != "cuda" and not chosen.tiny:
        parser.error(f"--device {chosen.device}: true sizes need a GPU; use --device cuda, or add --tiny.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        parser.error(f"--device {chosen.device}: torch sees {torch.cuda.device_count()} CUDA devices here.")
    if chosen.tiny:
        with tempfile.TemporaryDirectory() as folder:
            check(tiny(Path(folder)), device, chosen.minutes, TRIALS)
    else:
        check(TRUE, device, chosen.minutes, RESULTS)


if __name__ == "__main__":
    main()

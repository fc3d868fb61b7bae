"""What each of several processes does for the tests of shared runs: train, and say how many they were.

``python -m run.shared_training RUNS FOLDER`` from ``tests``, RUNS being JSON: name → what is asked and options.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from helpers import runs

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.processes import join, own_index
from grasp_bench.run.context import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan
from grasp_bench.run.training import trial


def pretend_memory(patch: pytest.MonkeyPatch, samples: int) -> None:
    """Let a step take memory by its samples, four times as little with checkpointing, of which there is for some."""
    predict, seen = TinySD3.predict, [0.0]

    def noted(backbone, latents, *arguments):
        if torch.is_grad_enabled():
            seen.append(len(latents) / (4 if backbone.transformer.is_gradient_checkpointing else 1))
        return predict(backbone, latents, *arguments)

    patch.setattr(TinySD3, "predict", noted)
    patch.setattr(trial, "TRIED_ON", ("cpu",))
    patch.setattr(trial, "reset_peak_memory", lambda device: seen.clear())
    patch.setattr(trial, "peak", lambda device: 2**30 * max(seen))
    patch.setattr(trial, "available", lambda device: 2**30 * (samples + 0.5) / trial.SAFE)


def run_out(patch: pytest.MonkeyPatch, samples: float, backwards: bool, folder: Path) -> None:
    """Let the second process run out of memory in passes through more than ``samples``, after the first two steps.

    With checkpointing there is room for four times as many.
    What each step was worked on in is noted in the folder of the run.
    """
    passes, predict, index = [0], TinySD3.predict, own_index()
    patch.setattr(trial, "TRIED_ON", ("cpu",))
    patch.setattr(trial, "_try", lambda *_: None)
    patch.setattr(trial, "reset_peak_memory", lambda device: None)
    patch.setattr(trial, "peak", lambda device: 0)
    patch.setattr(trial, "available", lambda device: 2**40)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    def limited(backbone, latents, *arguments):
        if not torch.is_grad_enabled():
            return predict(backbone, latents, *arguments)
        passes[0] += 1
        with (folder / f"passes-{index}.txt").open("a") as file:
            file.write(f"{len(latents)}\n")
        transformer = getattr(backbone.transformer, "module", backbone.transformer)
        taken = len(latents) / (4 if transformer.is_gradient_checkpointing else 1)
        fails = index == 1 and passes[0] > 2 and taken > samples
        if fails and not backwards:
            fail()
        found = predict(backbone, latents, *arguments)
        if fails:
            found.register_hook(fail)
        return found

    patch.setattr(TinySD3, "predict", limited)


def main() -> None:
    torch.set_num_threads(1)
    if "STOP_AT_STEP" in os.environ:
        runs.fail_at_step(pytest.MonkeyPatch(), int(os.environ["STOP_AT_STEP"]), runs.interrupt)
    if "ROOM" in os.environ:
        pretend_memory(pytest.MonkeyPatch(), int(os.environ["ROOM"]))
    if "RUNS_OUT" in os.environ:
        samples, where = os.environ["RUNS_OUT"].split()
        run_out(pytest.MonkeyPatch(), float(samples), where == "backwards", Path(sys.argv[2]))
    processes, device = join("cpu")
    for name, (asked, options) in json.loads(sys.argv[1]).items():
        folder = Path(sys.argv[2]) / name
        chosen = Options(folder / "results", folder / "work", "cpu", log_every=2, checkpoint_minutes=0, **options)
        pipeline = Pipeline(plan(**asked), chosen, device, runs.Listener(), processes)
        try:
            trained = pipeline.trained
        except KeyboardInterrupt:
            continue
        if processes.is_first:
            (folder / "outcome.json").write_text(json.dumps({"count": processes.count, "trained": str(trained)}))


if __name__ == "__main__":
    main()

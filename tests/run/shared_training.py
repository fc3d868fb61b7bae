"""What each of several processes does for the tests of shared runs: train, and say how many they were.

``python -m run.shared_training``, started in ``tests``, reads jobs from its input, a line of JSON each, and answers
each with a line: what the processes wrote to stderr, and the exit status of one that failed, else 0. It forks the
processes of a job, with the variables that torch's launcher sets, after imports that would take each ten seconds.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import runs

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.processes import join, own_index
from grasp_bench.run.options import Options
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


def train(asked: Mapping[str, Any], folder: Path) -> None:
    """Do every run of a job as one of its processes."""
    if "STOP_AT_STEP" in os.environ:
        runs.fail_at_step(pytest.MonkeyPatch(), int(os.environ["STOP_AT_STEP"]), runs.interrupt)
    if "ROOM" in os.environ:
        pretend_memory(pytest.MonkeyPatch(), int(os.environ["ROOM"]))
    if "RUNS_OUT" in os.environ:
        samples, where = os.environ["RUNS_OUT"].split()
        run_out(pytest.MonkeyPatch(), float(samples), where == "backwards", folder)
    processes, device = join("cpu")
    for name, (words, options) in asked.items():
        place = folder / name
        chosen = Options(place / "results", place / "work", "cpu", log_every=2, checkpoint_minutes=0, **options)
        pipeline = Pipeline(plan(**words), chosen, device, runs.Listener(), processes)
        try:
            trained = pipeline.trained
        except KeyboardInterrupt:
            continue
        if processes.is_first:
            (place / "outcome.json").write_text(json.dumps({"count": processes.count, "trained": str(trained)}))


def become(index: int, job: Mapping[str, Any], port: int, errors: Path) -> None:
    """Be one process of a job, in a process that was forked for it, and end."""
    with errors.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    own = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": job["count"], "LOCAL_WORLD_SIZE": job["count"]}
    own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in (own | job["environment"]).items()})
    try:
        train(job["asked"], Path(job["folder"]))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def launch(job: Mapping[str, Any]) -> dict[str, Any]:
    """Fork the processes of a job and wait for them; the first that fails ends the others, as torch's launcher does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    errors = [Path(job["folder"], f"stderr-{index}.txt") for index in range(job["count"])]
    children = set()
    for index in range(job["count"]):
        child = os.fork()
        if not child:
            become(index, job, port, errors[index])
        children.add(child)
    status = 0
    while children:
        child, ended = os.wait()
        children.discard(child)
        if ended and not status:
            status = os.waitstatus_to_exitcode(ended)
            for each in children:
                os.kill(each, signal.SIGKILL)
    return {"returncode": status, "stderr": "".join(path.read_text() for path in errors)}


def main() -> None:
    """Answer jobs until the input ends."""
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for what libraries print
    chosen = plan(method="grasp", task="digits-lt")
    assert Pipeline(chosen, Options(Path(), Path(), "cpu"), torch.device("cpu"), runs.Listener()).backbone
    for line in sys.stdin:
        print(json.dumps(launch(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()

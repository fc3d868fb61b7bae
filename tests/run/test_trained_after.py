"""The weights after some steps of a run, which weaker networks and diagnoses at a step are made of."""

from pathlib import Path

import pytest
import torch
from helpers import runs
from safetensors.torch import load_file

from grasp_bench.run.files import WEIGHTS
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import Plan

STEP = 8
"""A multiple of the steps between checkpoints, and not the last."""
AVERAGED = {"task_settings": ["ema_decay=0.9"]}


def pipeline(folder: Path, chosen: Plan) -> Pipeline:
    return Pipeline(chosen, runs.options(folder), torch.device("cpu"), runs.Listener())


def kept_by_the_whole_run(folder: Path, chosen: Plan) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of the checkpoint after ``STEP``, by their part of it, of a run that is stopped in the step after."""
    runs.stop_at_step(folder, chosen, STEP)
    (path,) = (folder / "work").rglob(f"step-{STEP:08d}.*.safetensors")
    parts: dict[str, dict[str, torch.Tensor]] = {"parameters": {}, "averages": {}}
    for key, value in load_file(path).items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = value
    return parts


@pytest.mark.parametrize(
    ("method", "changes"), [("grasp", {}), ("lora", {}), ("lora", AVERAGED)], ids=["grasp", "lora", "lora-averaged"]
)
def test_they_are_those_of_the_whole_run_at_that_step(
    method: str, changes: dict[str, list[str]], tmp_path: Path
) -> None:
    kept = kept_by_the_whole_run(tmp_path, runs.small(method, **changes))
    expected = kept["averages" if changes else "parameters"]
    found = load_file(pipeline(tmp_path, runs.small(method, **changes)).trained_after(STEP) / WEIGHTS)
    assert found.keys() == expected.keys() == kept["parameters"].keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert any(not torch.equal(found[name], value) for name, value in kept["parameters"].items()) == bool(changes)


def test_after_all_steps_they_are_the_run_s_own(tmp_path: Path) -> None:
    made = pipeline(tmp_path, runs.small("lora"))
    trained = made.trained
    assert made.trained_after(made.plan.spec.budget.steps) == trained
    early, late = (load_file(each / WEIGHTS) for each in (made.trained_after(STEP), trained))
    assert early.keys() == late.keys()
    assert not all(torch.equal(early[name], value) for name, value in late.items())

from dataclasses import replace

import pytest
import torch

from grasp_bench.contracts.progress import Progress
from grasp_bench.io import read_tensors
from grasp_bench.run.encoded import KnownPrompts, Pixels
from grasp_bench.run.files import WEIGHTS
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan
from grasp_bench.run.training.batches import Batches

from .bare import BareLoop, Draw
from .bench_training import METHODS, QUICK, TURN, Turns, shortened
from .encoding import Training, save_pipeline

CPU = torch.device("cpu")


@pytest.mark.parametrize("method", METHODS)
def test_the_bare_loop_computes_what_the_harness_does(tmp_path, method):
    def pipeline() -> Pipeline:
        chosen = shortened(plan(method=method, task="digits-lt"), steps=4, batch=6)
        return Pipeline(chosen, Options(tmp_path / "results", tmp_path / "work", device="cpu"), CPU, Progress())

    harness, start = pipeline(), pipeline()
    trained = read_tensors(harness.trained / WEIGHTS)
    split = start.data.train
    bare = BareLoop(shortened(plan(method=method, task="digits-lt"), steps=4, batch=6), split)
    start.attach()
    bare.method.load_state_dict(start.plan.method.state_dict())
    known = KnownPrompts(["", *split.prompts], start.backbone)
    batches = Batches(start.plan.spec, split, start.backbone, Pixels(split, start.backbone), known, CPU, None)
    for step in range(4):
        batch = batches(step)
        indices = torch.from_numpy(batches.order(step))
        bare.step(Draw(indices, batch.noise, batch.condition.timesteps, batch.condition.dropped))
    found = bare.method.state_dict()
    assert found.keys() == trained.keys()
    for name, tensor in trained.items():
        assert torch.equal(found[name], tensor), name


def test_the_bare_loop_sees_every_image_before_any_twice(tmp_path):
    chosen = shortened(plan(method="vanilla-ft", task="digits-lt"), steps=1, batch=8)
    chosen.task.prepare(tmp_path, Progress())
    split = chosen.task.open(tmp_path, chosen.backbone.image_shape).train
    bare, seen = BareLoop(chosen, replace(split)), []
    bare.step = lambda draw: seen.extend(draw.indices.tolist())
    while len(seen) < 2 * len(split):
        bare()
    assert sorted(seen[: len(split)]) == list(range(len(split)))
    assert sorted(seen[len(split) : 2 * len(split)]) == list(range(len(split)))


def test_loops_take_turns_and_the_first_round_is_left_out():
    made = []
    turns = Turns(lambda: made.append("bare"))
    with turns.task("train", 6 * TURN) as advance:
        for _ in range(6 * TURN):
            made.append("harness")
            advance(1)
    assert made == ["harness"] * TURN + ["bare"] * TURN + made[: 10 * TURN]
    turns.seconds = {"harness": [9, 9, 1, 2, 3, 4], "bare": [9, 9, 1, 1, 1, 1]}
    assert turns.rounds(2) == {"harness": [3, 7], "bare": [2, 2]}


def test_encoding_gives_what_is_stored(tmp_path):
    pipeline = save_pipeline(tmp_path / "pipeline", tmp_path / "scratch", QUICK.pipeline)
    training = Training(pipeline, tmp_path, QUICK.pipeline)
    training.check_agreement()
    training.stored.latents = training.encoded.latents
    embeddings = training.encoded.prompts
    training.encoded.prompts = lambda prompts, dtype: embeddings([""] * len(prompts), dtype)
    with pytest.raises(AssertionError):
        training.check_agreement()

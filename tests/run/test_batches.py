import dataclasses

import numpy as np
import pytest
import torch
from helpers import runs

from grasp_bench import seeds
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.run.encoded import KnownPrompts, Pixels
from grasp_bench.run.training.batches import Batches

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backbone():
    return TinySD3.load()


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    task, folder = runs.small().task, tmp_path_factory.mktemp("digits")
    task.prepare(folder, runs.Listener())
    return task.open(folder, (1, 8, 8)).train


@pytest.fixture(scope="module")
def batches(backbone, split):
    return make(backbone, split)


def make(backbone, split, weights=None, **changes):
    spec = runs.small(**changes).spec
    return Batches(
        spec, split, backbone, Pixels(split, backbone), KnownPrompts(["", *split.prompts], backbone), CPU, weights
    )


def positions(split, batch) -> np.ndarray:
    return np.array([split.ids.index(name) for name in batch.ids])


def test_a_step_does_not_depend_on_the_steps_before_it(backbone, split, batches):
    later = [batches(step) for step in range(8)][7]
    alone = make(backbone, split)(7)
    assert alone.digest == later.digest
    assert torch.equal(alone.noisy, later.noisy)
    assert torch.equal(alone.target, later.target)
    assert torch.equal(alone.condition.prompts.tokens, later.condition.prompts.tokens)


def test_global_random_state_is_neither_read_nor_changed(backbone, split, batches):
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state()
    digest = batches(3).digest
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.random.seed(2)
    assert batches(3).digest == digest


def test_noise_and_target_are_those_of_the_objective(batches, split):
    batch = batches(0)
    clean = torch.from_numpy(split.read(positions(split, batch))).float() / 127.5 - 1
    times = batch.condition.timesteps[:, None, None, None]
    assert torch.equal(batch.latents, clean)
    torch.testing.assert_close(batch.noisy, (1 - times) * clean + times * batch.noise)
    torch.testing.assert_close(batch.target, batch.noise - clean)
    assert torch.equal(batch.condition.labels, torch.from_numpy(split.labels[positions(split, batch)]))


def test_prompts_are_dropped_as_often_as_the_budget_says(batches):
    dropped = torch.cat([batches(step).condition.dropped for step in range(200)])
    share = batches.spec.budget.prompt_dropout
    assert dropped.double().mean().item() == pytest.approx(share, abs=0.03)


def test_a_dropped_sample_has_the_null_prompt_and_keeps_its_label(batches, backbone):
    batch = next(batch for batch in map(batches, range(50)) if batch.condition.dropped.any())
    null = backbone.encode_prompts([""])
    prompts = [batches.split.prompts[position] for position in positions(batches.split, batch)]
    for i, dropped in enumerate(batch.condition.dropped):
        expected = null if dropped else backbone.encode_prompts(prompts[i : i + 1])
        assert torch.equal(batch.condition.prompts.tokens[i], expected.tokens[0])
        assert torch.equal(batch.condition.prompts.pooled[i], expected.pooled[0])


def test_the_digest_tells_seeds_and_steps_apart(backbone, split, batches):
    digests = {batches(0).digest, batches(1).digest, make(backbone, split, seed=1)(0).digest}
    assert len(digests) == 3


def altered(monkeypatch, purpose):
    """Draw from another stream for ``purpose``."""
    generator, rng = seeds.generator, seeds.rng
    monkeypatch.setattr(seeds, "generator", lambda name, *keys: generator(name, *keys, *["x"] * (name == purpose)))
    monkeypatch.setattr(seeds, "rng", lambda name, *keys: rng(name, *keys, *["x"] * (name == purpose)))


@pytest.mark.parametrize("purpose", ["order", "noise", "timesteps", "drop"])
def test_the_digest_covers_order_noise_timesteps_and_dropped_prompts(backbone, split, batches, monkeypatch, purpose):
    step = next(step for step in range(50) if batches(step).condition.dropped.any())
    expected = batches(step).digest
    altered(monkeypatch, purpose)
    assert make(backbone, split)(step).digest != expected


def test_the_digest_covers_the_samples_names(backbone, split, batches):
    renamed = dataclasses.replace(split, ids=[f"other/{name}" for name in split.ids])
    assert make(backbone, renamed)(0).digest != batches(0).digest


def test_class_weights_resample_and_leave_noise_alone(backbone, split, batches):
    weights = np.zeros(10)
    weights[[2, 9]] = 1, 3  # of an image of the class
    weighted = make(backbone, split, weights)
    labels = np.concatenate([weighted(step).condition.labels.numpy() for step in range(100)])
    counts = np.bincount(split.labels)
    assert set(labels) == {2, 9}
    assert (labels == 9).mean() == pytest.approx(3 * counts[9] / (counts[2] + 3 * counts[9]), abs=0.03)
    assert torch.equal(weighted(0).condition.timesteps, batches(0).condition.timesteps)

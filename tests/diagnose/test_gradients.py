"""Gradients of classes: whose they are, on what noise, and of which parameters."""

import numpy as np
import pytest
import torch

from grasp_bench import seeds
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.coral import Coral, CoralSettings
from grasp_bench.baselines.grasp import Grasp, GraspSettings
from grasp_bench.baselines.vanilla_ft import VanillaFineTuning, VanillaSettings
from grasp_bench.contracts.task import ClassInfo, Split
from grasp_bench.diagnose import gradients
from grasp_bench.diagnose.gradients import Draws, draw, measure, timesteps
from grasp_bench.errors import UserError
from grasp_bench.run.encoded import Pixels
from grasp_bench.sampling import Network
from grasp_bench.tasks.digits_lt import DigitsLT, DigitsSettings

CPU = torch.device("cpu")
TASK = DigitsLT(DigitsSettings())


def split(counts, images=None):
    """Images of as many classes, with the prompts of the digits."""
    labels = np.repeat(np.arange(len(counts)), counts)
    if images is None:
        images = np.random.default_rng(0).integers(0, 256, (len(labels), 1, 8, 8), np.uint8)
    prompts = [TASK.classes()[label].prompt for label in labels]
    return Split([str(row) for row in range(len(labels))], labels, prompts, lambda rows: images[rows])


def infos(counts, groups="hmt"):
    return [ClassInfo(str(row), f"p{row}", groups[row % len(groups)], count) for row, count in enumerate(counts)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(gradients, "LEVELS", ((0.0, 0.5), (0.5, 1.0)))
    monkeypatch.setattr(gradients, "NOISES", 2)


def measured(method, train, draws, seed=0):
    backbone = TinySD3.load()
    pretrained = set(backbone.transformer.parameters())
    method.attach(backbone, TASK, torch.Generator().manual_seed(0))
    added = set(backbone.transformer.parameters()) - pretrained
    network = Network(backbone, method, CPU)
    found = measure(
        network,
        method.parameters(),
        added,
        train,
        Pixels(train, backbone),
        lambda prompts: backbone.encode_prompts(list(prompts)),
        draws,
        seed,
        lambda count: None,
    )
    return found, backbone


def test_images_are_in_one_batch_and_of_their_class():
    counts = [9, 20, 6]
    found = draw(split(counts), infos(counts), 8, 0)
    assert found.images.shape == (6, 3)  # as many as the rarest class has
    assert len(np.unique(found.images)) == found.images.size
    assert (split(counts).labels[found.images] == [0, 1, 2]).all()
    np.testing.assert_array_equal(found.images, draw(split(counts), infos(counts), 8, 0).images)
    assert not np.array_equal(found.images, draw(split(counts), infos(counts), 8, 1).images)


def test_rare_classes_are_left_out_and_too_few_are_refused():
    counts = [9, 3, 6]
    assert draw(split(counts), infos(counts), 8, 0).classes.tolist() == [0, 2]
    with pytest.raises(UserError, match="1 classes have at least 4 training images"):
        draw(split([9, 3, 2]), infos([9, 3, 2]), 8, 0)


def test_of_many_classes_groups_give_evenly(monkeypatch):
    monkeypatch.setattr(gradients, "MOST_CLASSES", 4)
    counts = [4] * 9
    found = draw(split(counts), infos(counts, "hhht"), 4, 0)
    groups = [infos(counts, "hhht")[index].group for index in found.classes]
    assert groups.count("t") == groups.count("h") == 2
    assert list(found.classes) == sorted(found.classes)


def test_they_are_the_gradients_of_the_mean_squared_error():
    train = split([4, 4])
    draws = Draws(np.array([0, 1]), np.array([[0, 4]]))
    found, backbone = measured(VanillaFineTuning(VanillaSettings()), train, draws, seed=3)
    own = dict(backbone.transformer.named_parameters())["transformer_blocks.0.attn.to_q.bias"]

    clean = backbone.encode_images(torch.from_numpy(train.read(np.array([4]))))
    noise = torch.randn(2, 1, 8, 8, generator=seeds.generator("diagnose-noise", 3, 0, 1))
    times = torch.tensor([0.625, 0.875])
    mixed = times.reshape(2, 1, 1, 1)
    prediction = backbone.predict(
        (1 - mixed) * clean + mixed * noise, times, backbone.encode_prompts([train.prompts[4]] * 2)
    )
    loss = (prediction - (noise - clean)).square().mean()
    assert found.losses[1, 0, 1] == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(timesteps(1), times)

    squares = torch.autograd.grad(loss, list(backbone.transformer.parameters()), retain_graph=True)
    exact = sum(each.square().sum().item() for each in squares)
    sketched = sum(float(np.square(each[1, 0, 1]).sum()) for each in found.values.values())
    assert sketched == pytest.approx(exact, rel=0.15)
    assert torch.autograd.grad(loss, own)[0].abs().sum() > 0
    assert set(found.sizes) == {"attention", "embeddings", "feed-forward", "modulation"}
    assert sum(found.sizes.values()) == sum(each.numel() for each in backbone.transformer.parameters())


def test_classes_meet_the_same_noise_and_batches_do_not(monkeypatch):
    monkeypatch.setattr(gradients, "LEVELS", ((0.0, 0.5),))
    same = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 1, 8, 8), np.uint8), 8, 0)
    train = split([4, 4], same)
    train.prompts[:] = ["a digit"] * 8
    draws = Draws(np.array([0, 1]), np.array([[0, 4], [1, 5]]))
    found, _ = measured(VanillaFineTuning(VanillaSettings()), train, draws)
    for values in found.values.values():
        np.testing.assert_array_equal(values[:, :, 0], values[:, :, 1])
        assert not np.allclose(values[:, 0], values[:, 1])


def test_classes_of_different_clusters_share_no_parameter():
    train = split([4] * 10)
    classes = np.arange(10)
    found, _ = measured(Grasp(GraspSettings(rank=2)), train, Draws(classes, 4 * classes[None]))
    groups = np.array([info.group for info in TASK.classes()])
    np.testing.assert_array_equal(found.apart["feed-forward adapter"], groups[:, None] != groups)


@pytest.mark.parametrize("on", ["vanilla-ft", "grasp"])
def test_parameters_that_the_error_does_not_reach_are_left_out(on):
    """CORAL's projection learns from the contrast alone; as a kind that all classes share it would hide routing."""
    train = split([4] * 10)
    classes = np.arange(10)
    found, _ = measured(Coral(CoralSettings(on=on)), train, Draws(classes, 4 * classes[None]))
    assert found.values.keys() == found.apart.keys() == found.sizes.keys()
    assert all(values.any() for values in found.values.values())
    together = np.logical_and.reduce(list(found.apart.values()))
    groups = np.array([info.group for info in TASK.classes()])
    expected = groups[:, None] != groups if on == "grasp" else np.zeros((10, 10), bool)
    np.testing.assert_array_equal(together, expected)

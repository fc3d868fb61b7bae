"""The classifier that guidances ask: what it is trained on, kept as and read through."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from workshops import workshop

from grasp_bench import plugins
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.guidance import Workshop
from grasp_bench.contracts.task import Split
from grasp_bench.errors import UserError
from grasp_bench.guidances.image_classifier import (
    REPORT,
    WEIGHTS,
    ClassifierGuided,
    ClassifierSettings,
    ImageClassifier,
)

SETTINGS = ClassifierSettings(epochs=6)


def learn(shop: Workshop, settings: ClassifierSettings, folder: Path) -> None:
    ClassifierGuided(settings).learn(shop, folder)


def load(shop: Workshop, settings: ClassifierSettings, folder: Path) -> ImageClassifier:
    guidance = ClassifierGuided(settings)
    guidance.prepare(shop, folder)
    return guidance.classify


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return workshop(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def folder(shop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("guide")
    learn(shop, SETTINGS, made)
    return made


def with_data(shop: Workshop, **splits: Split) -> Workshop:
    return replace(shop, data=lambda: replace(shop.data(), **splits))


def test_what_is_loaded_is_what_was_learned(shop: Workshop, folder: Path) -> None:
    classify = load(shop, SETTINGS, folder)
    validation = shop.data().validation
    images = torch.from_numpy(validation.all_images())
    predicted = classify(images.double() / 127.5 - 1).argmax(1).numpy()
    recall = json.loads((folder / REPORT).read_text())["validation_recall"]
    right = predicted == validation.labels
    assert recall == {str(digit): pytest.approx(right[validation.labels == digit].mean()) for digit in range(10)}
    assert right.mean() > 0.3
    assert classify(torch.zeros(1, 1, 8, 8)).dtype == torch.float64  # that of sampling
    assert not any(parameter.requires_grad for parameter in classify.network.parameters())
    assert not classify.network.training
    assert sorted(path.name for path in folder.iterdir()) == [REPORT, WEIGHTS]


def test_it_never_sees_a_test_image_and_draws_from_no_global_generator(
    shop: Workshop, folder: Path, tmp_path: Path
) -> None:
    def refuse(indices: np.ndarray) -> np.ndarray:
        raise AssertionError

    torch.manual_seed(7)
    before = torch.get_rng_state()
    blind = with_data(shop, test=replace(shop.data().test, read=refuse))
    learn(blind, SETTINGS, tmp_path)
    load(blind, SETTINGS, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert (tmp_path / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def test_images_are_read_at_the_resolution_of_training(shop: Workshop, folder: Path) -> None:
    classify = load(shop, ClassifierSettings(epochs=6, resolution=16), folder)
    seen: list[torch.Size] = []
    classify.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    classify(torch.zeros(2, 1, 8, 8))
    assert seen == [(2, 1, 16, 16)]


def test_a_task_without_validation_images_is_refused(shop: Workshop, tmp_path: Path) -> None:
    empty = Split([], np.zeros(0, int), [], lambda indices: np.zeros((0, 1, 8, 8), np.uint8))
    with pytest.raises(UserError, match=r"validation images, and task digits-lt has none\. Give it some"):
        learn(with_data(shop, validation=empty), SETTINGS, tmp_path)


def test_a_task_with_one_class_is_refused(shop: Workshop, tmp_path: Path) -> None:
    class OneClass(plugins.load("tasks", "digits-lt")):
        def classes(self):
            return super().classes()[:1]

    with pytest.raises(UserError, match="a single class"):
        learn(replace(shop, task=OneClass(shop.task.config)), SETTINGS, tmp_path)


def test_a_network_that_does_not_take_the_images_is_refused(shop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected small-cnn or timm:"):
        learn(shop, ClassifierSettings(network="smal-cnn"), tmp_path)


@pytest.mark.parametrize("kind", ["pixels", "autoencoder"])
def test_latents_decode_with_a_gradient_to_the_images_that_are_generated(kind: str) -> None:
    if kind == "pixels":
        backbone, latents = TinySD3.load(), torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    else:
        backbone, latents = SavedBackbone.__new__(SavedBackbone), torch.randn(2, 4, 4, 4)
        backbone.device = torch.device("cpu")
        backbone.autoencoder = AutoencoderKL(latent_channels=4, norm_num_groups=4, block_out_channels=(8,))
        backbone.autoencoder.requires_grad_(False)
    latents.requires_grad_()
    decoded = backbone.decode(latents)
    pixels = ((decoded.detach() + 1) * 127.5).clamp(0, 255)
    assert (pixels - backbone.decode_latents(latents.detach())).abs().max() <= 0.5 + 1e-3
    (gradient,) = torch.autograd.grad(decoded[0].square().sum(), latents)
    assert gradient[0].abs().max() > 0
    assert not gradient[1].any()

"""Downstream classifiers: they learn, they resume to the last bit, and nothing but data, recipe and key decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grasp_bench.checked import find_checked
from grasp_bench.contracts.task import ClassifierRecipe, Split
from grasp_bench.downstream import classifier
from grasp_bench.downstream.augment import augment
from grasp_bench.downstream.classifier import topped_up
from grasp_bench.downstream.networks import build, check
from grasp_bench.errors import UserError

CPU = torch.device("cpu")
RECIPE = ClassifierRecipe(epochs=6, batch_size=16, learning_rate=3e-3)


def stripes(counts: list[int], seed: int = 0, size: int = 12) -> Split:
    """Noisy images whose class is the column of a bright stripe."""
    random = np.random.RandomState(seed)
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    images = random.randint(0, 120, (len(labels), 1, size, size), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, :, 2 + 3 * label] = 250
    ids = [f"{seed}/{row}" for row in range(len(labels))]
    return Split(ids, labels, ids, lambda indices: images[indices])


def trained(folder: Path, images: Split, recipe: ClassifierRecipe, key=("t",), validation: Split | None = None):
    done: list[int] = []
    model = classifier.train(
        images, validation or stripes([6] * 3, 9), 3, recipe, key, folder / "work", CPU, done.append
    )
    assert sum(done) == recipe.epochs
    return model


def weights(model: torch.nn.Module) -> bytes:
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())


@pytest.mark.parametrize("network", ["small-cnn", pytest.param("timm:resnet10t", marks=pytest.mark.slow)])
def test_it_learns_what_can_be_learnt(tmp_path: Path, network: str) -> None:
    recipe = replace(RECIPE, network=network, resolution=32 if "timm" in network else None, epochs=12)
    model = trained(tmp_path, stripes([40] * 3), recipe)
    test = stripes([20] * 3, 1)
    found = classifier.probabilities(model, test, recipe, CPU)
    assert found.shape == (60, 3)
    assert found.sum(axis=1) == pytest.approx(1)
    assert (found.argmax(1) == test.labels).mean() > 0.9


def test_a_killed_training_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    recipe = replace(RECIPE, augmentation=("crop", "flip", "rotate"), patience=3)
    images = stripes([30, 20, 10])
    expected = weights(trained(tmp_path / "a", images, recipe))

    def killer(count: int) -> None:
        if count == 1 and len(find_checked(tmp_path / "b" / "work", classifier.KIND)) == 1:
            killer.calls += 1
            if killer.calls == 3:
                raise KeyboardInterrupt

    killer.calls = 0
    (tmp_path / "b").mkdir()
    with pytest.raises(KeyboardInterrupt):
        classifier.train(images, stripes([6] * 3, 9), 3, recipe, ("t",), tmp_path / "b" / "work", CPU, killer)
    ((epoch, _),) = find_checked(tmp_path / "b" / "work", classifier.KIND)
    assert epoch == 3
    assert weights(trained(tmp_path / "b", images, recipe)) == expected
    assert not (tmp_path / "b" / "work").exists()


def test_the_key_decides_and_where_images_are_read_from_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, recipe = stripes([20] * 3), replace(RECIPE, epochs=2, augmentation=("flip",))
    first = weights(trained(tmp_path, images, recipe))
    assert weights(trained(tmp_path, images, recipe, ("u",))) != first
    torch.manual_seed(5)
    assert weights(trained(tmp_path, images, recipe)) == first
    monkeypatch.setattr(classifier, "IN_MEMORY", 0)
    assert weights(trained(tmp_path, images, recipe)) == first


def test_probabilities_do_not_depend_on_how_many_are_predicted_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, test = trained(tmp_path, stripes([9] * 3), replace(RECIPE, epochs=1)), stripes([7] * 3, 1)
    first = classifier.probabilities(model, test, RECIPE, CPU)
    monkeypatch.setattr(classifier, "PREDICTED_AT_ONCE", 4)
    assert classifier.probabilities(model, test, RECIPE, CPU) == pytest.approx(first, abs=1e-6)


def test_what_is_predicted_does_not_depend_on_whether_a_card_has_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def model(images: torch.Tensor) -> torch.Tensor:
        told.append((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))
        return images.new_zeros(len(images), 3)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's default
    assert classifier.probabilities(model, stripes([1] * 3), RECIPE, CPU).tolist() == [[pytest.approx(1 / 3)] * 3] * 3
    assert told == [(False, "highest")]
    assert torch.backends.cudnn.allow_tf32


def test_balanced_weights_make_every_class_count_alike(tmp_path: Path) -> None:
    labels = np.array([0] * 6 + [1] * 3)
    found = classifier._class_weights(labels, 3, replace(RECIPE, class_weights="balanced"))
    assert found.tolist() == pytest.approx([9 / (2 * 6), 9 / (2 * 3), 0])
    assert classifier._class_weights(labels, 3, RECIPE).tolist() == [1, 1, 1]


def test_it_stops_when_validation_gets_no_better_and_keeps_the_best(tmp_path: Path) -> None:
    images = stripes([30] * 3)
    shuffled = replace(stripes([20] * 3, 2), labels=np.random.RandomState(3).permutation(np.repeat([0, 1, 2], 20)))
    recipe = replace(RECIPE, epochs=40, patience=2, learning_rate=1e-2)
    seen: list[float] = []
    measured = classifier._validated

    def watched(*arguments) -> float:
        seen.append(measured(*arguments))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "_validated", watched)
        model = trained(tmp_path, images, recipe, validation=shuffled)
    assert len(seen) < 40
    predicted = classifier.probabilities(model, shuffled, recipe, CPU).argmax(1)
    accuracy = np.mean([(predicted[shuffled.labels == label] == label).mean() for label in range(3)])
    assert accuracy == pytest.approx(max(seen))


def test_augmentation_moves_images_by_a_draw_of_their_own() -> None:
    images = torch.rand(8, 1, 16, 16)
    for name in ("flip", "crop", "rotate"):
        changed = augment(images, [name], torch.Generator().manual_seed(1))
        assert changed.shape == images.shape
        assert torch.equal(changed, augment(images, [name], torch.Generator().manual_seed(1)))
        assert not torch.equal(changed, images)
    flipped = augment(images, ["flip"], torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(2)) for a, b in zip(flipped, images, strict=True))
    assert torch.equal(augment(flipped, ["flip"], torch.Generator().manual_seed(1)), images)
    flat = torch.full((4, 3, 16, 16), 0.25)
    assert torch.allclose(augment(flat, ["crop", "rotate"], torch.Generator().manual_seed(2)), flat)


def test_networks_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'densenet121'"):
        build("timm:densnet121", 1, 3)
    with pytest.raises(UserError, match="expected small-cnn or timm:<model>"):
        build("resnet50", 1, 3)
    check("timm:resnet10t", 1, 32, 3)
    with pytest.raises(UserError, match="'timm:densenet121' takes no images of 12 pixels per side"):
        check("timm:densenet121", 3, 12, 3)


def test_real_images_are_topped_up_to_the_largest_class() -> None:
    real, generated = stripes([9, 4, 1], 3), stripes([5, 5, 5], 4)
    mixed = topped_up(real, generated, 3)
    assert np.bincount(mixed.labels).tolist() == [9, 9, 6]
    assert [name.split("/")[0] for name in mixed.ids] == ["3"] * 14 + ["4"] * 10
    order = np.random.RandomState(0).permutation(len(mixed))
    for index, image in zip(order, mixed.read(order), strict=True):
        source = real if mixed.ids[index].startswith("3") else generated
        assert (image == source.read(np.array([source.ids.index(mixed.ids[index])]))[0]).all()
    assert len(mixed.read(np.array([0, 1]))) == len(mixed.read(np.array([20]))) + 1

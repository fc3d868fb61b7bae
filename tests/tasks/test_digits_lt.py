"""digits-lt: disjoint parts, stated counts, and test images that no setting changes."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from grasp_bench.contracts.progress import Progress
from grasp_bench.tasks.digits_lt import DigitsLT, DigitsSettings


def opened(folder: Path, order: str = "0123456789"):
    task = DigitsLT(DigitsSettings(class_order=order))
    folder.mkdir()
    task.prepare(folder, Progress())
    return task, task.open(folder, (1, 8, 8))


@pytest.mark.parametrize("order", ["0123456789", "8217465930"])
def test_splits_are_disjoint_complete_and_of_the_stated_sizes(tmp_path: Path, order: str) -> None:
    task, data = opened(tmp_path / "data", order)
    parts = [data.train, data.validation, data.test, data.pool]
    ids = [name for part in parts for name in part.ids]
    assert len(ids) == len(set(ids)) == 1797
    counts = np.bincount(data.train.labels)
    assert counts.tolist() == [info.train_count for info in task.classes()]
    assert sorted(counts.tolist(), reverse=True) == [80, 57, 41, 29, 21, 15, 11, 8, 6, 4]
    assert np.bincount(data.test.labels).tolist() == [60] * 10
    assert np.bincount(data.validation.labels).tolist() == [15] * 10
    assert counts[int(order[0])] == 80
    assert counts[int(order[-1])] == 4


def test_groups_are_three_four_three_by_train_count(tmp_path: Path) -> None:
    classes = DigitsLT(DigitsSettings(class_order="8217465930")).classes()
    groups = {group: {info.name for info in classes if info.group == group} for group in ("head", "medium", "tail")}
    assert groups == {"head": set("821"), "medium": set("7465"), "tail": set("930")}


def test_images_are_scikit_learns_and_labels_and_prompts_belong_to_them(tmp_path: Path) -> None:
    _, data = opened(tmp_path / "data")
    digits = load_digits()
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for split in (data.train, data.test):
        images = split.all_images()
        assert images.shape == (len(split), 1, 8, 8)
        for position in (0, len(split) // 2, len(split) - 1):
            source = int(split.ids[position].split("/")[1])
            assert split.labels[position] == digits.target[source]
            assert np.abs(images[position, 0] / 255 * 16 - digits.images[source]).max() < 0.04
            assert split.prompts[position] == f"a handwritten digit {words[digits.target[source]]}"


def test_test_and_validation_images_do_not_depend_on_the_settings(tmp_path: Path) -> None:
    _, one = opened(tmp_path / "one")
    _, other = opened(tmp_path / "other", "8217465930")
    assert one.test.ids == other.test.ids
    assert one.validation.ids == other.validation.ids
    assert one.train.ids != other.train.ids

"""digits-lt: disjoint parts, stated counts, and what a seed draws."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.task import Dataset
from grasp_bench.run.pipeline import stage_keys
from grasp_bench.run.plan import plan, plan_of_spec
from grasp_bench.run.seeding import with_seed
from grasp_bench.tasks.digits_lt import DigitsLT, DigitsSettings


def opened(folder: Path, order: str = "seed", seed: int = 0) -> tuple[DigitsLT, Dataset]:
    task = DigitsLT(DigitsSettings(class_order=order)).for_seed(seed)
    folder.mkdir()
    task.prepare(folder, Progress())
    return task, task.open(folder, (1, 8, 8))


def tail(task: DigitsLT) -> set[str]:
    return {info.name for info in task.classes() if info.group == "tail"}


@pytest.mark.parametrize("order", ["seed", "8217465930"])
def test_parts_are_disjoint_and_of_the_stated_sizes(tmp_path: Path, order: str) -> None:
    task, data = opened(tmp_path / "data", order)
    parts = [data.train, data.validation, data.test, data.pool]
    ids = [name for part in parts for name in part.ids]
    assert len(ids) == len(set(ids))
    counts = np.bincount(data.train.labels)
    assert counts.tolist() == [info.train_count for info in task.classes()]
    assert sorted(counts.tolist(), reverse=True) == [60, 44, 33, 24, 18, 13, 10, 7, 5, 4]
    assert np.bincount(data.test.labels).tolist() == [60] * 10
    assert np.bincount(data.validation.labels).tolist() == [24] * 10
    assert np.bincount(data.pool.labels).tolist() == [30] * 10
    order = task.class_order
    assert (counts[int(order[0])], counts[int(order[-1])]) == (60, 4)


def test_groups_are_three_four_three_by_train_count() -> None:
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


def test_the_pool_and_validation_are_in_no_split_and_test_sets_depend_on_the_split_alone(tmp_path: Path) -> None:
    found = [opened(tmp_path / str(seed), seed=seed)[1] for seed in range(10)]
    assert len({tuple(data.pool.ids) for data in found}) == 1
    assert len({tuple(data.validation.ids) for data in found}) == 1
    fixed = {*found[0].pool.ids, *found[0].validation.ids}
    assert not any(fixed & {*data.train.ids, *data.test.ids} for data in found)
    assert [data.test.ids for data in found[:5]] == [data.test.ids for data in found[5:]]
    assert len({tuple(data.test.ids) for data in found}) == 5
    _, by_hand = opened(tmp_path / "by hand", "8217465930", seed=7)
    assert by_hand.test.ids == found[2].test.ids
    assert by_hand.train.ids != found[2].train.ids


def test_each_digit_has_each_frequency_once_in_ten_seeds_and_is_rare_in_the_first_five() -> None:
    task = DigitsLT(DigitsSettings())
    orders = [task.for_seed(seed).class_order for seed in range(10)]
    for rank in range(10):
        assert {order[rank] for order in orders} == set("0123456789")
    rare = Counter(digit for seed in range(5) for digit in tail(task.for_seed(seed)))
    assert sorted(rare) == list("0123456789")
    assert max(rare.values()) == 2
    assert not any(tail(task.for_seed(seed)) & tail(task.for_seed(seed + 5)) for seed in range(5))
    assert task.for_seed(10).class_order != task.for_seed(0).class_order


def test_seeds_are_one_cell_with_data_of_their_own() -> None:
    first, other = (plan(method="lora", task="digits-lt", seed=seed) for seed in (0, 1))
    assert first.spec.task == other.spec.task
    assert first.label == other.label
    keys, others = stage_keys(first), stage_keys(other)
    assert all(keys[name] != others[name] for name in ("prepare", "train", "features-real", "classify-real"))
    assert stage_keys(plan_of_spec(other.spec)) == others == stage_keys(with_seed(first, 1))
    by_hand = [
        plan(method="lora", task="digits-lt", seed=seed, task_settings=["class_order=8217465930"]) for seed in (0, 5)
    ]
    assert len({stage_keys(each)["prepare"] for each in by_hand}) == 1
    assert len({stage_keys(each)["classify-real"] for each in by_hand}) == 2

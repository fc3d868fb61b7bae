"""Partitions: which classes and images are served together, found the same way whenever they are looked for."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_bench.adapters import clustering
from grasp_bench.adapters.partition import Partition, by_class, by_group, cluster_count, single
from grasp_bench.adapters.residual import RoutedAdapter
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.study import Study
from grasp_bench.contracts.task import ClassInfo, Dataset, Split, Task, TaskSettings
from grasp_bench.errors import UserError
from grasp_bench.run.encoded import Pixels
from grasp_bench.tasks.digits_lt import DigitsLT, DigitsSettings
from grasp_bench.tasks.mimic_lt import MimicLT, MimicSettings
from grasp_bench.tasks.nih_lt import NihLTGen

DIGITS = DigitsLT(DigitsSettings(class_order="0123456789"))


class MadeUp(Task[TaskSettings]):
    """A task of the given classes."""

    def __init__(self, infos: list[ClassInfo]) -> None:
        super().__init__(TaskSettings())
        self.infos = infos

    def classes(self) -> list[ClassInfo]:
        return self.infos


def made_up(prompts: list[str]) -> MadeUp:
    return MadeUp([ClassInfo(f"c{row}", prompt, "head", 5) for row, prompt in enumerate(prompts)])


@pytest.fixture(scope="module")
def backbone() -> TinySD3:
    return TinySD3.load()


def study(
    backbone: TinySD3, task: Task[TaskSettings] = DIGITS, train: Split | None = None, seed: int = 0, name: str = "made"
) -> Study:
    """Of classes and training images alone; what has none of these fails."""

    def embed(prompts):
        return backbone.encode_prompts(list(prompts))

    def data() -> Dataset:
        assert train is not None
        return Dataset(train, train, train)

    cpu = torch.device("cpu")
    return Study(name, task, seed, backbone, cpu, data, lambda: Pixels(data().train, backbone), lambda: embed)


def shades(classes: int, each: int, shade) -> Split:
    """Nearly even images of one shade a class."""
    labels = np.arange(classes).repeat(each)
    noise = np.random.default_rng(0).integers(0, 20, (len(labels), 1, 8, 8))
    pixels = np.clip(np.array([shade(label) for label in labels])[:, None, None, None] + noise, 0, 255).astype(np.uint8)
    return Split([str(i) for i in range(len(labels))], labels, ["a thing"] * len(labels), lambda rows: pixels[rows])


def together(partition: Partition) -> set[frozenset[str]]:
    """The classes of each cluster."""
    return {
        frozenset(name for name, home in partition.classes.items() if home == cluster)
        for cluster in range(len(partition.clusters))
    }


def test_groups_of_digits_are_head_medium_and_tail_and_nothing_else_is_written() -> None:
    assert by_group(DIGITS).to_json() == {
        "clusters": ["head", "medium", "tail"],
        "classes": {str(digit): cluster for digit, cluster in enumerate([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])},
    }


@pytest.mark.parametrize("task", [MimicLT(MimicSettings()), NihLTGen(NihLTGen.Config())])
def test_healthy_classes_have_a_cluster_of_their_own(task: Task[TaskSettings]) -> None:
    found = by_group(task)
    assert found.clusters == ("head", "medium", "tail", "healthy")
    groups = {info.name: info.group for info in task.classes()}
    served = {name: found.clusters[cluster] for name, cluster in found.classes.items()}
    assert groups["No Finding"] == "head"
    assert served == groups | {"No Finding": "healthy"}


def test_a_group_of_healthy_classes_alone_leaves_no_empty_cluster() -> None:
    infos = [ClassInfo("a", "a", "head", 9, healthy=True), ClassInfo("b", "b", "tail", 1)]
    assert by_group(MadeUp(infos)) == Partition(("tail", "healthy"), {"a": 1, "b": 0})


def test_classes_have_a_cluster_each_or_share_with_neighbours_by_count() -> None:
    assert by_class(DIGITS, None).classes == {str(digit): digit for digit in range(10)}
    found = by_class(DigitsLT(DigitsSettings(class_order="9876543210")), 3)
    assert found.clusters == ("rank 1-4", "rank 5-7", "rank 8-10")
    assert list(found.classes.values()) == [2, 2, 2, 1, 1, 1, 0, 0, 0, 0]
    assert by_class(DIGITS, 1).classes == single(DIGITS).classes


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_chance_makes_clusters_of_equal_size_by_the_seed(backbone: TinySD3, count: int) -> None:
    found = clustering.at_random(study(backbone), count)
    sizes = [len(names) for names in together(found)]
    assert len(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert found == clustering.at_random(study(backbone), count)
    others = [together(clustering.at_random(study(backbone, seed=seed), count)) for seed in range(1, 6)]
    assert (count in (1, 10)) == all(other == together(found) for other in others)


def test_without_a_number_there_are_as_many_clusters_as_groups(backbone: TinySD3) -> None:
    assert len(clustering.at_random(study(backbone), None).clusters) == 3
    assert cluster_count(MimicLT(MimicSettings()), None) == 4


def test_prompts_that_are_nearly_the_same_share_a_cluster(backbone: TinySD3) -> None:
    prompts = [
        "a handwritten digit seven",
        "a photo of a large dog",
        "one handwritten digit seven",
        "the photo of a large dog",
        "a handwritten digit seven here",
        "some quite other words altogether",
    ]
    found = clustering.by_text(study(backbone, made_up(prompts)), 3)
    assert found.clusters == ("text 1", "text 2", "text 3")
    assert list(found.classes.values()) == [0, 1, 0, 1, 0, 2]


def test_fewer_different_prompts_than_clusters_are_refused(backbone: TinySD3) -> None:
    with pytest.raises(UserError, match="clusters=3: the prompts of the 4 classes have 2 different directions"):
        clustering.by_text(study(backbone, made_up(["a cat", "a dog", "a cat", "a dog"])), 3)


def test_tokens_stand_for_prompts_without_a_pooled_vector_and_padding_does_not_count(backbone: TinySD3) -> None:
    tokens = torch.tensor([[[1.0, 0], [9, 9]], [[2, 0], [0, 0]], [[0, 1], [5, -5]], [[0, 3], [7, 7]]])
    mask = torch.tensor([[True, False]] * 4)
    inputs = replace(
        study(backbone, made_up(list("abcd"))), embed=lambda: lambda prompts: PromptEmbeddings(tokens, mask=mask)
    )
    assert list(clustering.by_text(inputs, 2).classes.values()) == [0, 0, 1, 1]


def test_a_backbone_that_reads_no_text_is_refused(backbone: TinySD3) -> None:
    numbers = PromptEmbeddings(torch.arange(10)[:, None])
    with pytest.raises(UserError, match="partition=text: this backbone is conditioned on the numbers of classes"):
        clustering.by_text(replace(study(backbone), embed=lambda: lambda prompts: numbers), 2)


def test_gradients_find_classes_with_opposite_targets(backbone: TinySD3) -> None:
    before = {name: value.clone() for name, value in backbone.transformer.state_dict().items()}
    train = shades(6, 3, lambda label: 230 if label in (0, 2, 5) else 0)
    found = clustering.by_gradient(study(backbone, made_up(["a thing"] * 6), train), 2)
    assert found == Partition(("gradient 1", "gradient 2"), {"c0": 0, "c1": 1, "c2": 0, "c3": 1, "c4": 1, "c5": 0})
    left = backbone.transformer.state_dict()
    assert before.keys() == left.keys()
    assert all(torch.equal(before[name], left[name]) for name in left)
    assert not any(isinstance(module, RoutedAdapter) for module in backbone.transformer.modules())


def test_classes_of_the_same_image_have_the_same_gradient_however_many_they_have(backbone: TinySD3) -> None:
    from grasp_bench.adapters.clustering import class_gradients

    train = shades(3, 2, lambda label: 0)
    pixels = np.zeros((6, 1, 8, 8), np.uint8)
    pixels[5] = 255
    uneven = replace(train, labels=np.array([0, 1, 1, 1, 2, 2]), read=lambda rows: pixels[rows])
    first, second, third = class_gradients(study(backbone, made_up(["a thing"] * 3), uneven))
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, third, rtol=1e-2)


@pytest.fixture
def small(backbone: TinySD3) -> Study:
    return study(backbone, made_up(["a thing"] * 2), shades(2, 3, lambda label: 200 * label))


def test_where_memory_runs_out_gradients_are_those_of_fewer_images_at_a_time(
    small: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen, predict = clustering.class_gradients(small), list[int](), small.backbone.predict

    def with_room_for_four(latents: torch.Tensor, *more: object) -> torch.Tensor:
        seen.append(len(latents))
        if len(latents) > 4:
            raise torch.cuda.OutOfMemoryError
        return predict(latents, *more)

    monkeypatch.setattr(small.backbone, "predict", with_room_for_four)
    parts = clustering.class_gradients(small)
    assert seen == [16, 8, *[4] * (2 * 4 * 4)]
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-6 * np.abs(whole).max())

    def without_room(*anything: object) -> None:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(small.backbone, "predict", without_room)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        clustering.class_gradients(small)


def test_gradients_are_in_the_runs_precision_and_with_checkpointing_the_same(small: Study) -> None:
    expected = clustering.class_gradients(small)
    recomputed = clustering.class_gradients(replace(small, checkpointing=True))
    np.testing.assert_allclose(recomputed, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    assert not small.backbone.transformer.is_gradient_checkpointing
    rounded = clustering.class_gradients(replace(small, precision="bfloat16"))
    assert rounded.dtype == np.float32
    assert not np.array_equal(rounded, expected)
    cosines = [(a @ b) / np.sqrt((a @ a) * (b @ b)) for a, b in zip(rounded, expected, strict=True)]
    assert min(cosines) > 0.99


def views(values: list[str], labels: list[int]) -> Split:
    ids, found = [str(row) for row in range(len(labels))], np.array(labels)
    return Split(ids, found, ids, lambda rows: rows, metadata={"view": np.array(values), "site": np.array(ids)})


def test_images_go_by_their_value_of_a_column_and_classes_by_most_of_their_images(backbone: TinySD3) -> None:
    train = views(["PA", "AP", "PA", "LL", "AP", "AP"], [0, 0, 0, 1, 1, 1])
    task = MadeUp([ClassInfo("a", "a", "head", 3), ClassInfo("b", "b", "head", 3)])
    found = clustering.by_metadata(study(backbone, task, train), "view")
    assert found.clusters == ("AP", "LL", "PA")
    assert found.classes == {"a": 2, "b": 0}
    assert found.composition(task.classes()).tolist() == [[1, 0, 2], [2, 1, 0]]
    assert clustering.image_clusters(train, "view")[0].tolist() == [2, 0, 2, 1, 0, 0]
    assert Partition.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_column_that_is_not_kept_is_refused_with_those_that_are(backbone: TinySD3) -> None:
    with pytest.raises(UserError, match=r"column=veiw: the task keeps no such column.* keeps: view, site"):
        clustering.by_metadata(study(backbone, made_up(["a"]), views(["PA"], [0])), "veiw")


def test_a_column_of_too_many_values_is_refused(backbone: TinySD3) -> None:
    with pytest.raises(UserError, match="column=site: 65 different values, such as '0'"):
        clustering.by_metadata(study(backbone, made_up(["a"]), views(["PA"] * 65, [0] * 65)), "site")


@pytest.mark.parametrize("way", [clustering.at_random, clustering.by_text, clustering.by_gradient])
def test_more_clusters_than_classes_are_refused(backbone: TinySD3, way) -> None:
    with pytest.raises(UserError, match="clusters=11: the task has 10 classes"):
        way(study(backbone), 11)
    with pytest.raises(UserError, match="clusters=11: the task has 10 classes"):
        by_class(DIGITS, 11)


def test_composition_counts_the_training_images_of_every_class_once() -> None:
    found = by_group(DIGITS).composition(DIGITS.classes())
    assert found.shape == (10, 3)
    assert found.sum(1).tolist() == [info.train_count for info in DIGITS.classes()]
    assert (found > 0).sum(1).tolist() == [1] * 10


@pytest.mark.slow
def test_another_process_finds_the_same_partition_and_no_global_generator_is_used(backbone: TinySD3) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    inputs = study(backbone)
    ours = [way(inputs, 4).to_json() for way in (clustering.at_random, clustering.by_text)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import test_partition as here\n"
        "inputs = here.study(here.TinySD3.load())\n"
        "ways = (here.clustering.at_random, here.clustering.by_text)\n"
        "print(json.dumps([way(inputs, 4).to_json() for way in ways]))"
    )
    folder = __file__.rpartition("/")[0]
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == ours

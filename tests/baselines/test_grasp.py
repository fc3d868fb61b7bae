"""GRASP under every way to partition: the contract of methods, and the way from the data to the routes."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.attaching import BATCH, forward, sample, train
from PIL import Image

from grasp_bench import seeds
from grasp_bench.adapters.partition import draw_partition
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.grasp import Grasp
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.scope import current_scope
from grasp_bench.contracts.study import Study
from grasp_bench.contracts.task import Dataset
from grasp_bench.errors import UserError
from grasp_bench.export.manifest import Manifest
from grasp_bench.export.pipeline import FineTunedPipeline
from grasp_bench.io import file_digest
from grasp_bench.run.encoded import Pixels
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline, stage_inputs
from grasp_bench.run.plan import Plan, plan
from grasp_bench.tasks.digits_lt import DigitsLT

PARTITIONS = {
    "group": ("partition=group",),
    "class": ("partition=class",),
    "merged": ("partition=class", "clusters=4"),
    "text": ("partition=text",),
    "metadata": ("partition=metadata", "column=parity"),
    "gradient": ("partition=gradient", "clusters=2"),
    "random": ("partition=random", "clusters=4"),
}


def with_parity(data: Dataset) -> Dataset:
    """The data with a column that says whether the number of a training image is even."""
    values = np.array([("even", "odd")[int(name.rpartition("/")[2]) % 2] for name in data.train.ids])
    return replace(data, train=replace(data.train, metadata={"parity": values}))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder, task = tmp_path_factory.mktemp("digits"), DigitsLT(DigitsLT.Config())
    task.prepare(folder, Progress())
    return with_parity(task.open(folder, (1, 8, 8)))


def attached(data: Dataset, *settings: str, studied: dict | None = None) -> tuple[TinySD3, Grasp]:
    found, backbone = plan(method="grasp", task="digits-lt", method_settings=settings), TinySD3.load()
    method = found.method
    if method.studies:
        cpu = torch.device("cpu")
        inputs = Study(
            "digits-lt",
            found.task,
            0,
            backbone,
            cpu,
            lambda: data,
            lambda: Pixels(data.train, backbone),
            lambda: lambda prompts: backbone.encode_prompts(list(prompts)),
        )
        method.studied = method.study(inputs) if studied is None else studied
    method.attach(backbone, found.task, seeds.generator("init", "grasp"))
    assert isinstance(method, Grasp)
    return backbone, method


@pytest.mark.parametrize("settings", PARTITIONS.values(), ids=PARTITIONS)
def test_every_partition_keeps_the_contract(settings: tuple[str, ...], data: Dataset) -> None:
    base = forward(TinySD3.load(), None).detach()
    backbone, method = attached(data, *settings)
    assert torch.equal(forward(backbone, method), base)
    own = {id(parameter) for parameter in method.parameters().values()}
    before = {name: (id(each), each.detach().clone()) for name, each in backbone.transformer.named_parameters()}
    train(backbone, method)
    trained = forward(backbone, method).detach()
    assert not torch.equal(trained, base)
    changed = {name for name, each in backbone.transformer.named_parameters() if not torch.equal(each, before[name][1])}
    assert {before[name][0] for name in changed} <= own

    # as it is restored elsewhere: from what was kept, without the data
    other_backbone, other = attached(data, *settings, studied=json.loads(json.dumps(method.artifacts())))
    other.load_state_dict(method.state_dict())
    assert other.artifacts() == method.artifacts()
    assert torch.equal(forward(other_backbone, other), trained)

    method.detach()
    assert torch.equal(forward(backbone, None), base)
    assert backbone.transformer.state_dict().keys() == TinySD3.load().transformer.state_dict().keys()


@pytest.mark.parametrize("settings", PARTITIONS.values(), ids=PARTITIONS)
def test_samples_of_several_clusters_do_not_change_each_other(settings: tuple[str, ...], data: Dataset) -> None:
    backbone, method = attached(data, *settings)
    train(backbone, method)
    batch = sample(backbone)
    condition = batch.condition
    if (numbers := method.training_clusters(data.train)) is not None:
        condition = replace(condition, clusters=torch.tensor([1, 0, 1, 0, 0, 1]))
        assert set(numbers) == {0, 1}
    with method.condition(condition):
        mixed = backbone.predict(batch.noisy, condition.timesteps, condition.prompts)
    for row in range(BATCH):
        alone = condition[row : row + 1]
        with method.condition(alone):
            output = backbone.predict(batch.noisy[row : row + 1], alone.timesteps, alone.prompts)
        torch.testing.assert_close(mixed[row : row + 1], output, rtol=1e-4, atol=1e-5)


def test_clusters_of_images_stay_with_their_samples_when_conditions_are_cut_and_joined() -> None:
    condition = replace(sample(TinySD3.load()).condition, clusters=torch.arange(BATCH))
    assert condition[1:3].clusters.tolist() == [1, 2]
    assert condition[4:].cat(condition[:2]).clusters.tolist() == [4, 5, 0, 1]
    without = replace(condition, clusters=None)
    assert without[1:3].cat(without[:1]).clusters is None


def route(method: Grasp, condition: Condition) -> list[int]:
    """The cluster of each sample."""
    with method.condition(condition):
        found = current_scope()
    clusters = [0] * len(condition.labels)
    for cluster, start, stop in found.segments:
        for position in found.order[start:stop].tolist():
            clusters[position] = cluster
    return clusters


def test_an_image_is_served_by_its_value_and_a_generated_one_by_most_of_its_class(data: Dataset) -> None:
    backbone, method = attached(data, *PARTITIONS["metadata"], "null_route=null")
    condition = sample(backbone).condition
    labels, dropped = condition.labels.tolist(), condition.dropped.tolist()
    parity = data.train.metadata["parity"]
    odd = [np.mean(parity[data.train.labels == label] == "odd") > 0.5 for label in range(10)]
    expected = [2 if gone else int(odd[label]) for label, gone in zip(labels, dropped, strict=True)]
    assert route(method, condition) == expected
    known = replace(condition, clusters=torch.tensor([1, 1, 0, 0, 1, 0]))
    assert route(method, known) == [1, 2, 0, 0, 2, 0]


def pipeline(folder: Path, chosen: Plan) -> Pipeline:
    options = Options(folder / "results", folder / "work", device="cpu", batch_size=40, log_every=8)
    return Pipeline(chosen, options, torch.device("cpu"), Progress())


def test_a_run_goes_by_the_column_in_training_and_by_the_class_in_sampling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, conditioned, seen = DigitsLT.open, Grasp.condition, []
    monkeypatch.setattr(DigitsLT, "open", lambda self, folder, shape: with_parity(opened(self, folder, shape)))
    monkeypatch.setattr(
        Grasp, "condition", lambda self, condition: (seen.append(condition), conditioned(self, condition))[1]
    )

    def small() -> Plan:
        settings = (*PARTITIONS["metadata"], "rank=2")
        return plan(method="grasp", task="digits-lt", budget="smoke", method_settings=settings)

    run = pipeline(tmp_path, small())
    trained = run.trained
    images, labels = run.data.train, torch.cat([each.labels for each in seen]).tolist()
    clusters = torch.cat([each.clusters for each in seen]).tolist()
    assert len(seen) == run.plan.spec.budget.steps
    assert set(clusters) == {0, 1}
    pairs = set(zip(images.labels.tolist(), (images.metadata["parity"] == "odd").astype(int).tolist(), strict=True))
    assert set(zip(labels, clusters, strict=True)) <= pairs

    kept = json.loads((trained / "partition.json").read_text())
    assert np.sum(list(kept["images"].values())) == len(images)
    assert (trained / "partition.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(Grasp, "study", lambda self, study: pytest.fail("studied twice"))
    seen.clear()
    again = pipeline(tmp_path, small())
    assert again.generated.exists()
    assert all(each.clusters is None for each in seen)
    assert again.plan.method.artifacts() == {"partition.json": kept}

    loaded = exported(again)
    assert loaded.method.artifacts() == {"partition.json": kept}
    first = again.images.read(np.flatnonzero(again.images.labels == 7)[:2])
    assert np.array_equal(loaded.sample(class_name="7", num_images=2).numpy(), first)


def exported(run: Pipeline) -> FineTunedPipeline:
    """What was trained, as whoever has neither the work folder nor the data would load it."""
    chosen = run.plan
    manifest = Manifest(
        grasp_bench="1",
        run_id=chosen.spec.id,
        label=chosen.label,
        task_label=chosen.task_label,
        spec=chosen.spec,
        classes=chosen.task.classes(),
        artifacts={"partition.json": json.loads((run.trained / "partition.json").read_text())},
        weights=file_digest(run.trained / "weights.safetensors"),
        private=False,
    )
    return FineTunedPipeline.assemble(manifest, run.trained / "weights.safetensors", chosen.backbone)


def test_what_was_studied_is_part_of_what_decides_the_training() -> None:
    plain, drawn, other = (
        stage_inputs(plan(method="grasp", task="digits-lt", seed=seed, method_settings=settings))
        for seed, settings in ((0, ()), (0, PARTITIONS["random"]), (1, PARTITIONS["random"]))
    )
    assert "study" not in plain
    assert "study" not in plain["train"]
    assert drawn["train"]["study"] != other["train"]["study"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["clusters=4"], "clusters=4: partition group decides on it; leave it out"),
        (["partition=class", "clusters=0"], "clusters='0': Input should be greater than or equal to 1"),
        (["partition=metadata"], "partition=metadata: expected the name of a column, as in column=view"),
        (["partition=text", "column=view"], "column=view: partition text reads none; set partition=metadata"),
        (["partition=metadata", "column=a/b"], "column='a/b': String should match pattern"),
        (["partition=gruop"], "Input should be 'group', 'class', 'text', 'metadata', 'gradient' or 'random'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(method="grasp", task="digits-lt", method_settings=settings)
    assert message in str(caught.value)


def test_the_shared_adapter_has_no_partition_to_set() -> None:
    with pytest.raises(UserError, match="method shared-adapter has no setting 'partition'"):
        plan(method="shared-adapter", task="digits-lt", method_settings=["partition=class"])


def test_more_clusters_than_classes_are_refused_before_anything_is_prepared(tmp_path: Path) -> None:
    settings = ("partition=gradient", "clusters=11")
    run = pipeline(tmp_path, plan(method="grasp", task="digits-lt", budget="smoke", method_settings=settings))
    with pytest.raises(UserError, match="clusters=11: the task has 10 classes"):
        run.outcome()
    assert not (tmp_path / "work").exists()


def test_a_column_that_the_task_does_not_keep_is_refused_before_training(tmp_path: Path) -> None:
    settings = ("partition=metadata", "column=view")
    run = pipeline(tmp_path, plan(method="grasp", task="digits-lt", budget="smoke", method_settings=settings))
    with pytest.raises(UserError, match="column=view: the task keeps no such column of its training images"):
        _ = run.trained


def test_the_picture_shades_a_class_by_where_its_images_are() -> None:
    counts = np.array([[12, 0], [3, 3], [0, 0]])
    drawn = draw_partition(["a", "b", "c"], ["AP", "PA"], counts, "title")
    assert drawn == draw_partition(["a", "b", "c"], ["AP", "PA"], counts, "title")
    assert drawn != draw_partition(["a", "b", "c"], ["AP", "PA"], counts[::-1], "title")
    large = draw_partition([str(row) for row in range(100)], [str(row) for row in range(100)], np.eye(100), "title")
    assert max(Image.open(io.BytesIO(large)).size) < 1000

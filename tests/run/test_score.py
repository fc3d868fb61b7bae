"""The scores in a record: those of ``grasp-bench score`` on the same features, classes apart, gaps told."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

import grasp_bench
from grasp_bench.cli import app
from grasp_bench.metrics.labelled import LabelledFeatures
from grasp_bench.metrics.registry import feature_metrics
from grasp_bench.run.plan import plan
from grasp_bench.run.scoring import Named, fidelity_and_diversity, fidelity_scores
from grasp_bench.run.tables import copies_table
from grasp_bench.tasks.digits_lt import DigitsLT, DigitsSettings

pytestmark = pytest.mark.usefixtures("quick")


def score(*arguments) -> dict:
    """What ``grasp-bench score`` writes."""
    out = arguments[-1]
    shown = CliRunner().invoke(app, ["score", *map(str, arguments[:-1]), "--json", str(out)])
    assert shown.exit_code == 0, shown.exception
    return json.loads(out.read_text())


def features_file(folder, stage):
    (path,) = (folder / "work" / stage).glob("*/features.safetensors")
    return path


@pytest.mark.slow
def test_run_and_score_agree_to_the_last_digit(finished, tmp_path):
    folder, record = finished
    infos = DigitsLT(DigitsSettings()).classes()
    (tmp_path / "groups.csv").write_text("\n".join(["class,group", *(f"{each.name},{each.group}" for each in infos)]))
    real, fake, train = (features_file(folder, stage) for stage in ("features-real", "features", "features-train"))
    payload = score(real, fake, "--train", train, "--groups", tmp_path / "groups.csv", tmp_path / "out.json")
    shown = {
        (row["scope"], row["name"], row["metric"]): (row["value"], row["reference"], row["n"])
        for row in payload["rows"]
    }
    recorded = {(m.scope, m.group, m.metric): m for m in record.scores if m.reference is not None}
    assert len(recorded) == 4 * 3 * 10
    assert {key: shown[key] for key in recorded} == {key: (m.value, m.reference, m.n) for key, m in recorded.items()}
    members = {group: [each.name for each in infos if each.group == group] for group in ("head", "medium", "tail")}
    rows = grasp_bench.score(real, fake, train=train, groups=members).set_index(["scope", "group", "metric"])
    ends = {key: (m.interval.low, m.interval.high) for key, m in recorded.items() if m.scope == "group"}
    assert {key: (rows.loc[key, "low"], rows.loc[key, "high"]) for key in ends} == ends
    for row in csv.DictReader(next((folder / "results").rglob("classes.csv")).open()):
        if row["reference"]:
            assert shown["class", row["class"], row["metric"]][0] == float(row["value"])


def test_classes_are_listed_with_their_training_images(finished):
    folder, _ = finished
    rows = list(csv.DictReader(next((folder / "results").rglob("classes.csv")).open()))
    listed = {(row["class"], row["group"], row["train_images"]) for row in rows}
    classes = plan(method="lora", task="digits-lt").task.classes()
    assert listed == {(info.name, info.group, str(info.train_count)) for info in classes}
    assert {"head", "tail"} <= {group for _, group, _ in listed}
    per_class = {(row["metric"], row["source"]) for row in rows if row["class"] == "9"}
    assert per_class >= {
        ("fd", "generated"),
        ("recall", "generated"),
        ("irs_adjusted", "generated"),
        ("accuracy", "generated"),
        ("auroc", "topped-up"),
        ("average_precision", "real"),
    }
    assert {row["test_set"] for row in rows} == {"test"}
    assert all(0 <= float(row["value"]) <= 1 for row in rows if row["metric"] == "auroc")


def test_near_copies_of_training_images_are_listed():
    classes = DigitsLT(DigitsSettings()).classes()
    state = np.random.RandomState(0)
    train = LabelledFeatures(state.randn(8, 4), np.arange(8), [f"train/{row}" for row in range(8)])
    made = state.randn(5, 4)
    made[3], made[1] = train.features[6], train.features[2] + 1e-3
    fake = LabelledFeatures(made, np.array([0, 1, 2, 3, 4]), [f"generated/{row}" for row in range(5)])
    rows = list(csv.DictReader(copies_table(classes, fake, train).splitlines()))
    assert [(row["generated"], row["class"], row["training_image"], row["its_class"]) for row in rows] == [
        ("generated/3", "3", "train/6", "6"),
        ("generated/1", "1", "train/2", "2"),
    ]
    assert float(rows[0]["ratio"]) == 0 < float(rows[1]["ratio"]) <= 0.1


def test_groups_of_too_few_images_have_no_value():
    task = DigitsLT(DigitsSettings(class_order="0123456789"))
    state = np.random.RandomState(0)

    def features(counts):
        labels = np.repeat(np.arange(10), counts)
        return LabelledFeatures(state.randn(len(labels), 4), labels)

    real = features([20] * 7 + [2] * 3)
    metrics = fidelity_scores(
        fidelity_and_diversity(task, real, features([9] * 10), features([5] * 10), feature_metrics()),
        Named("pixels", fid=False, several=False, recorded=None),
    )
    tail = [metric for metric in metrics if metric.group == "tail"]
    assert {metric.value for metric in tail} == {None}
    assert {metric.n for metric in tail if metric.scope == "group"} == {3}
    head = [m for m in metrics if m.group == "head" and m.scope == "group"]
    assert {metric.n for metric in head} == {17}  # what "all" can give, with one image of each tail class
    assert all(metric.value is not None for metric in head)


def test_distances_are_called_fid_with_its_weights_alone():
    scores = fidelity_and_diversity(
        DigitsLT(DigitsSettings()), *(random_features(seed) for seed in range(3)), feature_metrics()
    )
    for fid, labels in ((True, {"FID", "KID"}), (False, {"FD(inception)", "KD(inception)"})):
        found = fidelity_scores(scores, Named("inception", fid, several=False, recorded=None))
        assert {metric.label for metric in found if metric.metric in ("fd", "kid")} == labels


def random_features(seed: int) -> LabelledFeatures:
    labels = np.repeat(np.arange(10), 6)
    return LabelledFeatures(np.random.RandomState(seed).randn(60, 4), labels)


@pytest.mark.parametrize("option", ["--n-equal", "--seed"])
def test_another_protocol_gives_other_numbers(finished, tmp_path, option):
    folder, record = finished
    files = [features_file(folder, stage) for stage in ("features-real", "features")]
    rows = score(*files, option, "10", "--metrics", "fd", tmp_path / "out.json")["rows"]
    (row,) = [row for row in rows if row["scope"] == "group"]
    (recorded,) = [m for m in record.scores if (m.scope, m.group, m.metric) == ("group", "all", "fd")]
    assert row["value"] != recorded.value

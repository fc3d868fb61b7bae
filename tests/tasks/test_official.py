"""The tasks of official downloads, on small trees of the same shape: from ``prepare`` to ``report``."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import make_cifar, make_ilsvrc, make_mimic, make_nih, write_views
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.contracts.task import Split
from grasp_bench.data import cifar
from grasp_bench.data.root import VARIABLE
from grasp_bench.errors import UserError
from grasp_bench.metrics.registry import classifier_metrics
from grasp_bench.run.pipeline import stage_keys
from grasp_bench.run.plan import plan
from grasp_bench.run.scoring import downstream_scores, scores_of_classes
from grasp_bench.tasks.imagenet_lt import ImageNetLT
from grasp_bench.tasks.mimic_lt import MimicLT, MimicSettings
from grasp_bench.tasks.nih_lt import NihLT, NihLTGen, NihSettings

QUICK = [
    *("--task-set", "extractor=pixels", "--task-set", "network=small-cnn"),
    *("--budget", "smoke", "--method", "grasp", "--backbone", "tiny-sd3"),
]


@pytest.fixture(autouse=True)
def small_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small counts and pixels are fine here, and nothing of the user's own config is read or written."""
    for task in (MimicLT, NihLTGen, NihLT, ImageNetLT):
        monkeypatch.setattr(task, "official", False)
        monkeypatch.setattr(task, "classifier", replace(task.classifier, resolution=None))
    monkeypatch.setattr(cifar, "IMAGES", {"train": 400, "test": 200})
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def command(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, (result.exception, result.output)
    return result.output


def mistake(*arguments: object) -> str:
    error = CliRunner().invoke(app, [str(each) for each in arguments]).exception
    assert isinstance(error, UserError), error
    return str(error)


def record_of(task: str) -> dict:
    (path,) = Path("results").glob(f"{task}*/grasp*/seed-0/record.json")
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("prompts", ["class", "report"])
def test_mimic_from_prepare_to_report_without_a_name_of_a_patient(tmp_path: Path, prompts: str) -> None:
    root = make_mimic(tmp_path / "mimic", per_class=3, reports=True, tested=4)
    command("prepare", "--task", "mimic-lt", "--data-root", root, "--task-set", f"prompts={prompts}")
    command("run", "--task", "mimic-lt", *QUICK, "--task-set", f"prompts={prompts}")
    assert "mimic-lt" in command("report")
    record = record_of("mimic-lt")
    assert record["status"] == "finished"
    recall = {m["group"]: m["value"] for m in record["scores"] if (m["metric"], m["scope"]) == ("recall", "group")}
    assert recall["tail"] is None  # a class has four test images
    assert recall["head"] is not None
    assert ("accuracy", "generated", "balanced-test") in {
        (score["metric"], score["source"], score["test_set"]) for score in record["scores"]
    }
    real = [score for score in record["scores"] if (score["metric"], score["source"]) == ("f1", "real")]
    of_all = [score["interval"]["unit"] for score in real if score["test_set"] == "test"]
    assert set(of_all) == {"patient"}
    assert not any(
        score.get("interval") for score in real if score["test_set"] == "balanced-test"
    )  # a patient per class
    written = b"".join(path.read_bytes() for path in Path("results").rglob("*") if path.is_file())
    with (root / "mimic-cxr-lt_single-label_train.csv").open() as file:
        for row in csv.DictReader(file):
            for name in (row["subject_id"], row["study_id"], row["dicom_id"], "No acute process"):
                assert not re.search(rb"(?<![\d.])" + name.encode() + rb"(?!\d)", written)


@pytest.mark.slow
def test_adapters_for_each_view_of_the_patient(tmp_path: Path) -> None:
    root = make_nih(tmp_path / "nih", per_class=3)
    ids = sorted(path.name for path in (root / "images").iterdir())
    write_views(root / "Data_Entry_2017_v2020.csv", "Image Index", "View Position", ids, ["PA", "AP"])
    chosen = ["--task", "nih-lt-gen", "--data-root", root, "--task-set", "view=true"]
    command("run", *chosen, *QUICK, "--set", "partition=metadata", "--set", "column=view")
    (partition,) = Path("results").glob("nih-lt-gen*/grasp*/seed-0/partition.json")
    composition = json.loads(partition.read_text())
    assert composition["clusters"] == ["AP", "PA"]
    assert sum(map(sum, composition["images"].values())) == 3 * 20
    (whole,) = (score for score in record_of("nih-lt-gen")["scores"] if score.get("scope") == "whole test set")
    assert (whole["label"], whole["n"]) == ("FD(pixels), whole test set", 40)  # a class has two test images


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["flat", "folders"])
def test_nih_generation_and_then_downstream_with_one_training(tmp_path: Path, layout: str) -> None:
    root = make_nih(tmp_path / "nih", layout, per_class=3, tested=4)
    command("run", "--task", "nih-lt-gen", "--data-root", root, *QUICK)
    trained = list(Path(".grasp-bench/train").glob("*/weights.safetensors"))
    command("prepare", "--task", "nih-lt-gen", "--data-root", root)  # is remembered, as for the generator of nih-lt
    command("run", "--task", "nih-lt", "--data-root", root, *QUICK, "--task-set", "generator=nih-lt-gen")
    assert list(Path(".grasp-bench/train").glob("*/weights.safetensors")) == trained
    record = record_of("nih-lt~")
    names = {(score["metric"], score["source"], score["test_set"]) for score in record["scores"]}
    assert names >= {
        ("f1", "generated", "test"),
        ("auroc", "topped-up", "test"),
        ("nonzero_f1", "real", "balanced-test"),
    }
    accuracies = [score for score in record["scores"] if (score["metric"], score["source"]) == ("accuracy", "real")]
    intervals = [score["interval"] for score in accuracies if score.get("interval")]
    assert {interval["unit"] for interval in intervals} == {"patient"}


def test_nih_lt_needs_the_data_of_its_generator(tmp_path: Path) -> None:
    root = make_nih(tmp_path / "nih")
    message = mistake("run", "--task", "nih-lt", "--data-root", root, *QUICK)
    assert "task mimic-lt needs data" in message
    shown = command("show", "nih-lt")
    assert re.search(r"Effusion .*Pleural Effusion", shown)


@pytest.mark.slow
def test_imagenet_from_prepare_to_report(tmp_path: Path) -> None:
    root = make_ilsvrc(tmp_path / "ilsvrc", base="ILSVRC/Data/CLS-LOC", flat_val=True)
    command("run", "--task", "imagenet-lt", "--data-root", root, *QUICK)
    record = record_of("imagenet-lt")
    assert record["status"] == "finished"
    chosen = ImageNetLT(ImageNetLT.Config(), root)
    infos = chosen.classes()
    assert [info.prompt for info in infos][-2:] == ["a photo of a crane"] * 2  # two classes of one name
    assert len({info.name for info in infos}) == 5


@pytest.mark.slow
@pytest.mark.parametrize(("task", "classes"), [("cifar10-lt", 10), ("cifar100-lt", 100)])
def test_cifar_from_prepare_to_report(tmp_path: Path, task: str, classes: int) -> None:
    make_cifar(tmp_path / "cifar", classes, train=400 // classes, test=200 // classes)
    command("run", "--task", task, "--data-root", tmp_path / "cifar", *QUICK, "--task-set", "imbalance=4")
    assert record_of(f"{task}~")["status"] == "finished"
    (listed,) = Path(".grasp-bench/prepare").glob("*/train-indices.json")
    indices = json.loads(listed.read_text())
    counts = np.bincount(cifar.read_cifar(tmp_path / "cifar", classes).train_labels[indices])
    assert counts[0] == 400 // classes
    assert counts[-1] == 400 // classes // 4


def test_a_seed_chooses_the_split_of_cifar(tmp_path: Path) -> None:
    make_cifar(tmp_path / "cifar", 10, train=40, test=20)
    found = []
    for seed in (0, 0, 1):
        chosen = plan(
            method="grasp",
            task="cifar10-lt",
            task_settings=[f"split_seed={seed}", "imbalance=4", "extractor=pixels"],
            data_root=tmp_path / "cifar",
        ).task
        found.append(chosen._train_indices.tolist())
        assert Counter(info.train_count for info in chosen.classes())[40] == 1
    assert found[0] == found[1] != found[2]


def test_without_the_data_one_sentence_before_any_compute(tmp_path: Path) -> None:
    message = mistake("run", "--task", "mimic-lt", "--method", "grasp")
    assert "needs data that you have to download yourself" in message
    assert "\n" not in message
    assert not Path("results").exists()
    for task in ("mimic-lt", "nih-lt-gen", "nih-lt", "imagenet-lt", "cifar10-lt"):
        shown = command("show", task)
        assert "folder of the download" in shown
        assert "FOLDER" in shown
    assert "reads no download" in mistake("prepare", "--task", "digits-lt", "--data-root", tmp_path)


def test_the_environment_and_the_config_know_where_the_data_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_nih(tmp_path / "all" / "nih-lt-gen")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "all"))
    assert "120 images, no problems found" in command("prepare", "--task", "nih-lt-gen", "--check")
    monkeypatch.delenv(VARIABLE)
    command("prepare", "--task", "nih-lt-gen", "--data-root", tmp_path / "all" / "nih-lt-gen")
    assert "no problems found" in command("prepare", "--task", "nih-lt-gen", "--check")


def test_every_problem_of_a_download_is_told_at_once(tmp_path: Path) -> None:
    root = make_nih(tmp_path / "nih")
    images = sorted((root / "images").iterdir())
    images[0].unlink()
    images[5].write_bytes(b"")
    labels = root / "nih-cxr-lt_single-label_train.csv"
    labels.write_text(labels.read_text() + labels.read_text().splitlines()[1] + "\n")
    message = mistake("prepare", "--task", "nih-lt-gen", "--data-root", root, "--check")
    for part in ("missing image", images[0].name, "zero bytes", images[5].name, "duplicate id", "line 2"):
        assert part in message
    assert not Path(".grasp-bench/prepare").exists()


def test_another_tasks_data_is_recognised(tmp_path: Path) -> None:
    root = make_nih(tmp_path / "nih")
    assert "looks like nih-cxr-lt" in mistake("prepare", "--task", "mimic-lt", "--data-root", root, "--check")


def test_thresholds_that_overlap_and_classes_without_a_name(tmp_path: Path) -> None:
    root = make_ilsvrc(tmp_path / "ilsvrc")
    settings = ("--task-set", "head_above=5", "--task-set", "tail_below=9")
    assert "a class could be both" in mistake("prepare", "--task", "imagenet-lt", "--data-root", root, *settings)
    names = root / "LOC_synset_mapping.txt"
    names.write_text("".join(names.read_text().splitlines(keepends=True)[:-1]))
    assert "no line for class n03126707" in mistake("prepare", "--task", "imagenet-lt", "--data-root", root)
    names.unlink()
    assert "LOC_synset_mapping.txt" in mistake("prepare", "--task", "imagenet-lt", "--data-root", root)


def test_official_counts_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MimicLT, "official", True)
    root = make_mimic(tmp_path / "mimic")
    message = mistake("prepare", "--task", "mimic-lt", "--data-root", root, "--check")
    assert "2 images of 'No Finding', expected 53260" in message


def test_a_failed_run_keeps_no_name_of_a_patient(tmp_path: Path) -> None:
    root = make_mimic(tmp_path / "mimic")
    command("prepare", "--task", "mimic-lt", "--data-root", root)
    for path in root.rglob("*.jpg"):
        path.unlink()
    message = mistake("run", "--task", "mimic-lt", *QUICK)
    assert ".jpg" in message
    reason = record_of("mimic-lt")["reason"]
    assert "patients' data" in reason
    assert ".jpg" not in reason


def test_long_reports_are_cut_and_without_any_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    root = make_mimic(tmp_path / "mimic", reports=True)
    for path in root.rglob("s*.txt"):
        path.write_text("FINAL REPORT\n IMPRESSION: " + "bibasilar atelectasis and " * 20)
    for words in (12, 30):
        entries = MimicLT(MimicSettings(prompts="report", report_words=words), root).listing().entries
        assert {len(entry.prompt.split()) for entry in entries} == {words}
    for path in root.rglob("s*.txt"):
        path.unlink()
    assert "no image has a report" in mistake(
        "prepare", "--task", "mimic-lt", "--data-root", root, "--task-set", "prompts=report"
    )


def test_intervals_count_the_patients_of_their_group() -> None:
    task = NihLTGen(NihLTGen.Config())
    labels = np.repeat(np.arange(20), 8)
    patients = np.array([f"{label}-{row % 4}" if label < 7 else f"p{row}" for row, label in enumerate(labels)])
    split = Split([str(row) for row in range(160)], labels, [""] * 160, lambda rows: rows, patients)
    probabilities = np.random.RandomState(0).dirichlet(np.ones(20), (1, 160))
    given = {"test": split}, {"real": {"test": probabilities}}, classifier_metrics()
    scores = downstream_scores(task, "t", *given, scores_of_classes(20, *given))
    units = {score.group: score.interval.units for score in scores if score.metric == "accuracy"}
    assert units == {"head": 28, "medium": 72, "tail": 32, "all": 132}


def test_preparing_again_in_vain_keeps_what_there_was(tmp_path: Path) -> None:
    root = make_nih(tmp_path / "nih")
    command("prepare", "--task", "nih-lt-gen", "--data-root", root)
    (manifest,) = Path(".grasp-bench/prepare").glob("*/manifest.parquet")
    before = manifest.read_bytes()
    victim = next((root / "images").iterdir())
    picture = victim.read_bytes()
    victim.unlink()
    assert victim.name in mistake("prepare", "--task", "nih-lt-gen", "--again")
    assert manifest.read_bytes() == before
    victim.write_bytes(picture)
    assert "not recomputed by themselves" in command("prepare", "--task", "nih-lt-gen", "--again")
    assert list(Path(".grasp-bench/prepare").glob("*.former")) == []


def test_a_wrong_folder_is_not_remembered(tmp_path: Path) -> None:
    good, wrong = make_nih(tmp_path / "nih"), make_mimic(tmp_path / "mimic")
    command("prepare", "--task", "nih-lt-gen", "--data-root", good)
    mistake("prepare", "--task", "nih-lt-gen", "--data-root", wrong, "--again")
    assert "no problems found" in command("prepare", "--task", "nih-lt-gen", "--check")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_nih(tmp_path / "nih")

    def forbidden(path: Path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("grasp_bench.data.cxr_lt.os.scandir", forbidden)  # a test may run as a user who may read all
    message = mistake("prepare", "--task", "nih-lt-gen", "--data-root", root, "--check")
    assert message.startswith(f"{root / 'images'}: cannot be read (Permission denied)")


def test_the_running_mean_of_a_generator_is_its_own_setting(tmp_path: Path) -> None:
    root = make_nih(tmp_path / "nih")
    command("prepare", "--task", "nih-lt-gen", "--data-root", root)
    settings = ["generator=nih-lt-gen"]
    plain, averaged = (
        plan(method="grasp", task="nih-lt", backbone="tiny-sd3-32", task_settings=[*settings, *more], data_root=root)
        for more in ([], ["ema_decay=0.9"])
    )
    assert stage_keys(plain)["train"] != stage_keys(averaged)["train"]


def test_prompts_of_reports_fall_back_to_the_class(tmp_path: Path) -> None:
    root = make_mimic(tmp_path / "mimic", reports=True)
    reports = sorted(root.rglob("*.txt"))
    reports[0].write_text("FINAL REPORT\n IMPRESSION:  ___\n")
    reports[1].unlink()
    entries = MimicLT(MimicSettings(prompts="report"), root).listing().entries
    missing = [entry for entry in entries if entry.prompt is None]
    assert {Path(entry.path).parent.name for entry in missing} == {path.stem for path in reports[:2]}
    assert all(entry.prompt.startswith("No acute process") for entry in entries if entry.prompt)


def test_shared_classes_are_mapped_by_name() -> None:
    task, generator = NihLT(NihSettings()), MimicLT(MimicSettings())
    names = [generator.classes()[index].name for index in task.generator_classes(generator)]
    assert len(names) == len(set(names)) == 13
    assert {own.name for own, name in zip(task.classes(), names, strict=True) if own.name != name} == {"Effusion"}

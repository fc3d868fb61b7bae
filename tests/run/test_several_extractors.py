"""Runs that are scored in the features of several extractors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import packing, runs

from grasp_bench.api import _assignments
from grasp_bench.cli import run as cli_run
from grasp_bench.contracts.extractor import extractor_label
from grasp_bench.contracts.record import RunRecord, read_record
from grasp_bench.errors import UserError
from grasp_bench.metrics.registry import feature_metrics
from grasp_bench.results import formats, options, tables
from grasp_bench.results.frame import load_results
from grasp_bench.results.load import find_records, read_runs
from grasp_bench.results.sharing.collect import submit
from grasp_bench.results.sharing.compare import compare
from grasp_bench.results.sharing.render import json_payload
from grasp_bench.results.sharing.verify import verify
from grasp_bench.results.site.boards import read_boards
from grasp_bench.results.site.write import page
from grasp_bench.run.pipeline import stage_inputs, stage_keys
from grasp_bench.run.plan import plan_of_spec
from grasp_bench.tasks.folder import FolderTask

BOTH = ["extractor=digits-cnn, pixels"]
METRICS = {metric.name for metric in feature_metrics()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of lora with two extractors, and its pack."""
    folder = tmp_path_factory.mktemp("several")
    with packing.quick():
        runs.finish(folder, runs.small("lora", task_settings=BOTH))
        submit([packing.run_folder(folder)], folder / "pack.zip", folder / "work")
    return folder


@pytest.fixture
def record(finished: Path) -> RunRecord:
    return read_record(packing.run_folder(finished) / "record.json")


def test_every_metric_of_features_is_there_once_for_each(record: RunRecord) -> None:
    titles = {name: {} for name in (None, "pixels")}
    for score in record.scores:
        if score.metric in METRICS and score.scope == "group" and score.group == "all":
            titles[score.extractor][score.metric] = score.label
    assert titles[None].keys() == titles["pixels"].keys() == METRICS
    assert titles[None]["fd"] == "FD(digits-cnn)"
    assert titles["pixels"]["fd"] == "FD(pixels)"
    assert {title.rpartition("(")[2] for title in titles["pixels"].values()} == {"pixels)"}
    assert {title.rpartition("(")[2] for title in titles[None].values()} == {"digits-cnn)"}
    values = {
        score.extractor: score.value
        for score in record.scores
        if (score.metric, score.group, score.scope) == ("fd", "all", "group")
    }
    assert values[None] != values["pixels"]
    assert all(score.extractor is None for score in record.scores if score.metric not in METRICS)


def test_the_first_has_the_stages_and_scores_that_it_has_alone(record: RunRecord, finished: Path) -> None:
    alone, both = (stage_keys(runs.small("lora", task_settings=given)) for given in ((), BOTH))
    changed = {name for name in {**alone, **both} if alone.get(name) != both.get(name)}
    assert changed == {"extractor-2", "features-2", "features-real-2", "features-train-2", "score"}
    assert record.stages == both
    assert stage_keys(plan_of_spec(record.spec)) == both
    assert record.spec.task.settings["extractor"] == "digits-cnn,pixels"


def test_another_order_computes_the_same_features() -> None:
    both, turned = (
        stage_inputs(runs.small("lora", task_settings=[f"extractor={each}"]))
        for each in ("digits-cnn,pixels", "pixels,digits-cnn")
    )
    assert both["extractor-2"] == turned["extractor"]
    assert both["extractor"] == turned["extractor-2"]


@pytest.mark.slow
def test_tables_page_and_files_tell_them_apart(
    finished: Path, record: RunRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    results = finished / "results"
    frame = load_results(results, classes=True)
    of_fd = frame[frame["metric"] == "fd"]
    assert set(of_fd["extractor"]) == {"", "pixels"}
    assert {"group", "class"} <= set(of_fd.loc[of_fd["extractor"] == "pixels", "scope"])
    of_classes = of_fd[of_fd["scope"] == "class"]
    assert of_classes["extractor"].value_counts().to_dict() == {"": 10, "pixels": 10}
    assert set(of_classes["title"]) == {"FD(digits-cnn)", "FD(pixels)"}
    report = tables.build(load_results(results), options.Options(), results)
    text = formats.rendered(report, "markdown").decode()
    assert "FD(digits-cnn)" in text
    assert "FD(pixels)" in text
    lines = formats.long(report)
    assert set(lines.loc[lines["metric"] == "fd", "extractor"]) == {"", "pixels"}
    content = json.loads(formats.rendered(report, "json"))
    assert {cell["extractor"] for cell in content["leaderboards"][0]["cells"]} == {"", "pixels"}
    (board,) = read_boards(read_runs(results, find_records(results)))
    drawn = [metric.key for metric in board.main if metric.place["metric"] == "fd"]
    assert drawn == ["fd", "fd.pixels"]
    assert "FD(pixels) of single classes" in page([board])
    cli_run.show(record, packing.run_folder(finished), all_scores=True)
    assert "FD(pixels)" in capsys.readouterr().out.replace("\n", "")


def test_a_pack_has_the_features_of_both(finished: Path, tmp_path: Path) -> None:
    with packing.quick():
        found = verify(finished / "pack.zip")
    assert found.count("failed") == 0, [each for each in found.checks if each.outcome == "failed"]
    told = [check.detail for check in found.checks if "follow from the features" in check.what]
    assert told == ["equal digit by digit"]
    other = packing.named(finished / "pack.zip", "features-real-2")
    own = packing.named(finished / "pack.zip", "features-real-" + _key(finished, "features-real"))
    swapped = {other: packing.members(finished / "pack.zip")[own]}
    with packing.quick():
        found = verify(packing.forged(finished / "pack.zip", tmp_path / "forged.zip", swapped))
    assert found.count("failed") == 1


def _key(finished: Path, stage: str) -> str:
    record = read_record(packing.run_folder(finished) / "record.json")
    return record.stages[stage][:20]


def test_a_comparison_has_both(record: RunRecord) -> None:
    found = compare(record, record)
    rows = [row for row in json_payload(found)["scores"] if row["metric"] == "fd" and row["scope"] == "group"]
    assert {row["extractor"] for row in rows} == {"", "pixels"}
    assert (found.scores["difference"].dropna() == 0).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("pixels,", "names of extractors, each once"),
        ("pixels,pixels", "names of extractors, each once"),
        ("pixels,hf", "the extractor hf needs an argument"),
        ("pixels:8", "the extractor pixels takes no argument"),
        ("hf:/models/rad-dino", "not by a path of one machine.*hf:rad-dino"),
        ("torchscript:./net.pt", "not by a path of one machine.*torchscript:net.pt"),
        ("hf:a/dino,hf:b/dino", "two of them would be called dino"),
        ("timm:a,timm:b,timm:c,timm:d,timm:e", "at most 4 extractors"),
    ],
)
def test_mistakes(given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        runs.small("lora", task_settings=[f"extractor={given}"])


def test_a_list_is_taken_as_names(tmp_path: Path) -> None:
    assert _assignments({"extractor": ["digits-cnn", "pixels"]}) == ["extractor=digits-cnn,pixels"]
    (tmp_path / "images").mkdir()
    (tmp_path / "pets.toml").write_text('extractor = ["inception", "dinov2"]\n')
    assert FolderTask.from_file(tmp_path / "pets.toml", ())[1].extractors == ("inception", "dinov2")


@pytest.mark.parametrize(
    ("name", "label"),
    [("inception", "inception"), ("hf:microsoft/rad-dino", "rad-dino"), ("timm:resnet18", "resnet18")],
)
def test_labels(name: str, label: str) -> None:
    assert extractor_label(name) == label


def test_a_slash_does_not_end_the_name_of_a_folder() -> None:
    found = runs.small("lora", task_settings=["extractor=hf:microsoft/rad-dino"])
    assert found.task_label == "digits-lt~budget=smoke,extractor=hf:microsoft_rad-dino"
    assert len(found.folder.parts) == 3


def test_all_missing_weights_are_told_at_once_and_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRASP_BENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    chosen = runs.small("lora", task_settings=["extractor=inception,hf:microsoft/rad-dino,dinov2"])
    with pytest.raises(UserError) as caught:
        runs.finish(tmp_path, chosen)
    message = str(caught.value)
    for part in (
        f"curl -L --create-dirs -o {tmp_path / 'weights'}",
        f"hf download microsoft/rad-dino --local-dir {tmp_path / 'weights' / 'microsoft/rad-dino'}",
        "hf download timm/vit_large_patch14_dinov2.lvd142m",
    ):
        assert part in message
    assert not (tmp_path / "work" / "prepare").exists()

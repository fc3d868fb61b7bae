import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.packing import forged, members, named, with_manifest, with_record
from safetensors import safe_open
from safetensors.numpy import load, save

from grasp_bench import plugins
from grasp_bench.contracts.record import Score
from grasp_bench.contracts.spec import RunSpec
from grasp_bench.data.features import FeatureSet, read_features, write_features
from grasp_bench.errors import UserError
from grasp_bench.results.sharing.archive import write_archive
from grasp_bench.results.sharing.recompute import relative_difference, score_differences, table_difference
from grasp_bench.results.sharing.verify import verify
from grasp_bench.run import scoring
from grasp_bench.run.pipeline import STAGES

pytestmark = pytest.mark.usefixtures("quick_scores")


def failed(pack: Path) -> list[str]:
    """What is wrong with a pack, one line a check."""
    return [f"{check.of}: {check.what}: {check.detail}" for check in verify(pack).checks if check.outcome == "failed"]


def only_fault(pack: Path) -> str:
    (fault,) = failed(pack)
    return fault


@pytest.fixture
def unscored(monkeypatch):
    """Scores are computed again elsewhere: here other faults are looked for."""
    monkeypatch.setattr("grasp_bench.results.sharing.verify._score_checks", lambda *arguments: [])


def test_a_pack_of_a_run_verifies_digit_by_digit(pack):
    found = verify(pack)
    outcomes = {check.what: (check.outcome, check.detail) for check in found.checks}
    assert found.count("failed") == found.count("unverifiable") == 0
    (scores,) = (what for what in outcomes if "scores follow from the features" in what)
    assert outcomes[scores] == ("passed", "equal digit by digit")
    assert outcomes["8 images of every class"][0] == "passed"
    assert outcomes["the standard budget"] == ("provisional", "it is smoke")
    assert outcomes["at least 5 seeds"] == ("provisional", "lora: 0")
    assert found.runs == ["lora on digits-lt~budget=smoke, seed 0"]


def test_a_score_that_was_improved_is_named(pack, tmp_path):
    def improve(record):
        (metric,) = (
            each
            for each in record["scores"]
            if (each["metric"], each["group"], each["scope"]) == ("fd", "tail", "group")
        )
        metric["value"] *= 0.9

    fault = only_fault(with_record(pack, tmp_path / "p.zip", improve))
    assert "lora on digits-lt~budget=smoke, seed 0" in fault
    assert "fd of tail (generated, test, group): value is " in fault
    assert "the features give " in fault


def test_a_score_that_was_left_out_is_named(pack, tmp_path):
    fault = only_fault(with_record(pack, tmp_path / "p.zip", lambda record: record["scores"].pop()))
    assert "average_precision of all (topped-up, test, group) is not in the record" in fault


def test_features_that_were_changed_are_found(pack, tmp_path):
    name = named(pack, "stages/features-real-")
    data = bytearray(members(pack)[name])
    tensors = load(bytes(data))
    start = bytes(data).index(tensors["features"].tobytes())
    data[start : start + 4] = np.float32(1000.0).tobytes()
    assert only_fault(forged(pack, tmp_path / "a.zip", {name: bytes(data)}, rehash=False)).startswith(f"{name}: ")
    faults = failed(forged(pack, tmp_path / "b.zip", {name: bytes(data)}))
    assert any("scores follow from the features: fd of " in fault for fault in faults)


def test_predictions_that_were_changed_are_found(pack, tmp_path):
    name = named(pack, "stages/classify-generated-")
    tensors = load(members(pack)[name])
    tensors["test"] = tensors["test"][:, ::-1].copy()
    faults = failed(forged(pack, tmp_path / "p.zip", {name: save(tensors)}))
    assert "(generated, test, group)" in faults[0]
    assert "(real, " not in " ".join(faults)


def test_a_picture_that_was_changed_is_named(pack, tmp_path, unscored):
    name = named(pack, "/samples.png")
    fault = only_fault(forged(pack, tmp_path / "p.zip", {name: members(pack)[name] + b"!"}, rehash=False))
    assert fault.startswith(f"{name}: is as the manifest lists it: has ")
    changed = members(pack)[name][:-1] + b"!"
    fault = only_fault(forged(pack, tmp_path / "p.zip", {name: changed}, rehash=False))
    assert fault.startswith(f"{name}: is as the manifest lists it: sha256 is ")


def test_the_scores_of_classes_are_computed_again_too(pack, tmp_path):
    name = named(pack, "/classes.csv")
    lines = members(pack)[name].decode().splitlines(keepends=True)
    cells = lines[1].split(",")
    cells[5] = "0.5"
    changed = "".join([lines[0], ",".join(cells), *lines[2:]])
    assert "classes.csv: follows from the features: line 2 is '0,tail,7,fd," in only_fault(
        forged(pack, tmp_path / "p.zip", {name: changed.encode()})
    )


def test_what_is_missing_or_too_much_is_named(pack, tmp_path, unscored):
    name = named(pack, "/train.jsonl")
    assert "is not in the pack" in only_fault(forged(pack, tmp_path / "a.zip", {name: None}))
    extra = f"{name.rpartition('/')[0]}/extra.json"
    fault = only_fault(forged(pack, tmp_path / "b.zip", {extra: b"{}"}, rehash=False))
    assert fault.startswith(f"{extra}: is part of a run")
    assert f"{extra}: is part of a run" in only_fault(forged(pack, tmp_path / "c.zip", {extra: b"{}"}))
    record = named(pack, "/record.json")
    assert any("the run has no record" in fault for fault in failed(forged(pack, tmp_path / "d.zip", {record: None})))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda m: m["runs"][0]["classes"][0].update(group="head"), "classes, groups or counts are not those"),
        (
            lambda m: m["runs"][0].update(extractors=["pixels"]),
            "the extractor is pixels, the task's is digits-cnn",
        ),
        (lambda m: m["runs"][0]["inputs"].pop("tests"), "its features are not those of its stages"),
        (lambda m: m["runs"][0]["files"].pop("classes.csv"), "its files are not those of its record"),
        (lambda m: m["runs"][0].update(private=True, inputs={}), "the manifest says that its data are private"),
    ],
)
def test_a_manifest_that_tells_another_story(pack, tmp_path, unscored, change, fault):
    assert any(fault in each for each in failed(with_manifest(pack, tmp_path / "p.zip", change)))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: r.update(label="grasp"), "the label is grasp, the settings make it lora"),
        (lambda r: r.update(task_label="digits-lt"), "the task is digits-lt, expected digits-lt~budget=smoke"),
        (lambda r: r["stages"].update(train="0" * 64), "the stages are not those of the specification"),
        (lambda r: r.update(status="failed"), "it is failed"),
        (lambda r: r.update(streams=None), "a record has no hash of its streams"),
        (lambda r: r["spec"].update(seed=1), "is not the identity of the spec"),
    ],
)
def test_a_record_that_is_not_of_its_run(pack, tmp_path, unscored, change, fault):
    assert any(fault in each for each in failed(with_record(pack, tmp_path / "p.zip", change)))


@pytest.mark.parametrize(
    ("part", "value", "fault"),
    [("seed", 7, "the record is of run "), ("budget", "x\x1b", "expected digits-lt~budget=x\\u001b")],
)
def test_the_record_of_another_run_in_the_place_of_one(pack, tmp_path, unscored, part, value, fault):
    def change(record):
        if part == "budget":
            record["spec"]["budget"]["name"] = value
        else:
            record["spec"][part] = value
        record["run_id"] = RunSpec.model_validate(record["spec"]).id

    found = failed(with_record(pack, tmp_path / "p.zip", change))
    assert any(fault in each for each in found)
    assert all("\x1b" not in each for each in found)


def test_another_number_of_images_is_found(pack, tmp_path):
    (name,) = (each for each in members(pack) if each.startswith("stages/features-") and each.count("-") == 1)
    path = tmp_path / "features.safetensors"
    path.write_bytes(members(pack)[name])
    found = read_features(path)
    write_features(path, FeatureSet(found.features[1:], found.labels[1:], found.ids[1:], found.extractor))
    faults = failed(forged(pack, tmp_path / "p.zip", {name: path.read_bytes()}))
    assert any("8 images of every class: there are [7, 8]" in fault for fault in faults)


def test_versions_that_are_not_here_cannot_be_verified(pack, monkeypatch):
    monkeypatch.setitem(STAGES, "score", replace(STAGES["score"], version=99))
    found = verify(pack)
    assert found.count("failed") == 0
    told = [check.detail for check in found.checks if check.outcome == "unverifiable"]
    assert any("score: of another version here" in each for each in told)
    assert any("they were made under score " in each for each in told)


def test_a_method_that_is_not_installed_leaves_the_scores_to_be_checked(pack, monkeypatch):
    entries = plugins.entries
    monkeypatch.setattr(plugins, "entries", lambda kind: {k: v for k, v in entries(kind).items() if k != "lora"})
    found = verify(pack)
    (check,) = (check for check in found.checks if check.outcome == "unverifiable")
    assert "unknown method 'lora'" in check.detail
    assert any("scores follow" in check.what and check.outcome == "passed" for check in found.checks)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"{}", "manifest.json is not one this version reads: grasp_bench"),
        (b"[" * 100_000, "manifest.json is not one this version reads"),
        (b'{"format": 2}', "manifest.json is not one this version reads: format"),
    ],
)
def test_a_manifest_that_is_none_is_one_message(pack, tmp_path, content, fault):
    write_archive(tmp_path / "p.zip", members(pack) | {"manifest.json": content})
    with pytest.raises(UserError, match=fault):
        verify(tmp_path / "p.zip")


@pytest.mark.parametrize(
    "tensors",
    [
        {"test": np.zeros((1, 3, 10), np.float32)},
        {"test": np.full((1, 600, 10), np.nan, np.float32)},
        {"test": np.zeros((0, 600, 10), np.float32)},
        {"other": np.zeros(1, np.float32)},
    ],
)
def test_predictions_that_fit_nothing_are_one_failed_check(pack, tmp_path, tensors):
    name = named(pack, "stages/classify-real-")
    fault = only_fault(forged(pack, tmp_path / "p.zip", {name: save(tensors)}))
    assert f"{name}: " in fault


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({"ids": "[" * 100_000}, "do not fit its tensors"),
        ({"ids": "5"}, "do not fit its tensors (ids: Input should be a valid list)"),
        (
            {"ids": json.dumps(dict.fromkeys(map(str, range(600))))},
            "do not fit its tensors (ids: Input should be a valid list)",
        ),
        (
            {"classes": json.dumps([[name] for name in range(10)])},
            "do not fit its tensors (classes.0: Input should be a valid string)",
        ),
        ({"extractor": json.dumps({"extractor": "another", "weights": "0"})}, "of different extractors or weights"),
    ],
    ids=["nested", "a number", "a table", "lists for names", "another extractor"],
)
def test_metadata_that_fit_nothing_are_one_failed_check(pack, tmp_path, metadata, fault):
    name, path = named(pack, "stages/features-real-"), tmp_path / "real.safetensors"
    path.write_bytes(members(pack)[name])
    with safe_open(path, "np") as file:
        there = file.metadata()
    content = save(load(path.read_bytes()), there | metadata)
    assert fault in only_fault(forged(pack, tmp_path / "p.zip", {name: content}))


@pytest.mark.parametrize(
    ("part", "key", "fault"),
    [
        ("stages/features-real-", "features", "expected 16 bits or more"),
        ("stages/tests-", "test", "cannot be read as"),
    ],
)
def test_numbers_of_a_kind_that_numpy_does_not_know_are_one_failed_check(pack, tmp_path, part, key, fault):
    header = json.dumps({key: {"dtype": "F8_E4M3", "shape": [4, 1], "data_offsets": [0, 4]}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(4)
    assert fault in only_fault(forged(pack, tmp_path / "p.zip", {named(pack, part): content}))


def test_a_pickle_under_another_name_is_not_read(pack, tmp_path):
    name = named(pack, "stages/tests-")
    fault = only_fault(forged(pack, tmp_path / "p.zip", {name: b"\x80\x04cos\nsystem\n."}))
    assert "cannot be read as safetensors" in fault


def metric(value: float | None, **changes) -> Score:
    fields = {"metric": "fd", "label": "FD", "group": "tail", "direction": "lower", "n": 9, "value": value}
    return Score(**fields | changes)


def test_rounding_is_told_from_a_difference():
    assert score_differences([metric(1.0)], [metric(1.0)]) == ([], 0.0)
    faults, largest = score_differences([metric(1.0)], [metric(1.0 + 1e-12)])
    assert not faults
    assert 0 < largest < 1e-11
    assert score_differences([metric(1.0)], [metric(1.001)])[0]
    assert score_differences([metric(None)], [metric(0.0)])[0] == [
        "fd of tail (generated, test, group): value is None, the features give 0.0"
    ]
    assert score_differences([metric(1.0, n=8)], [metric(1.0)])[0] == [
        "fd of tail (generated, test, group): n is 8, the features give 9"
    ]
    assert score_differences([metric(1.0), metric(1.0)], [metric(1.0)])[0] == ["a score is recorded twice"]


def test_tables_are_compared_cell_by_cell():
    assert table_difference("class,value\n1,0.3\n", "class,value\n1,0.30000000000000004\n") is None
    assert table_difference("class,value\nnan,\n", "class,value\nnan,\n") is None
    assert table_difference("class,value\n1,0.3\n", "class,value\n1,0.31\n") == (
        "line 2 is '1,0.3', the features give '1,0.31'"
    )
    assert table_difference("class,value\n1.0,0.3\n", "class,value\n1,0.3\n")
    assert table_difference("a\n", "a\nb\n") == "has 1 lines, the features give 2"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (0, 0, 0.0),
        (0.0, 1e-9, 1.0),
        (2, 1, 0.5),
        ("x", "x", 0.0),
        ("x", 1, np.inf),
        (True, 1, np.inf),
        (None, 0, np.inf),
    ],
)
def test_relative_difference(a, b, expected):
    assert relative_difference(a, b) == expected


def test_it_computes_with_the_functions_of_a_run(pack, monkeypatch):
    def instead(task, real, fake, train, metrics):
        raise ValueError(f"asked of {len(real.features)}, {len(fake.features)} and {len(train.features)} images")

    monkeypatch.setattr(scoring, "fidelity_and_diversity", instead)
    assert "asked of 600, 80 and 218 images" in only_fault(pack)


def test_no_place_on_the_disk_is_told(pack):
    assert not any(str(pack.parent).encode() in content for content in members(pack).values())

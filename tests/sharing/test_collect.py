import json
import shlex
import shutil
from dataclasses import replace

import pytest
from helpers import runs
from helpers.packing import members, run_folder
from safetensors.numpy import load

from grasp_bench.errors import UserError
from grasp_bench.results.sharing.collect import submit
from grasp_bench.results.sharing.verify import verify
from grasp_bench.run.pipeline import STAGES
from grasp_bench.tasks.digits_lt import DigitsLT

pytestmark = pytest.mark.usefixtures("quick_scores")


@pytest.fixture
def copied(pack, tmp_path):
    """A folder with results/ and work/ to change."""
    for part in ("results", "work"):
        shutil.copytree(pack.parent / part, tmp_path / part)
    return tmp_path


def again(folder, *others):
    return submit([run_folder(folder), *others], folder / "pack.zip", folder / "work")


def test_equal_runs_give_equal_bytes(pack, copied):
    again(copied)
    assert (copied / "pack.zip").read_bytes() == pack.read_bytes()


def test_it_holds_the_run_and_what_its_scores_come_from(pack):
    folder, content = run_folder(pack.parent), members(pack)
    beside = {name.rpartition("/")[2]: data for name, data in content.items() if name.startswith("runs/")}
    assert beside == {path.name: path.read_bytes() for path in folder.iterdir()}
    kinds = {name.removeprefix("stages/").rpartition("-")[0] for name in content if name.startswith("stages/")}
    features = {"features", "features-real", "features-train"}
    assert kinds == features | {"classify-generated", "classify-real", "classify-topped-up", "tests"}
    (tests,) = (data for name, data in content.items() if "/tests-" in name)
    assert {name: each.shape for name, each in load(tests).items()} == {"test": (600,)}


def test_features_that_are_gone_come_with_the_command_that_makes_them(copied):
    shutil.rmtree(copied / "work" / "features-real")
    with pytest.raises(UserError, match="missing or damaged") as error:
        again(copied)
    words = shlex.split(str(error.value).partition("instead: ")[2])
    assert words[:4] == ["grasp-bench", "run", "--method", "lora"]
    assert not (copied / "pack.zip").exists()


def test_damaged_features_are_not_packed(copied):
    (path,) = (copied / "work" / "features-train").glob("*/features.safetensors")
    runs.flip_a_byte(path)
    with pytest.raises(UserError, match=f"{path.parent}: what the scores of .* missing or damaged"):
        again(copied)


def test_a_record_that_was_edited_is_not_packed(copied):
    path = run_folder(copied) / "record.json"
    record = json.loads(path.read_text())
    record["scores"][0]["value"] += 1
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="its scores are not those in"):
        again(copied)


def test_a_file_that_is_gone_from_beside_the_record_is_missed(copied):
    (run_folder(copied) / "samples.png").unlink()
    with pytest.raises(UserError, match=r"samples\.png: is missing"):
        again(copied)


def test_a_run_is_packed_once_and_finished(copied):
    with pytest.raises(UserError, match="is given twice"):
        again(copied, run_folder(copied) / "record.json")
    path = run_folder(copied) / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"status": "oom", "reason": "too big"}))
    with pytest.raises(UserError, match=r"this run is oom \('too big'\), so it has neither weights nor scores"):
        again(copied)


def test_a_run_of_another_version_is_not_packed(copied, monkeypatch):
    monkeypatch.setitem(STAGES, "score", replace(STAGES["score"], version=99))
    with pytest.raises(UserError, match="score is of version 99 here, the run was made with "):
        again(copied)


def test_of_private_data_neither_features_nor_pictures_leave(copied, monkeypatch):
    monkeypatch.setattr(DigitsLT, "private", True)
    packed = again(copied)
    assert {name.rpartition("/")[2] for name in members(packed.path)} == {
        "manifest.json",
        "record.json",
        "train.jsonl",
        "classes.csv",
    }
    (left_out,) = packed.left_out.values()
    assert {"samples.png", "copies.csv"} <= set(left_out)
    found = verify(packed.path)
    assert found.count("failed") == 0
    (check,) = (check for check in found.checks if check.outcome == "unverifiable")
    assert check.detail == "the data are private, and no features are in the pack"


def test_patients_are_numbered_not_named(pack, copied, monkeypatch):
    from dataclasses import replace

    import numpy as np

    opened = DigitsLT.open

    def with_patients(self, folder, shape):
        data = opened(self, folder, shape)
        names = np.array([f"patient-{number % 7}" for number in range(len(data.test))])
        return replace(data, test=replace(data.test, patients=names))

    monkeypatch.setattr(DigitsLT, "open", with_patients)
    again(copied)
    (tests,) = (data for name, data in members(copied / "pack.zip").items() if "/tests-" in name)
    assert b"patient-" not in tests
    assert load(tests)["test/patients"].tolist() == [number % 7 for number in range(600)]

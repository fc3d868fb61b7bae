import json
import shutil
from dataclasses import replace

import pytest
from helpers import runs
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.errors import UserError
from grasp_bench.results.sharing import reproduce as reproduction
from grasp_bench.run.pipeline import STAGES


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, whose results/ and work/ are beside each other."""
    with runs.quick():
        folder = tmp_path_factory.mktemp("finished")
        runs.finish(folder, runs.small("lora"))
        yield folder


@pytest.fixture
def quick(finished, monkeypatch):
    """Carry out the run again where its stages are, all of which are finished: the scores are made anew, no more."""
    carry_out = reproduction.carry_out

    def reusing(plan, options, progress):
        shutil.copytree(finished / "work", options.work_dir, dirs_exist_ok=True)
        return carry_out(plan, options, progress)

    monkeypatch.setattr(reproduction, "carry_out", reusing)


def record_of(finished):
    (path,) = (finished / "results").rglob("record.json")
    return path


def call(*words):
    return CliRunner().invoke(app, ["reproduce", *map(str, words)])


@pytest.mark.slow
def test_a_run_that_comes_out_as_recorded_exits_with_0(finished):
    path = record_of(finished)
    before = path.read_bytes()
    shown = call(path, "--device", "cpu")
    assert shown.exit_code == 0, shown.exception
    assert "Streams: equal." in shown.stdout
    assert "Weights: equal byte for byte." in shown.stdout
    assert "AGREES: of 180 scores 180 are equal bit for bit" in shown.stdout
    assert "record:" not in shown.stdout
    assert path.read_bytes() == before


def test_a_recorded_value_that_was_changed_disagrees(finished, tmp_path, quick):
    record = json.loads(record_of(finished).read_text())
    metric = next(each for each in record["scores"] if each.get("interval") and each["group"] == "tail")
    metric["value"] = metric["interval"]["high"] + 1
    metric["interval"] |= {"low": metric["value"] - 0.5, "high": metric["value"] + 0.5}
    changed = tmp_path / "record.json"
    changed.write_text(json.dumps(record))
    shown = call(changed, "--results", tmp_path / "again", "--device", "cpu")
    assert isinstance(shown.exception, SystemExit), shown.exception
    assert shown.exit_code == 1
    told = " ".join(shown.stdout.split())
    assert "DISAGREES: of 180 scores 179 are equal bit for bit, 1 are not judged, since fewer than three seeds" in told
    (again,) = (tmp_path / "again").rglob("record.json")
    assert f"record: {again}" in shown.stdout
    assert json.loads(changed.read_text()) == record


def test_what_cannot_be_carried_out_says_why(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(STAGES, "train", replace(STAGES["train"], version=99))
    shown = call(record_of(finished), "--work-dir", tmp_path / "work")
    assert isinstance(shown.exception, UserError)  # exit code 2, as test_main shows
    assert "its stage train is not the one of this version" in str(shown.exception)
    assert not (tmp_path / "work").exists()

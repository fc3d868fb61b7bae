import os
import shutil
from pathlib import Path

import pytest
from helpers.records import record, save

from grasp_bench.cli.migrate import migrate
from grasp_bench.contracts.record import read_record
from grasp_bench.errors import UserError
from grasp_bench.results.frame import load_results

OLD = Path(__file__).parent / "record_v1.json"
CLASSES = "class,group,train_images,metric,n,value,floor,low,high\n9,tail,8,fd,30,5.0,4.0,3.0,6.0\n"


@pytest.fixture
def old(tmp_path):
    """Folder of a run of schema 1, with its scores per class and a log, under ``tmp_path``."""
    folder = tmp_path / "digits-lt" / "grasp+apg~guidance_scale=1.18,norm_threshold=6.61~tuned=8" / "seed-0"
    folder.mkdir(parents=True)
    shutil.copy(OLD, folder / "record.json")
    (folder / "classes.csv").write_text(CLASSES)
    (folder / "train.jsonl").write_text("{}\n")
    return folder


def contents(results):
    return {
        path: path.read_bytes()
        for path in results.rglob("*")
        if path.is_file() and path.suffix != ".parquet" and path.name != ".lock"
    }


def test_record_and_scores_per_class_are_rewritten(old, tmp_path):
    before = read_record(old / "record.json")
    found = migrate(tmp_path)
    assert found == ([old / "record.json", old / "classes.csv"], 0, [])
    text = (old / "record.json").read_text()
    assert '"schema_version": 2' in text
    assert '"metrics"' not in text
    assert read_record(old / "record.json") == before
    assert (old / "classes.csv").read_text() == CLASSES.replace("metric,", "metric,source,test_set,extractor,").replace(
        "floor", "reference"
    ).replace("fd,", "fd,generated,test,,")
    assert (old / "train.jsonl").read_text() == "{}\n"
    assert len(contents(tmp_path)) == 3


def test_the_frame_is_the_same_before_and_after(old, tmp_path):
    before = load_results(tmp_path, classes=True)
    migrate(tmp_path)
    assert load_results(tmp_path, classes=True).equals(before)


def test_a_second_time_nothing_is_written(old, tmp_path):
    migrate(tmp_path)
    stats = {path: path.stat().st_mtime_ns for path in contents(tmp_path)}
    found = migrate(tmp_path)
    assert found == ([], 2, [])
    assert {path: path.stat().st_mtime_ns for path in contents(tmp_path)} == stats


def test_a_current_record_is_left_alone(old, tmp_path):
    save(tmp_path, record("lora"))
    rewritten, current, _ = migrate(tmp_path)
    assert (len(rewritten), current) == (2, 1)


@pytest.mark.parametrize("fails", ["replace", "fsync"])
def test_what_cannot_be_written_stays_whole(old, tmp_path, monkeypatch, fails):
    before = contents(tmp_path)

    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, fails, refuse)
    with pytest.raises(UserError, match=r"record\.json"):
        migrate(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("record.json", b'{"schema_version": 1'),
        ("record.json", b"\xff\xfe"),
        ("record.json", OLD.read_bytes().replace(b'"floor"', b'"flaw"')),
        ("classes.csv", b"class,metric\n\xff,fd\n"),
    ],
    ids=["cut", "no text", "an unknown field", "classes"],
)
def test_a_damaged_file_is_named_and_its_run_left_as_it_is(old, tmp_path, name, damaged):
    (old / name).write_bytes(damaged)
    before = contents(old)
    other = tmp_path / "digits-lt" / "grasp+apg" / "seed-0"
    other.mkdir(parents=True)
    shutil.copy(OLD, other / "record.json")
    rewritten, _, (message,) = migrate(tmp_path)
    assert rewritten == [other / "record.json"]
    assert str(old / name) in message
    assert contents(old) == before

"""The cached frame of a results folder is that of its records, whatever has happened to either."""

import os
import shutil
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers.records import example, framed, metric, record, save, separated

from grasp_bench.contracts.record import Tuning
from grasp_bench.io import read_with_digest, write_with_digest
from grasp_bench.results import frame, load
from grasp_bench.results.frame import INDEX_NAME, load_results

same = pd.testing.assert_frame_equal


@pytest.fixture
def results(tmp_path: Path) -> Path:
    save(tmp_path, *example(), *separated(task="other"))
    return tmp_path


def from_records(results: Path) -> pd.DataFrame:
    """The frame, without the cache."""
    return frame.frame_of(load.read_each(results, load.find_records(results)))


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The folders whose records have been parsed."""
    found: list[str] = []
    plain = load.read_record

    def counting(path: Path):
        found.append("/".join(path.parts[-4:-1]))
        return plain(path)

    monkeypatch.setattr(load, "read_record", counting)
    return found


def test_the_cache_gives_the_frame_of_the_records(results, read):
    first = load_results(results)
    assert len(read) == 29
    read.clear()
    second = load_results(results)
    assert read == []
    same(first, from_records(results))
    same(second, first)


def test_only_what_changed_is_read_again(results, read):
    load_results(results)
    read.clear()
    save(results, record("grasp", 0, [metric("fd", "tail", 99.0, lower=True)]))  # changed
    save(results, record("dora", 0, [metric("new", "tail", 1.0)]))  # new, before others and with another metric
    shutil.rmtree(results / "other/last/seed-0")  # removed
    changed = load_results(results)
    assert read == ["digits-lt/dora/seed-0", "digits-lt/grasp/seed-0"]
    same(changed, from_records(results))
    read.clear()
    same(load_results(results), changed)
    assert read == []


def test_a_change_of_equal_size_is_noticed(results, read):
    load_results(results)
    read.clear()
    path = results / "digits-lt/grasp/seed-0/record.json"
    text = path.read_text()
    path.write_text(text.replace('"value": 12.0', '"value": 13.0'))
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    assert path.stat().st_size == len(text)
    same(load_results(results), from_records(results))
    assert "digits-lt/grasp/seed-0" in read


def test_a_folder_that_moved_is_found_where_it_is(results):
    load_results(results)
    (results / "digits-lt/grasp").rename(results / "digits-lt/another place")
    found = load_results(results)
    assert set(found.loc[found["label"] == "grasp", "folder"]) == {
        f"digits-lt/another place/seed-{seed}" for seed in range(3)
    }


def spoil_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def spoil_format(path: Path) -> None:
    table = pd.read_parquet(BytesIO(read_with_digest(path)))
    table.attrs["format"] = "0"
    table.to_parquet(buffer := BytesIO())
    write_with_digest(path, buffer.getvalue())


def spoil_columns(path: Path) -> None:
    table = pq.read_table(BytesIO(read_with_digest(path)))
    pq.write_table(table.drop_columns(["label"]), buffer := BytesIO())
    write_with_digest(path, buffer.getvalue())


def test_no_change_of_the_cache_changes_a_table(results, tmp_path):
    """A byte of the index at a hundred places, of which some are in values, some in dictionaries and some in names."""
    expected = load_results(results)
    whole, rng = (results / INDEX_NAME).read_bytes(), np.random.default_rng(0)
    for place in rng.integers(len(whole), size=100):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "index").write_bytes(changed)
        assert len(frame._read(tmp_path / "index")) == 0
    (tmp_path / "index").write_bytes(whole)
    assert len(frame._read(tmp_path / "index")) == len(expected)


def test_a_record_with_the_size_and_time_of_the_cached_one_is_read_again(results, read):
    load_results(results)
    path = results / "digits-lt/grasp/seed-0/record.json"
    before = path.stat()
    path.write_text(path.read_text().replace('"status": "finished"', '"status": "cancelle"'))
    path.write_text(path.read_text().replace('"status": "cancelle"', '"status": "finished"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    read.clear()
    load_results(results)
    assert len(read) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_bytes,
        spoil_format,
        spoil_columns,
        lambda path: path.write_text("not parquet"),
        lambda path: path.write_bytes(b""),
    ],
    ids=["cut", "other format", "a column less", "text", "empty"],
)
def test_a_damaged_or_foreign_cache_is_rebuilt_silently(results, spoil, read):
    load_results(results)
    whole = (results / INDEX_NAME).read_bytes()
    spoil(results / INDEX_NAME)
    read.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_results(results)
    assert len(read) == 29
    same(found, from_records(results))
    assert (results / INDEX_NAME).read_bytes() == whole


def test_a_folder_that_cannot_be_written_works_without(results, monkeypatch):
    def refuse(path: Path, data: bytes) -> None:
        raise frame.UserError(f"{path}: cannot be written")

    monkeypatch.setattr(frame, "write_with_digest", refuse)
    same(load_results(results), from_records(results))
    assert not (results / INDEX_NAME).exists()


def test_something_else_in_its_place_is_left_alone(results):
    (results / INDEX_NAME).mkdir()
    same(load_results(results), from_records(results))
    assert (results / INDEX_NAME).is_dir()


def test_a_damaged_record_is_told_of_every_time_until_it_is_fixed(results):
    path = results / "digits-lt/grasp/seed-0/record.json"
    text = path.read_text()
    path.write_text("{")
    for _ in range(2):
        with pytest.warns(load.RecordWarning, match="grasp/seed-0/record.json"):
            assert "digits-lt/grasp/seed-0" not in set(load_results(results)["folder"])
    path.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_results(results)["folder"].nunique() == 29


def test_a_copied_run_counts_once_from_the_index_too(results):
    shutil.copytree(results / "digits-lt/grasp", results / "digits-lt/grasp copy")
    for _ in range(2):
        with pytest.warns(load.RecordWarning, match="grasp copy"):
            assert load_results(results)["folder"].nunique() == 29


def test_an_empty_or_missing_folder_has_no_runs_and_gets_no_index(tmp_path):
    assert len(load_results(tmp_path)) == 0
    assert len(load_results(tmp_path / "none")) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_scores_is_one_row_whose_metric_is_missing(tmp_path):
    save(tmp_path, record("moe", 0, status="skipped", reason="no feed-forwards"), record("lora", 0, status="cancelled"))
    first, second = load_results(tmp_path), load_results(tmp_path)
    same(first, second)
    assert second["status"].to_list() == ["cancelled", "skipped"]
    assert second[["metric", "value", "train_seconds"]].isna().all(axis=None)


def test_every_documented_column_is_there_and_no_other():
    documented = {name for name in frame.COLUMNS if f"``{name}``" in (frame.__doc__ or "")}
    assert set(frame.COLUMNS) - documented == set(frame.COSTS)
    assert framed(example()).columns.to_list() == list(frame.COLUMNS)


def test_missing_values_are_nan():
    found = framed([record("m", 0, [metric("a", "all", None)])])
    assert found[["value", "reference", "low", "high"]].isna().all(axis=None)


def test_a_title_names_the_source_where_a_metric_has_several():
    scores = [metric(name, "all", 0.5) for name in ("fd", "f1_generated", "f1_real_balanced")]
    assert framed([record("m", 0, scores)])["title"].to_list() == [
        "FD(digits-cnn)",
        "f1, trained on generated images",
        "f1, trained on real images, balanced test set",
    ]


@pytest.mark.parametrize(
    ("changed", "method", "guidance", "settings"),
    [
        ({}, "{}", "{}", ""),
        ({"method": {"rank": 32}}, '{"rank": 32}', "{}", "rank=32"),
        (
            {"method": {"learning_rate": 0.01, "rank": 32}, "guidance": {"guidance_scale": 3.0}},
            '{"learning_rate": 0.01, "rank": 32}',
            '{"guidance_scale": 3.0}',
            "guidance_scale=3.0, learning_rate=0.01, rank=32",
        ),
    ],
)
def test_settings_are_those_that_were_changed(changed, method, guidance, settings):
    found = framed([record("lora", 0, changed=changed)]).iloc[0]
    assert found[["method_settings", "guidance_settings", "settings"]].to_list() == [method, guidance, settings]


def test_backbone_and_search_are_named():
    tuned = Tuning(trials=20, best=3, settings={"rank": 8})
    run = record("lora", 0, tuned=tuned, default_backbone=False, backbone_label="tiny-32")
    found = framed([run]).iloc[0]
    assert (found["backbone_label"], found["tuned"], found["settings"]) == ("tiny-32", "20", "backbone=tiny-32")


def test_a_patch_of_the_rules_leaves_runs_comparable():
    rules = ("1.0", "1.0.1", "1.1", "2.0")
    found = framed(record("a", seed, protocol={"rules": each}) for seed, each in enumerate(rules))["conditions"]
    assert found[0] == found[1]
    assert found.nunique() == 3


def test_scores_of_classes_are_read_in_either_form(tmp_path):
    save(tmp_path, record("a", 0, [metric("fd", "all", 1.0, lower=True)]), record("b", 0, [metric("fd", "all", 2.0)]))
    old = "class,group,train_images,metric,n,value,floor,low,high\n0,head,80,fd,30,5.0,4.0,3.0,6.0\n"
    new = (
        old.replace("metric,", "metric,source,test_set,")
        .replace("floor", "reference")
        .replace("fd,", "fd,generated,test,")
    )
    for label, text in (("a", old), ("b", new)):
        (tmp_path / f"digits-lt/{label}/seed-0/classes.csv").write_text(text)
    found = load_results(tmp_path, classes=True)
    classes = found[found["scope"] == "class"]
    columns = ["label", "metric", "source", "group", "value", "reference"]
    assert classes[columns].to_numpy().tolist() == [[name, "fd", "generated", "0", 5.0, 4.0] for name in ("a", "b")]
    assert classes["unit"].tolist() == ["equal-count draw"] * 2

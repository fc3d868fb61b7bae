"""The index of a results folder gives what the records give, whatever has happened to either."""

import json
import os
import shutil
import warnings
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.records import example, metric, record, save, separated

from grasp_bench.results import index, load
from grasp_bench.results.index import INDEX_NAME
from grasp_bench.results.leaderboard import leaderboards
from grasp_bench.results.load import load_records, load_summaries


@pytest.fixture
def results(tmp_path: Path) -> Path:
    save(tmp_path, *example(), *separated(task="other"))
    return tmp_path


def from_records(results: Path):
    """The leaderboards, by no way of an index."""
    return leaderboards(summarised(load_records(results)))


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


def test_the_index_gives_the_tables_of_the_records(results, read):
    first = load_summaries(results)
    assert len(read) == 29
    read.clear()
    second = load_summaries(results)
    assert read == []
    assert leaderboards(first) == leaderboards(second) == from_records(results)
    assert second.summaries == summarised(load_records(results)).summaries


def test_only_what_changed_is_read_again(results, read):
    load_summaries(results)
    read.clear()
    save(results, record("grasp", 0, [metric("fd", "tail", 99.0, lower=True)]))  # changed
    save(results, record("dora", 0, [metric("new", "tail", 1.0)]))  # new, before others and with another metric
    shutil.rmtree(results / "other/last/seed-0")  # removed
    changed = load_summaries(results)
    assert read == ["digits-lt/dora/seed-0", "digits-lt/grasp/seed-0"]
    assert leaderboards(changed) == from_records(results)
    read.clear()
    assert leaderboards(load_summaries(results)) == leaderboards(changed)
    assert read == []


def test_a_change_of_equal_size_is_noticed(results, read):
    load_summaries(results)
    read.clear()
    path = results / "digits-lt/grasp/seed-0/record.json"
    text = path.read_text()
    path.write_text(text.replace('"value": 12.0', '"value": 13.0'))
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    assert path.stat().st_size == len(text)
    assert leaderboards(load_summaries(results)) == from_records(results)
    assert "digits-lt/grasp/seed-0" in read


def test_a_folder_that_moved_is_found_where_it_is(results):
    load_summaries(results)
    (results / "digits-lt/grasp").rename(results / "digits-lt/another place")
    found = load_summaries(results)
    assert {run.folder for run in found.summaries if run.label == "grasp"} == {
        f"digits-lt/another place/seed-{seed}" for seed in range(3)
    }


def spoil_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def spoil_format(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"format": b"0"}), path)


def spoil_columns(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["label"]), path)


def spoil_names(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"keys": b"[]"}), path)


def spoil_lengths(path: Path) -> None:
    table = pq.read_table(path)
    at = table.column_names.index("value")
    shorter = [each[:-1] for each in table["value"].to_pylist()]
    pq.write_table(table.set_column(at, table.schema.field("value"), [shorter]), path)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_bytes,
        spoil_format,
        spoil_columns,
        spoil_names,
        spoil_lengths,
        lambda path: path.write_text("not parquet"),
        lambda path: path.write_bytes(b""),
    ],
    ids=["cut", "other format", "a column less", "no names", "lengths", "text", "empty"],
)
def test_a_damaged_or_foreign_index_is_made_anew_without_a_word(results, spoil, read):
    load_summaries(results)
    whole = (results / INDEX_NAME).read_bytes()
    spoil(results / INDEX_NAME)
    read.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert leaderboards(load_summaries(results)) == from_records(results)
    assert len(read) == 29 * 2  # once each for either side
    assert (results / INDEX_NAME).read_bytes() == whole


def test_a_folder_that_cannot_be_written_works_without(results, monkeypatch):
    def refuse(path: Path, data: bytes) -> None:
        raise index.UserError(f"{path}: cannot be written")

    monkeypatch.setattr(index, "write_bytes", refuse)
    assert leaderboards(load_summaries(results)) == from_records(results)
    assert not (results / INDEX_NAME).exists()


def test_something_else_in_its_place_is_left_alone(results):
    (results / INDEX_NAME).mkdir()
    assert leaderboards(load_summaries(results)) == from_records(results)
    assert (results / INDEX_NAME).is_dir()


def test_a_damaged_record_is_told_of_every_time_until_it_is_fixed(results):
    path = results / "digits-lt/grasp/seed-0/record.json"
    text = path.read_text()
    path.write_text("{")
    for _ in range(2):
        with pytest.warns(load.RecordWarning, match="grasp/seed-0/record.json"):
            assert "digits-lt/grasp/seed-0" not in {run.folder for run in load_summaries(results).summaries}
    path.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_summaries(results).summaries) == 29


def test_a_copied_run_counts_once_from_the_index_too(results):
    shutil.copytree(results / "digits-lt/grasp", results / "digits-lt/grasp copy")
    for _ in range(2):
        with pytest.warns(load.RecordWarning, match="grasp copy"):
            assert len(load_summaries(results).summaries) == 29


def test_an_empty_or_missing_folder_has_no_runs_and_gets_no_index(tmp_path):
    assert load_summaries(tmp_path).summaries == ()
    assert load_summaries(tmp_path / "none").summaries == ()
    assert list(tmp_path.iterdir()) == []


def test_runs_without_scores_or_cost_survive_the_index(tmp_path):
    save(tmp_path, record("moe", 0, status="skipped", reason="no feed-forwards"), record("lora", 0, status="cancelled"))
    first, second = load_summaries(tmp_path), load_summaries(tmp_path)
    assert first.summaries == second.summaries
    assert second.summaries[1].cost is None
    assert json.loads(pq.read_schema(tmp_path / INDEX_NAME).metadata[b"keys"]) == []

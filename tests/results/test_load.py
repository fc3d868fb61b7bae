import json
import os
import shutil
import warnings

import pytest
from helpers.records import found_runs, metric, record, save

from grasp_bench.errors import UserError
from grasp_bench.results.frame import load_results
from grasp_bench.results.load import RecordWarning


def load_records(results):
    return [run.record for run in found_runs(results)]


def test_every_record_is_found(tmp_path):
    save(tmp_path, record("grasp", 0), record("grasp", 1), record("lora", 0, task="other"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sorted((r.task_label, r.label, r.spec.seed) for r in load_records(tmp_path)) == [
            ("digits-lt", "grasp", 0),
            ("digits-lt", "grasp", 1),
            ("other", "lora", 0),
        ]


def test_a_missing_folder_has_no_records(tmp_path):
    assert load_records(tmp_path / "none") == []


def test_a_file_is_no_folder_of_results(tmp_path):
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(UserError, match=r"record.json: is no folder. Name the one that holds TASK/METHOD/seed-N/"):
        load_records(tmp_path / "record.json")


@pytest.mark.parametrize("function", ["scandir", "stat"])
def test_what_may_not_be_read_is_left_out_and_named(tmp_path, monkeypatch, function):
    save(tmp_path, record("grasp", 0), record("lora", 0))
    allowed = getattr(os, function)

    def refuse(path, *arguments, **options):
        if "lora" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path, *arguments, **options)

    monkeypatch.setattr(f"grasp_bench.results.load.os.{function}", refuse)
    with pytest.warns(RecordWarning, match="digits-lt/lora.*: may not be read"):
        assert [each.label for each in load_records(tmp_path)] == ["grasp"]


def test_a_damaged_record_is_named_and_left_as_it_is(tmp_path):
    save(tmp_path, record("grasp", 0), record("lora", 0))
    damaged = tmp_path / "digits-lt/lora/seed-0/record.json"
    damaged.write_text('{"schema_version": 1')
    with pytest.warns(RecordWarning, match="lora/seed-0/record.json"):
        found = load_records(tmp_path)
    assert [each.label for each in found] == ["grasp"]
    assert damaged.read_text() == '{"schema_version": 1'


def test_a_copied_run_counts_once(tmp_path):
    save(tmp_path, record("grasp", 0))
    shutil.copytree(tmp_path / "digits-lt/grasp", tmp_path / "digits-lt/grasp copy")
    with pytest.warns(RecordWarning, match="grasp copy"):
        assert len(load_records(tmp_path)) == 1


def test_a_search_that_ends_with_the_defaults_is_a_row_beside_theirs(tmp_path):
    defaults = record("grasp", 0)
    save(tmp_path, defaults, defaults.model_copy(update={"label": "grasp~tuned=20"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [each.label for each in load_records(tmp_path)] == ["grasp", "grasp~tuned=20"]


def test_a_score_that_stands_twice_in_a_record_is_refused(tmp_path):
    save(tmp_path, record("grasp", 0, metrics=[metric("fd", "tail", 1.0)]))
    path = tmp_path / "digits-lt/grasp/seed-0/record.json"
    content = json.loads(path.read_text())
    content["scores"].append(content["scores"][0])
    path.write_text(json.dumps(content))
    with pytest.warns(RecordWarning, match="this version reads: the score .* is recorded twice"):
        assert load_records(tmp_path) == []


def test_a_pipe_as_index_or_record_is_not_waited_for(tmp_path):
    save(tmp_path, record("grasp", 0, [metric("recall", "tail", 0.5)]))
    other = tmp_path / "digits-lt" / "lora" / "seed-0"
    other.mkdir(parents=True)
    os.mkfifo(tmp_path / ".index")
    os.mkfifo(other / "record.json")
    with pytest.warns(RecordWarning, match="lora/seed-0/record.json: is no file"):
        assert [*load_results(tmp_path)["method"]] == ["grasp"]
    assert (tmp_path / ".index").is_file()

import shutil
import threading
from pathlib import Path

import pytest
from helpers.records import record, save
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.cli.migrate import migrate
from grasp_bench.contracts.record import read_record, record_bytes
from grasp_bench.errors import UserError
from grasp_bench.locks import publishing

OLD = Path(__file__).parents[1] / "results" / "record_v1.json"


@pytest.fixture
def old(tmp_path):
    """Path of a record of schema 1 under ``tmp_path``."""
    folder = tmp_path / "digits-lt" / "grasp+apg~guidance_scale=1.18,norm_threshold=6.61~tuned=8" / "seed-0"
    folder.mkdir(parents=True)
    return Path(shutil.copy(OLD, folder / "record.json"))


def test_it_says_what_it_did(old, tmp_path):
    save(tmp_path, record("lora"))
    first, second = (CliRunner().invoke(app, ["migrate", str(tmp_path)]) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout == f"{tmp_path}: files rewritten: 1, already current: 1\n"
    assert second.stdout == f"{tmp_path}: files rewritten: 0, already current: 2\n"
    assert read_record(old) == read_record(OLD)


def test_a_damaged_record_is_named_and_nothing_is_lost(old, tmp_path):
    save(tmp_path, record("lora"))
    damaged = OLD.read_text()[:-20]
    old.write_text(damaged)
    shown = CliRunner().invoke(app, ["migrate", str(tmp_path)])
    assert shown.exit_code == 1
    assert shown.stderr.startswith(f"left as it is: {old}: not a record this version reads: ")
    assert shown.stderr.count("\n") == 1
    assert shown.stdout == f"{tmp_path}: files rewritten: 0, already current: 1\n"
    assert old.read_text() == damaged


def test_a_missing_folder_is_a_mistake_of_the_user(tmp_path):
    shown = CliRunner().invoke(app, ["migrate", str(tmp_path / "none")])
    assert isinstance(shown.exception, UserError)
    assert "TASK/METHOD/seed-N/record.json" in str(shown.exception)


def test_what_another_process_publishes_meanwhile_is_kept(old, tmp_path):
    """The record is rewritten under the lock, so one that is published while `migrate` waits stands."""
    published = record_bytes(read_record(OLD).model_copy(update={"finished": "2030-01-01T00:00:00+00:00"}))
    before = old.read_bytes()
    with publishing(tmp_path):
        other = threading.Thread(target=migrate, args=(tmp_path,))  # with a descriptor, and so a lock, of its own
        other.start()
        other.join(1)
        assert other.is_alive()
        assert old.read_bytes() == before
        old.write_bytes(published)
    other.join(60)
    assert not other.is_alive()
    assert old.read_bytes() == published


def test_current_results_that_may_only_be_read_need_no_lock(tmp_path):
    save(tmp_path, record("lora"))
    assert migrate(tmp_path) == ([], 1, [])
    assert not (tmp_path / ".lock").exists()

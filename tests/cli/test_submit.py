import json

import pytest
from helpers.packing import forged, members, named, packed, quick, run_folder, with_record
from typer.testing import CliRunner

from grasp_bench.cli import app, main
from grasp_bench.tasks.digits_lt import DigitsLT


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    with quick():
        yield packed(tmp_path_factory.mktemp("packed"))


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def submit(pack, to):
    return call("submit", run_folder(pack.parent), "--out", to, "--work-dir", pack.parent / "work")


def test_a_pack_is_written_and_verified(pack, tmp_path):
    shown = submit(pack, tmp_path / "mine.zip")
    assert shown.exit_code == 0, shown.exception
    assert "lora on digits-lt~budget=smoke, seed 0" in shown.stdout
    assert f"grasp-bench verify {tmp_path / 'mine.zip'}" in shown.stdout
    assert (tmp_path / "mine.zip").read_bytes() == pack.read_bytes()
    checked = call("verify", tmp_path / "mine.zip", "--json", tmp_path / "found.json")
    assert checked.exit_code == 0, checked.stdout
    assert "180 scores follow from the features: equal digit by digit" in checked.stdout
    assert "VERIFIED: 1 run;" in checked.stdout
    assert "No pack can show:" in checked.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["verdict"] == "verified"
    assert {"passed", "provisional"} == {check["outcome"] for check in found["checks"]}


def test_without_out_it_is_named_after_the_run(pack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("submit", run_folder(pack.parent), "--work-dir", pack.parent / "work")
    shown = call(*words)
    assert shown.exit_code == 0, shown.exception
    assert "lora-seed-0.zip: " in shown.stdout
    assert "grasp-bench verify lora-seed-0.zip" in shown.stdout
    assert "older" not in shown.stdout
    assert (tmp_path / "lora-seed-0.zip").read_bytes() == pack.read_bytes()
    again = call(*words)
    assert again.exit_code == 0, again.exception
    assert ", replacing an older pack. " in again.stdout
    assert (tmp_path / "lora-seed-0.zip").read_bytes() == pack.read_bytes()


def test_what_is_no_pack_is_left_as_it_is(pack, tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.zip"
    path.write_text("my only copy")
    words = ["submit", run_folder(pack.parent), "--out", path, "--work-dir", pack.parent / "work"]
    monkeypatch.setattr("sys.argv", ["grasp-bench", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}: exists, and is not a pack")
    assert said.count("\n") == 1
    assert path.read_text() == "my only copy"
    assert [each.name for each in tmp_path.iterdir()] == ["mine.zip"]


def test_a_pack_that_somebody_has_been_at_exits_with_1(pack, tmp_path):
    name = named(pack, "/samples.png")
    path = forged(pack, tmp_path / "p.zip", {name: members(pack)[name] + b"!"}, rehash=False)
    shown = call("verify", path, "--json", tmp_path / "found.json")
    assert shown.exit_code == 1
    assert f"{name}\n  FAILED" in shown.stdout
    assert json.loads((tmp_path / "found.json").read_text())["verdict"] == "failed"


def test_what_another_user_calls_a_run_is_printed_escaped(pack, tmp_path):
    path = with_record(pack, tmp_path / "p.zip", lambda record: record.update(task_label="\x1b[2J[red]<b>"))
    shown = call("verify", path)
    assert shown.exit_code == 1
    assert r"lora on \u001b[2J[red]\u003cb\u003e" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_private_data_stay_and_cannot_be_verified(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(DigitsLT, "private", True)
    shown = submit(pack, tmp_path / "mine.zip")
    assert "its task's data are private" in shown.stdout
    assert "samples.png" in shown.stdout
    checked = call("verify", tmp_path / "mine.zip")
    assert checked.exit_code == 2
    assert "NOT VERIFIED in full" in checked.stdout

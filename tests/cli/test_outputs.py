"""What lies where a command is to write stays, unless the same command wrote it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.records import metric, record, save
from typer.testing import CliRunner, Result

from grasp_bench.cli import app
from grasp_bench.errors import UserError

FOREIGN = b'{\n  "mine": "and written by grasp-bench"\n}\n'
COMMANDS = {
    "report": (("report", "--format", "json", "--out", "file"), "file"),
    "report table": (("report", "--out", "file"), "file"),
    "report parquet": (("report", "--format", "parquet", "--out", "file"), "file"),
    "compare": (("compare", "a", "b", "--out", "file.png"), "file.png"),
    "compare JSON": (("compare", "a", "b", "--json", "file"), "file"),
    "sample": (("sample", "a", "--out", "file.png"), "file.png"),
    "check": (("check", "extractor", "pixels", "--json", "file"), "file"),
    "verify": (("verify", "a.zip", "--json", "file"), "file"),
    "estimate": (("estimate", "-m", "lora", "-t", "digits-lt", "--json", "file"), "file"),
    "score": (("score", "a", "b", "--json", "file"), "file"),
    "score features": (("score", "a", "b", "--features-out", "f.safetensors"), "f.fake.safetensors"),
    "data export": (
        ("data", "export", "-t", "digits-lt", "--split", "train", "--to", "new", "--prompts-out", "file"),
        "file",
    ),
}
FORMS = ["table", "markdown", "csv", "json", "latex", "parquet"]


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "results", *(record(name, 0, [metric("recall", "tail", 0.5)]) for name in ("grasp", "lora")))
    return tmp_path


@pytest.mark.parametrize(("words", "name"), COMMANDS.values(), ids=COMMANDS)
def test_what_another_program_wrote_is_kept(words: tuple[str, ...], name: str, folder: Path) -> None:
    (folder / name).write_bytes(FOREIGN)
    before = sorted(path.name for path in folder.iterdir())
    shown = call(*words)
    assert isinstance(shown.exception, UserError)
    assert f"{name}: exists, and is no file of that kind that `grasp-bench {words[0]}" in str(shown.exception)
    assert (folder / name).read_bytes() == FOREIGN
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("form", FORMS)
def test_a_report_replaces_one_of_its_form(form: str, folder: Path) -> None:
    words = ("report", "--format", form, "--out", "file")
    (folder / "file").touch()  # as mktemp does
    assert call(*words).exit_code == 0
    first = (folder / "file").read_bytes()
    save(folder / "results", record("dora", 0, [metric("recall", "tail", 0.7)]))
    assert call(*words).exit_code == 0
    assert (folder / "file").read_bytes() != first
    other = call("report", "--format", FORMS[FORMS.index(form) - 1], "--out", "file")
    assert isinstance(other.exception, UserError)


def test_no_record_is_replaced(folder: Path) -> None:
    path = folder / "results" / "digits-lt" / "grasp" / "seed-0" / "record.json"
    before = path.read_bytes()
    runs = [path.parent, path.parents[2] / "lora" / "seed-0"]
    for words in (("report", "--format", "json", "--out", path), ("compare", *runs, "--json", path)):
        assert isinstance(call(*words).exception, UserError)
    assert path.read_bytes() == before


def test_a_comparison_replaces_its_own_files_only(folder: Path) -> None:
    runs = [folder / "results" / "digits-lt" / name / "seed-0" for name in ("grasp", "lora")]
    for _ in range(2):
        assert call("compare", *runs, "--out", "file.png", "--json", "file.json").exit_code == 0
    assert json.loads((folder / "file.json").read_text())["written_by"] == "grasp-bench compare"
    assert isinstance(call("verify", "a.zip", "--json", "file.json").exception, UserError)
    assert isinstance(call("sample", runs[0], "--out", "file.png").exception, UserError)


def test_a_pipe_is_written_to(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    reading = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert call("report", "--format", "csv", "--out", "pipe").exit_code == 0
    assert os.read(reading, 5) == b"task_"
    os.close(reading)


def test_an_open_file_by_its_path_has_the_report_and_nothing_else(folder: Path) -> None:
    printed = call("report", "--format", "csv").stdout
    with (folder / "redirected").open("w") as file:
        (folder / "link").symlink_to(f"/dev/fd/{file.fileno()}")
        for out in (f"/dev/fd/{file.fileno()}", "link"):
            file.write("before\n")
            file.flush()
            assert call("report", "--format", "csv", "--out", out).output == ""
    assert (folder / "redirected").read_text() == f"before\n{printed}" * 2
    assert (folder / "link").is_symlink()


def test_a_link_stays_and_what_it_leads_to_is_written(folder: Path) -> None:
    (folder / "far").mkdir()
    (folder / "far" / "empty").touch()
    for name, target in (("link", "far/empty"), ("dangling", "far/new")):
        (folder / name).symlink_to(target)
        assert call("report", "--format", "csv", "--out", name).exit_code == 0
        assert (folder / name).is_symlink()
        assert (folder / target).read_bytes().startswith(b"task_label,")
    assert sorted(path.name for path in (folder / "far").iterdir()) == ["empty", "new"]
    (folder / "far" / "empty").write_bytes(FOREIGN)
    assert isinstance(call("report", "--format", "csv", "--out", "link").exception, UserError)
    (folder / "circle").symlink_to("circle")
    assert isinstance(call("report", "--format", "csv", "--out", "circle").exception, UserError)

import json
import os
import subprocess
import sys

import pytest
from helpers.records import metric, record, save
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.errors import UserError


@pytest.fixture
def folders(tmp_path):
    save(tmp_path, *(record(m, 0, [metric("recall", "tail", v)]) for m, v in (("grasp", 0.5), ("lora", 0.7))))
    return [str(tmp_path / "digits-lt" / name / "seed-0") for name in ("grasp", "lora")]


def test_two_runs_are_compared_and_written(folders, tmp_path):
    out, found = tmp_path / "both.png", tmp_path / "found.json"
    shown = CliRunner().invoke(app, ["compare", *folders, "--out", str(out), "--json", str(found)])
    assert shown.exit_code == 0, shown.exception
    assert "Comparable" in shown.stdout
    assert "+0.2" in shown.stdout
    assert out.read_bytes().startswith(b"\x89PNG")
    assert json.loads(found.read_text())["scores"][0]["better"] == "b"


def test_a_picture_of_another_kind_is_refused_first(folders, tmp_path):
    shown = CliRunner().invoke(app, ["compare", *folders, "--out", str(tmp_path / "x.pdf"), "--json", "x.json"])
    assert isinstance(shown.exception, UserError)
    assert "the picture is a PNG" in str(shown.exception)


def test_it_imports_no_torch(folders):
    code = "import sys; from grasp_bench.cli import app\ntry: app(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "print({'torch', 'diffusers', 'sklearn', 'matplotlib'} & set(sys.modules))"
    command = [sys.executable, "-c", code, "compare", *folders]
    assert subprocess.check_output(command, text=True).splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "{pipe}/record.json", "{run}"),
        ("compare", "{run}", "{pipe}"),
        ("reproduce", "{pipe}"),
        ("submit", "{pipe}"),
        ("export", "{pipe}", "--to", "model"),
        ("verify", "{pipe}/record.json"),
        ("sweep", "{pipe}/record.json"),
        ("report", "--update", "{pipe}/record.json"),
        ("evaluate", "--task", "digits-lt", "--images", "{run}", "--name", "a", "--declare", "{pipe}/record.json"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_pipe_is_refused_and_not_waited_for(words, folders, tmp_path):
    """In a process of its own, which is stopped where it waits."""
    place = tmp_path / "digits-lt" / "pipe" / "seed-0"
    place.mkdir(parents=True)
    os.mkfifo(place / "record.json")
    named = [word.format(pipe=place, run=folders[0]) for word in words]
    command = [sys.executable, "-m", "grasp_bench", *named]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2, done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith("error: ")
    assert "it is a pipe or a device" in message

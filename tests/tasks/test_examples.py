"""The examples of folder tasks: they are read, and what they say of a download holds for a tree of that shape."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from grasp_bench import plugins
from grasp_bench.cli import app
from grasp_bench.tasks.folder import FolderTask
from grasp_bench.tasks.folder_settings import read_settings

EXAMPLES = Path(__file__).parents[2] / "examples"
GRADES = (300, 170, 60)
"""Images of grades 0, 1 and 2 in the tree, which are no published numbers."""


def test_drac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(EXAMPLES / "drac.toml", tmp_path)
    settings, random = read_settings(tmp_path / "drac.toml"), np.random.default_rng(0)
    (tmp_path / settings.images).mkdir(parents=True)
    lines = ["image name,DR grade"]
    for number, grade in enumerate(grade for grade, count in enumerate(GRADES) for _ in range(count)):
        pixels = random.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / settings.images / f"{number}.png")
        lines.append(f"{number}.png,{grade}")
    text = (EXAMPLES / "drac.toml").read_text()
    command = "\n".join(line.removeprefix("#") for line in text.splitlines() if line.startswith("#"))
    (script,) = re.findall(r"^ +sed .*?drac-labels\.csv$", command, re.DOTALL | re.MULTILINE)
    (named,) = re.findall(r'"(C\. .*?\.csv)"', script)
    (tmp_path / named).parent.mkdir(parents=True)
    (tmp_path / named).write_text("\r\n".join(lines) + "\r\n")
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    checked = CliRunner().invoke(app, ["prepare", "--task", "./drac.toml", "--check"])
    assert checked.exit_code == 0, checked.exception
    _, task = FolderTask.from_file(tmp_path / "drac.toml", [])
    assert [(info.group, info.prompt) for info in task.classes()] == [
        ("head", "an ultra-wide OCT angiography image of no diabetic retinopathy"),
        ("medium", "an ultra-wide OCT angiography image of nonproliferative diabetic retinopathy"),
        ("tail", "an ultra-wide OCT angiography image of proliferative diabetic retinopathy"),
    ]
    assert Counter(entry.split for entry in task.listing().entries) == {"train": 318, "validation": 53, "test": 159}


def test_digits_of_which_the_rarest_has_16_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(EXAMPLES / "digits-16.toml", tmp_path)
    text = (EXAMPLES / "digits-16.toml").read_text()
    script = "\n".join(line[4:] for line in text.splitlines() if line == "#" or line.startswith("#   "))
    script = script[script.index("import csv") : script.index("grasp-bench diagnose")]
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    _, task = FolderTask.from_file(tmp_path / "digits-16.toml", [])
    kind = plugins.load("tasks", "digits-lt")
    like = kind(kind.Config())
    found = {info.prompt: info for info in task.classes()}
    assert {prompt: info.group for prompt, info in found.items()} == {
        info.prompt: info.group for info in like.classes()
    }
    assert sorted(info.train_count for info in found.values()) == [16, 19, 21, 25, 29, 33, 39, 45, 52, 60]
    assert Counter(entry.split for entry in task.listing().entries) == {"train": 339, "validation": 240, "test": 600}

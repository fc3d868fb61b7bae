"""What stands in for data, weights and time when the documentation's commands are carried out."""

from __future__ import annotations

import functools
import os
import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import make_cifar, make_ilsvrc, make_mimic, make_nih, write_image, write_views
from helpers.entries import random_images
from helpers.tiny_pipelines import save_sd3

from grasp_bench import plugins
from grasp_bench.contracts.spec import STANDARD, by_name, smoke
from grasp_bench.data import cifar
from grasp_bench.data.root import VARIABLE
from grasp_bench.diagnose import findings
from grasp_bench.run import scoring as score
from grasp_bench.tasks.cifar_lt import Cifar10LT
from grasp_bench.tasks.digits_lt import DigitsLT
from grasp_bench.tasks.folder import FolderTask
from grasp_bench.tasks.folder_settings import FolderBudget
from grasp_bench.tasks.imagenet_lt import ImageNetLT
from grasp_bench.tasks.mimic_lt import MimicLT
from grasp_bench.tasks.mnist_lt import MnistLT
from grasp_bench.tasks.nih_lt import NihLT, NihLTGen

from .pages import ROOT, blocks, pages

SWEEP = 'methods = ["grasp"]\ntasks = ["digits-lt"]\nseeds = [0]\nbudget = "smoke"\n'
"""In place of the documented sweep where its cell is carried out, in a process that knows nothing of this module."""
QUICK = {"network": "small-cnn", "epochs": 1, "patience": None, "seeds": 1, "resolution": None}


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Let the standard budgets be small ones, of the same name: commands and paths stay as they are documented."""
    from grasp_bench.extractors import digits_cnn

    patch.setattr(digits_cnn, "RECIPE", replace(digits_cnn.RECIPE, epochs=1))
    patch.setattr(findings, "PERMUTATIONS", 20)
    patch.setattr(findings, "DRAWS", 20)
    patch.setattr(score, "RESAMPLES", (10, 10))
    patch.setattr(score, "DRAWS", 2)
    standard = smoke().model_copy(update={"name": STANDARD, "steps": 4})
    for task in (DigitsLT, MnistLT, MimicLT, NihLTGen, NihLT, ImageNetLT, Cifar10LT):
        patch.setattr(task, "classifier", replace(task.classifier, **QUICK))
        patch.setattr(task, "budgets", task.budgets | by_name(standard))  # sweeps' processes have the smoke budget, too
    for task in (MimicLT, NihLTGen, NihLT, ImageNetLT, Cifar10LT):
        patch.setattr(task, "extractors", ("pixels",))  # the weights of others are not here
        patch.setattr(task, "backbone", "tiny-sd3")
    for task in (MimicLT, NihLTGen, NihLT, ImageNetLT):
        patch.setattr(task, "official", False)
        patch.setattr(task, "resolution", None)
    patch.setattr(FolderTask, "classifier", replace(FolderTask.classifier, **QUICK))
    patch.setattr(FolderTask, "extractors", ("pixels",))
    small = {"steps": 4, "batch_size": 8, "warmup_steps": 1, "images_per_class": 8, "num_inference_steps": 4}
    patch.setattr(FolderBudget, "model_dump", lambda self, **options: small)
    patch.setattr(cifar, "IMAGES", {"train": 1000, "test": 200})


def furnish(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Put small data of the documented shapes into ``folder``, which is also the place of the documented files."""
    make_mimic(folder / "data" / "mimic-cxr-jpg", per_class=4)
    nih = make_nih(folder / "data" / "nih-cxr", per_class=3)
    images = sorted(path.name for path in (nih / "images").iterdir())
    write_views(nih / "Data_Entry_2017_v2020.csv", "Image Index", "View Position", images, ["PA", "AP"])
    make_ilsvrc(folder / "data" / "imagenet")
    make_cifar(folder / "data" / "cifar", 10, train=100, test=20)
    save_sd3(folder / "models" / "stable-diffusion-3.5-medium", folder / "scratch")
    shutil.copy(ROOT / "BENCHMARKS.md", folder)
    rng = np.random.default_rng(0)
    for kind in ("images", "real", "generated", "train"):
        for name, count in {"crow": 24, "eagle": 18, "wren": 16}.items():
            for number in range(count):
                write_image(folder / kind / name / f"{number:02}.png", 8, rng)
    random_images(folder / "my-images", each=smoke().images_per_class)
    for block in (block for path in pages() for block in blocks(path)):
        if block.language == "toml" and (named := re.match(r"# (\S+\.toml)\n", block.text)):
            (folder / named[1]).write_text(block.text)
    patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    patch.setenv("COLUMNS", "200")
    patch.delenv(VARIABLE, raising=False)
    packages = re.findall(r"pip install -e (my-\S+)", "".join(path.read_text() for path in pages()))
    sources = os.pathsep.join(str(folder / package / "src") for package in packages)
    patch.setenv("PYTHONPATH", sources)  # a sweep's cells have the plugins that the sweep has


def placed(words: tuple[str, ...], folder: Path) -> list[str]:
    """The command with /data and /models below ``folder``, one seed, and less of what takes long."""
    placed, previous = [], ""
    for word in words:
        value = re.sub(r"(^|:)/(data|models)/", rf"\1{folder}/\2/", word)
        value = {"--trials": "2", "--at": "4"}.get(previous, value)
        if previous == "--seed" and "--seed" in placed[:-1]:
            placed.pop()
        else:
            placed.append(value)
        previous = word
    if words[1] == "run" and any(word.startswith("sd3:") for word in words):
        placed += ["--budget", "smoke"]  # the recipe of a pipeline has many steps of sampling
    if words[1] == "tune" and not {"--scales", "--guidance"} & set(words):
        placed += ["--scales", "1"]
    if words[1] == "tune" and "--trials" not in words:
        placed += ["--trials", "2"]
    return [*placed, "--batches", "4"] if words[1] == "diagnose" else placed


def install(package: Path, patch: pytest.MonkeyPatch) -> None:
    """What ``pip install -e`` comes to: the package can be imported, and its entry points are known."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    source = package / "src"
    information = source / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (information / "entry_points.txt").write_text("\n".join(lines))
    patch.syspath_prepend(source)
    forget_plugins()


def forget_plugins() -> None:
    """Let the registries look again at what is installed."""
    for function in vars(plugins).values():
        if isinstance(function, functools._lru_cache_wrapper):
            function.cache_clear()

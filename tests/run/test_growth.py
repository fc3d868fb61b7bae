"""A thousand classes and 50,000 images of 8×8, through every stage: what a stage takes grows as its work does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from helpers.runs import Listener, finish, options
from testing.registered import register
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.contracts.extractor import Extractor
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.spec import STANDARD, budget, by_name
from grasp_bench.contracts.task import ClassifierRecipe, ClassInfo, Dataset, Split, Task, TaskSettings
from grasp_bench.processes import ALONE
from grasp_bench.run import scoring
from grasp_bench.run.encoded import encode_latents, encode_prompts
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import Plan, plan
from grasp_bench.run.stages import score

CLASSES, IMAGES = 1000, 50_000
LESS = 10
"""By how much the smaller walk is smaller."""
EACH = {"validation": 1, "test": 4}
"""Images per class of what is not trained on."""
TINY = 0.2  # CPU seconds of the smaller walk below which a stage's time says nothing
MOST = {"score": LESS**1.8}
"""Stage → largest ratio of the two walks' times.

Scores compare pairs of images, and images with classes, both of which grow a hundredfold; a part takes a fixed time per
class. 3 s became 116 s: an exponent of 1.6 at this size, and of 2 in the limit.
"""
LINEAR = 2.5 * LESS
"""That of any other stage, whose work grows tenfold: caches are missed, and the cores are shared with others."""


class ManyClasses(Task[TaskSettings]):
    """Noise around a picture per class, long-tailed"""

    version = "1"
    source = "drawn"
    backbone = "tiny-sd3"
    guidance = "none"
    extractors = ("a-blocks",)
    classifier = ClassifierRecipe(epochs=1, batch_size=500, learning_rate=2e-3)
    budgets = by_name(
        budget(STANDARD, steps=4, batch_size=8, warmup_steps=1, images_per_class=4, num_inference_steps=1)
    )
    count: ClassVar[int] = CLASSES

    def classes(self) -> list[ClassInfo]:
        held_out = sum(EACH.values())
        mean = IMAGES // CLASSES - held_out
        counts = np.linspace(2 * mean - 4, 4, self.count).round().astype(int)
        third = self.count // 3
        return [
            ClassInfo(f"{index:04}", f"kind {index}", ("head", "medium", "tail")[min(index // third, 2)], int(count))
            for index, count in enumerate(counts)
        ]

    def prepare(self, folder: Path, progress: Progress) -> None:
        rng = np.random.default_rng(0)
        centres = rng.integers(60, 196, (self.count, 1, 8, 8))
        for name, each in {"train": [info.train_count for info in self.classes()], **EACH}.items():
            labels = np.arange(self.count).repeat(each)
            images = centres[labels] + rng.integers(-60, 60, (len(labels), 1, 8, 8))
            np.savez(folder / f"{name}.npz", images=images.astype(np.uint8), labels=labels)

    def open(self, folder: Path, shape: tuple[int, int, int]) -> Dataset:
        infos, splits = self.classes(), []
        for name in ("train", *EACH):
            arrays = np.load(folder / f"{name}.npz")
            images, labels = arrays["images"], arrays["labels"]
            prompts = [infos[label].prompt for label in labels]
            splits.append(
                Split([f"{name}/{row:06}" for row in range(len(labels))], labels, prompts, images.__getitem__)
            )
        return Dataset(*splits)


class Blocks(Extractor):
    """Means of the sixteen blocks of 2×2 pixels"""

    version = "1"

    @classmethod
    def build(cls, data: Dataset, classes: int, folder: Path) -> None:
        (folder / "none").touch()

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls()

    def features(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), 4, 2, 4, 2).mean((2, 4), np.float64).reshape(len(images), 16)


@dataclass(frozen=True)
class Walk:
    """What a run of all stages took."""

    seconds: dict[str, float]
    """Stage → CPU seconds."""
    output: str
    """What the report printed."""


def walk(folder: Path) -> Walk:
    chosen, seconds = plan(method="lora", task="a-manyclasses"), {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        found = work()
        seconds[name] = time.process_time() - started
        return found

    pipeline = Pipeline(chosen, options(folder, batch_size=200), torch.device("cpu"), Listener())
    for name in pipeline.stages:
        if pipeline.has(name):
            timed(name, lambda name=name: pipeline.folder(name))
    timed("prompts", lambda: encode_prompts(pipeline.prompts, pipeline.backbone, made(folder), ALONE, Listener()))
    train = pipeline.data.train
    timed("latents", lambda: encode_latents(train, pipeline.backbone, False, made(folder), ALONE, Listener()))
    (folder / "pictures").mkdir()
    timed("pictures", lambda: score.write_pictures(pipeline, folder / "pictures"))
    timed("record", lambda: recorded(folder, chosen))
    report = ["report", "--results", str(folder / "results"), "--html", str(folder / "page")]
    result = timed("report", lambda: CliRunner().invoke(app, report))
    assert result.exit_code == 0, (result.exception, result.output)
    return Walk(seconds, (folder / "page" / "index.html").read_text())


def made(folder: Path) -> Path:
    (folder / "encoded").mkdir(exist_ok=True)
    return folder / "encoded"


def recorded(folder: Path, chosen: Plan) -> None:
    assert finish(folder, chosen, batch_size=200).status == "finished"


@pytest.mark.slow
def test_no_stage_takes_longer_than_its_work_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, plugin in (("tasks", ManyClasses), ("extractors", Blocks)):
        register(monkeypatch, kind, plugin)
    monkeypatch.setattr(scoring, "RESAMPLES", (20, 20))  # which would be fewer for the larger walk
    (tmp_path / "warm").mkdir()
    monkeypatch.setattr(ManyClasses, "count", 10)
    walk(tmp_path / "warm")  # imports
    monkeypatch.setattr(ManyClasses, "count", CLASSES // LESS)
    small = walk(tmp_path / "small")
    monkeypatch.setattr(ManyClasses, "count", CLASSES)
    large = walk(tmp_path / "large")
    print("\n".join(f"{name:20} {small.seconds[name]:8.2f} {large.seconds[name]:8.2f}" for name in small.seconds))
    slow = {
        name: (before, large.seconds[name])
        for name, before in small.seconds.items()
        if large.seconds[name] > MOST.get(name, LINEAR) * max(before, TINY)
    }
    assert not slow
    assert "a-manyclasses" in large.output

"""Images that were made elsewhere and have several labels: what a labels file says of them, and how they are scored."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import grasp_bench
from grasp_bench.cli import app
from grasp_bench.contracts.entry import Entry, Facts, Found, Request
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.record import RunRecord, read_record
from grasp_bench.contracts.task import Split
from grasp_bench.errors import UserError
from grasp_bench.io import read_tensors
from grasp_bench.run.entry.evaluate import Table, entry_of_images
from grasp_bench.run.entry.generated import generate
from grasp_bench.run.files import IMAGES
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import Plan, plan

from .shapes import NAMES, SHARED, write_nih_mini, write_shapes

Rows = list[dict[str, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which has the task of shapes."""
    write_shapes(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def grasp_bench_(*words: object) -> str:
    found = CliRunner().invoke(app, [*map(str, words)])
    if isinstance(found.exception, UserError):
        raise found.exception
    assert found.exit_code == 0, (found.exception, found.output)
    return found.output


def to_generate(task: str, *settings: str) -> Rows:
    """A line for every image that is to be generated, which `data export` writes into prompts.csv."""
    words = ("data", "export", "--task", task, "--budget", "smoke", "--work-dir", "work", "--private")
    changes = [word for setting in settings for word in ("--task-set", setting)]
    grasp_bench_(*words, "--to", "exported", "--split", "train", "--prompts-out", "prompts.csv", *changes)
    with Path("prompts.csv").open() as file:
        return list(csv.DictReader(file))


def draw(folder: Path, names: list[str]) -> None:
    """An image of noise of every name."""
    folder.mkdir()
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)


def write_labels(rows: Rows) -> Path:
    with Path("mine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return Path("mine.csv")


def carried_out(chosen: Plan) -> Pipeline:
    return Pipeline(chosen, Options(Path("results"), Path("work"), "cpu"), torch.device("cpu"), Progress())


def taken(labels: Path | None, task: str = "shapes.toml", *settings: str, images: str = "mine") -> Split:
    """What is scored of a folder of images from elsewhere."""
    table = Table(task, budget="smoke", task_settings=settings)
    entry = entry_of_images("mine", Path(images), labels, False, Facts(), table, Progress())
    return carried_out(table.plan(entry)).images


@pytest.mark.parametrize("how", ["focus", "natural"])
def test_images_of_the_sets_that_a_run_generates_count_as_those_of_the_run(place: Path, how: str) -> None:
    from grasp_bench.run.stages.generate import _sampled_with

    setting = f"label_sets={how}"
    rows = to_generate("shapes.toml", setting)
    draw(place / "mine", [row["file"] for row in rows])
    run = carried_out(plan(method="lora", task="shapes.toml", task_settings=[setting], budget="smoke"))
    subjects, labels = _sampled_with(run)
    assert [row["prompt"] for row in rows] == [prompt for prompt, _ in subjects]
    found = taken(Path("prompts.csv"), "shapes.toml", setting)
    assert run.drawn is not None
    assert np.array_equal(found.truth, run.data.train.truth[run.drawn])
    assert found.labels.tolist() == labels.tolist()
    first = np.asarray(Image.open(place / "mine" / rows[0]["file"]))
    assert np.array_equal(found.all_images()[0], first.transpose(2, 0, 1))
    with (place / "exported" / "labels.csv").open() as file:
        exported = [row["labels"] for row in csv.DictReader(file)]
    named = [[name for name, has in zip(NAMES, row, strict=True) if has] for row in run.data.train.truth]
    assert exported == ["|".join(names) for names in named]


def test_a_pipeline_is_asked_for_the_sets_that_a_run_generates(place: Path) -> None:
    asked: list[list[tuple[str, int]]] = []

    def make(request: Request, folder: Path) -> Found:
        asked.append(request.sampled()[0])
        noise = np.random.default_rng(0)
        return generate(
            request, folder, lambda numbers: list(noise.integers(0, 256, (len(numbers), 3, 40, 40), "uint8"))
        )

    made = carried_out(Table("shapes.toml", budget="smoke").plan(Entry("mine", {}, make=make)))
    images, train = made.images, made.data.train
    assert made.drawn is not None
    assert [prompt for prompt, _ in asked[0]] == [train.prompts[row] for row in made.drawn] == images.prompts
    assert np.array_equal(images.truth, train.truth[made.drawn])
    assert images.all_images().shape == (24, 3, 32, 32)


def test_of_too_many_images_as_many_are_scored_as_a_run_makes(place: Path) -> None:
    sets = ["bar", "dot_big|bar", "ring"]
    names = [f"{number:03}.png" for number in range(36)]
    rows = [{"file": name, "labels": sets[number % 3]} for number, name in enumerate(names)]
    draw(place / "mine", names)
    natural = taken(write_labels(rows), "shapes.toml", "label_sets=natural")
    assert len(natural) == 24  # 8 of each of three classes under this budget, whatever their labels
    assert natural.truth[natural.labels == 1].tolist() == [[True, True, False]] * (natural.labels == 1).sum()
    focused = taken(write_labels([row | {"focus": row["labels"].partition("|")[0]} for row in rows]))
    assert focused.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert focused.truth.tolist() == [[True, False, False]] * 8 + [[True, True, False]] * 8 + [[False, False, True]] * 8


def test_what_a_labels_file_cannot_say_is_one_message(place: Path) -> None:
    names = [f"{number}.png" for number in range(6)]
    draw(place / "mine", names)
    (place / "folders").mkdir()
    shutil.copytree(place / "mine", place / "folders" / "bar")
    with pytest.raises(UserError, match=r"neither sub-folders nor an .npz.*\(file,labels,focus; .*--labels"):
        taken(None, images="folders")
    cells = ["bar|ring", "bar", "rong", "bar|bar", "bar||ring", "ring"]
    rows = [{"file": name, "labels": cell} for name, cell in zip(names, cells, strict=True)]
    with pytest.raises(UserError, match=r"has no column 'focus'.*data export --prompts-out.*label_sets=natural"):
        taken(write_labels(rows))
    focus = ["dot_big", "", "", "bar", "bar", ""]
    with pytest.raises(UserError) as raised:
        taken(write_labels([row | {"focus": each} for row, each in zip(rows, focus, strict=True)]))
    for said in (
        "rong: 1 image; the task has no class 'rong'. Did you mean 'ring'?",
        "0.png: 'dot_big', expected one of 'bar|ring'",
        "3.png: 'bar|bar' has an empty label or one twice",
        "4.png: 'bar||ring' has an empty label or one twice",
        "dot_big: 0, expected at least 8",
        "ring: 1, expected at least 8",
    ):
        assert said in str(raised.value)
    with pytest.raises(UserError, match=r"all images: 6, expected at least 24"):
        taken(write_labels(rows), "shapes.toml", "label_sets=natural")


def test_another_label_in_focus_is_another_entry(place: Path) -> None:
    draw(place / "mine", ["0.png"])
    table = Table("shapes.toml")
    found = {
        str(entry_of_images("mine", Path("mine"), write_labels([row]), False, Facts(), table, Progress()).settings)
        for row in (
            {"file": "0.png", "labels": "bar|ring", "focus": "bar"},
            {"file": "0.png", "labels": "bar|ring", "focus": "ring"},
            {"file": "0.png", "labels": "bar|ring"},
        )
    }
    assert len(found) == 3


def test_functions_and_scores_without_a_record_are_of_one_label(place: Path) -> None:
    with pytest.raises(UserError, match=r"a function is asked for one class at a time"):
        grasp_bench.evaluate(lambda *given: [], task="shapes.toml", name="mine", quiet=True)
    draw(place / "mine", ["0.png"])
    labels = write_labels([{"file": "0.png", "labels": "bar"}])
    with pytest.raises(UserError, match=r"its images have several labels, and `score` takes one of each"):
        grasp_bench_("score", "--task", "shapes.toml", "mine", "--fake-labels", labels)


def scored(task: str, images: str, labels: str, *words: str) -> RunRecord:
    options = ("--budget", "smoke", "--work-dir", "work", "--device", "cpu", "--batch-size", "100")
    grasp_bench_("evaluate", "--task", task, *options, "--name", "mine", "--images", images, "--labels", labels, *words)
    (record,) = Path("results").glob("*/mine~*/seed-0/record.json")
    return read_record(record)


def as_files(rows: Rows, folder: Path) -> None:
    """Save the images that a run generated by the names of ``rows``."""
    (made,) = Path("work/generate").glob(f"*/{IMAGES}")
    folder.mkdir()
    for row, image in zip(rows, read_tensors(made)["images"], strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / row["file"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "how"),
    [
        ("shapes", "focus"),
        ("shapes", "natural"),
        pytest.param(
            *("nih-mini", "focus"),
            marks=pytest.mark.skipif(not SHARED.is_dir(), reason="the real X-rays of nih-mini are not here"),
        ),
    ],
)
def test_images_of_a_run_score_to_the_last_digit_what_its_record_says(place: Path, task: str, how: str) -> None:
    toml = "shapes.toml"
    if task == "nih-mini":
        (place / "real").mkdir()
        toml = str(write_nih_mini(place / "real"))
    settings = ("--task-set", f"label_sets={how}")
    words = ("--task", toml, "--budget", "smoke", "--work-dir", "work", "--device", "cpu", *settings)
    grasp_bench_("run", "--method", "lora", *words)
    (path,) = Path("results").glob("*/lora/seed-0/record.json")
    own, rows = read_record(path), to_generate(toml, f"label_sets={how}")
    as_files(rows, place / "mine")
    found = scored(toml, "mine", "prompts.csv", *settings)
    assert found.scores == own.scores
    assert {each.metric for each in found.scores} >= {"fd", "average_precision"}

"""Images from elsewhere in the open division, from the command line to records, packs and tables."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import runs
from helpers.entries import random_images, request, save_images
from helpers.tiny_unet import save_unet
from typer.testing import CliRunner

import grasp_bench
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.cli import app
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.record import read_record
from grasp_bench.contracts.task import ClassInfo
from grasp_bench.errors import UserError
from grasp_bench.export.entry import GivenExport
from grasp_bench.export.manifest import MANIFEST, manifest_of
from grasp_bench.io import file_digest, read_tensors
from grasp_bench.metrics.registry import classifier_metrics, feature_metrics
from grasp_bench.results.frame import load_results
from grasp_bench.run.files import IMAGES, WEIGHTS
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.sampling import Sampler
from grasp_bench.tasks.digits_lt import DigitsLT

TABLE = ("--task", "digits-lt", "--budget", "smoke")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a finished run, its images as PNG, and facts on them."""
    folder = tmp_path_factory.mktemp("place")
    with runs.quick(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        chosen = runs.small("lora")
        runs.finish(folder, chosen)
        made = Pipeline(chosen, runs.options(folder), torch.device("cpu"), runs.Listener()).generated
        images = read_tensors(made / IMAGES)
        save_images(folder / "png", images["images"], images["labels"])
        (folder / "png" / "notes.txt").write_text("seen in May")
        (folder / "png" / "3" / ".thumbs").write_text("")
        (folder / "facts.toml").write_text('trainer = "kohya"\nnfe = 56\nlink = ""\n')
        yield folder


def grasp_bench_(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [*map(str, words)])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, (result.exception, result.output)
    return result.output


def evaluate(name: str, *words: str | Path) -> Path:
    """The record of what is evaluated in the working folder."""
    output = grasp_bench_("evaluate", *TABLE, "--work-dir", "work", "--name", name, "--device", "cpu", *words)
    found = re.search(r"record: (\S+)", output)
    assert found
    return Path(found[1])


@pytest.fixture(scope="module")
def record(place: Path) -> Path:
    return evaluate("my-lora", "--images", "png", "--declare", "facts.toml")


@pytest.mark.slow
def test_images_of_a_run_score_to_the_last_digit_what_its_record_says(place: Path, record: Path) -> None:
    entered = read_record(record)
    own = read_record(next(path for path in place.glob("results/*/lora/seed-0/record.json")))
    assert entered.scores == own.scores
    assert len(own.scores) == 180
    assert {each.source for each in own.scores} == {"generated", "topped-up", "real"}  # what classifiers learned from
    known = {each.name for each in (*feature_metrics(), *classifier_metrics())}
    assert {each.metric for each in own.scores} == known
    assert (record.parent / "classes.csv").read_bytes() == (
        place / "results" / own.task_label / own.label / "seed-0" / "classes.csv"
    ).read_bytes()
    assert entered.division == entered.spec.division == "open"
    assert own.division == own.spec.division == "closed"
    assert entered.entry
    assert (entered.entry.declared.trainer, entered.entry.declared.nfe) == ("kohya", 56)
    assert entered.entry.declared.link is None
    assert entered.entry.found
    assert (entered.entry.found.scored, entered.entry.found.resized) == (80, 0)
    assert entered.cost is None
    for stage in ("prepare", "extractor", "features-real", "features-train", "classify-real"):
        assert entered.stages[stage] == own.stages[stage]  # shared with every row of the table


IGNORED = {"hidden": ["3/.thumbs"], "not recognised as a picture": ["notes.txt"]}


def test_what_is_ignored_of_the_images_is_told_and_stands_beside_the_record(place: Path, record: Path) -> None:
    assert "images.json" in read_record(record).files
    told = json.loads(record.with_name("images.json").read_text())
    assert told["images"] == 80
    assert told["names"] == {f"files ignored, {reason}": names for reason, names in IGNORED.items()}
    shown = " ".join(grasp_bench_("evaluate", *TABLE, "-n", "my-lora", "--images", "png", "--work-dir", "work").split())
    for reason, (name,) in IGNORED.items():
        assert f"png: files ignored, {reason} (1): {name}" in shown
    again = ("evaluate", *TABLE, "-n", "my-lora", "--images", "png", "--work-dir", "work")
    assert "Its numbers mean nothing" in shown
    quiet = grasp_bench_(*again, "-q")
    assert "files ignored" not in quiet
    assert "Its numbers mean nothing" not in quiet
    assert evaluate("my-lora", "--images", "png", "--declare", "facts.toml") == record  # declares the facts again


def test_an_open_row_is_in_the_frame_and_in_no_comparison(place: Path, record: Path) -> None:
    frame = load_results("results")
    declared = dict(zip(frame["label"].astype(str), frame["declared"].astype(str), strict=True))
    assert declared == {"lora": "", "my-lora~division=open": '{"trainer": "kohya", "nfe": 56.0}'}
    assert dict(zip(frame["label"].astype(str), frame["division"].astype(str), strict=True)) == {
        "lora": "closed",
        "my-lora~division=open": "open",
    }
    assert frame["conditions"].nunique() == 1  # one table
    found = json.loads(grasp_bench_("report", "--format", "json", "--baseline", "lora"))
    (board,) = found["leaderboards"]
    assert {row["label"]: row["division"] for row in board["costs"]} == {
        "lora": "closed",
        "my-lora~division=open": "open",
    }
    assert not found["differences"][0]["found"]
    assert not [cell for cell in board["cells"] if cell["best"] or cell["primary"]]
    assert grasp_bench_("report", "--only-missing").startswith("# 0 of 1 runs are missing")


def test_a_name_that_is_taken_is_refused_and_the_same_images_are_not_scored_again(place: Path, record: Path) -> None:
    before = record.stat().st_mtime_ns
    assert evaluate("my-lora", "--images", "png", "--declare", "facts.toml") == record
    assert record.stat().st_mtime_ns == before
    (place / "more.toml").write_text('trainer = "another"\n')
    for facts, trainer in (("more.toml", "another"), ("facts.toml", "kohya")):  # what is declared is written anew
        entered = read_record(evaluate("my-lora", "--images", "png", "--declare", facts)).entry
        assert entered
        assert entered.declared.trainer == trainer
    random_images(place / "others", 8)
    with pytest.raises(UserError, match=r"is the record of other images of the name my-lora"):
        evaluate("my-lora", "--images", "others")
    with pytest.raises(UserError, match=r"--name lora: is a method of the closed division"):
        evaluate("lora", "--images", "others")
    with pytest.raises(UserError, match=r"--name My Lora: expected"):
        evaluate("My Lora", "--images", "others")


def test_what_is_wrong_with_images_leaves_no_record(place: Path) -> None:
    random_images(place / "few", 2)
    with pytest.raises(UserError, match=r"few: 10 problems\n  too few images \(10\)"):
        evaluate("too-few", "--images", "few")
    assert not list(place.glob("results/*/too-few*/*/record.json"))


def test_a_pack_of_an_open_run_is_recomputed_and_says_what_it_cannot_show(place: Path, record: Path) -> None:
    grasp_bench_("submit", record.parent, "--work-dir", "work", "--out", "pack.zip")
    result = CliRunner().invoke(app, ["verify", "pack.zip", "--json", "found.json"])
    assert result.exit_code == 2, result.output
    checks = json.loads(Path("found.json").read_text())["checks"]
    outcomes = {check["what"]: check["outcome"] for check in checks}
    assert outcomes["180 scores follow from the features"] == "passed"
    assert outcomes["specification, classes, stages and name are one run's"] == "passed"
    declared = [check for check in checks if "open division" in check["detail"]]
    assert {check["outcome"] for check in declared} == {"unverifiable"}
    assert any("nobody chose the best" in check["what"] for check in declared)
    assert outcomes["the same number of trials for every tuned method"] == "unverifiable"
    assert "failed" not in outcomes.values()


@pytest.mark.parametrize("command", ["reproduce", "export"])
def test_what_needs_a_model_of_ours_is_refused(command: str, place: Path, record: Path) -> None:
    more = ("--to", "model") if command == "export" else ()
    with pytest.raises(UserError, match="this run is of the open division"):
        grasp_bench_(command, record.parent, *more)


def test_a_pipeline_is_evaluated(place: Path) -> None:
    save_unet(place / "pipeline", place / "scratch")
    found = read_record(evaluate("unet", "--pipeline", "pipeline", "--steps", "1", "--guidance-scale", "1"))
    assert found.label == "unet~division=open,guidance_scale=1.0,steps=1"
    assert found.entry
    assert found.entry.found
    assert found.entry.found.seconds
    assert found.scores
    with pytest.raises(UserError, match=r"--steps: does nothing with --images"):
        evaluate("unet", "--images", "png", "--steps", "1")
    with pytest.raises(UserError, match=r"nothing to evaluate"):
        evaluate("unet")


@pytest.mark.slow
def test_an_exported_run_scores_what_its_record_says_and_with_integers_for_weights_on_its_own(place: Path) -> None:
    run = next(place.glob("results/*/lora/seed-0"))
    own = read_record(run / "record.json")
    for folder, how in (("whole", ()), ("small", ("--quantize", "int8"))):
        grasp_bench_("export", run, "--to", folder, "--work-dir", "work", *how)
    batches = ("--batch-size", "20")  # as in the run; products of other shapes round otherwise
    whole, small = (
        read_record(evaluate(f"exported-{folder}", "--pipeline", folder, *batches)) for folder in ("whole", "small")
    )
    assert whole.scores == own.scores
    assert [each.place for each in small.scores] == [each.place for each in own.scores]
    assert small.scores != own.scores
    assert whole.spec.method.settings == {"export": own.weights, "run": own.run_id}
    assert small.spec.method.settings["quantized"] == "int8"
    fewer = read_record(evaluate("fewer", "--pipeline", "small", "--steps", "1", "--guidance-scale", "1"))
    assert fewer.label == "fewer~division=open,guidance_scale=1.0,steps=1"
    assert fewer.scores != small.scores


@pytest.fixture
def contextual(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Text encoders whose embeddings depend much on the prompts that share a call; what is done within TF32's block."""
    done: list[str] = []
    within = [False]
    encode, sample = TinySD3.encode_prompts, Sampler.__call__

    @contextmanager
    def quick(precision: str, device: torch.device) -> Iterator[None]:
        within[0] = True
        yield
        within[0] = False

    def encoded(self: TinySD3, prompts: list[str]) -> PromptEmbeddings:
        found = encode(self, prompts)
        done.append(f"encoded {within[0]}")
        shift = len(set(prompts)) / 2
        shifted = {name: each + shift for name, each in found.tensors().items() if each.is_floating_point()}
        return PromptEmbeddings(**found.tensors() | shifted)

    def sampled(self: Sampler, *given) -> torch.Tensor:
        done.append(f"sampled {within[0]}")
        return sample(self, *given)

    monkeypatch.setattr(TinySD3, "encode_prompts", encoded)
    monkeypatch.setattr(Sampler, "__call__", sampled)
    monkeypatch.setattr("grasp_bench.precision.quick_products", quick)
    monkeypatch.setattr("grasp_bench.export.pipeline.quick_products", quick, raising=False)
    return done


@pytest.mark.parametrize("encoders", [False, True])
def test_an_exported_run_encodes_prompts_as_the_run_and_samples_with_its_products(
    encoders: bool, place: Path, contextual: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if encoders:
        describe = TinySD3.describe
        described = lambda *given: replace(describe(*given), text_encoder="words")  # noqa: E731
        monkeypatch.setattr(TinySD3, "describe", described)
    chosen, folder = runs.small("lora"), tmp_path / "exported"
    run = Pipeline(chosen, runs.options(tmp_path), torch.device("cpu"), runs.Listener())
    own = read_tensors(run.generated / IMAGES)["images"]
    record = read_record(next(place.glob("results/*/lora/seed-0/record.json")))
    manifest = manifest_of(chosen, record, run.trained / WEIGHTS)
    folder.mkdir()
    shutil.copy(run.trained / WEIGHTS, folder)
    written = manifest.written() | {"weights": file_digest(folder / WEIGHTS)}
    (folder / MANIFEST).write_text(json.dumps(written))
    assert run.has("prompts") == encoders
    contextual.clear()
    for size in (20, 7):
        made = tmp_path / f"made-{size}"
        made.mkdir()
        GivenExport(folder).make(request(8, batch_size=size), made)
        images = read_tensors(made / IMAGES)["images"].int()
        assert (images - own.int()).abs().max() <= (0 if size == 20 else 1)
        assert not [path for path in made.iterdir() if path.is_dir()]
    assert set(contextual) == {"encoded False", "sampled True"}


def test_what_an_exported_run_cannot_be_given_is_refused(place: Path) -> None:
    run = next(place.glob("results/*/lora/seed-0"))
    grasp_bench_("export", run, "--to", "refused", "--work-dir", "work")
    for option in (("--lora", "my.safetensors"), ("--precision", "bfloat16")):
        with pytest.raises(UserError, match=rf"{option[0]}: does nothing with --pipeline of an exported run"):
            evaluate("refused", "--pipeline", "refused", *option)
    with pytest.raises(UserError, match=r"fine-tuned on digits-lt, which has no class 'airplane'"):
        GivenExport(Path("refused")).make(request(1, task=_Other()), place)
    (place / "refused" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"weights.safetensors: its sha256 begins with"):
        evaluate("refused", "--pipeline", "refused")


class _Other(DigitsLT):
    """The digits by another name."""

    def __init__(self) -> None:
        super().__init__(DigitsLT.Config())

    def classes(self) -> list[ClassInfo]:
        return [replace(super().classes()[0], name="airplane")]


def test_a_function_is_evaluated_from_python(place: Path) -> None:
    asked = []

    def sample(prompt: str, name: str, n: int, seed: int) -> np.ndarray:
        asked.append((prompt, name, n, seed))
        return np.random.default_rng([seed, int(name)]).integers(0, 256, (n, 8, 8), dtype=np.uint8)

    options = {"task": "digits-lt", "budget": "smoke", "work_dir": "work", "quiet": True, "device": "cpu"}
    found = grasp_bench.evaluate(sample, name="a-function", declared={"nfe": 1}, **options)
    assert asked[3] == ("a handwritten digit three", "3", 8, 0)
    assert found.division == "open"
    assert found.scores
    assert not list(Path("work").glob("sampled-*"))
    with pytest.raises(UserError, match=r"class '0': the function returned 3 images, expected 8"):
        grasp_bench.evaluate(lambda prompt, name, n, seed: np.zeros((3, 8, 8), np.uint8), name="few", **options)
    with pytest.raises(UserError, match=r"declared: 'nfes' is none of the facts.*nfe"):
        grasp_bench.evaluate(sample, name="other", declared={"nfes": 1}, **options)


def test_scores_alone_take_real_features_groups_and_training_images_from_the_task(place: Path, record: Path) -> None:
    shown = grasp_bench_("score", "--task", "digits-lt", "png", "--work-dir", "work", "--json", "scores.json")
    found = json.loads(Path("scores.json").read_text())
    assert (found["fake"]["path"], found["fake"]["ignored_files"]) == ("png", IGNORED)
    assert found["real"]["ignored_files"] == {}
    assert "FAKE (png): 1 file ignored, not recognised as a picture: notes.txt" in " ".join(shown.split())
    assert list(found["groups"]) == ["head", "medium", "tail", "all"]
    assert (found["fake"]["images"], found["real"]["images"]) == (80, len(runs.small("lora").task.classes()) * 60)
    of_tail = {row["metric"]: row["value"] for row in found["rows"] if (row["scope"], row["name"]) == ("group", "tail")}
    own = {
        each.metric: each.value
        for each in read_record(record).scores
        if each.group == "tail" and each.scope == "group" and each.source == "generated" and each.metric in of_tail
    }
    assert of_tail == own  # at as many images per class and the same draws
    assert "authenticity" in own
    with pytest.raises(UserError, match=r"--groups: with --task digits-lt the task says it"):
        grasp_bench_("score", "--task", "digits-lt", "png", "--groups", "groups.csv")
    with pytest.raises(UserError, match=r"expected REAL and FAKE, or --task T and FAKE alone"):
        grasp_bench_("score", "png")


def test_neither_images_nor_their_names_leave_the_work_folder_where_the_task_is_private(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DigitsLT, "private", True)
    for path in random_images(place / "scans", 8, seed=3).glob("*/*.png"):
        path.rename(path.with_name(f"patient-{path.name}"))
    found = evaluate("a-private-one", "--images", "scans")
    assert read_record(found).files == ["classes.csv", "copies.csv"]
    assert sorted(path.name for path in found.parent.iterdir()) == ["classes.csv", "copies.csv", "record.json"]
    assert not [path for path in found.parent.iterdir() if b"patient-" in path.read_bytes()]
    export = ("data", "export", "--task", "digits-lt", "--split", "train", "--work-dir", "work")
    with pytest.raises(UserError, match=r"task digits-lt is private.*--private"):
        grasp_bench_(*export, "--to", "private")
    with pytest.raises(UserError, match=r"lies in results, which is shared, and the task is private"):
        grasp_bench_(*export, "--to", "results/private", "--private")
    (place / "scans" / "0").rename(place / "scans" / "patient-0")
    with pytest.raises(UserError):
        evaluate("another-private-one", "--images", "scans")
    assert not list(place.glob("results/*/another-private-one*/*/*"))


def test_export_writes_exactly_the_tasks_images(place: Path) -> None:
    from PIL import Image

    grasp_bench_(
        *("data", "export", "--task", "digits-lt", "--split", "train", "--to", "train"),
        *("--prompts-out", "prompts.csv", "--work-dir", "work"),
    )
    chosen = runs.small("lora")
    data = Pipeline(chosen, runs.options(place), torch.device("cpu"), runs.Listener()).data
    rows = [json.loads(line) for line in Path("train/metadata.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == [str(label) for label in data.train.labels]
    pixels = np.stack([np.asarray(Image.open(Path("train", row["file_name"])))[None] for row in rows])
    assert np.array_equal(pixels, data.train.all_images())
    lines = Path("prompts.csv").read_text().splitlines()
    assert lines[0] == "folder,label,prompt,group,train_images,images_to_generate"
    zero = chosen.task.classes()[0]
    assert lines[1] == f"0,0,{zero.prompt},{zero.group},{zero.train_count},60"
    with pytest.raises(UserError, match="is there already"):
        grasp_bench_("data", "export", "--task", "digits-lt", "--split", "train", "--to", "train")
    with pytest.raises(UserError, match="real image"):
        evaluate("copies", "--images", "train", "--labels", "train/labels.csv")

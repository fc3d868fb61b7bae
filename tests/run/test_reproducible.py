import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import runs

from grasp_bench.contracts.task import ClassifierRecipe
from grasp_bench.io import file_digest, read_tensors
from grasp_bench.run.files import GENERATED_SHEET, IMAGES, PICTURE, REAL_SHEET, TRAIN_SUMMARY, WEIGHTS
from grasp_bench.run.pictures import PER_CLASS, read_sheet
from grasp_bench.run.pipeline import STAGES, Pipeline
from grasp_bench.run.store import Store
from grasp_bench.tasks.digits_lt import DigitsLT

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def built(monkeypatch) -> list[str]:
    """Names of the stages that are built from here on."""
    names = []
    run = Store.run

    def counting(self, name, inputs, build, together=False):
        def noted(folder):
            names.append(name)
            build(folder)

        return run(self, name, inputs, noted, together)

    monkeypatch.setattr(Store, "run", counting)
    return names


def copied(finished: Path, folder: Path, *parts: str) -> Path:
    for part in parts:
        shutil.copytree(finished / part, folder / part)
    return folder


@pytest.mark.slow
def test_another_work_folder_gives_the_same_scores(finished, tmp_path):
    _, record = finished
    assert runs.outcome(runs.finish(tmp_path, runs.small())) == runs.outcome(record)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vanilla-ft", "moe", "grasp"])
def test_images_do_not_depend_on_the_batch_size(method, tmp_path):
    chosen, found = runs.small(method), []
    runs.train_only(tmp_path, chosen)
    for size in (7, 20, 80):
        shutil.rmtree(tmp_path / "work" / "generate", ignore_errors=True)
        options = runs.options(tmp_path, batch_size=size)
        generated = Pipeline(chosen, options, torch.device("cpu"), runs.Listener()).generated
        found.append(read_tensors(generated / IMAGES)["images"])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_finished_run_is_not_made_again_and_needs_no_torch(finished):
    folder, record = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code = (
        "import sys; from pathlib import Path; from helpers import runs\n"
        "with runs.quick():\n"
        "    record = runs.finish(Path(sys.argv[1]), runs.small())\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules\n"
        "print(record.model_dump_json())"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", code, str(folder)]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(shown.stdout) == record.model_dump(mode="json")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.slow
def test_every_method_sees_the_same_data_noise_and_timesteps(finished, tmp_path):
    streams = {}
    for method in runs.METHODS:
        streams[method] = json.loads((runs.train_only(tmp_path, runs.small(method)) / TRAIN_SUMMARY).read_text())[
            "streams"
        ]
    assert streams == dict.fromkeys(runs.METHODS, finished[1].streams)
    other_seed = runs.train_only(tmp_path, runs.small(seed=1))
    assert json.loads((other_seed / TRAIN_SUMMARY).read_text())["streams"] != finished[1].streams


def test_two_guidances_share_one_training(finished, tmp_path, built):
    folder = copied(finished[0], tmp_path, "work")
    record = runs.finish(folder, runs.small(guidance="none"))
    assert sorted(built) == ["classify-generated", "classify-topped-up", "features", "generate", "score"]
    assert record.weights == finished[1].weights
    assert record.scores != finished[1].scores
    assert [path.suffix for path in (folder / "work" / "train").iterdir() if path.is_dir()] == [""]


def test_only_what_is_stale_is_done_again(finished, tmp_path, built, monkeypatch):
    folder = copied(finished[0], tmp_path, "work", "results")
    monkeypatch.setitem(STAGES, "score", replace(STAGES["score"], version=1000))
    record = runs.finish(folder, runs.small())
    assert built == ["score"]
    assert record.scores == finished[1].scores


def test_settings_of_the_classifier_leave_the_training_alone(finished, tmp_path, built, monkeypatch):
    folder = copied(finished[0], tmp_path, "work", "results")
    chosen = runs.small()
    monkeypatch.setattr(type(chosen.task), "classifier", ClassifierRecipe(epochs=2, batch_size=32, learning_rate=2e-3))
    runs.finish(folder, chosen)
    assert sorted(built) == ["classify-generated", "classify-real", "classify-topped-up", "score"]


@pytest.mark.parametrize("log_every", [1, 7, 1000])
def test_how_often_it_logs_changes_no_weight(finished, tmp_path, log_every):
    trained = runs.train_only(tmp_path, runs.small(), log_every=log_every)
    assert file_digest(trained / WEIGHTS) == finished[1].weights


def test_gradient_checkpointing_changes_no_stream_and_hardly_a_weight(finished, tmp_path):
    trained = runs.train_only(tmp_path, runs.small(), gradient_checkpointing=True)
    assert json.loads((trained / TRAIN_SUMMARY).read_text())["streams"] == finished[1].streams
    (plain,) = (finished[0] / "work" / "train").glob(f"*/{WEIGHTS}")
    expected = read_tensors(plain)
    for name, tensor in read_tensors(trained / WEIGHTS).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5)


def test_the_record_has_its_files_beside_it(finished):
    folder, _ = finished
    (run,) = {path.parent for path in (folder / "results").rglob("record.json")}
    tables = {"classes.csv", "copies.csv"}
    pictures = {"samples.png", "partition.png", "generated.png", "real.png"}
    files = {"record.json", "train.jsonl", "partition.json"} | tables | pictures
    assert {path.name for path in run.iterdir()} == files
    assert all((run / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert set(json.loads((run / "partition.json").read_text())) >= {"clusters", "classes"}


def test_sheets_hold_the_first_images_of_every_class(finished):
    folder, _ = finished
    ((generated, real),) = (
        [read_sheet(path.parent / name) for name in (GENERATED_SHEET, REAL_SHEET)]
        for path in (folder / "results").rglob("record.json")
    )
    (made,) = (folder / "work" / "generate").glob(f"*/{IMAGES}")
    tensors = read_tensors(made)
    for index, name in enumerate("0123456789"):
        expected = tensors["images"][tensors["labels"] == index].permute(0, 2, 3, 1)
        assert generated[name].tolist() == expected.tolist()  # eight each, of eight pixels
        assert real[name].shape == (PER_CLASS, 8, 8, 1)
    assert not {image.tobytes() for image in real["0"]} & {image.tobytes() for image in generated["0"]}


def test_no_image_of_a_private_task_is_put_among_the_results(finished, tmp_path, monkeypatch):
    folder = copied(finished[0], tmp_path, "work")
    shutil.rmtree(folder / "work" / "score")
    monkeypatch.setattr(DigitsLT, "private", True)
    record = runs.finish(folder, runs.small())
    assert not {GENERATED_SHEET, REAL_SHEET, PICTURE} & set(record.files)
    assert not [path for name in (GENERATED_SHEET, REAL_SHEET) for path in folder.rglob(name)]
    assert not list((folder / "results").rglob(PICTURE))
    assert list((folder / "work" / "score").rglob(PICTURE))  # for its owner to look at


def test_a_file_that_is_gone_from_beside_the_record_is_put_back(finished, tmp_path, built):
    folder = copied(finished[0], tmp_path, "work", "results")
    (picture,) = (folder / "results").rglob("samples.png")
    picture.unlink()
    runs.finish(folder, runs.small())
    assert picture.exists()
    assert built == []

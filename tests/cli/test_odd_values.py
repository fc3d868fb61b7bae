"""Numbers, devices and paths that no library takes are one message, as every mistake of a user is."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.records import metric, record, save
from typer.testing import CliRunner

from grasp_bench import load_results
from grasp_bench.cli import app
from grasp_bench.cli.migrate import migrate
from grasp_bench.cli.score_input import classes_of, open_source
from grasp_bench.data.images import read_image_set
from grasp_bench.diagnose.subject import parse_steps, training_log
from grasp_bench.errors import UserError
from grasp_bench.estimate.devices import parse_device
from grasp_bench.locks import held
from grasp_bench.processes import pick_device
from grasp_bench.results.frame import RecordWarning
from grasp_bench.run.entry.export import check_target
from grasp_bench.run.pictures import read_sheet

LONG = "9" * 5000
"""More digits than int() takes."""


def call(*words: object) -> tuple[int, str]:
    """The exit code, and what is told: a refusal of an option by typer, or a message of ours."""
    shown = CliRunner().invoke(app, [*map(str, words)])
    if isinstance(shown.exception, UserError):
        return 2, str(shown.exception)
    assert shown.exception is None or isinstance(shown.exception, SystemExit), shown.exception
    return shown.exit_code, shown.output


@pytest.mark.parametrize("steps", [LONG, "²", "-1"])
def test_steps_of_a_diagnosis_of_any_length(steps: str) -> None:
    with pytest.raises(UserError, match="expected steps from 0 to 600"):
        parse_steps(f"0,{steps}", SimpleNamespace(steps=600), 0)
    assert parse_steps("600,0,7", SimpleNamespace(steps=600), 0) == [0, 7, 600]


@pytest.mark.parametrize(
    "option",
    [
        *(("--n-equal", LONG), ("--n-equal", "1"), ("--bootstrap", 10**18), ("--draws", 10**18), ("--k", 10**18)),
        ("--threads", 10**18),
    ],
)
def test_numbers_of_a_score(option: tuple[str, object]) -> None:
    code, told = call("score", "real", "fake", *option)
    assert code == 2
    assert option[0] in told


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "run", "--out", "a.png", "-n", 10**18),
        ("sample", "run", "--out", "a.png", "--steps", 10**18),
        ("evaluate", "-t", "digits-lt", "-n", "a", "--pipeline", "p", "--steps", 10**18),
        ("tune", "-m", "none", "-t", "digits-lt", "--trials", 10**18),
        ("run", "none", "digits-lt", "--processes", 10**18),
        ("estimate", "-m", "none", "-t", "digits-lt", "--rate", "1e308"),
    ],
    ids=lambda words: f"{words[0]} {words[-2]}",
)
def test_numbers_without_a_bound_are_refused_at_once(words: tuple[object, ...]) -> None:
    code, told = call(*words)
    assert code == 2
    assert "less than or equal" in told


def test_classes_are_in_the_order_of_their_numbers_however_long(tmp_path: Path) -> None:
    names = ["10", "9", "007", "0", "00", LONG]
    features = np.zeros((len(names), 2), np.float32)
    np.savez(tmp_path / "f.npz", features=features, labels=np.array(names))
    source = open_source("REAL", tmp_path / "f.npz", None)
    assert classes_of([source], None, (None, None), True)[0] == ["0", "00", "007", "9", "10", LONG]


@pytest.mark.parametrize("number", ["99", "9" * 20, LONG, "99999"])
def test_a_gpu_that_is_not_there(number: str) -> None:
    with pytest.raises(UserError, match=r"torch sees \d+ CUDA devices here"):
        pick_device(f"cuda:{number}")


@pytest.mark.parametrize("name", ["cuda:01", "cuda:٣", "cuda:-1", "cuda:"])
def test_the_name_of_no_gpu(name: str) -> None:
    with pytest.raises(UserError, match="expected auto, cpu, cuda or cuda:N"):
        pick_device(name)


@pytest.mark.parametrize("text", ["1e308,1e308,1e308", "80,1e-308,1", "nan,1,1", "80,0,1", "80,inf,1"])
def test_a_gpu_that_cannot_be(text: str) -> None:
    with pytest.raises(UserError, match=r"expected three numbers from 0\.001 to 1,000,000"):
        parse_device(text)


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    return Path("loop")


@pytest.mark.parametrize(
    "words",
    [("list", "--work-dir", "loop"), ("clear", "--work-dir", "loop"), ("clear", "--cache-dir", "loop"), ("list",)],
)
def test_a_loop_of_links_in_the_place_of_a_folder(words: tuple[str, ...], loop: Path) -> None:
    assert call("cache", *words)[0] == 0


def test_a_loop_of_links_is_no_target_of_an_export(loop: Path) -> None:
    check_target(SimpleNamespace(private=True), loop, Path("results"))
    with pytest.raises(UserError, match="lies in results"):
        check_target(SimpleNamespace(private=True), Path("results/x"), Path("results"))


def test_a_loop_of_links_in_the_place_of_a_folder_of_caches_or_of_labels(loop: Path) -> None:
    message = "cannot be written"
    with pytest.raises(UserError, match=message), held(loop / "prepare" / "a.lock"):
        pass
    (Path("images") / "a").mkdir(parents=True)
    (Path("images") / "a" / "1.png").touch()
    with pytest.raises(UserError, match="loop"):
        read_image_set(Path("images"), loop)


def test_nothing_resolves_a_path_by_what_raises_runtime_error() -> None:
    package = Path(__file__).parents[2] / "grasp_bench"
    assert [path for path in package.rglob("*.py") if ".resolve()" in path.read_text()] == []


def pipe(path: Path) -> Path:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def test_a_pipe_or_damage_in_the_place_of_scores_per_class_is_told(tmp_path: Path) -> None:
    save(tmp_path, record("grasp", 0, [metric("recall", "tail", 0.5)]))
    path = pipe(next(tmp_path.rglob("record.json")).with_name("classes.csv"))
    with pytest.warns(RecordWarning, match=r"classes\.csv: cannot be read: .*a pipe"):
        load_results(tmp_path, classes=True)
    assert "a pipe" in migrate(tmp_path)[2][0]
    path.unlink()
    path.write_text("class,metric\n" + "x" * 200_000)  # more than a field of a CSV may hold
    with pytest.warns(RecordWarning, match=r"classes\.csv: cannot be read: .*limit"):
        load_results(tmp_path, classes=True)
    assert "limit" in migrate(tmp_path)[2][0]


def test_a_training_log_that_is_no_text_or_no_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"train\.jsonl: cannot be read"):
        training_log(path)
    with pytest.raises(UserError, match=r"train\.jsonl: cannot be read .*a pipe"):
        training_log(pipe(path))


@pytest.mark.parametrize("name", ["p.npz", "p.safetensors"])
def test_a_pipe_in_the_place_of_features_or_images_is_not_waited_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a pipe"):
        open_source("REAL", pipe(tmp_path / name), None)


def test_a_pipe_in_the_place_of_a_sheet_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        read_sheet(pipe(tmp_path / "generated.png"))

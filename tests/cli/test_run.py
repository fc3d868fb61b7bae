import errno
import json
import os
import sys
import warnings
from pathlib import Path

import pytest
import torch
from helpers import runs

from grasp_bench.baselines.grasp import Grasp
from grasp_bench.cli import main
from grasp_bench.errors import Skip

GRASP = ("--method", "grasp", "--task", "digits-lt", "--budget", "smoke", "--device", "cpu")


@pytest.fixture
def grasp_bench_run(monkeypatch, capsys, tmp_path, quick):
    """Call `grasp-bench run` in an empty folder: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["grasp-bench", "run", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capsys.readouterr()

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main replaces it
    monkeypatch.chdir(tmp_path)
    return call


def the_record(folder: Path) -> dict:
    (path,) = folder.rglob("record.json")
    return json.loads(path.read_text())


def assert_user_error(shown: tuple[int, str, str], *parts: str) -> None:
    code, out, err = shown
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    (message,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert err.endswith(f"{message}\n")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--method", "gras"], ["unknown method 'gras'", "Did you mean 'grasp'?", "shared-adapter"]),
        (["--task", "digit-lt"], ["unknown task 'digit-lt'", "Did you mean 'digits-lt'?"]),
        (["--backbone", "tiny-sd"], ["unknown backbone 'tiny-sd'", "Did you mean 'tiny-sd3'?"]),
        (["--guidance", "cfgg"], ["unknown guidance 'cfgg'", "Did you mean 'cfg'?"]),
        (["--budget", "huge"], ["no budget 'huge'", "standard, lite, smoke"]),
        (["--set", "rnk=3"], ["method grasp has no setting 'rnk'", "Did you mean 'rank'?", "learning_rate"]),
        (["--set", "rank=0"], ["rank='0'", "greater than or equal to 1", "grasp-bench show grasp"]),
        (["--set", "rank=many"], ["rank='many'", "integer"]),
        (["--set", "learning_rate=nan"], ["learning_rate='nan'"]),
        (["--set", "scale=inf"], ["scale='inf'", "finite"]),
        (["--set", "rank"], ["'rank'", "NAME=VALUE"]),
        (["--set", "rank=4", "--set", "rank=5"], ["rank is set twice", "'4'", "'5'"]),
        (["--set", "class_order=1023456789"], ["method grasp has no setting 'class_order': ", "--task-set"]),
        (["--set", "steps=9"], ["method grasp has no setting 'steps': ", "--budget"]),
        (["--set", "batch_size=9"], ["method grasp has no setting 'batch_size': ", "--budget"]),
        (["--set", "seed=9"], ["method grasp has no setting 'seed': ", "--seed"]),
        (["--task-set", "class_order=0012345678"], ["class_order='0012345678'", "each of the ten digits"]),
        (["--task-set", "clas_order=1023456789"], ["task digits-lt has no setting", "Did you mean 'class_order'?"]),
        (["--guidance-set", "guidance_scale=-1"], ["guidance_scale='-1'", "grasp-bench show cfg"]),
        (["--guidance", "none", "--guidance-set", "guidance_scale=1"], ["guidance none has no setting"]),
        (["--evaluations", "1"], ["evaluations=1: a step of guidance cfg takes 2", "Set 2 or more"]),
        (["--evaluations", "8", "--task-set", "evaluations=9"], ["evaluations is set twice", "'9'", "'8'"]),
        (["--device", "nonsense"], ["--device 'nonsense'", "auto, cpu, cuda or cuda:N"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(grasp_bench_run, tmp_path, arguments, parts):
    assert_user_error(grasp_bench_run(*GRASP, *arguments), *parts)
    assert not list(tmp_path.iterdir())


def test_a_setting_that_contradicts_another_says_so_plainly(grasp_bench_run):
    shown = grasp_bench_run(*GRASP, "--method", "moe", "--set", "top_k=9")
    assert_user_error(shown, "settings of method moe: top_k (9) must be at most experts (4)")


def test_cuda_where_there_is_none(grasp_bench_run, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert_user_error(grasp_bench_run(*GRASP, "--device", "cuda"), "--device cuda", "--device cpu or auto")
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_is_not_there(grasp_bench_run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert_user_error(grasp_bench_run(*GRASP, "--device", "cuda:1"), "--device cuda:1", "1 CUDA")


def test_results_that_cannot_be_written(grasp_bench_run, tmp_path):
    (tmp_path / "file").write_text("")
    shown = grasp_bench_run(*GRASP, "--results", "file/results")
    assert_user_error(shown, "file/results", "cannot be written", "--results")
    assert not (tmp_path / ".grasp-bench").exists()


def test_a_work_folder_that_cannot_be_written(grasp_bench_run, tmp_path):
    (tmp_path / "file").write_text("")
    assert_user_error(
        grasp_bench_run(*GRASP, "--work-dir", "file/work"), "file/work", "cannot be written", "--work-dir"
    )
    assert the_record(tmp_path)["status"] == "failed"


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_beyond(size):
    """Room for files of ``size`` bytes, such as empty ones, and for nothing that is larger."""
    fsync = os.fsync

    def call(descriptor):
        if os.fstat(descriptor).st_size > size:
            full()
        fsync(descriptor)

    return call


@pytest.mark.parametrize("size", [0, 100_000], ids=["from the start", "when something large comes"])
def test_a_full_disk(grasp_bench_run, monkeypatch, tmp_path, size):
    monkeypatch.setattr(os, "fsync", full_beyond(size))
    assert_user_error(grasp_bench_run(*GRASP), "cannot be written (No space left on device)", "is kept")
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_disk_that_is_full_when_folders_are_made(grasp_bench_run, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", full)
    assert_user_error(grasp_bench_run(*GRASP), "No space left on device")


def test_a_disk_that_is_full_when_a_stage_is_renamed(grasp_bench_run, monkeypatch):
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: full() if self.is_dir() else replace(self, to))
    assert_user_error(grasp_bench_run(*GRASP), "No space left on device")


def test_a_disk_that_is_full_when_files_are_put_beside_the_record(grasp_bench_run, monkeypatch, tmp_path):
    replace = Path.replace

    def full_for_results(self, to):
        return full() if "results" in to.parts and to.name != "record.json" else replace(self, to)

    monkeypatch.setattr(Path, "replace", full_for_results)
    monkeypatch.setattr("shutil.copyfile", full)
    assert_user_error(grasp_bench_run(*GRASP), "No space left on device")
    assert the_record(tmp_path)["status"] == "failed"


def test_a_finished_run_prints_its_scores_and_where_the_record_is(grasp_bench_run, tmp_path):
    code, out, err = grasp_bench_run(*GRASP)
    assert code == 0
    assert "head" in out
    assert "FD(digits-cnn) ↓" in out
    assert "trainable parameters" in out
    (record,) = tmp_path.rglob("record.json")
    assert f"record: {record.relative_to(tmp_path)}" in out
    assert "train: done" in err

    code, again, err = grasp_bench_run(*GRASP)
    assert (code, again) == (0, out)
    assert "done" not in err

    record.write_text(record.read_text()[:100])
    code, again, err = grasp_bench_run(*GRASP)
    assert (code, again) == (0, out)
    assert str(record.relative_to(tmp_path)) in err
    assert "record.json.corrupt-1" in err
    assert record.with_name("record.json.corrupt-1").exists()
    assert the_record(tmp_path)["status"] == "finished"


def test_a_failed_run_exits_1_and_says_why(grasp_bench_run, monkeypatch, tmp_path):
    runs.fail_at_step(monkeypatch, 3, lambda output: output * torch.nan)
    code, out, err = grasp_bench_run(*GRASP)
    assert code == 1
    assert out == ""
    assert "error: the loss is nan at step 3; the batch's samples: digits/" in err
    assert "Traceback" not in err
    assert the_record(tmp_path)["status"] == "failed"


def test_ctrl_c_says_cancelled_and_exits_130(grasp_bench_run, monkeypatch, tmp_path):
    runs.fail_at_step(monkeypatch, 3, runs.interrupt)
    code, _, err = grasp_bench_run(*GRASP)
    assert code == 130
    assert "cancelled" in err
    assert "Traceback" not in err
    assert the_record(tmp_path)["status"] == "cancelled"


def test_a_skipped_run_says_why(grasp_bench_run, monkeypatch):
    monkeypatch.setattr(Grasp, "supports", lambda self, backbone, task: Skip("it needs [wings]"))
    code, out, _ = grasp_bench_run(*GRASP)
    assert code == 0
    assert "grasp: skipped: it needs [wings]" in out


def test_settings_name_the_folder_and_seeds_lie_side_by_side(grasp_bench_run, monkeypatch, tmp_path):
    monkeypatch.setattr(Grasp, "supports", lambda self, backbone, task: Skip("not now"))
    changed = ("--set", "rank=4", "--guidance", "none", "--task-set", "class_order=1023456789")
    code, out, _ = grasp_bench_run(*GRASP, *changed, "--seed", "3", "--seed", "5", "--seed", "3")
    assert code == 0
    assert out.count("record: ") == 2
    folders = [path.parent.relative_to(tmp_path / "results") for path in sorted(tmp_path.rglob("record.json"))]
    label = Path("digits-lt~budget=smoke,class_order=1023456789") / "grasp+none~rank=4"
    assert folders == [label / "seed-3", label / "seed-5"]

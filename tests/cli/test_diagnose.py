import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import typer
from helpers import runs
from safetensors.torch import load_file
from typer.testing import CliRunner

from grasp_bench import seeds
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.cli.diagnose import diagnose
from grasp_bench.cli.export import export
from grasp_bench.diagnose import findings, gradients
from grasp_bench.diagnose.subject import training_log
from grasp_bench.errors import UserError
from grasp_bench.run.files import WEIGHTS
from grasp_bench.run.pipeline import Pipeline

app = typer.Typer()
app.command()(diagnose)
exporting = typer.Typer()
exporting.command()(export)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with runs.quick():
        runs.finish(folder, runs.small("moe"))
    return folder


def call(folder, *arguments):
    words = ["--results", folder / "results", "--work-dir", folder / "work", "--device", "cpu", *arguments]
    return CliRunner().invoke(app, [str(word) for word in words])


def record(folder):
    (path,) = (folder / "results").rglob("record.json")
    return path


@pytest.mark.slow
def test_a_run_is_diagnosed_at_its_end_and_the_same_from_its_export(finished, tmp_path):
    shown = call(finished, "--run", record(finished).parent)
    assert shown.exit_code == 0, shown.exception
    (path,) = (finished / "results" / "digits-lt~budget=smoke" / "diagnose" / "moe").glob("*.json")
    found = json.loads(path.read_text())
    assert path.name == f"seed-0@{found['step']}.json"
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert re.sub(r"\\(.)", r"\1", path.with_suffix(".md").read_text()) in shown.stdout
    log = runs.log_rows(record(finished).with_name("train.jsonl"))
    assert found["training"] == [{name: row[name] for name in ("step", "group_loss", "method")} for row in log]
    assert found["step"] == log[-1]["step"]

    words = [record(finished), "--to", tmp_path / "mine", "--work-dir", finished / "work"]
    assert CliRunner().invoke(exporting, [str(word) for word in words]).exit_code == 0
    again = call(finished, "--run", tmp_path / "mine", "--results", tmp_path / "again")
    assert again.exit_code == 0, again.exception
    (other,) = (tmp_path / "again").rglob("*.json")
    assert json.loads(other.read_text()) | {"training": found["training"]} == found


def losses(pipeline, weights):
    """Of every group, at one noise level, on the images and the noise of a diagnosis by seed 0 of four batches."""
    backbone, train, infos = TinySD3.load(), pipeline.data.train, pipeline.classes
    assert not backbone.transformer.load_state_dict(weights, strict=False).unexpected_keys
    times = torch.from_numpy(gradients.timesteps(0))
    share, of_class = times.reshape(2, 1, 1, 1), np.zeros(len(infos))
    for batch, images in enumerate(gradients.draw(train, infos, 4, 0).images):
        noise = torch.randn(2, 1, 8, 8, generator=seeds.generator("diagnose-noise", 0, batch, 0))
        for label, image in enumerate(images):
            clean = backbone.encode_images(torch.from_numpy(train.read(images[[label]])))
            prompts = backbone.encode_prompts([train.prompts[image]] * 2)
            with torch.no_grad():
                prediction = backbone.predict((1 - share) * clean + share * noise, times, prompts)
            of_class[label] += (prediction - (noise - clean)).square().mean().item() / 4
    groups = np.array([info.group for info in infos])
    return {group: [pytest.approx(of_class[groups == group].mean(), rel=1e-4)] for group in dict.fromkeys(groups)}


@pytest.mark.slow
def test_at_steps_of_a_training_it_measures_the_weights_of_those_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(gradients, "LEVELS", ((0.25, 0.75),))
    monkeypatch.setattr(gradients, "NOISES", 2)
    monkeypatch.setattr(findings, "DRAWS", 20)
    words = ["--task", "digits-lt", "--budget", "smoke", "--method", "vanilla-ft", "--at", "0,8", "--batches", "4"]
    shown = call(tmp_path, *words)
    assert shown.exit_code == 0, shown.exception
    folder = tmp_path / "results" / "digits-lt~budget=smoke" / "diagnose" / "vanilla-ft"
    assert sorted(path.name for path in folder.glob("*.json")) == ["seed-0@0.json", "seed-0@8.json"]
    before, after = (json.loads((folder / f"seed-0@{step}.json").read_text()) for step in (0, 8))
    assert (before["step"], after["step"]) == (0, 8)
    for name in ("run_id", "kinds", "batches", "partitions", "no_partition"):
        assert before[name] == after[name]
    assert list(before["partitions"]) == ["group", "class", "text", "gradient"]
    assert shown.stdout.count("Left out is the partition by metadata: it partitions images, not classes") == 2
    assert before["groups"]["cells"] != after["groups"]["cells"]
    assert [[row["step"] for row in found["training"]] for found in (before, after)] == [[], [8]]

    pipeline = Pipeline(runs.small("vanilla-ft"), runs.options(tmp_path), torch.device("cpu"), runs.Listener())
    assert before["loss"] == losses(pipeline, {})
    assert after["loss"] == losses(pipeline, load_file(pipeline.trained_after(8) / WEIGHTS))
    assert before["loss"] != after["loss"]


def test_options_that_contradict_the_run_are_refused(finished):
    run = record(finished)
    for option, value in (("--method", "grasp"), ("--task", "cifar10-lt"), ("--set", "rank=2")):
        shown = call(finished, "--run", run, option, value)
        assert isinstance(shown.exception, UserError)
        assert f"{option} {value}: {run}" in str(shown.exception)
    assert "found '900000'" in str(call(finished, "--run", run, "--at", "0,900000").exception)


def test_a_task_or_a_run_is_needed(tmp_path):
    assert "--task digits-lt, or --run RUN" in str(call(tmp_path).exception)


def test_a_log_that_is_damaged_is_named(finished, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(record(finished).with_name("train.jsonl").read_text() + "{\n")
    with pytest.raises(UserError, match=r"train.jsonl, line \d+: not a row of a training log"):
        training_log(path)


def test_importing_the_command_stays_quick():
    code = "import sys, grasp_bench.cli.diagnose, grasp_bench.diagnose.subject; "
    code += "print({'torch', 'diffusers', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_tokens_that_cannot_skip_blocks_are_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr(TinySD3, "needs_all_tokens", "it mixes them")
    asked = ["--method", "lora", "--set", "tread=0.5", "--task", "digits-lt", "--budget", "smoke"]
    shown = call(tmp_path, *asked)
    assert isinstance(shown.exception, UserError)
    assert str(shown.exception).startswith("method lora does not apply here: tread leaves out tokens")

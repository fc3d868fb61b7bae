from pathlib import Path

import pytest
import torch
import typer
from helpers import runs
from typer.testing import CliRunner

from grasp_bench.cli.export import export
from grasp_bench.cli.sample import sample
from grasp_bench.errors import UserError
from grasp_bench.io import read_tensors
from grasp_bench.run import pictures
from grasp_bench.run.plan import plan

app = typer.Typer()
app.command()(sample)
app.command()(export)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with results/ and work/ of a run of grasp, and exported/."""
    folder = tmp_path_factory.mktemp("finished")
    with runs.quick():
        runs.finish(folder, runs.small("grasp", seed=1))
    (record,) = (folder / "results").rglob("record.json")
    words = ["export", record, "--work-dir", folder / "work", "--to", folder / "exported"]
    assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0
    return folder


@pytest.fixture(params=["record", "exported"])
def source(request, finished) -> list[Path | str]:
    """A run, named in either way."""
    if request.param == "exported":
        return [finished / "exported"]
    (record,) = (finished / "results").rglob("record.json")
    return [record, "--work-dir", finished / "work"]


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: (rows, title) of every picture."""
    calls = []
    write = pictures.write_grid

    def listening(path, rows, title, software):
        calls.append((rows, title))
        write(path, rows, title, software)

    monkeypatch.setattr(pictures, "write_grid", listening)
    return calls


def call(source, *arguments):
    words = ["sample", *source, "--device", "cpu", *arguments]
    return CliRunner().invoke(app, [str(word) for word in words])


def generated(finished: Path) -> torch.Tensor:
    (path,) = (finished / "work" / "generate").glob("*/images.safetensors")
    return read_tensors(path)["images"].reshape(10, 8, 1, 8, 8)


def test_every_class_with_the_images_of_the_run(finished, source, drawn, tmp_path):
    shown = call(source, "-n", 8, "--out", tmp_path / "grid.png")
    assert shown.exit_code == 0, shown.exception
    ((rows, title),) = drawn
    assert torch.equal(torch.stack([torch.from_numpy(images) for _, images in rows]), generated(finished))
    nine = plan(method="grasp", task="digits-lt", seed=1).task.classes()[9]
    assert rows[9][0] == f"9  {nine.group} ({nine.train_count})"
    assert title.startswith("grasp on digits-lt~budget=smoke, seed 1")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "grid.png") in shown.stdout


def test_some_classes_in_the_order_they_are_asked_for(finished, source, drawn, tmp_path):
    assert call(source, "--class", 7, "--class", 2, "-n", 2, "--out", tmp_path / "grid.png").exit_code == 0
    ((rows, _),) = drawn
    assert [label[0] for label, _ in rows] == ["7", "2"]
    assert torch.equal(torch.from_numpy(rows[0][1]), generated(finished)[7][:2])


def test_a_prompt_of_a_class_needs_no_class_and_another_does(finished, source, drawn, tmp_path):
    out = ["--out", tmp_path / "grid.png"]
    assert call(source, "--prompt", "a handwritten digit five", "-n", 3, *out).exit_code == 0
    shown = call(source, "--prompt", "a printed letter A", *out)
    assert isinstance(shown.exception, UserError)
    assert "Name a class" in str(shown.exception)
    assert call(source, "--prompt", "a printed letter A", "--class", 5, "-n", 3, *out).exit_code == 0
    ((own,), first), ((other,), second) = drawn
    assert torch.equal(torch.from_numpy(own[1]), generated(finished)[5][:3])
    assert (own[1] != other[1]).any()
    assert "a handwritten digit five" in first
    assert "a printed letter A" in second


def test_guidance_steps_and_seed_are_what_is_asked_for(finished, source, drawn, tmp_path):
    only = ["--class", "4", "-n", 4, "--out", tmp_path / "grid.png"]
    for changed in (
        ["--guidance", "none"],
        ["--guidance-set", "guidance_scale=1"],
        ["--guidance-set", "guidance_scale=2"],
        ["--steps", 3],
        ["--seed", 2],
    ):
        assert call(source, *only, *changed).exit_code == 0
    none, scale_1, scale_2, steps, seed = (torch.from_numpy(rows[0][1]) for rows, _ in drawn)
    own = generated(finished)[4][:4]
    assert torch.equal(none, scale_1)
    assert torch.equal(scale_2, own)
    for changed_images in (none, steps, seed):
        assert not torch.equal(changed_images, own)
    assert "seed 2" in drawn[-1][1]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--out", "grid.jpg"], ["--out grid.jpg", ".png"]),
        (["--out", "grid.png", "--class", "77"], ["unknown class '77'", "Did you mean '7'?"]),
        (["--out", "grid.png", "--class", "1", "--guidance", "cgf"], ["unknown guidance 'cgf'"]),
        (["--out", "grid.png", "--guidance-set", "scale"], ["--guidance-set 'scale'", "NAME=VALUE"]),
        (["--out", "grid.png", "--guidance-set", "a=1", "--guidance-set", "a=2"], ["a is set twice", "'1'", "'2'"]),
        (["--out", "grid.png", "--guidance-set", "scale=1"], ["guidance cfg has no setting 'scale'"]),
        (["--out", "grid.png", "--task", "task.toml"], ["--task task.toml", "eave it out"]),
        (["--out", "grid.png", "--data-root", "data"], ["--data-root data", "eave it out"]),
    ],
)
def test_mistakes_are_one_message_and_no_picture(source, tmp_path, monkeypatch, arguments, parts):
    monkeypatch.chdir(tmp_path)
    shown = call(source, *arguments)
    assert isinstance(shown.exception, UserError)
    for part in parts:
        assert part in str(shown.exception)
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_not_there(tmp_path):
    shown = call([tmp_path / "nowhere"], "--out", tmp_path / "grid.png")
    assert isinstance(shown.exception, UserError)
    assert "there is no such record" in str(shown.exception)

import subprocess
import sys

import pytest
import typer
from helpers import runs
from typer.testing import CliRunner

import grasp_bench
from grasp_bench.cli.export import export
from grasp_bench.errors import UserError

app = typer.Typer()
app.command()(export)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with runs.quick():
        runs.finish(folder, runs.small("lora"))
    return folder


def call(folder, *arguments):
    """`grasp-bench export` of the only run in ``folder``."""
    (record,) = (folder / "results").rglob("record.json")
    words = [record.parent, "--work-dir", folder / "work", *arguments]
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_run_is_exported_and_loads(finished, tmp_path):
    shown = call(finished, "--to", tmp_path / "mine")
    assert shown.exit_code == 0, shown.exception
    assert f"lora on digits-lt~budget=smoke, seed 0: {tmp_path / 'mine'}" in shown.stdout
    for path in (tmp_path / "mine").iterdir():
        assert f"{path.name}  {path.stat().st_size:,} bytes" in shown.stdout
    assert len(grasp_bench.load(tmp_path / "mine", device="cpu")(class_name="3", num_images=1).images) == 1


def test_a_place_that_is_taken_is_told_first(finished, tmp_path):
    (tmp_path / "mine").write_text("")
    shown = call(finished, "--to", tmp_path / "mine", "--backbone", "nonsense")
    assert isinstance(shown.exception, UserError)
    assert "is there already" in str(shown.exception)


def test_another_backbone_is_refused(finished, tmp_path):
    shown = call(finished, "--to", tmp_path / "mine", "--backbone", "tiny-sd3-32")
    assert "its weights fit no other" in str(shown.exception)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_gone_come_with_the_command_that_makes_them(finished, tmp_path):
    shown = call(finished, "--to", tmp_path / "mine", "--work-dir", tmp_path / "elsewhere")
    assert isinstance(shown.exception, UserError)
    assert "grasp-bench run --method lora --task digits-lt --seed 0" in str(shown.exception)
    assert not list(tmp_path.iterdir())


def test_importing_the_package_and_the_command_stays_quick():
    code = "import sys, grasp_bench, grasp_bench.cli.export, grasp_bench.cli.sample, grasp_bench.export.restore; "
    code += "print({'torch', 'diffusers', 'numpy', 'PIL'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"

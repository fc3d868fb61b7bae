"""Every mistake in a sweep's file is told with the file and the key, before anything is started."""

import re
import tomllib
from pathlib import Path

import pytest

from grasp_bench import plugins
from grasp_bench.errors import UserError
from grasp_bench.sweep.cells import read_sweep
from grasp_bench.sweep.config import read_config

from .sweeps import HEADER, write

SWEEPS = Path(__file__).parents[2] / "results/digits-lt/sweeps"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("methods = [", ["is no TOML"]),
        ('methods = ["grasp"]\nseeds = [0]\n', ["tasks: is missing"]),
        (HEADER + 'method = "grasp"', ["method: there is no such key", "Did you mean 'methods'?", "guidances"]),
        (HEADER + "[options]\nwork_dri = 1", ["options.work_dri: there is no such key", "Did you mean 'work_dir'?"]),
        (HEADER + "[[exclude]]\nsead = 1", ["exclude.0.sead: there is no such key", "Did you mean 'seed'?"]),
        (HEADER.replace("[0]", "[]"), ["seeds=[]: expected", "at least one"]),
        (HEADER.replace("[0]", "[-1]"), ["seeds: '-1' is no seed", "from 0"]),
        (HEADER.replace("[0]", "[0, 1, 0]"), ["seeds=[0, 1, 0]: 0 is listed twice"]),
        (HEADER + "[set.grasp]\nrank = []", ["set.grasp.rank=[]: expected"]),
        (HEADER + "[set.grasp]\nrank = 2020-01-01", ["set.grasp.rank=datetime.date(2020, 1, 1): expected"]),
        (HEADER + "[set.gras]\nrank = 8", ["set.gras: 'gras' is not among the methods", "Did you mean 'grasp'?"]),
        (HEADER + "[task_set.digits]\nema_decay = 0.9", ["task_set.digits: 'digits'", "Did you mean 'digits-lt'?"]),
        (HEADER + "[guidance_set.cfg]\nguidance_scale = 2", ["guidance_set.cfg", "(none)", "Add it to `guidances`"]),
        (HEADER + '[options.data_root]\nmimic = "/data"', ["options.data_root.mimic", "tasks of this sweep"]),
        (HEADER + '[options]\ndevice = "cuda:1"', ["options.device='cuda:1'", "'auto', 'cpu' or 'cuda'"]),
        (HEADER + "[options]\nlog_every = 0", ["options.log_every=0", "greater than or equal to 1"]),
    ],
)
def test_a_mistake_names_the_file_and_the_key(tmp_path, text, parts):
    path = write(tmp_path / "wrong.toml", text)
    with pytest.raises(UserError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    for part in parts:
        assert part in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml: cannot be read \(No such file or directory\)"):
        read_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (HEADER + '[[exclude]]\nmethod = "lora"', ["exclude, number 1: no cell matches it"]),
        (HEADER + "[[exclude]]\n", ["exclude, number 1: no cell matches it"]),
        (HEADER + "[[exclude]]\nseed = 0", ["exclude: leaves no cell"]),
        (HEADER + "[set.grasp]\nscale = [1, 1.0]", ["two cells would write", "grasp scale=1 on", "grasp scale=1.0 on"]),
    ],
)
def test_a_grid_that_makes_no_sense(tmp_path, text, parts):
    path = write(tmp_path / "wrong.toml", text)
    with pytest.raises(UserError) as caught:
        read_sweep(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)


def test_all_wrong_cells_are_told_at_once(tmp_path):
    text = 'methods = ["gras", "grasp", "lora"]\ntasks = ["digits-lt"]\nseeds = [0, 1]\n[set.lora]\nrank = [4, 0]\n'
    with pytest.raises(UserError) as caught:
        read_sweep(write(tmp_path / "wrong.toml", text))
    first, *lines = str(caught.value).splitlines()
    assert first.endswith("wrong.toml: 4 of 8 cells cannot be run.")
    assert len(lines) == 2
    assert lines[0].startswith("  gras on digits-lt, seed 0 and 1 more: unknown method 'gras'. Did you mean 'grasp'?")
    assert lines[1].startswith("  lora rank=0 on digits-lt, seed 0 and 1 more: settings of method lora: rank='0'")


def test_make_protocol_runs_every_sweep_of_the_folder() -> None:
    makefile = (SWEEPS.parents[2] / "Makefile").read_text()
    (listed,) = re.findall(r"for sweep in (.*); do", makefile)
    assert sorted(listed.split()) == sorted(path.stem for path in SWEEPS.glob("*.toml"))


def test_make_protocol_mnist_asks_some_of_the_protocols_methods_of_a_second_task() -> None:
    root = SWEEPS.parents[2]
    folder, makefile = root / "results/mnist-lt/sweeps", (root / "Makefile").read_text()
    asked = {path.stem: tomllib.loads(path.read_text()) for path in folder.glob("*.toml")}
    assert set(asked) == set(re.findall(r"sweep results/mnist-lt/sweeps/(\w+)\.toml ", makefile))
    first = tomllib.loads((SWEEPS / "methods.toml").read_text())
    for sweep in asked.values():
        assert set(sweep["methods"]) < set(first["methods"])
        assert sweep["tasks"] == ["mnist-lt"]


@pytest.mark.parametrize("name", ["methods", "scales"])
def test_the_protocols_sweeps_have_every_method_of_the_package(name: str) -> None:
    listed = tomllib.loads((SWEEPS / f"{name}.toml").read_text())["methods"]
    entries = plugins.entries("methods").items()
    ours = [method for method, entry in entries if entry.dist and entry.dist.name == "grasp-bench"]
    assert sorted(listed) == sorted(ours)

"""Which cells a sweep has, in which order, and the command that makes each."""

import inspect
import shlex
import subprocess
import sys

import pytest

from grasp_bench.cli.run import run
from grasp_bench.errors import UserError
from grasp_bench.sweep import cells
from grasp_bench.sweep.cells import by_training, read_sweep
from grasp_bench.sweep.config import Execution
from grasp_bench.tuning.chosen import with_settings

from .sweeps import HEADER, call, write

GRID = """
methods = ["grasp", "lora"]
tasks = ["digits-lt"]
seeds = [0, 1]
guidances = ["none", "cfg"]
budget = "smoke"

[set.grasp]
rank = [4, 8]
null_route = "base"

[guidance_set.cfg]
guidance_scale = 2.5

[[exclude]]
method = "grasp"
set = { rank = 8 }
guidance = "none"

[[exclude]]
seed = 1
method = "lora"
"""


def test_order_and_exclusions(tmp_path):
    sweep = read_sweep(write(tmp_path / "grid.toml", GRID))
    cfg, grasp = "cfg~guidance_scale=2.5", "null_route=base"
    assert [cell.name.replace(" on digits-lt~budget=smoke, seed ", " ") for cell in sweep.cells] == [
        f"grasp+none~rank=4,{grasp} 0",
        f"grasp+{cfg}~rank=4,{grasp} 0",
        f"grasp+{cfg}~rank=8,{grasp} 0",
        "lora+none 0",
        f"lora+{cfg} 0",
        f"grasp+none~rank=4,{grasp} 1",
        f"grasp+{cfg}~rank=4,{grasp} 1",
        f"grasp+{cfg}~rank=8,{grasp} 1",
    ]


def test_cells_that_differ_in_guidance_alone_share_a_training(tmp_path):
    sweep = read_sweep(write(tmp_path / "grid.toml", GRID))
    groups = by_training(sweep.cells)
    assert [[sweep.cells.index(cell) for cell in group] for group in groups] == [[0, 1], [2], [3, 4], [5, 6], [7]]


def test_a_lone_value_and_a_list_of_one_are_the_same(tmp_path):
    lone = 'methods = "grasp"\ntasks = "digits-lt"\nseeds = 0\n'
    cells = [read_sweep(write(tmp_path / "a.toml", text)).cells for text in (HEADER, lone)]
    assert cells[0][0].arguments == cells[1][0].arguments


def test_every_option_reaches_the_command(tmp_path):
    text = (
        HEADER
        + 'backbones = ["tiny-sd3"]\n[task_set.digits-lt]\nema_decay = 0.9\n[options]\nresults = "my results"\n'
        + 'work_dir = "work"\ndevice = "cpu"\nbatch_size = 7\nlog_every = 3\ngradient_checkpointing = true\n'
    )
    (cell,) = read_sweep(write(tmp_path / "one.toml", text)).cells
    assert shlex.join(cell.arguments) == (
        "run --method grasp --task digits-lt --seed 0 --backbone tiny-sd3 --task-set ema_decay=0.9 "
        "--no-estimate --results 'my results' --work-dir work --device cpu --batch-size 7 --log-every 3 "
        "--gradient-checkpointing on"
    )
    assert str(cell.record) == "my results/digits-lt~ema_decay=0.9/grasp/seed-0/record.json"
    assert str(cell.log) == "work/sweep/one/digits-lt~ema_decay=0.9/grasp/seed-0.log"


def test_cells_that_several_processes_share(tmp_path):
    text = HEADER + "[options]\naccumulate = 2\n"
    (cell,) = read_sweep(write(tmp_path / "two.toml", text + "processes = 2\nshard = true\n")).cells
    assert shlex.join(cell.arguments).endswith("--accumulate 2 --processes 2 --shard")
    with pytest.raises(UserError, match="64 images cannot be shared evenly by 3 processes with --accumulate 2"):
        read_sweep(write(tmp_path / "three.toml", text + "processes = 3\n"))
    with pytest.raises(UserError, match="--shard shares weights between processes, and there is one"):
        read_sweep(write(tmp_path / "one.toml", text + "shard = true\n"))


def test_numbers_of_evaluations_make_a_table_each(tmp_path):
    head = HEADER + 'guidances = ["none", "cfg"]\nevaluations = [20, 40]\n'
    sweep = read_sweep(write(tmp_path / "equal.toml", head + "[task_set.digits-lt]\nema_decay = 0.9\n"))
    places = [str(cell.record.parent.relative_to("results")) for cell in sweep.cells]
    assert places == [
        f"digits-lt~ema_decay=0.9,evaluations={number}/grasp{guidance}/seed-0"
        for number in (20, 40)
        for guidance in ("+none", "")
    ]
    assert "--task-set evaluations=40" in shlex.join(sweep.cells[-1].arguments)
    assert len(by_training(sweep.cells)) == 1
    with pytest.raises(UserError, match="evaluations is set twice"):
        read_sweep(write(tmp_path / "twice.toml", head + "[task_set.digits-lt]\nevaluations = 30\n"))
    with pytest.raises(UserError, match="evaluations=1: a step of guidance cfg takes 2"):
        read_sweep(write(tmp_path / "few.toml", head.replace("20", "1")))


def test_defaults_are_those_of_run():
    defaults = {name: each.default for name, each in inspect.signature(run).parameters.items()}
    execution = Execution().model_dump(exclude={"data_root"})
    assert execution == {name: defaults[name] for name in execution}


def test_print_gives_a_command_a_line_and_starts_nothing(tmp_path, at_home, capsys):
    path = write(tmp_path / "two.toml", HEADER.replace("[0]", "[0, 7]") + '[options]\nresults = "my results"\n')
    assert call("sweep", path, "--launcher", "print") == 0
    assert capsys.readouterr().out.splitlines() == [
        "grasp-bench --no-defaults run --method grasp --task digits-lt "
        f"--seed {seed} --no-estimate --results 'my results'"
        for seed in (0, 7)
    ]
    assert not list(at_home.iterdir())


def test_print_and_status_import_no_torch(tmp_path):
    path = write(tmp_path / "one.toml", HEADER)
    code = (
        "import sys; from sweep.sweeps import call; "
        f"call('sweep', {str(path)!r}, '--launcher', 'print'); call('status', {str(path)!r}); "
        "sys.exit('torch' in sys.modules)"
    )
    tests = str(inspect.getfile(call)).rsplit("/", 2)[0]
    shown = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r}); {code}"], check=False)
    assert shown.returncode == 0


def test_tuned_cells_have_the_settings_of_the_search_and_say_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "sweep.toml", HEADER + "tuned = true\n")
    with pytest.raises(UserError, match="tune"):
        read_sweep(file)
    monkeypatch.setattr(cells, "with_tuned", lambda chosen, results: with_settings(chosen, {"learning_rate": 0.5}))
    for cell in read_sweep(file).cells:
        assert cell.plan.spec.method.settings["learning_rate"] == 0.5
        assert "--tuned" in cell.arguments


def test_guidances_may_have_the_settings_of_their_searches_with_the_method_of_the_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (
        'methods = ["lora", "grasp"]\ntasks = ["digits-lt"]\nseeds = [0]\nguidances = ["none", "cfg", "apg"]\n'
        "tuned_guidances = true\n[guidance_set.apg]\nnorm_threshold = 7.0\n"
    )
    file = write(tmp_path / "sweep.toml", text)
    with pytest.raises(
        UserError, match=r"tuning/guidance/lora/cfg\.json: not there.* tune --method lora --guidance cfg"
    ):
        read_sweep(file)
    found = {"lora": {"guidance_scale": 1.3, "norm_threshold": 5.0}, "grasp": {"guidance_scale": 0.9}}

    def chosen(plan, results):
        fields = type(plan.guidance.config).model_fields
        return {name: value for name, value in found[plan.spec.method.name].items() if name in fields}

    monkeypatch.setattr(cells, "tuned_guidance", chosen)
    made = {(cell.plan.spec.method.name, cell.plan.spec.guidance.name): cell for cell in read_sweep(file).cells}
    assert made["grasp", "cfg"].plan.spec.guidance.settings == {"guidance_scale": 0.9}
    assert made["lora", "apg"].plan.guidance.config.guidance_scale == 1.3
    assert made["lora", "apg"].plan.guidance.config.norm_threshold == 7.0
    assert "guidance_scale=1.3" in made["lora", "cfg"].arguments
    assert "--guidance-set" not in made["lora", "none"].arguments


def test_with_tuned_methods_the_tasks_own_guidance_has_the_scale_of_the_methods_search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = HEADER + 'guidances = ["cfg", "apg"]\ntuned = true\ntuned_guidances = true\n'
    asked = []
    scaled = {"guidance_scale": 1.2}
    monkeypatch.setattr(cells, "with_tuned", lambda chosen, results: with_settings(chosen, scaled, "guidance"))
    monkeypatch.setattr(cells, "tuned_guidance", lambda chosen, results: asked.append(chosen.spec.guidance.name) or {})
    for cell in read_sweep(write(tmp_path / "sweep.toml", text)).cells:
        assert cell.plan.spec.guidance.settings["guidance_scale"] == 1.2
    assert set(asked) == {"apg"}

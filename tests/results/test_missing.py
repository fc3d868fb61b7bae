from pathlib import Path

import pytest
from helpers.records import framed, record

from grasp_bench.contracts.spec import Component
from grasp_bench.errors import UserError
from grasp_bench.results.missing import missing_text
from grasp_bench.results.options import Options

RESULTS = Path("results")


def guided(run, name):
    """The same run with another guidance."""
    spec = run.spec.model_copy(update={"guidance": Component(name=name, version="1")})
    return run.model_copy(update={"spec": spec, "label": f"{run.label}+{name}"})


def commands(records, results=RESULTS, **options):
    return missing_text(framed(records), Options(**options), results).splitlines()


def test_a_full_grid_lacks_nothing():
    assert commands([record(m, seed) for m in ("grasp", "lora") for seed in range(2)]) == ["# 0 of 4 runs are missing"]


def test_what_a_method_lacks_of_the_others_seeds_is_one_command():
    runs = [record("grasp", seed) for seed in range(4)] + [record("lora", 1)]
    assert commands(runs) == [
        "# 3 of 8 runs are missing",
        "grasp-bench run --method lora --task digits-lt --seed 0 --seed 2 --seed 3 --guidance cfg",
    ]


def test_methods_guidances_and_tasks_are_multiplied():
    runs = [record("grasp", 0), guided(record("lora", 0), "none"), record("grasp", 0, task="cifar10-lt")]
    assert commands(runs)[0] == "# 5 of 8 runs are missing"
    assert "grasp-bench run --method lora --task cifar10-lt --seed 0 --guidance none" in commands(runs)


def test_filters_narrow_the_axes_and_add_to_them():
    runs = [record("grasp", seed) for seed in range(2)] + [record("lora", 0)]
    assert commands(runs, method=("grasp",)) == ["# 0 of 2 runs are missing"]
    assert commands(runs, method=("grasp", "dora"))[1:] == [
        "grasp-bench run --method dora --task digits-lt --seed 0 --seed 1 --guidance cfg"
    ]
    assert commands(runs, method=("l*",))[1:] == [
        "grasp-bench run --method lora --task digits-lt --seed 1 --guidance cfg"
    ]
    assert commands(runs, guidance=("none",), method=("lora",))[1:] == [
        "grasp-bench run --method lora --task digits-lt --seed 0 --seed 1 --guidance none"
    ]
    assert commands(runs, task=("cifar10-lt",))[0] == "# 4 of 4 runs are missing"


def test_cancelled_runs_are_missing_and_failed_ones_are_told():
    runs = [
        record("grasp", 0),
        record("grasp", 1, status="cancelled"),
        record("lora", 0, status="oom"),
        record("lora", 1, status="skipped"),
    ]
    assert commands(runs) == [
        "# 1 of 4 runs are missing",
        "# 1 more failed or ran out of memory: `grasp-bench report` says why",
        "grasp-bench run --method grasp --task digits-lt --seed 1 --guidance cfg",
    ]


def test_budgets_are_grids_apart():
    trial = record("lora", 7, task_label="digits-lt~budget=smoke")
    budget = trial.spec.budget.model_copy(update={"name": "smoke"})
    trial = trial.model_copy(update={"spec": trial.spec.model_copy(update={"budget": budget})})
    assert commands([record("grasp", 0), trial]) == ["# 0 of 2 runs are missing"]


def test_what_the_command_needs_besides():
    runs = [record("grasp", 0, task="my-birds"), record("lora", 1, task="my-birds")]
    assert commands(runs, Path("my results"))[1] == (
        "grasp-bench run --method grasp --task FILE.toml --seed 1 --guidance cfg --results 'my results'"
    )


def test_a_name_that_nothing_has():
    with pytest.raises(
        UserError, match=r"--method gras: neither a run nor a plugin has this name\. Did you mean 'grasp'"
    ):
        commands([record("lora", 0)], method=("gras",))


def test_no_runs_at_all_say_what_to_do():
    with pytest.raises(UserError, match="no run is recorded there"):
        commands([])

"""Budgets: the lite one of every task, and those that TOML files describe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import runs
from helpers.datasets import make_nih, write_image
from helpers.records import framed, metric, record
from helpers.tiny_pipelines import save_sd3

import grasp_bench
from grasp_bench.contracts.spec import LITE, SMOKE, STANDARD, by_name
from grasp_bench.errors import UserError
from grasp_bench.results.missing import missing_text
from grasp_bench.results.options import Options
from grasp_bench.results.site.view import run_command
from grasp_bench.run import runner
from grasp_bench.run.budgets import IN_FILE, SCORING, budgets_of
from grasp_bench.run.pipeline import stage_keys
from grasp_bench.run.plan import Plan, plan, plan_of_spec
from grasp_bench.sweep.cells import read_sweep
from grasp_bench.tasks.cxr import CxrTask
from grasp_bench.tasks.digits_lt import DigitsLT

CHEAP = "steps = 100\nbatch_size = 16\nimages_per_class = 5\nclassifier_epochs = 3\n"


@pytest.fixture
def cheap(tmp_path: Path) -> Path:
    return written(tmp_path, CHEAP)


def written(folder: Path, text: str, name: str = "cheap.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def planned(budget: str | Path, method: str = "lora", **more) -> Plan:
    return plan(**{"method": method, "task": "digits-lt", "budget": str(budget)} | more)


# The lite one


def test_lite_is_a_stated_part_of_the_standard_one():
    found = budgets_of(CxrTask)
    assert list(found) == [STANDARD, LITE, SMOKE]
    standard, lite = found[STANDARD], found[LITE]
    assert (standard.steps, standard.batch_size, standard.images_per_class) == (20_000, 64, 200)
    assert (lite.steps, lite.batch_size, lite.images_per_class) == (2_000, 32, 50)
    assert (lite.warmup_steps, lite.num_inference_steps) == (50, standard.num_inference_steps)
    assert (lite.classifier_epochs, lite.classifier_seeds) == (CxrTask.classifier.epochs // 4, 1)
    changed = {
        "name",
        "steps",
        "batch_size",
        "warmup_steps",
        "images_per_class",
        "classifier_epochs",
        "classifier_seeds",
    }
    assert standard.model_dump(exclude=changed) == lite.model_dump(exclude=changed)


def test_a_task_may_have_a_lite_budget_of_its_own(monkeypatch):
    own = DigitsLT.budgets[SMOKE].model_copy(update={"name": LITE})
    monkeypatch.setattr(DigitsLT, "budgets", DigitsLT.budgets | by_name(own))
    assert planned(LITE).spec.budget == own


def test_lite_is_another_identity_and_another_table():
    standard, lite = planned(STANDARD), planned(LITE)
    assert (lite.task_label, standard.task_label) == ("digits-lt~budget=lite", "digits-lt")
    assert lite.spec.id != standard.spec.id
    assert (lite.recipe.epochs, lite.recipe.seeds) == (standard.recipe.epochs // 4, 1)
    assert lite.recipe.patience == standard.recipe.patience
    assert lite.command()[-2:] == ["--budget", "lite"]


def test_tasks_of_files_have_one_of_their_own_standard(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            write_image(tmp_path / "images" / name / f"{number:02}.png", 8, rng)
    path = written(tmp_path, 'extractor = "pixels"\n[budget]\nsteps = 3000\nimages_per_class = 40\n', "pets.toml")
    found = planned(LITE, task=str(path)).spec.budget
    assert (found.steps, found.images_per_class) == (300, 40)


# Those of files


def test_a_file_says_what_differs_from_its_base(cheap):
    found, standard = planned(cheap).spec.budget, planned(STANDARD).spec.budget
    assert (found.steps, found.batch_size, found.images_per_class, found.classifier_epochs) == (100, 16, 5, 3)
    assert found.warmup_steps == 10  # no more than a tenth of the steps, since the file does not say
    assert found.num_inference_steps == standard.num_inference_steps
    assert found.described_by_file
    assert planned(cheap).recipe.epochs == 3


def test_a_file_is_in_the_identity_and_names_its_table(cheap, tmp_path):
    first = planned(cheap)
    assert first.task_label.startswith("digits-lt~budget=cheap-")
    assert planned(cheap).spec == first.spec
    again = planned(written(tmp_path / "..", CHEAP.replace("\n", "  # a word\n"), "cheap.toml"))
    assert again.spec == first.spec  # wherever it is, and whatever its comments
    edited = planned(written(tmp_path, CHEAP.replace("100", "101")))
    assert edited.spec.id != first.spec.id
    assert edited.task_label != first.task_label


def test_bases_differ(tmp_path):
    lite = planned(written(tmp_path, 'base = "lite"\nsteps = 50\n')).spec.budget
    assert (lite.steps, lite.batch_size, lite.classifier_seeds) == (50, 32, 1)
    smoke = planned(written(tmp_path, 'base = "smoke"\nsteps = 50\n'))
    assert (smoke.spec.budget.num_inference_steps, smoke.recipe.epochs, smoke.recipe.seeds) == (4, 2, 1)
    assert smoke.spec.budget.name != lite.name


def test_settings_of_the_task_and_the_recipe_hold_beneath_a_file(tmp_path):
    source = f"sd3:{save_sd3(tmp_path / 'pipeline', tmp_path / 'scratch')}"
    path = written(tmp_path, "steps = 1000\nclip_norm = 0.5\n")
    found = planned(path, backbone=source, task_settings=["ema_decay=0.9"]).spec.budget
    assert (found.precision, found.num_inference_steps, found.ema_decay) == ("bfloat16", 40, 0.9)
    assert (found.steps, found.clip_norm) == (1000, 0.5)  # by hand, over the recipe's 1
    said = written(tmp_path, "num_inference_steps = 7\nwarmup_steps = 3\n")
    found = planned(said, backbone=source).spec.budget
    assert (found.num_inference_steps, found.warmup_steps) == (7, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "stesp = 5",
            r"cheap\.toml, stesp: a budget has no such setting\. Did you mean .*steps.* It may say: base, steps",
        ),
        ("steps = 0", r"cheap\.toml, steps=0: Input should be greater than or equal to 1"),
        (
            'precision = "bfloat16"',
            r"cheap\.toml, precision: this is a setting of the task: --task-set precision=VALUE",
        ),
        ('name = "mine"', r"cheap\.toml, name: this is not for a file to say"),
        (
            'base = "little"',
            r"cheap\.toml, base: task digits-lt has no budget 'little'\. It has: standard, lite, smoke",
        ),
        ("base = 3", r"cheap\.toml, base: task digits-lt has no budget 3"),
        ("steps =", r".*cheap\.toml: is no TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        planned(written(tmp_path, text))


def test_a_file_that_is_not_there_or_oddly_named_is_refused(tmp_path):
    with pytest.raises(UserError, match=r".*absent\.toml: cannot be read \(No such file"):
        planned(tmp_path / "absent.toml")
    with pytest.raises(UserError, match=r"letters, digits"):
        planned(written(tmp_path, CHEAP, "a b=c.toml"))
    with pytest.raises(
        UserError, match=r"has no budget 'cheap'\. It has: standard, lite, smoke\. .* --budget FILE\.toml"
    ):
        planned("cheap")


def test_every_setting_of_a_budget_is_a_files_a_tasks_or_a_recipes():
    from grasp_bench.contracts.spec import Budget
    from grasp_bench.run.budgets import OF_TASK

    others = {"beta1", "beta2", "epsilon", "ema_warmup"}  # of the recipe; and what follows from ema_decay
    assert {*IN_FILE, *OF_TASK, *SCORING, *others} == set(Budget.model_fields)


# What is trained, recorded and told


def test_stages_follow_what_they_depend_on(tmp_path):
    def keys(text: str) -> dict[str, str]:
        return stage_keys(planned(written(tmp_path, text)))

    first = keys("steps = 100")
    images, classifiers = keys("steps = 100\nimages_per_class = 5"), keys("steps = 100\nclassifier_epochs = 3")
    assert first["train"] == images["train"] == classifiers["train"] != keys("steps = 101")["train"]
    assert first["generate"] == classifiers["generate"] != images["generate"]
    assert first["classify-real"] != classifiers["classify-real"]
    assert stage_keys(planned(STANDARD))["train"] == keys("images_per_class = 5")["train"]


def test_a_recorded_plan_needs_no_file(cheap):
    first = planned(cheap)
    cheap.unlink()
    again = plan_of_spec(first.spec)
    assert again.spec == first.spec
    assert stage_keys(again) == stage_keys(first)
    assert (again.label, again.task_label) == (first.label, first.task_label)


def test_the_generator_of_another_task_is_trained_by_the_same_file(tmp_path, monkeypatch):
    for name in ("nih-lt", "nih-lt-gen"):
        make_nih(tmp_path / "data" / name)
    monkeypatch.setenv("GRASP_BENCH_DATA", str(tmp_path / "data"))
    path = written(tmp_path, "steps = 300\n")
    chosen = {"backbone": "tiny-sd3-32"}
    found = planned(path, task="nih-lt", task_settings=["generator=nih-lt-gen"], **chosen)
    alone = planned(path, task="nih-lt-gen", **chosen)
    assert found.trained_on.spec.task.name == "nih-lt-gen"
    assert found.trained_on.spec.budget.steps == 300
    assert stage_keys(found)["train"] == stage_keys(alone)["train"]
    lite = planned(LITE, task="nih-lt", task_settings=["generator=nih-lt-gen"], **chosen)
    assert lite.trained_on.spec.budget.steps == 2000


def test_commands_name_a_file_in_place_of_it(cheap):
    chosen = planned(cheap)
    assert chosen.command()[-2:] == ["--budget", "FILE.toml"]
    run = record("lora", 0, [metric("recall", "tail", 0.5)])
    spec = run.spec.model_copy(update={"budget": chosen.spec.budget})
    run = run.model_copy(update={"spec": spec, "run_id": spec.id})
    assert run_command(run).endswith("--budget FILE.toml")
    other = record("grasp", 1, [metric("recall", "tail", 0.5)])
    other = other.model_copy(update={"spec": other.spec.model_copy(update={"budget": chosen.spec.budget})})
    frame = framed([run, other])
    assert set(frame["own_budget"]) == {True}
    lines = missing_text(frame, Options(), Path("results")).splitlines()
    assert len(lines) == 3
    assert all("--budget FILE.toml" in line for line in lines[1:])


def test_sweeps_and_their_commands_take_a_file(cheap, tmp_path):
    config = f'methods = ["lora"]\ntasks = ["digits-lt"]\nseeds = [0]\nbudget = "{cheap}"\n'
    (cell,) = read_sweep(written(tmp_path, config, "sweep.toml")).cells
    assert cell.plan.spec == planned(cheap).spec
    assert cell.arguments[cell.arguments.index("--budget") + 1] == str(cheap)


def test_the_interface_takes_a_path(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "check", lambda chosen, options, processes: None)
    monkeypatch.setattr(runner, "run", lambda chosen, options, progress: (None, chosen))
    found = grasp_bench.run("lora", "digits-lt", budget=written(tmp_path, CHEAP), results=tmp_path, quiet=True)
    assert found.spec == planned(tmp_path / "cheap.toml").spec


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_run_by_a_file_goes_all_the_way(tmp_path):
    path = written(tmp_path, 'base = "smoke"\nsteps = 3\nimages_per_class = 4\n')
    record = runs.finish(tmp_path, planned(path))
    assert record.spec.budget.steps == 3
    assert (tmp_path / "results" / record.task_label).is_dir()

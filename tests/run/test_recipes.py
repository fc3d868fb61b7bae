"""What a backbone's recipe changes in a plan, and that it changes nothing where there is none."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import runs
from helpers.datasets import write_image
from helpers.tiny_pipelines import save_sd3

from grasp_bench import plugins
from grasp_bench.backbones.sd3 import MEDIUM, SD3
from grasp_bench.contracts.recipe import PLAIN, Rate
from grasp_bench.contracts.record import read_record
from grasp_bench.contracts.settings import Tuned
from grasp_bench.errors import UserError
from grasp_bench.export.restore import plan_of
from grasp_bench.run.pipeline import stage_keys
from grasp_bench.run.plan import Plan, plan, plan_of_spec
from grasp_bench.run.recipes import budget_by_recipe, check_settings, rate_warning, searched_rates
from grasp_bench.tasks.digits_lt import DigitsLT
from grasp_bench.tuning.chosen import with_settings
from grasp_bench.tuning.ranges import candidate, tuned_ranges

ROOT = Path(__file__).parents[2]
RATES = {"vanilla-ft": 1e-5, "cbdm": 1e-5, "lora": 1e-4, "grasp": 1e-4, "moe": 1e-4}
KINDS = {
    "all weights": {"vanilla-ft", "cbdm", "oc", "pogdiff", "coral", "ccua", "pcgrad", "cagrad", "two-stage", "prior"},
    "low rank": {"lora", "dora", "loha", "oft", "lora-attn", "cluster-lora", "cm"},
    "adapters": {"grasp", "shared-adapter", "timestep-experts", "grasp-timestep", "merged", "lst"},
    "gates": {"moe", "moe-sample"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sd3")
    return save_sd3(place / "pipeline", place / "scratch")


@pytest.fixture
def source(folder: Path) -> str:
    return f"sd3:{folder}"


def planned(source: str, method: str = "grasp", **more) -> Plan:
    return plan(**{"method": method, "task": "digits-lt", "backbone": source} | more)


# Nothing changes where there is no recipe


def of_this_version(path: Path) -> bool:
    """Whether a record's task, method, what is beneath it, and guidance are of the versions that are installed."""
    spec = json.loads(path.read_text())["spec"]
    parts = {"tasks": spec["task"], "methods": spec["method"], "guidance": spec["guidance"]}
    beneath = spec["method"]["settings"]
    same = all(plugins.load(kind, each["name"]).version == each["version"] for kind, each in parts.items())
    below = plugins.load("methods", beneath["on"]).version if "on" in beneath else "1"
    return same and beneath.get("on_version", "1") == below


def spread(same: bool = True) -> list[Path]:
    """Some 20 of the records in the repository that are of this version or not, of many methods and guidances."""
    found = [path for path in sorted((ROOT / "results").rglob("record.json")) if of_this_version(path) == same]
    return found[:: max(1, len(found) // 20)]


@pytest.mark.parametrize("path", spread(), ids=lambda path: path.parent.relative_to(ROOT / "results").as_posix())
def test_committed_records_have_the_identity_and_stages_that_they_were_made_with(path):
    record = read_record(path)
    found = replace(plan_of(record), tuned=record.tuned)
    assert stage_keys(found) == record.stages
    assert (found.spec.id, found.label, found.task_label) == (record.run_id, record.label, record.task_label)
    assert (found.changed, found.default_backbone) == (record.changed, record.default_backbone)


@pytest.mark.parametrize(
    "path", spread(False)[:5], ids=lambda path: path.parent.relative_to(ROOT / "results").as_posix()
)
def test_committed_records_of_other_versions_load_and_say_why_they_are_not_made_again(path):
    record = read_record(path)
    assert record.spec.id == record.run_id
    with pytest.raises(UserError, match="version"):
        plan_of(record)


def test_a_partition_by_gradients_belongs_to_the_precision_that_they_are_taken_in():
    settings = {"method": "grasp", "task": "digits-lt", "method_settings": ["partition=gradient"]}
    keys = [
        stage_keys(plan(**settings, task_settings=[f"precision={each}"]))["study"] for each in ("float32", "bfloat16")
    ]
    assert keys[0] != keys[1]


def test_tiny_backbones_leave_every_setting_as_it_is():
    for method in plugins.entries("methods"):
        chosen = plan(method=method, task="digits-lt")
        assert chosen.method.config == type(chosen.method.config)()
        assert chosen.spec.budget == chosen.task.budgets["standard"]
        assert chosen.spec.backbone.settings == {}
        assert chosen.changed == {"task": {}, "method": {}, "guidance": {}}
        assert not {"beta1", "beta2", "epsilon"} & chosen.spec.budget.model_dump().keys()


# What a recipe gives


def test_every_method_says_what_it_trains():
    found: dict[str, set[str]] = {}
    for name in plugins.entries("methods"):
        found.setdefault(plan(method=name, task="digits-lt").method.kind, set()).add(name)
    assert all(names <= found[kind] for kind, names in KINDS.items())


@pytest.mark.parametrize("method", RATES)
def test_the_rate_is_that_of_what_the_method_trains(source, method):
    chosen = planned(source, method)
    assert chosen.spec.method.settings["learning_rate"] == RATES[method]
    assert chosen.spec.method.settings["weight_decay"] == 1e-4
    assert chosen.changed == {"task": {}, "method": {}, "guidance": {}}
    assert chosen.label.startswith(f"{method}@sd3-")
    assert chosen.label.endswith("@32")


def test_a_loss_has_the_rate_of_what_it_is_on_top_of(source):
    chosen = planned(source, "cbdm", method_settings=["on=lora"])
    assert chosen.method.kind == "low rank"
    assert chosen.spec.method.settings["learning_rate"] == 1e-4
    assert chosen.method.beneath.config.learning_rate == 1e-4


def test_what_a_recipe_gives_is_in_the_identity_as_by_hand(source):
    by_recipe = planned(source)
    by_hand = planned(
        source,
        method_settings=["learning_rate=1e-4", "weight_decay=1e-4"],
        guidance_settings=["guidance_scale=4.5"],
        task_settings=["precision=bfloat16"],
    )
    assert by_hand.spec == by_recipe.spec
    assert (by_hand.label, by_hand.task_label) == (by_recipe.label, by_recipe.task_label)


def test_by_hand_comes_first_and_is_named(source):
    chosen = planned(
        source,
        method_settings=["learning_rate=0.03"],
        guidance_settings=["guidance_scale=2"],
        task_settings=["precision=float32"],
    )
    assert chosen.spec.method.settings["learning_rate"] == 0.03  # grasp's own default, but not that of the recipe
    assert chosen.spec.guidance.settings["guidance_scale"] == 2
    assert chosen.spec.budget.precision == "float32"
    assert chosen.changed == {
        "task": {"precision": "float32"},
        "method": {"learning_rate": 0.03},
        "guidance": {"guidance_scale": 2.0},
    }
    assert chosen.task_label == "digits-lt~precision=float32"
    words = chosen.command()
    options = ("--set", "--guidance-set", "--task-set", "--resolution")
    assert [words[words.index(option) + 1] for option in options] == [
        "learning_rate=0.03",
        "guidance_scale=2.0",
        "precision=float32",
        "32",
    ]


def test_what_a_search_chose_comes_before_the_recipe(source):
    chosen = planned(source, method_settings=["weight_decay=0"])
    assert chosen.method.config.model_fields_set == {"weight_decay"}  # so that a search may set the rate
    assert with_settings(chosen, {"learning_rate": 3e-4}).spec.method.settings["learning_rate"] == 3e-4


def test_the_budget_has_the_recipes_optimiser_and_sampling_steps(source):
    standard, smoke = planned(source).spec.budget, planned(source, budget="smoke").spec.budget
    assert (standard.precision, standard.warmup_steps, standard.num_inference_steps) == ("bfloat16", 60, 40)
    assert (smoke.precision, smoke.warmup_steps, smoke.num_inference_steps) == ("bfloat16", 2, 4)
    other = replace(MEDIUM, betas=(0.8, 0.99), epsilon=1e-6, clip_norm=0.5)
    changed = budget_by_recipe(DigitsLT.budgets["standard"], other, DigitsLT(DigitsLT.Config()))
    assert (changed.beta1, changed.beta2, changed.epsilon, changed.clip_norm) == (0.8, 0.99, 1e-6, 0.5)
    assert {"beta1", "beta2", "epsilon"} <= changed.model_dump().keys()


def test_only_guidances_of_that_scale_have_the_recipes(source):
    scales = {
        name: planned(source, guidance=name).spec.guidance.settings.get("guidance_scale")
        for name in ("cfg", "cfg-interval", "distilled", "sg-minority", "none")
    }
    assert scales == {"cfg": 4.5, "cfg-interval": 4.5, "distilled": 4.5, "sg-minority": 0.4, "none": None}


def test_a_recorded_plan_is_the_same_again(source):
    chosen = planned(source, "lora", guidance_settings=["guidance_scale=3"])
    again = plan_of_spec(chosen.spec, backbone=source)
    assert again.spec == chosen.spec
    assert stage_keys(again) == stage_keys(chosen)
    assert (again.label, again.changed, again.command()) == (chosen.label, chosen.changed, chosen.command())


@pytest.mark.parametrize("precision", [None, "float32", "bfloat16"])
def test_a_recorded_plan_of_a_described_task_is_the_same_again(source, tmp_path, precision):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            write_image(tmp_path / "images" / name / f"{number:02}.png", 8, rng)
    said = f'precision = "{precision}"\n' if precision else ""
    (tmp_path / "pets.toml").write_text(f'extractor = "pixels"\n{said}[budget]\nnum_inference_steps = 7\n')
    chosen = planned(source, task=str(tmp_path / "pets.toml"))
    assert chosen.spec.budget.precision == (precision or "bfloat16")
    assert chosen.spec.budget.num_inference_steps == 7  # by hand, in the file
    again = plan_of_spec(chosen.spec, tmp_path / "pets.toml", source)
    assert again.spec == chosen.spec
    assert stage_keys(again) == stage_keys(chosen)


def test_a_run_of_another_recipe_is_refused(source, monkeypatch):
    spec = planned(source).spec
    monkeypatch.setattr(SD3, "_recipe_of", classmethod(lambda cls, saved: PLAIN))
    with pytest.raises(UserError, match=r"another recipe: shift was 3\.0, is None; weighting was squared noise share"):
        plan_of_spec(spec, backbone=source)
    check_settings({"resolution": 32}, {"resolution": 32}, "sd3")


# Warnings and searches


@pytest.mark.parametrize(("rate", "warned"), [("0.03", True), ("0.01", False), ("1e-4", False), ("1e-6", True)])
def test_a_rate_far_outside_draws_a_warning(source, rate, warned):
    chosen = planned(source, method_settings=[f"learning_rate={rate}"])
    said = rate_warning(chosen.backbone.recipe, chosen.method, "grasp")
    assert (said is not None) == warned
    if said:
        assert "for adapters: 1e-05 to 0.003, 0.0001 by default" in said
    assert rate_warning(PLAIN, chosen.method, "grasp") is None


def test_a_search_looks_in_the_recipes_range(source):
    chosen = planned(source)
    recipe = searched_rates(chosen.backbone.recipe, chosen.method, chosen.guidance, "method")
    assert recipe == {"learning_rate": Rate(1e-4, 1e-5, 3e-3)}
    model = type(chosen.method.config)
    assert tuned_ranges(model, recipe)["learning_rate"] == Tuned(1e-5, 3e-3, log=True)
    assert candidate(model, 0, "digits-lt", recipe)["learning_rate"] == 1e-4
    rates = [candidate(model, number, "digits-lt", recipe)["learning_rate"] for number in range(1, 30)]
    assert min(rates) < 1e-4
    assert max(rates) > 1e-3
    assert all(1e-5 <= rate <= 3e-3 for rate in rates)
    scale = searched_rates(chosen.backbone.recipe, chosen.method, chosen.guidance, "guidance")
    assert scale == {"guidance_scale": Rate(4.5, 0.9, 9.0)}
    assert searched_rates(PLAIN, chosen.method, chosen.guidance, "method") == {}


# Resolution


def test_the_resolution_is_in_the_identity_and_the_label(source, monkeypatch):
    monkeypatch.setattr(SD3, "_recipe_of", classmethod(lambda cls, saved: replace(MEDIUM, resolutions=(32, 16))))
    native, other = planned(source), planned(source, resolution=16)
    assert other.spec.id != native.spec.id
    assert other.spec.backbone.settings["resolution"] == 16
    assert other.shape == [3, 16, 16]
    assert other.label.endswith("@16")
    assert stage_keys(other)["latents"] != stage_keys(native)["latents"]
    assert stage_keys(other)["prompts"] == stage_keys(native)["prompts"]
    again = plan_of_spec(other.spec, backbone=source)
    assert (again.spec, again.backbone.load().latent_shape[1:]) == (other.spec, (4, 4))
    words = other.command()
    assert words[words.index("--backbone") + 1 : words.index("--backbone") + 4] == ["sd3:FOLDER", "--resolution", "16"]


def test_a_tasks_resolution_holds_where_the_backbone_supports_it(source, monkeypatch):
    monkeypatch.setattr(SD3, "_recipe_of", classmethod(lambda cls, saved: replace(MEDIUM, resolutions=(32, 16))))
    monkeypatch.setattr(DigitsLT, "resolution", 16, raising=False)
    assert planned(source).shape == [3, 16, 16]
    assert planned(source, resolution=32).shape == [3, 32, 32]
    monkeypatch.setattr(DigitsLT, "backbone", planned(source).backbone.name)
    assert planned(source).default_backbone
    assert not planned(source, resolution=32).default_backbone
    assert plan(method="grasp", task="digits-lt", backbone="tiny-sd3").shape == [1, 8, 8]
    monkeypatch.setattr(DigitsLT, "resolution", 512)
    assert planned(source).shape == [3, 32, 32]


def test_a_backbone_without_a_choice_says_so():
    with pytest.raises(UserError, match=r"--resolution 512: backbone tiny-sd3 makes images of 8 pixels"):
        plan(method="grasp", task="digits-lt", resolution=512)
    assert plan(method="grasp", task="digits-lt", resolution=8).spec == plan(method="grasp", task="digits-lt").spec


# Whole runs


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_run_by_its_recipe_records_whose_it_is_and_warns(source, tmp_path):
    chosen = planned(source, "lora", budget="smoke", method_settings=["learning_rate=0.01"])
    listener = runs.Listener()
    record = runs.finish(tmp_path, chosen, progress=listener)
    assert record.recipe == "sd3.5-medium"
    assert record.changed["method"] == {"learning_rate": 0.01}
    assert "warning: learning_rate=0.01 of method lora is far outside" in listener.said


def test_planning_imports_no_torch(folder):
    import subprocess

    code = (
        "import sys; from grasp_bench.run.plan import plan\n"
        f"found = plan(method='grasp', task='digits-lt', backbone={f'sd3:{folder}'!r})\n"
        "print(found.spec.method.settings['learning_rate'])\n"
        "assert not {'torch', 'diffusers', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout or "0")) == (0, 1e-4), done.stderr

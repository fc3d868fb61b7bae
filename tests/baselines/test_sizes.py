"""Sizes of methods: how many parameters each trains, and what follows from a parameter budget."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.attaching import attach, attached, size
from helpers.tiny_pipelines import save_sd3
from pydantic import ValidationError

from grasp_bench import plugins
from grasp_bench.backbones.recipes import recipe_of
from grasp_bench.contracts.sized import MISSED, SizedMethod, nearest
from grasp_bench.errors import UserError
from grasp_bench.estimate.configured import configured
from grasp_bench.estimate.simulate import SimulatedGpu
from grasp_bench.run.plan import plan, plan_of_spec
from grasp_bench.tasks.digits_lt import DigitsLT

BUDGET = recipe_of("tiny-sd3").parameters
LOADED = {name: plugins.load("methods", name) for name in plugins.entries("methods")}
Cm, Coral, Grasp, Lora, SharedAdapter = (LOADED[name] for name in ("cm", "coral", "grasp", "lora", "shared-adapter"))
SIZED = {name: kind for name, kind in LOADED.items() if issubclass(kind, SizedMethod)}


def test_the_nearest_size_is_chosen_and_the_larger_of_two_as_near() -> None:
    assert nearest(range(1, 100), lambda each: 10 * each, 123) == 12
    assert nearest(range(1, 100), lambda each: 10 * each, 125) == 13
    assert nearest(range(4, 100, 4), lambda each: each, 1) == 4
    assert nearest([2, 3], lambda each: each, 1000) == 3


@pytest.mark.parametrize("name", SIZED)
def test_the_defaults_are_the_sizes_of_the_tiny_backbones_budget(name: str) -> None:
    """So that a budget there would change no run; and sizes are counted before anything is attached."""
    backbone, by_default = attach(SIZED[name])
    assert abs(size(by_default) / BUDGET - 1) < MISSED or name in ("oft", "cluster-lora")
    by_default.detach()
    method = SIZED[name](SIZED[name].Config(parameters=BUDGET))
    task = DigitsLT(DigitsLT.Config())
    method.studied = {"attention.json": vars(by_default.found)} if name == "lora-attn" else {}
    assert method.find_sizes(backbone, task) == by_default.sizes


@pytest.mark.parametrize("name", SIZED)
def test_as_many_parameters_are_trained_as_are_counted(name: str) -> None:
    backbone, method = attach(SIZED[name], parameters=3 * BUDGET)
    method.detach()
    count = method.count(backbone, DigitsLT(DigitsLT.Config()))
    _, method = attach(SIZED[name], parameters=3 * BUDGET)
    assert size(method) == count(*method.sizes.values())
    assert abs(size(method) / (3 * BUDGET) - 1) < MISSED or name == "oft"


@pytest.mark.parametrize(
    ("name", "active"),
    [("lora", 43648), ("grasp", 43008 // 4), ("grasp-timestep", 43008 // 6), ("moe", 1792 + 21504), ("cm", 47616)],
)
def test_active_parameters_are_those_that_one_sample_uses(name: str, active: int) -> None:
    assert attached(name)[1].active_parameters() == active


def test_what_a_loss_on_top_adds_is_active_for_every_sample() -> None:
    _, method = attach(Coral, on="grasp")
    assert method.active_parameters() == 43008 // 4 + size(method) - 43008


def test_the_shared_adapter_is_as_wide_as_all_adapters_of_grasp_or_as_one() -> None:
    _, grasp = attach(Grasp)
    assert attach(SharedAdapter)[1].active_parameters() == size(grasp)
    assert attach(SharedAdapter, control="active")[1].active_parameters() == grasp.active_parameters()
    _, grasp = attach(Grasp, parameters=5 * BUDGET)
    _, active = attach(SharedAdapter, control="active", parameters=5 * BUDGET)
    assert active.sizes == grasp.sizes != {"rank": 12}
    assert size(active) == grasp.active_parameters()
    assert attach(SharedAdapter, control="active", rank=7)[1].sizes == {"rank": 7}


def test_cms_expert_and_its_general_weights_have_the_budget_together() -> None:
    for ratio in (0.1, 1.0):
        _, method = attach(Cm, parameters=5 * BUDGET, rank_ratio=ratio)
        assert abs(size(method) / (5 * BUDGET) - 1) < MISSED


def test_a_loss_on_top_hands_the_budget_to_the_method_beneath() -> None:
    _, method = attach(Coral, on="grasp", parameters=5 * BUDGET)
    assert method.sizes == method.beneath.sizes == attach(Grasp, parameters=5 * BUDGET)[1].sizes
    with pytest.raises(ValidationError, match="vanilla-ft has no size to choose"):
        Coral.Config(parameters=BUDGET)


def test_one_of_size_and_parameters_decides() -> None:
    with pytest.raises(ValidationError, match=r"rank=4 and parameters=1000: each decides"):
        Lora.Config(rank=4, parameters=1000)
    with pytest.raises(ValidationError, match="rank: it is none"):
        Lora.Config(rank=None)
    settings = Lora.Config(parameters=BUDGET)
    assert (settings.rank, settings.alpha) == (None, None)
    assert settings.changed() == {"parameters": BUDGET}
    _, method = attach(Lora, parameters=BUDGET)
    assert method.peft_model.peft_config["default"].lora_alpha == 11
    _, method = attach(Lora, parameters=BUDGET, alpha=22)
    assert method.peft_model.peft_config["default"].lora_alpha == 22


# Plans


@pytest.mark.parametrize("name", sorted(LOADED.keys() - {"lora-attn"}))
def test_plans_on_tiny_backbones_are_what_they_were(name: str) -> None:
    """Only how many layers ``lora-attn`` chooses depends on the classes that are rare, so its rank has to follow."""
    assert not {"parameters", "control"} & plan(method=name, task="digits-lt").spec.method.settings.keys()


def test_the_recipes_budget_decides_unless_the_size_is_given_by_hand(tmp_path) -> None:
    source = f"sd3:{save_sd3(tmp_path / 'pipeline', tmp_path / 'scratch')}"
    budget = recipe_of("sd3.5-medium").parameters

    def planned(name: str, *settings: str) -> tuple[dict[str, Any], Any]:
        found = plan(method=name, task="digits-lt", backbone=source, method_settings=settings)
        again = plan_of_spec(found.spec, backbone=source)
        assert (again.label, again.spec) == (found.label, found.spec)
        assert (
            plan(
                method=name,
                task="digits-lt",
                backbone=source,
                method_settings=[f"{name}={value}" for name, value in found.changed["method"].items()],
            ).spec
            == found.spec
        )
        return found.spec.method.settings, found

    for name in ("lora", "grasp", "lst", "cm"):
        settings, found = planned(name)
        assert settings["parameters"] == budget
        assert found.changed["method"] == {}
        assert "=" not in found.label
    assert settings.keys() >= {"on", "parameters"}
    settings, found = planned("lora", "rank=4")
    assert settings["rank"] == 4
    assert "parameters" not in settings
    assert found.changed["method"] == {"rank": 4}
    assert planned("lora", "parameters=1000")[1].changed["method"] == {"parameters": 1000}
    assert planned("shared-adapter", "control=active")[0]["parameters"] == budget
    assert "parameters" not in planned("vanilla-ft")[0]
    assert "parameters" not in planned("cbdm")[0]
    assert planned("cbdm", "on=lora")[0]["parameters"] == budget
    with pytest.raises(UserError, match="each decides on the size"):
        planned("lora", "rank=4", "parameters=1000")


# Backbones at their true size


@pytest.mark.parametrize(
    "alias",
    [
        "pixart-sigma",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("sd3.5-medium", "sana-0.6b", "flux-dev")),
    ],
)
def test_methods_are_alike_on_large_backbones(alias: str) -> None:
    budget, task = recipe_of(alias).parameters, DigitsLT(DigitsLT.Config())
    with SimulatedGpu():
        backbone = configured(alias)
        backbone.set_classes([info.prompt for info in task.classes()])
        layers = list(backbone.prompt_projections())
        for name, kind in SIZED.items():
            for chosen in [layers[:1], layers] if name == "lora-attn" else [[]]:
                method = kind(kind.Config(parameters=budget))
                study = {"effects": {}, "all_layers": 1.0, "chosen": chosen, "chosen_layers": 1.0}
                method.studied = {"attention.json": study}
                found = method.find_size(backbone, task)
                assert abs(method.count(backbone, task)(found) / budget - 1) < MISSED, (name, found)
                assert name != "lst" or found > 20

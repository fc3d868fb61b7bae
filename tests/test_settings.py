"""Settings from the command line: every mistake names what was found and what there is."""

import pytest

from grasp_bench.contracts.settings import Settings
from grasp_bench.errors import UserError
from grasp_bench.run.plan import plan


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (
            ["rnak=8"],
            "method grasp has no setting 'rnak'. Did you mean 'rank'? The settings of method grasp: learning_rate, ",
        ),
        (["rank"], "'rank': expected NAME=VALUE, for example"),
        (["rank=0"], "rank='0': Input should be greater than or equal to 1"),
        (["rank=x"], "rank='x': Input should be a valid integer"),
        (["rank=8", "rank=9"], "rank is set twice ('8' and '9')"),
        (["null_route=other"], "Input should be 'same', 'base' or 'null'"),
        (
            ["steps=5"],
            "method grasp has no setting 'steps': it belongs to the budget of task digits-lt and is the same for every "
            "method; use --budget. The settings of method grasp: learning_rate, weight_decay, ",
        ),
        (["class_order=9876543210"], "it belongs to task digits-lt and is the same for every method; use --task-set."),
        (["guidance_scale=3"], "it belongs to guidance cfg; use --guidance-set."),
        (["seed=3"], "it belongs to the run; use --seed."),
    ],
)
def test_mistakes(assignments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(method="grasp", task="digits-lt", method_settings=assignments)
    assert message in str(caught.value)


def test_labels_name_what_was_changed_and_nothing_else() -> None:
    found = plan(
        method="grasp", task="digits-lt", budget="smoke", guidance="none", method_settings=["rank=8", "scale=1.0"]
    )
    assert (found.task_label, found.label) == ("digits-lt~budget=smoke", "grasp+none~rank=8")
    assert (plan(method="lora", task="digits-lt").label) == "lora"


def test_a_class_order_must_name_each_digit_once() -> None:
    with pytest.raises(UserError, match="class_order='0000000000': each of the ten digits must appear once"):
        plan(method="grasp", task="digits-lt", task_settings=["class_order=0000000000"])


class Base(Settings):
    """What every one has."""

    draws: str = "natural"
    added = frozenset({"draws"})


class Derived(Base):
    """Another default of the same setting."""

    draws: str = "balanced"


def test_a_default_of_a_subclass_hides_no_setting() -> None:
    assert Base().model_dump() == {}
    assert Base(draws="balanced").model_dump() == {"draws": "balanced"}
    for draws in ("natural", "balanced"):
        assert Derived(draws=draws).model_dump() == {"draws": draws}
        assert Derived.model_validate(Derived(draws=draws).model_dump()).draws == draws
    assert Derived().changed() == {}
    assert Derived(draws="natural").changed() == {"draws": "natural"}

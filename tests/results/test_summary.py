import numpy as np
import pytest
from helpers.records import metric, record

from grasp_bench.contracts.record import Tuning
from grasp_bench.contracts.spec import Component
from grasp_bench.results.summary import joined, summarised


def runs(*names: str):
    return summarised([record(n, 0, [metric(m, "all", at + 0.5) for m in n[1:]]) for at, n in enumerate(names)])


def plain(found):
    """(Method, [(metric, value)]) of every run."""
    scores = list(zip(found.run.tolist(), found.key.tolist(), found.value.tolist(), strict=True))
    return [
        (run.method, [(found.keys[key].name, value) for at, key, value in scores if at == number])
        for number, run in enumerate(found.summaries)
    ]


def test_runs_keep_their_scores_in_any_choice_and_order():
    found = runs("xab", "y", "za")
    assert plain(found) == [("xab", [("a", 0.5), ("b", 0.5)]), ("y", []), ("za", [("a", 2.5)])]
    assert plain(found.at([2, 0])) == [plain(found)[2], plain(found)[0]]
    assert plain(found.at([])) == []
    assert plain(found.where(lambda run: run.method != "xab")) == plain(found)[1:]


def test_joining_is_having_read_both_at_once():
    first, second = runs("xab"), runs("zba", "y")
    expected = runs("xab", "zba", "y")
    together = joined(first, second)
    assert [name for name, _ in plain(together)] == [name for name, _ in plain(expected)]
    assert plain(together) == plain(first) + plain(second)
    assert plain(joined(summarised([]), first)) == plain(joined(first, summarised([]))) == plain(first)


def test_missing_values_are_nan():
    (score,) = [metric("a", "all", 0.5).model_copy(update={"value": None})]
    found = summarised([record("m", 0, [score])])
    assert np.isnan(found.value).all()
    assert np.isnan(found.floor).all()


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("lora", "--method lora"),
        ("lora~rank=32", "--method lora --set rank=32"),
        ("lora~learning_rate=0.01,rank=32", "--method lora --set learning_rate=0.01 --set rank=32"),
        ("lora+cfg~guidance_scale=3.0~rank=32", "--method lora --set rank=32"),
    ],
)
def test_the_command_sets_what_the_label_names(label, expected):
    run = record("lora", 0, label=label)
    settings = {"learning_rate": 0.01, "rank": 32, "weight_decay": 0.0}
    method = Component(name="lora", version="1", settings=settings)
    guidance = Component(name="cfg", version="1", settings={"guidance_scale": 3.0})
    spec = run.spec.model_copy(update={"method": method, "guidance": guidance})
    (found,) = summarised([run.model_copy(update={"spec": spec})]).summaries
    assert found.method_arguments == expected
    scaled = " --guidance-set guidance_scale=3.0" if "scale" in label else ""
    assert found.guidance_arguments == f"--guidance cfg{scaled}"


def test_the_command_names_budget_backbone_and_search():
    tuned = Tuning(trials=20, best=3, settings={"rank": 8})
    run = record("lora", 0, label="lora@tiny-sd3~tuned=20", task_label="digits-lt~budget=smoke", tuned=tuned)
    smoke = run.spec.model_copy(update={"budget": run.spec.budget.model_copy(update={"name": "smoke"})})
    (found,) = summarised([run.model_copy(update={"spec": smoke})]).summaries
    assert found.task_arguments == "--budget smoke --backbone tiny-sd3"
    assert found.method_arguments == "--method lora --tuned"


def test_a_patch_of_the_rules_leaves_runs_in_one_table():
    found = summarised([record("a", protocol={"rules": rules}) for rules in ("1.0", "1.0.1", "1.1", "2.0")])
    conditions = [run.conditions for run in found.summaries]
    assert conditions[0] == conditions[1]
    assert len(set(conditions)) == 3

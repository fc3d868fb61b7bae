import pytest
from helpers.records import BUDGET, metric, record

from grasp_bench.contracts.record import Tuning
from grasp_bench.results.sharing.rules import rule_checks

SCORES = [metric("recall", "all", 0.5)]


def run(method: str, seed: int, streams: str | None = "a", **fields):
    return record(method, seed, SCORES, streams=None if streams is None else streams * 64, **fields)


def outcomes(records, resamples=None) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for check in rule_checks(records, {each.run_id: False for each in records} | (resamples or {})):
        found.setdefault(check.what.partition(" ")[0], []).append((check.outcome, check.detail))
    return found


def test_five_seeds_of_two_methods_pass():
    records = [run(method, seed, "abcde"[seed]) for method in ("grasp", "lora") for seed in range(5)]
    found = outcomes(records)
    assert {outcome for each in found.values() for outcome, _ in each} == {"passed"}
    assert found["at"] == [("passed", "grasp: 0, 1, 2, 3, 4"), ("passed", "lora: 0, 1, 2, 3, 4")]
    assert [detail for _, detail in found["equal"]] == [f"seed {seed}, 2 of 2 runs" for seed in range(5)]


def test_streams_that_differ_at_a_seed_fail():
    ((outcome, detail),) = outcomes([run("grasp", 0, "a"), run("lora", 0, "b")])["equal"]
    assert outcome == "failed"
    assert detail == f"seed 0: grasp {'a' * 12}, lora {'b' * 12}"
    assert outcomes([run("grasp", 0, None)])["equal"][0][0] == "failed"


def test_a_method_that_resamples_classes_sees_an_order_of_its_own():
    balanced = run("grasp~sampling=balanced", 0, "b")
    ((outcome, detail),) = outcomes([run("lora", 0), run("moe", 0), balanced], {balanced.run_id: True})["equal"]
    assert (outcome, detail) == ("passed", "seed 0, 2 of 3 runs; grasp~sampling=balanced resamples classes")


def test_what_an_unknown_method_draws_cannot_be_told():
    unknown = run("mine", 0, "b")
    assert outcomes([run("lora", 0), unknown], {unknown.run_id: None})["equal"][0][0] == "unverifiable"


def test_another_task_version_or_budget_is_not_one_table():
    ((outcome, detail),) = outcomes([run("lora", 0), run("grasp", 0, task_version="2")])["one"]
    assert outcome == "failed"
    assert "grasp on digits-lt, seed 0: another task: version: 1 | 2" in detail
    assert outcomes([run("lora", 0), run("lora", 0, task="other")])["one"] == [("passed", "rules 1.0")] * 2


def test_a_pack_of_no_leaderboard_is_provisional():
    small = run("lora", 0)
    spec = small.spec.model_copy(update={"budget": BUDGET.model_copy(update={"name": "smoke"})})
    small = small.model_copy(update={"spec": spec, "run_id": spec.id})
    found = outcomes([small])
    assert found["the"][0] == ("provisional", "it is smoke")
    assert found["at"] == [("provisional", "lora: 0")]


@pytest.mark.parametrize(("trials", "expected"), [((), "passed"), ((20, 20), "passed"), ((20, 30), "provisional")])
def test_searches_of_other_lengths_are_told(trials, expected):
    tuned = [Tuning(trials=each, best=1, settings={}) for each in trials]
    records = [run(f"m{number}", 0, tuned=each) for number, each in enumerate([*tuned, None])]
    assert outcomes(records)["the"][1][0] == expected

import json

import pytest
from helpers.records import example, metric, record, reported, separated

from grasp_bench.results.formats import json_text, rendered


def test_json_round_trip():
    (board,) = json.loads(json_text(reported(example())))["leaderboards"]
    cells = {(each["label"], each["metric"], each["group"]): each for each in board["cells"]}
    assert cells["grasp", "fd", "tail"]["mean"] == 13
    values = [each["value"] for each in board["scores"] if (each["label"], each["metric"]) == ("grasp", "fd")]
    assert values[:3] == [12, 13, 14]
    assert cells["lora", "fd", "tail"]["low"] is None
    assert [(each["group"], each["reference"]) for each in board["references"]] == [("tail", 1.5), ("all", 0.5)]
    assert board["costs"][1] == {
        "label": "lora",
        "method": "lora",
        "guidance": "cfg",
        "settings": "",
        "versions": "",
        "tuned": None,
        "division": "closed",
        "declared": "",
        "default_guidance": True,
        "family": "lora",
        "seeds": [0],
        "provisional": True,
        "trainable_parameters": 1234,
        "active_parameters": None,
        "total_parameters": 600_000,
        "train_seconds": 60,
        "seconds_per_step": 0.1,
        "peak_memory_mib": 900,
        "checkpoint_mib": 1,
        "generate_seconds": 8,
        "network_evaluations_per_image": 40,
        "backward_passes_per_image": 0,
        "gflops_per_image": 1.5,
        "generate_peak_memory_mib": 800,
    }
    assert board["problems"][0]["status"] == "oom"


def test_an_infinite_f_is_null():
    """Methods that differ by the same at every seed leave no error."""
    runs = [
        record(name, seed, [metric("recall", "tail", at / 4 + seed / 16)])
        for at, name in enumerate("abc")
        for seed in range(4)
    ]
    report = reported(runs)
    assert report.leaderboards[0].judged["f_statistic"].tolist() == [float("inf")]
    (board,) = json.loads(json_text(report))["leaderboards"]
    assert board["judged"][0]["f_statistic"] is None


def test_json_holds_comparisons_and_differences():
    found = json.loads(json_text(reported(separated(), baseline="last")))
    cells = found["leaderboards"][0]["cells"]
    assert {each["primary"] for each in cells} == {False}
    assert found["leaderboards"][0]["judged"][0]["p_adjusted"] < 0.05
    assert [each["label"] for each in found["differences"][0]["found"]] == ["best", "alike"]
    assert found["across_tasks"] is None


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "csv", "json", "parquet"])
def test_equal_records_in_any_order_give_equal_bytes(form):
    runs = [*separated(), *example()]
    assert rendered(reported(runs), form) == rendered(reported(runs[::-1]), form)


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json", "latex"])
def test_only_failures_still_make_a_table(form):
    report = reported([record("moe", 0, status="cancelled", reason="Ctrl-C")])
    assert b"Ctrl-C" in rendered(report, form)

import json

import pytest
from helpers.records import example, record, reported, separated

from grasp_bench.results.render import FORMATS, json_text, rendered


def test_json_round_trip():
    (board,) = json.loads(json_text(reported(example())))["leaderboards"]
    assert board["metrics"][0]["scores"]["grasp"]["tail"]["mean"] == 13
    assert board["metrics"][0]["scores"]["grasp"]["tail"]["values"] == {"0": 12, "1": 13, "2": 14}
    assert board["metrics"][0]["scores"]["lora"]["tail"]["low"] is None
    assert board["metrics"][0]["floors"] == {"tail": 1.5, "all": 0.5}
    assert board["rows"][1] == {
        "label": "lora",
        "seeds": [0],
        "provisional": True,
        "cost": {
            "trainable_parameters": 1234,
            "train_seconds": 60,
            "seconds_per_step": 0.1,
            "peak_memory_mib": 900,
            "checkpoint_mib": 1,
            "network_evaluations_per_image": 40,
            "backward_passes_per_image": 0,
            "gflops_per_image": 1.5,
            "generate_peak_memory_mib": 800,
        },
    }
    assert board["problems"][0]["status"] == "oom"


def test_json_holds_tiers_and_differences():
    found = json.loads(json_text(reported(separated(), baseline="last")))
    scores = found["leaderboards"][0]["metrics"][0]["scores"]
    assert {method: cells["tail"]["tier"] for method, cells in scores.items()} == {"alike": 1, "best": 1, "last": 2}
    assert [each["method"] for each in found["differences"][0]["found"]] == ["best", "alike"]
    assert found["across_tasks"] is None


@pytest.mark.parametrize("form", FORMATS)
def test_equal_records_in_any_order_give_equal_bytes(form):
    runs = [*separated(), *example()]
    assert rendered(reported(runs), form) == rendered(reported(runs[::-1]), form)


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json", "latex"])
def test_only_failures_still_make_a_table(form):
    report = reported([record("moe", 0, status="cancelled", reason="Ctrl-C")])
    assert b"Ctrl-C" in rendered(report, form)

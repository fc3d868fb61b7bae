"""What is reported of planted gradients, in numbers and in words."""

import json

import numpy as np
import pytest

from grasp_bench.contracts.task import ClassInfo
from grasp_bench.diagnose.findings import cells, findings, plain
from grasp_bench.diagnose.words import paragraph

GROUPS = ("head", "medium", "tail")
INFOS = [ClassInfo(str(row), "", GROUPS[row // 3], 9) for row in range(9)]
BY_GROUP = {info.name: GROUPS.index(info.group) for info in INFOS}
ACROSS = {info.name: row % 3 for row, info in enumerate(INFOS)}
TOGETHER = np.zeros((9, 9), bool)
APART = np.arange(9)[:, None] // 3 != np.arange(9) // 3


def gradients(head_and_tail, seed=0, noise=0.3):
    """Two levels of six batches; at the second level tails have the direction ``head_and_tail`` times the head's."""
    rng = np.random.default_rng(seed)
    sign = np.array([1, 1, 1, 1, 1, 1, *[head_and_tail] * 3])[:, None]
    means = np.stack([np.ones((9, 1)), sign])[:, None] * np.eye(1, 16)
    return means + rng.normal(0, noise, (2, 6, 9, 16))


def found(values, apart=None, partitions=None):
    kinds = list(values)
    made = cells(values, dict.fromkeys(kinds, TOGETHER if apart is None else apart))
    rng = np.random.default_rng(0)
    numbers = findings(made, INFOS, GROUPS, partitions or {"group": BY_GROUP, "across": ACROSS}, rng, 199)
    context = {
        "label": "made-up",
        "task": "made",
        "run_seed": 0,
        "step": 5,
        "batches": 6,
        "batches_asked": 8,
        "levels": [[0, 0.5], [0.5, 1]],
        "left_out": ["x"],
        "kinds": dict.fromkeys(kinds),
        "no_partition": {"text": "there is no text."},
        "training": [],
    }
    return json.loads(json.dumps(context | numbers, allow_nan=False))


def between(result, null):
    (test,) = [test for test in result["tests"] if test["null"] == null and test["groups"] == ["head", "tail"]]
    return test


def test_a_conflict_is_found_where_it_is():
    result = found({"attention": gradients(-1.0), "modulation": gradients(1.0, 1)})
    cells_of = {(cell["kind"], cell["level"]): cell for cell in result["groups"]["cells"]}
    assert cells_of["attention", 1]["cosine"][0][2] == pytest.approx(-1, abs=0.1)
    assert cells_of["attention", 1]["low"][0][2] <= cells_of["attention", 1]["high"][0][2] < -0.8
    assert cells_of["modulation", 1]["cosine"][0][2] == pytest.approx(1, abs=0.1)
    test = between(result, "images")
    under = [(cell["kind"], cell["level"]) for cell in test["cells"] if cell["p_corrected"] <= 0.05]
    assert under == [("attention", 1), ("all", 1)]
    assert test["p_holm"] <= 0.05
    assert result["groups"]["gradients"] == 18
    text = paragraph(result)
    assert "head and tail are less aligned than if images had changed groups" in text
    assert "8 images were asked for; the rarest class has 6." in text
    assert "Left out: x." in text


def test_without_a_conflict_none_is_told():
    result = found({"attention": gradients(1.0)})
    assert result["whole"] == "attention"
    assert {cell["kind"] for cell in result["groups"]["cells"]} == {"attention"}
    assert between(result, "images")["p_holm"] > 0.05
    assert paragraph(result).count("head and tail are not shown to be less aligned") == 2


def test_the_partition_that_separates_the_conflict_stands_out():
    lifts = {each["partition"]: each for each in found({"attention": gradients(-1.0)})["lifts"]}
    assert lifts["group"]["low"] > 0
    assert lifts["group"]["p"] <= 0.05
    assert lifts["across"]["within"] < lifts["across"]["random"]


def test_a_partition_that_is_left_out_is_named_with_its_reason():
    text = paragraph(found({"attention": gradients(1.0)}))
    assert text.count("Left out is the partition by ") == 1
    assert "Left out is the partition by text: there is no text." in text


def test_groups_that_share_no_parameter_are_said_to_and_not_tested():
    result = found({"attention": gradients(1.0)}, apart=APART)
    (cell, _) = result["groups"]["cells"]
    assert cell["cosine"][0][2] is None
    assert cell["cosine"][0][0] == 1
    assert cell["apart"][0] == [False, True, True]
    assert {test["p_holm"] for test in result["tests"]} == {None}
    assert result["lifts"] == []
    text = paragraph(result)
    assert "head and tail share no trainable parameter" in text
    assert "How partitions compare is not measurable" in text


def test_what_has_no_length_is_no_cell_and_leaves_the_others_their_test():
    alone = between(found({"attention": gradients(-1.0)}), "images")
    beside = between(found({"attention": gradients(-1.0), "unused": np.zeros((2, 6, 9, 3))}), "images")
    assert alone["p_holm"] <= 0.05
    assert beside["p_holm"] <= 0.05
    assert {cell["p"] for cell in beside["cells"] if cell["kind"] == "unused"} == {None}


def test_noise_alone_is_not_measurable():
    lost = gradients(1.0, noise=1) - gradients(1.0, noise=0)
    result = found({"attention": lost})
    unmeasured = [value for cell in result["classes"]["cells"] for row in cell["cosine"] for value in row]
    assert None in unmeasured
    assert all(each["p"] is None for each in result["lifts"] if each["random"] is None)
    assert "not measurable" in paragraph(result)


def test_training_is_told():
    result = found({"attention": gradients(1.0)})
    usage = {"head": [0.75, 0.25], "tail": [0.25, 0.75]}
    result["training"] = [
        {"step": 1, "group_loss": {"head": 1.0, "tail": None}, "method": {}},
        {"step": 5, "group_loss": {"head": 0.5, "tail": 0.7}, "method": {"expert_usage": usage}},
    ]
    text = paragraph(result)
    assert "Training loss from step 1 to 5: head 1.000 to 0.500." in text
    assert "differ in 50.0% of their choices of experts, and the most used expert of tail has 75.0%" in text


def test_numbers_become_json():
    assert plain(np.array([[1 / 3, np.nan], [np.inf, 2]])) == [[0.333333, None], [None, 2.0]]
    assert plain(np.array([True])) == [True]
    assert plain(np.int64(3)) == 3

import pytest
from helpers.records import boards, metric, record, reported

from grasp_bench.errors import UserError
from grasp_bench.results.comparisons import differences
from grasp_bench.results.formats import terminal
from grasp_bench.results.tables import sections


def runs(seeds=range(5), methods=(("base", 0.5), ("better", 0.6), ("worse", 0.3))):
    return [
        record(m, seed, [metric("recall", "tail", value + 0.01 * seed * (1 + (m == "better")))])
        for m, value in methods
        for seed in seeds
    ]


def test_differences_are_paired_over_seeds():
    (found,) = differences(boards(runs()), "base", "permutation")
    by_method = {each.label: each for each in found.found.itertuples()}
    assert set(by_method) == {"better", "worse"}
    better = by_method["better"]  # differences 0.1 + 0.01 · seed: mean 0.12, deviation 0.0158, t(0.975, 4) = 2.776445
    assert better.difference == pytest.approx(0.12)
    half = 2.776445 * 0.0158114 / 5**0.5
    assert (better.difference_low, better.difference_high) == pytest.approx((0.12 - half, 0.12 + half), rel=1e-5)
    assert (better.pairs, better.p) == (5, 0.0625)
    assert by_method["worse"].difference == pytest.approx(-0.2)


def noisy(name, groups=("tail",), seeds=range(5), lower=False):
    """Three methods with a little noise; "same" is as good as "base"."""
    noise = [[0.01, -0.02, 0.015, 0.0, -0.005], [0.0, 0.02, -0.01, 0.005, 0.012], [-0.01, 0.004, 0.02, -0.015, 0.0]]
    return [
        record(m, seed, [metric(name, group, value * (1 + noise[at][seed]), lower=lower) for group in groups])
        for at, (m, value) in enumerate((("base", 50.0), ("half", 25.0), ("same", 50.0)))
        for seed in seeds
    ]


def test_a_primary_metric_has_simultaneous_intervals_and_other_groups_a_false_discovery_rate():
    (found,) = differences(boards(noisy("coverage", ("head", "tail"))), "base", "model")
    by_place = found.found.set_index(["group", "label"])
    width = by_place["difference_high"] - by_place["difference_low"]
    assert width["tail", "half"] > 1.05 * width["head", "half"]
    assert by_place["p_adjusted"]["head", "half"] == pytest.approx(2 * by_place["p"]["head", "half"])
    assert by_place["significant"].to_dict() == {
        ("head", "half"): True,
        ("head", "same"): False,
        ("tail", "half"): True,
        ("tail", "same"): False,
    }


def test_a_distance_differs_by_a_ratio():
    (found,) = differences(boards(noisy("fd", lower=True)), "base", "model")
    half = found.found.set_index("label").loc["half"]
    assert (half["scale"], half["difference"]) == ("log", pytest.approx(-0.5, abs=0.02))
    assert half["difference_low"] < half["difference"] < half["difference_high"] < -0.4
    text = terminal(sections(reported(noisy("fd", lower=True), baseline="base")), 120)
    assert "\N{MINUS SIGN}50 % (\N{MINUS SIGN}5" in text


def test_too_few_seeds_are_told():
    (found,) = differences(boards(noisy("coverage")), "base", "permutation")
    assert not found.found["significant"].any()
    assert any("With 5 seeds the exact paired permutation test can show nothing" in each for each in found.notes)


def test_only_common_seeds_count():
    mixed = runs(range(4), [("base", 0.5)]) + runs(range(2, 8), [("other", 0.7)])
    (found,) = differences(boards(mixed), "base", "t")
    assert found.found["pairs"].to_list() == [2]
    assert found.found[["difference_low", "difference_high"]].isna().all(axis=None)


def test_a_task_without_the_baseline_says_so():
    found_boards = boards([*runs(), record("alone", 0, [metric("recall", "tail", 0.5)], task="other")])
    found = differences(found_boards, "base", "permutation")
    assert [len(each.found) for each in found] == [2, 0]
    assert found[1].notes == ("base has no finished run here.",)


def test_a_method_means_its_row_with_the_default_guidance_and_settings():
    variants = [
        ("base~rank=2", {"changed": {"method": {"rank": 2}}}),
        ("base+none", {"default_guidance": False}),
        ("base~tuned=8", {}),
        ("base@sana", {"default_backbone": False, "backbone_label": "sana"}),
        ("other", {}),
    ]
    runs = [
        record(label[:4] if label != "other" else label, seed, [metric("recall", "tail", 0.5)], label=label, **fields)
        for label, fields in variants
        for seed in range(3)
    ]
    (found,) = differences(boards(runs), "base", "t")
    assert found.baseline == "base~tuned=8"
    assert set(found.found["label"]) == {label for label, _ in variants} - {"base~tuned=8"}
    (found,) = differences(boards(runs), "base+none", "t")
    assert found.baseline == "base+none"


def test_an_unknown_baseline_names_those_there_are():
    with pytest.raises(UserError, match=r"--baseline bas: .* Did you mean 'base'\? There are: base, better, worse"):
        differences(boards(runs()), "bas", "permutation")


def test_they_are_printed_with_sign_interval_and_p():
    text = terminal(sections(reported(runs(range(9)), baseline="base", test="permutation")), 100)
    assert "difference to base" in text
    assert "recall ↑  better  cfg       closed    tail   +0.140 ± 0.021      9  0.0039    0.0039" in text
    assert "recall ↑  worse   cfg       closed    tail   \N{MINUS SIGN}0.200 ± 0.000" in text


def test_what_is_the_same_for_all_methods_is_not_compared():
    scores = [
        metric("recall", "tail", 0.5),
        metric("accuracy_real", "tail", 0.7),
        metric("f1_real_balanced", "tail", 0.7),
    ]
    found_boards = boards([record(name, seed, scores) for name in ("base", "other") for seed in range(3)])
    (found,) = differences(found_boards, "base", "t")
    assert found.found["metric"].to_list() == ["recall"]
    assert any("trained on real images are left out" in note for note in found.notes)

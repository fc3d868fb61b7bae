"""A conventional distance over the whole test set, beside those of groups at equal counts, where a task asks for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grasp_bench.contracts.record import Score
from grasp_bench.contracts.task import Split
from grasp_bench.metrics.frechet import frechet_distance
from grasp_bench.metrics.labelled import LabelledFeatures
from grasp_bench.metrics.registry import feature_metrics
from grasp_bench.run.pipeline import stage_inputs
from grasp_bench.run.plan import plan
from grasp_bench.run.scoring import Evidence, Named, Seen, score_run, whole_scores
from grasp_bench.tasks.digits_lt import DigitsLT, DigitsSettings
from grasp_bench.tasks.nih_lt import NihLTGen

METRICS = feature_metrics()


def features(kind: str, n: int, shift: float = 0.0) -> LabelledFeatures:
    drawn = np.random.default_rng(len(kind)).normal(shift, 1, (n, 5))
    return LabelledFeatures(drawn, np.arange(n) % 10, [f"{kind}/{row:04}" for row in range(n)])


def evidence(real: int, fake: int, train: int) -> Evidence:
    tests = {"test": Split([], np.arange(real) % 10, [], lambda indices: indices)}
    sets = features("real", real), features("made", fake, 1.0), features("train", train)
    probabilities = {"real": {"test": np.full((1, real, 10), 0.1)}}
    return Evidence([Seen("inception", None, *sets)], tests, probabilities)


def test_all_test_images_and_as_many_generated_ones_are_compared() -> None:
    (given,) = evidence(80, 80, 80).seen
    (score,) = whole_scores(given, METRICS, Named("inception", True, False, None))
    assert (score.metric, score.group, score.scope, score.n) == ("fd", "all", "whole test set", 80)
    assert score.label == "FID, whole test set"
    assert score.value == pytest.approx(frechet_distance(given.real.features, given.fake.features))
    assert score.reference == pytest.approx(frechet_distance(given.real.features, given.train.features))
    assert score.value > score.reference
    assert whole_scores(given, METRICS, Named("dinov2", False, False, None))[0].label == "FD(dinov2), whole test set"


def test_of_the_kind_with_more_images_as_many_are_drawn_whatever_the_order_of_rows() -> None:
    (given,), named = evidence(200, 60, 50).seen, Named("inception", False, False, None)
    (score,) = whole_scores(given, METRICS, named)
    assert (score.n, score.reference) == (60, None)
    order = np.random.default_rng(3).permutation(200)
    real = given.real
    mixed = LabelledFeatures(real.features[order], real.labels[order], [real.ids[row] for row in order])
    assert whole_scores(replace(given, real=mixed), METRICS, named) == [score]
    assert whole_scores(evidence(200, 1, 50).seen[0], METRICS, named)[0].value is None


def test_only_tasks_that_ask_for_it_have_it_and_their_other_scores_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, given = DigitsLT(DigitsSettings()), evidence(200, 100, 100)
    without = score_run(task, "digits-lt", given)[0]
    plain = stage_inputs(plan(method="lora", task="digits-lt"))["score"]
    assert {score.scope for score in without} == {"group", "class mean", "worst class"}
    monkeypatch.setattr(DigitsLT, "whole_test", True)
    with_it = score_run(task, "digits-lt", given)[0]
    assert [score for score in with_it if score.scope != "whole test set"] == without
    assert len(with_it) == len(without) + 1
    assert stage_inputs(plan(method="lora", task="digits-lt"))["score"] == plain | {"whole_test": True}
    assert NihLTGen.whole_test
    places = [Score.model_validate(score.model_dump()).place for score in with_it]
    assert len(set(places)) == len(places)

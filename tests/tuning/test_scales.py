"""A trial is sampled at several guidance scales, and the best trials are repeated at other seeds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import runs

from grasp_bench.errors import NonFiniteError, UserError
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan
from grasp_bench.tuning import search
from grasp_bench.tuning.chosen import with_tuned
from grasp_bench.tuning.objective import Target
from grasp_bench.tuning.search import SCALES, scales_of, tune
from grasp_bench.tuning.trials import TuningRecord, read_tuning, tuning_path

pytestmark = pytest.mark.usefixtures("quick")

Asked = tuple[float, float, int]
"""Learning rate, guidance scale and seed of images that are scored."""


class Scores:
    """Instead of training, images score how far they are from the scale that is best for their learning rate."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.stop_after: int | None = None
        self.luck: dict[int, float] = {}
        """Seed → what is added for rates above 0.005."""

    def __call__(self, target: Target, pipeline: Pipeline) -> float:
        if self.stop_after == len(self.asked):
            raise KeyboardInterrupt
        rate, scale, seed = (
            pipeline.plan.method.config.learning_rate,
            pipeline.plan.guidance.config.guidance_scale,
            pipeline.plan.spec.seed,
        )
        self.asked.append((rate, scale, seed))
        best = 1.2 if rate < 0.005 else 2.5
        return float(10 + abs(np.log10(rate) + 2) + abs(scale - best) + (rate > 0.005) * self.luck.get(seed, 0.0))


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Scores:
    found = Scores()
    monkeypatch.setattr(Target, "distance", lambda self, pipeline: found(self, pipeline))
    return found


def tuned(folder: Path, trials: int = 4, **changes) -> TuningRecord:
    found = tune(runs.small(), trials, runs.options(folder), runs.Listener(), **changes)
    assert isinstance(found, TuningRecord)
    assert read_tuning(tuning_path(folder / "results", runs.small())) == found
    return found


def test_every_trial_is_scored_at_every_scale_and_the_best_two_at_two_more_seeds(
    tmp_path: Path, scores: Scores
) -> None:
    found = tuned(tmp_path)
    assert found.search.scales == list(SCALES)
    by_seed = Counter(seed for _, _, seed in scores.asked)
    assert by_seed == {1000: 4 * 6, 1001: 2 * 6, 1002: 2 * 6}
    finalists = [trial.number for trial in sorted(found.trials, key=lambda trial: trial.score)[:2]]
    assert sorted((each.number, each.seed) for each in found.repeats) == sorted(
        (number, seed) for number in finalists for seed in (1001, 1002)
    )
    for trial in (*found.trials, *found.repeats):
        assert [each.scale for each in trial.scores] == list(SCALES)
        best = min(trial.scores, key=lambda each: each.score)
        assert (trial.scale, trial.score) == (best.scale, best.score)
    assert tuned(tmp_path) == found
    assert len(scores.asked) == 48  # nothing is rerun


def test_the_choice_is_by_the_mean_over_the_seeds(tmp_path: Path, scores: Scores) -> None:
    first = tuned(tmp_path / "alike")
    rates = {trial.number: trial.settings["learning_rate"] for trial in first.trials}
    assert rates[first.best] > 0.005
    assert first.scale == 2.5
    scores.luck = {1001: 3.0}  # which makes one lucky at the seed of the trials alone
    found = tuned(tmp_path / "lucky")
    assert [each.score for each in found.trials] == [each.score for each in first.trials]
    repeated = {
        run.number: [run, *(each for each in found.repeats if each.number == run.number)] for run in found.finalists
    }
    pairs = {(number, at): [run.by_scale[at] for run in each] for number, each in repeated.items() for at in SCALES}
    best, scale = min(pairs, key=lambda pair: np.mean(pairs[pair]))
    assert (found.best, found.scale) == (best, scale)
    assert found.score == pytest.approx(np.mean(pairs[best, scale]))
    assert all(len(each) == 3 for each in pairs.values())


@pytest.mark.parametrize("made", [3, 8, 25, 40])
def test_a_search_goes_on_scale_by_scale_wherever_it_was_killed(tmp_path: Path, scores: Scores, made: int) -> None:
    whole = tuned(tmp_path / "whole")
    expected, scores.asked = scores.asked, []
    scores.stop_after = made
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path)
    kept = read_tuning(tuning_path(tmp_path / "results", runs.small()))
    assert sum(len(trial.scores) for trial in (*kept.trials, *kept.repeats)) == made
    assert len(kept.made) == min(made // 6, 4)
    scores.stop_after = None
    again = tuned(tmp_path)
    assert scores.asked == expected
    left_out = {"__all__": {"seconds", "environment"}}
    assert again.model_dump(exclude={"trials": left_out, "repeats": left_out}) == whole.model_dump(
        exclude={"trials": left_out, "repeats": left_out}
    )


def test_a_scale_at_which_images_are_not_finite_has_no_score_and_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distance = Target.distance

    def diverged(self: Target, pipeline: Pipeline) -> float:
        if pipeline.plan.guidance.config.guidance_scale == 2.0:
            pipeline.folder("train")
            raise NonFiniteError("an image is not finite")
        return distance(self, pipeline)

    monkeypatch.setattr(Target, "distance", diverged)
    monkeypatch.setattr(search, "REPEAT_SEEDS", ())
    found = tuned(tmp_path, 1, scales=[1.0, 2.0])
    (trial,) = found.trials
    assert trial.status == "finished"
    assert [(each.scale, each.score is None, each.reason) for each in trial.scores] == [
        (1.0, False, None),
        (2.0, True, "an image is not finite"),
    ]
    assert (found.best, found.scale) == (0, 1.0)


def test_a_training_that_is_not_finite_is_not_made_again_for_other_scales(
    tmp_path: Path, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def diverged(self: Target, pipeline: Pipeline) -> float:
        calls.append(pipeline.plan.guidance.config.guidance_scale)
        raise NonFiniteError("the loss of step 3 is nan")

    monkeypatch.setattr(Target, "distance", diverged)
    found = tuned(tmp_path, 1)
    assert [(each.status, each.reason) for each in found.trials] == [("non-finite", "the loss of step 3 is nan")]
    assert (calls, found.best, found.repeats) == ([1.0], None, [])


def test_scales_may_be_named_and_another_choice_of_them_is_another_search(tmp_path: Path, scores: Scores) -> None:
    found = tuned(tmp_path, 1, scales=[2.0, 1.0])
    assert found.search.scales == [1.0, 2.0]
    progress = runs.Listener()
    tune(runs.small(), 1, runs.options(tmp_path), progress)
    assert "kept as grasp.earlier-1.json" in progress.said


def test_scales_are_those_of_classifier_free_guidance_alone(tmp_path: Path) -> None:
    assert scales_of(runs.small()) == list(SCALES)
    assert scales_of(runs.small(guidance_settings=["guidance_scale=4.5"])) == [*SCALES, 4.5]
    assert scales_of(runs.small(guidance="none")) == []
    assert scales_of(runs.small(guidance="cfg-interval")) == []
    with pytest.raises(UserError, match="--scales: guidance none"):
        tune(runs.small(guidance="none"), 1, runs.options(tmp_path), runs.Listener(), scales=[1.0])
    assert not list(tmp_path.iterdir())


def test_a_tuned_run_has_the_settings_and_the_scale(tmp_path: Path, scores: Scores) -> None:
    found = tuned(tmp_path)
    results = tmp_path / "results"
    rate = found.trials[found.best].settings["learning_rate"]
    here = with_tuned(runs.small(), results)
    assert (here.method.config.learning_rate, here.guidance.config.guidance_scale) == (rate, 2.5)
    assert here.spec.guidance.settings == {"guidance_scale": 2.5}
    assert here.label == "grasp+cfg~guidance_scale=2.5~tuned=4"
    for guidance in ("none", "cfg-interval"):
        other = with_tuned(runs.small(guidance=guidance), results)
        assert other.spec.guidance == runs.small(guidance=guidance).spec.guidance
        assert (other.method.config.learning_rate, other.tuned.scale) == (rate, None)


def test_a_scale_that_is_given_by_hand_stays_and_is_named_though_it_is_the_default(
    tmp_path: Path, scores: Scores
) -> None:
    tuned(tmp_path)
    results = tmp_path / "results"
    by_hand = with_tuned(runs.small(guidance_settings=["guidance_scale=2"]), results)
    assert by_hand.guidance.config.guidance_scale == 2
    assert by_hand.label == "grasp+cfg~guidance_scale=2.0~tuned=4"
    words = by_hand.command()
    assert "guidance_scale=2.0" in words
    again = plan(
        method="grasp", task="digits-lt", budget="smoke", guidance_settings=[words[words.index("--guidance-set") + 1]]
    )
    assert with_tuned(again, results).spec.id == by_hand.spec.id


def test_a_search_of_schema_1_chooses_settings_and_leaves_the_scale(tmp_path: Path, scores: Scores) -> None:
    found = tuned(tmp_path, 1).model_dump(mode="json")
    path = tuning_path(tmp_path / "results", runs.small())
    for name in ("scales", "repeat_seeds"):
        del found["search"][name]
    for name in ("repeats", "scale", "score"):
        del found[name]
    for name in ("scores", "scale", "seed"):
        del found["trials"][0][name]
    path.write_text(json.dumps(found | {"schema_version": 1}))
    old = with_tuned(runs.small(), tmp_path / "results")
    assert (old.spec.id, old.tuned.scale) == (runs.small().spec.id, None)


def test_every_committed_search_is_read() -> None:
    paths = sorted(Path("results").glob("*/tuning/**/*.json"))
    assert paths
    for path in paths:
        assert read_tuning(path).best is not None

"""The search: what it scores, what it keeps, and how it goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from helpers import runs
from helpers.tiny_pipelines import save_sd3
from pydantic import Field
from scipy.linalg import sqrtm

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.grasp import Grasp, GraspSettings
from grasp_bench.contracts.record import Sampler
from grasp_bench.contracts.settings import Tuned
from grasp_bench.errors import NonFiniteError, Skip, UserError
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan
from grasp_bench.tasks.digits_lt import DigitsLT
from grasp_bench.tuning import search
from grasp_bench.tuning.chosen import with_settings
from grasp_bench.tuning.objective import Target
from grasp_bench.tuning.search import tune
from grasp_bench.tuning.trials import Trial, TuningRecord, read_tuning

pytestmark = pytest.mark.usefixtures("quick")

FILE = "results/digits-lt~budget=smoke/tuning/grasp.json"


class Unread:
    """Stands for images that nothing may look at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("the test set was read")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Instead of training, every trial scores its distance from a learning rate of 0.01; those that were tried.

    No scale but the default is tried, and nothing is repeated.
    """
    tried: list[float] = []
    monkeypatch.setattr(search, "SCALES", ())
    monkeypatch.setattr(search, "REPEAT_SEEDS", ())

    def distance(self: Target, pipeline: Pipeline) -> float:
        tried.append(pipeline.plan.method.config.learning_rate)
        return float(abs(np.log10(tried[-1]) + 2))

    monkeypatch.setattr(Target, "distance", distance)
    return tried


def tuned(
    folder: Path, trials: int, progress: runs.Listener | None = None, sampler: Sampler = "halton"
) -> TuningRecord:
    found = tune(runs.small(), trials, runs.options(folder), progress or runs.Listener(), sampler)
    assert isinstance(found, TuningRecord)
    assert read_tuning(folder / FILE) == found
    return found


@pytest.mark.slow
def test_a_trial_is_scored_on_validation_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = DigitsLT.open
    monkeypatch.setattr(
        DigitsLT, "open", lambda self, folder, shape: replace(opened(self, folder, shape), test=Unread())
    )
    monkeypatch.setattr(search, "SCALES", (1.0,))
    monkeypatch.setattr(search, "REPEAT_SEEDS", ())
    found = tuned(tmp_path, 2)
    default, other = found.trials
    assert (default.reason, other.reason) == (None, None)
    assert default.settings == {"learning_rate": 0.03} != other.settings
    assert found.best == (default.score > other.score)
    assert found.search.images == 80  # eight of each class, as the budget has it, though validation has more
    assert len(list((tmp_path / "work/train").glob("*/train.json"))) == 2
    assert evaluations(tmp_path, default) == {1.0: 4, 2.0: 8}  # of four steps: one forward pass each without guidance

    spec = found.search.spec
    assert (spec.seed, spec.budget.images_per_class, spec.id) == (1000, 8, default.run_id)
    plan = runs.small(seed=1000)
    chosen = with_settings(replace(plan, spec=spec), other.settings)
    assert chosen.spec.id == other.run_id
    at_scale = with_settings(chosen, {"guidance_scale": other.scale}, "guidance")
    pipeline = Pipeline(at_scale, runs.options(tmp_path), "cpu", runs.Listener())
    validation, images = pipeline.data.validation, pipeline.images
    fake = pipeline.extractor.features(images.all_images())
    real = search.make_target(pipeline, np.full(10, 8)).features
    assert other.score == pytest.approx(frechet(real, fake), rel=1e-6)
    known = {tuple(row.round(6)) for row in pipeline.extractor.features(validation.all_images())}
    assert len(real) == 80
    assert {tuple(row.round(6)) for row in real} <= known


def evaluations(folder: Path, trial: Trial) -> dict[float, float]:
    """Guidance scale → network evaluations per image, of a trial's generated images."""
    found = {}
    for path in (folder / "work/generate").glob("*/stage.json"):
        inputs = json.loads(path.read_text())["inputs"]
        if trial.number == 0:
            summary = json.loads((path.parent / "generate.json").read_text())
            found[inputs["guidance"]["settings"]["guidance_scale"]] = summary["network_evaluations_per_image"]
    return found


def frechet(real: np.ndarray, fake: np.ndarray) -> float:
    difference, a, b = real.mean(0) - fake.mean(0), np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    return float(difference @ difference + np.trace(a + b - 2 * sqrtm(a @ b).real))


def test_the_best_trial_is_the_one_with_the_smallest_score(tmp_path: Path, scored: list[float]) -> None:
    found = tuned(tmp_path, 8)
    assert [trial.settings["learning_rate"] for trial in found.trials] == scored
    assert scored[found.best] == min(scored, key=lambda rate: abs(np.log10(rate) + 2))
    assert json.loads((tmp_path / FILE).read_text())["best"] == found.best


@pytest.mark.parametrize(("sampler", "made", "trials"), [("halton", 3, 5), ("tpe", 12, 14)])
def test_a_search_goes_on_where_it_was_interrupted(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch, sampler: Sampler, made: int, trials: int
) -> None:
    if sampler == "tpe":
        pytest.importorskip("optuna", reason="optuna is not installed")
    whole = tuned(tmp_path / "whole", trials, sampler=sampler)
    scored.clear()
    distance = Target.distance

    def interrupted(self: Target, pipeline: Pipeline) -> float:
        if len(scored) == made:
            raise KeyboardInterrupt
        return distance(self, pipeline)

    with monkeypatch.context() as patch:
        patch.setattr(Target, "distance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path, trials, sampler=sampler)
    assert len(read_tuning(tmp_path / FILE).trials) == made
    again = tuned(tmp_path, trials, sampler=sampler)
    assert len(scored) == trials
    assert told(again) == told(whole)


def test_a_search_by_another_sampler_is_another_search(tmp_path: Path, scored: list[float]) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    before, progress = tuned(tmp_path, 2), runs.Listener()
    after = tuned(tmp_path, 2, progress, "tpe")
    assert (before.search.sampler, after.search.sampler) == ("halton", "tpe")
    assert [each.settings for each in after.trials] == [each.settings for each in before.trials]
    assert read_tuning(tmp_path / FILE.replace("grasp.json", "grasp.earlier-1.json")) == before
    assert "another sampler" in progress.said


def test_trials_that_failed_are_made_again_with_the_settings_that_they_had(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    distance = Target.distance

    def broken(self: Target, pipeline: Pipeline) -> float:
        found = distance(self, pipeline)
        if len(scored) == 12:
            raise RuntimeError("no luck")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Target, "distance", broken)
        found = tuned(tmp_path, 14, sampler="tpe")
    again = tuned(tmp_path, 14, sampler="tpe")
    assert [each.status for each in found.trials].count("failed") == 1
    assert [each.settings for each in again.trials] == [each.settings for each in found.trials]
    assert {each.status for each in again.trials} == {"finished"}
    assert len(scored) == 15


def test_more_trials_extend_a_search_and_fewer_leave_it(tmp_path: Path, scored: list[float]) -> None:
    few = tuned(tmp_path, 3)
    more = tuned(tmp_path, 6)
    assert more.trials[:3] == few.trials
    assert len(scored) == 6
    assert tuned(tmp_path, 3) == more
    assert len(scored) == 6


def test_trials_without_a_score_are_kept_and_failed_ones_made_again(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    distance = Target.distance

    def broken(self: Target, pipeline: Pipeline) -> float:
        found = distance(self, pipeline)
        if len(scored) == 1:
            raise NonFiniteError("the loss of step 3 is nan")
        if len(scored) == 2:
            raise RuntimeError("no luck")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Target, "distance", broken)
        found = tuned(tmp_path, 3)
    assert [(each.status, each.score is None, each.reason) for each in found.trials] == [
        ("non-finite", True, "the loss of step 3 is nan"),
        ("failed", True, "RuntimeError: no luck"),
        ("finished", False, None),
    ]
    assert found.best == 2
    again = tuned(tmp_path, 3)
    assert [each.status for each in again.trials] == ["non-finite", "finished", "finished"]
    assert len(scored) == 4


def test_a_mistake_of_the_users_ends_the_search(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Target, pipeline: Pipeline) -> float:
        raise UserError("the disk is full")

    monkeypatch.setattr(Target, "distance", full)
    with pytest.raises(UserError, match="the disk is full"):
        tuned(tmp_path, 3)
    assert not (tmp_path / FILE).exists()


class WiderSettings(GraspSettings):
    learning_rate: Annotated[float, Tuned(1e-5, 1, log=True)] = Field(default=3e-2, gt=0, le=1)


class Wider(Grasp):
    Config = WiderSettings


class Newer(Grasp):
    version = f"{Grasp.version} and later"


@pytest.mark.parametrize("changed", [Wider, Newer])
def test_a_search_of_another_range_or_version_begins_anew(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch, changed: type[Grasp]
) -> None:
    before = tuned(tmp_path, 2)
    monkeypatch.setattr("grasp_bench.baselines.grasp.Grasp", changed)
    progress = runs.Listener()
    after = tuned(tmp_path, 2, progress)
    assert len(scored) == 4
    assert len(after.trials) == 2
    assert read_tuning(tmp_path / FILE.replace("grasp.json", "grasp.earlier-1.json")) == before
    assert "kept as grasp.earlier-1.json" in progress.said


def test_tokens_that_cannot_skip_blocks_are_one_reason_and_no_trial(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinySD3, "needs_all_tokens", "it mixes them")
    skip = tune(runs.small(method_settings=["tread=0.5"]), 2, runs.options(tmp_path), runs.Listener())
    assert isinstance(skip, Skip)
    assert skip.reason.endswith("cannot: it mixes them")
    assert not scored


def test_a_search_that_cannot_be_moved_aside_is_kept_and_told(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tuned(tmp_path, 1)
    monkeypatch.setattr("grasp_bench.baselines.grasp.Grasp", Wider)

    def refused(*_: object) -> Path:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refused)
        with pytest.raises(UserError, match=r"grasp\.json: cannot be written \(Permission denied\)"):
            tuned(tmp_path, 1)
    assert read_tuning(tmp_path / FILE) == before


def test_a_method_that_does_not_apply_says_why(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Grasp, "supports", lambda self, backbone, task: Skip("not here"))
    assert tune(runs.small(), 2, runs.options(tmp_path), runs.Listener()) == Skip("not here")
    assert not scored


def test_a_task_without_validation_images_cannot_be_tuned_on(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = DigitsLT.open

    def without(self: DigitsLT, folder: Path, shape: tuple[int, int, int]) -> Any:
        data = opened(self, folder, shape)
        return replace(data, validation=replace(data.validation, ids=[], prompts=[], labels=data.test.labels[:0]))

    monkeypatch.setattr(DigitsLT, "open", without)
    with pytest.raises(UserError, match="0 validation images"):
        tuned(tmp_path, 2)


def test_what_a_private_task_said_is_not_kept(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Target, pipeline: Pipeline) -> float:
        raise RuntimeError("patient 1234")

    monkeypatch.setattr(Target, "distance", broken)
    monkeypatch.setattr(DigitsLT, "private", True)
    found = tuned(tmp_path, 1)
    assert found.best is None
    assert "patient 1234" not in (tmp_path / FILE).read_text()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-20], "not a search"),
        (lambda text: text.replace('"best": 0', '"best": 1'), "best is trial 1"),
    ],
    ids=["cut off", "another best"],
)
def test_a_damaged_file_is_named(tmp_path: Path, scored: list[float], damage: Any, message: str) -> None:
    tuned(tmp_path, 1)
    path = tmp_path / FILE
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=message) as caught:
        tuned(tmp_path, 2)
    assert str(path) in str(caught.value)
    assert len(scored) == 1


def told(found: TuningRecord) -> dict[str, Any]:
    """All but how long it took."""
    left_out = {"__all__": {"seconds", "environment"}}
    return found.model_dump(exclude={"trials": left_out, "repeats": left_out})


@pytest.mark.parametrize("sampler", ["halton", "tpe"])
def test_a_search_on_a_backbone_with_a_recipe_stays_in_its_range(
    tmp_path: Path, scored: list[float], sampler: Sampler
) -> None:
    if sampler == "tpe":
        pytest.importorskip("optuna", reason="optuna is not installed")
    source = f"sd3:{save_sd3(tmp_path / 'pipeline', tmp_path / 'scratch')}"
    chosen = plan(method="grasp", task="digits-lt", budget="smoke", backbone=source)
    found = tune(chosen, 12, runs.options(tmp_path), runs.Listener(), sampler)
    assert isinstance(found, TuningRecord)
    searched = found.search.ranges["learning_rate"]
    assert (searched.low, searched.high, searched.log) == (1e-5, 3e-3, True)
    assert scored[0] == 1e-4  # the recipe's, where grasp's own default is 0.03
    assert len(set(scored)) == 12
    assert all(1e-5 <= rate <= 3e-3 for rate in scored)
    assert min(scored) < 5e-5
    assert max(scored) > 5e-4
    assert tune(chosen, 12, runs.options(tmp_path), runs.Listener(), sampler) == found  # and goes on from it
    assert len(scored) == 12


def test_searches_that_share_a_folder_of_results_lose_no_trial(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process makes trials 1 and 2 while this one is at trial 1, and its file is written first."""
    whole = tuned(tmp_path / "whole", 4)
    tuned(tmp_path, 1)
    scored.clear()
    distance = Target.distance

    def slowly(self: Target, pipeline: Pipeline) -> float:
        if not scored:
            scored.append(0.0)
            with monkeypatch.context() as patch:
                patch.setattr(Target, "distance", distance)
                tuned(tmp_path, 3)
        return distance(self, pipeline)

    monkeypatch.setattr(Target, "distance", slowly)
    found = tuned(tmp_path, 4)
    assert told(found) == told(whole)
    assert len(scored) == 1 + 2 + 2  # trial 1 twice, 2 and 3 once


def test_a_trial_does_not_go_into_the_file_of_another_search(
    tmp_path: Path, scored: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned(tmp_path, 1)
    content = json.loads((tmp_path / FILE).read_text())
    content["search"]["sampler_seed"] = 5
    distance = Target.distance

    def meanwhile(self: Target, pipeline: Pipeline) -> float:
        (tmp_path / FILE).write_text(json.dumps(content))
        return distance(self, pipeline)

    monkeypatch.setattr(Target, "distance", meanwhile)
    with pytest.raises(UserError, match="another search has been written there meanwhile"):
        tuned(tmp_path, 2)
    assert json.loads((tmp_path / FILE).read_text()) == content

"""Runs at equal network evaluations: what they share, what they are called, and that they keep to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import runs

from grasp_bench.errors import UserError
from grasp_bench.guidances.cfg import ClassifierFreeGuidance, NoGuidance
from grasp_bench.run.files import GENERATE_SUMMARY
from grasp_bench.run.pipeline import Pipeline, stage_inputs, stage_keys
from grasp_bench.run.plan import Plan

BEFORE_IMAGES = {"prepare", "extractor", "features-real", "features-train", "classify-real", "train"}


def at(evaluations: int | None, guidance: str, **changes) -> Plan:
    settings = [f"evaluations={evaluations}"] if evaluations else []
    return runs.small(guidance=guidance, task_settings=settings, **changes)


def steps(chosen: Plan) -> int:
    return stage_inputs(chosen)["generate"]["budget"]["num_inference_steps"]


def test_guidances_share_a_leaderboard_of_their_own() -> None:
    unguided, guided, other = at(40, "none"), at(40, "cfg"), at(None, "cfg")
    assert (steps(unguided), steps(guided), steps(other)) == (40, 20, 4)
    assert unguided.spec.budget == guided.spec.budget != other.spec.budget
    assert unguided.task_label == guided.task_label == "digits-lt~budget=smoke,evaluations=40"
    assert guided.spec.id != other.spec.id


def test_only_images_and_what_comes_of_them_are_made_anew() -> None:
    before, after = stage_keys(at(None, "cfg")), stage_keys(at(40, "cfg"))
    assert {stage for stage in before if before[stage] == after[stage]} == BEFORE_IMAGES
    assert stage_keys(at(8, "cfg")) == before  # four steps, as the budget has without a limit


def test_what_is_learned_belongs_to_the_steps_that_fit() -> None:
    before, after = (stage_inputs(at(limit, "linear-ag"))["guide"] for limit in (None, 40))
    assert (before["num_inference_steps"], after["num_inference_steps"]) == (4, 32)


@pytest.mark.parametrize(("guidance", "least"), [("cfg", 2), ("pag", 3)])
def test_too_few_for_a_step_are_refused(guidance: str, least: int) -> None:
    with pytest.raises(UserError, match=f"evaluations={least - 1}: a step of guidance {guidance} takes {least} "):
        at(least - 1, guidance)
    assert steps(at(least, guidance)) == 1
    with pytest.raises(UserError, match="evaluations='0'"):
        runs.small(task_settings=["evaluations=0"])


def test_a_run_spends_what_it_is_given_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(chosen: Plan) -> Path:
        return Pipeline(chosen, runs.options(tmp_path), torch.device("cpu"), runs.Listener()).generated

    for guidance in ("none", "cfg"):
        summary = json.loads((made(at(7, guidance)) / GENERATE_SUMMARY).read_text())
        assert summary["network_evaluations_per_image"] == {"none": 7, "cfg": 6}[guidance]

    monkeypatch.setattr(ClassifierFreeGuidance, "evaluations_per_step", NoGuidance.evaluations_per_step)
    with pytest.raises(UserError, match="guidance cfg took 10 network evaluations per image in 5 steps"):
        made(at(5, "cfg"))

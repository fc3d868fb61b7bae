"""Runs with the settings that a search chose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.datasets import make_nih

from grasp_bench import plugins
from grasp_bench.contracts.record import Environment, Tuning
from grasp_bench.errors import UserError
from grasp_bench.io import write_json
from grasp_bench.run.plan import Plan, plan
from grasp_bench.sweep.cells import read_sweep
from grasp_bench.tuning.chosen import with_tuned
from grasp_bench.tuning.ranges import candidate, tuned_ranges
from grasp_bench.tuning.trials import Search, Trial, TuningRecord, tuning_path

ROOT = Path(__file__).parents[2]

HERE = Environment(versions={}, platform="here", device="cpu", threads=1, git_commit=None, git_dirty=None)


def asked(**changes: Any) -> Plan:
    return plan(**{"method": "grasp", "task": "digits-lt"} | changes)


def searched(results: Path, rates: dict[float, float | None], **changes: Any) -> Path:
    """The file of a search that gave each learning rate a score."""
    return kept(results, [({"learning_rate": rate}, score) for rate, score in rates.items()], **changes)


def kept(results: Path, trials: list[tuple[dict[str, float], float | None]], **changes: Any) -> Path:
    """The file of a search that gave each trial's settings a score."""
    chosen = asked(**changes)
    found = TuningRecord(
        search=Search(
            spec=chosen.spec,
            stages={},
            sampler_seed=0,
            ranges=tuned_ranges(type(chosen.method.config)),
            objective="none",
            extractor="none",
            images=150,
        )
    )
    for number, (settings, score) in enumerate(trials):
        trial = Trial(
            number=number,
            settings=settings,
            run_id=str(number),
            status="non-finite" if score is None else "finished",
            score=score,
            seconds=1,
            environment=HERE,
        )
        found = found.with_trial(trial)
    path = tuning_path(results, chosen)
    write_json(path, found.model_dump(mode="json"))
    return path


def test_the_best_trial_decides_the_run(tmp_path: Path) -> None:
    searched(tmp_path, {0.03: 5.0, 0.01: 3.0, 0.1: None})
    found = with_tuned(asked(seed=3), tmp_path)
    assert found.spec == asked(seed=3, method_settings=["learning_rate=0.01"]).spec
    assert found.method.config.learning_rate == 0.01
    assert found.tuned == Tuning(trials=3, best=1, settings={"learning_rate": 0.01})
    assert found.label == "grasp~tuned=3"


def test_what_a_search_by_another_sampler_found_is_called_so(tmp_path: Path) -> None:
    path = searched(tmp_path, {0.03: 5.0, 0.01: 3.0})
    path.write_text(path.read_text().replace('"halton"', '"tpe"'))
    assert with_tuned(asked(), tmp_path).label == "grasp~tuned=2-tpe"


def test_a_task_with_a_generator_takes_the_search_of_the_task_that_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it has the training of that task's runs; a search of its own comes first."""
    for name in ("nih-lt", "nih-lt-gen"):
        make_nih(tmp_path / "data" / name)
    monkeypatch.setenv("GRASP_BENCH_DATA", str(tmp_path / "data"))
    trained: dict[str, Any] = {"task": "nih-lt-gen", "backbone": "tiny-sd3-32"}
    its: dict[str, Any] = {**trained, "task": "nih-lt", "task_settings": ["generator=nih-lt-gen"]}
    with pytest.raises(UserError, match=r"nih-lt~generator.* and .*nih-lt-gen/.*: not there"):
        with_tuned(asked(**its), tmp_path)
    searched(tmp_path, {0.03: 5.0, 0.01: 3.0}, **trained)
    found = with_tuned(asked(**its), tmp_path)
    assert found.trained_on.spec == with_tuned(asked(**trained), tmp_path).spec
    assert found.spec.method.settings["learning_rate"] == 0.01
    searched(tmp_path, {0.03: 1.0, 0.01: 3.0}, **its)
    assert with_tuned(asked(**its), tmp_path).spec.method.settings["learning_rate"] == 0.03


def test_settings_that_were_set_by_name_stay(tmp_path: Path) -> None:
    searched(tmp_path, {0.03: 5.0, 0.01: 3.0})
    other_size = with_tuned(asked(method_settings=["rank=8"], guidance="none"), tmp_path)
    assert other_size.spec == asked(method_settings=["rank=8", "learning_rate=0.01"], guidance="none").spec
    assert other_size.label == "grasp+none~tuned=2,rank=8"
    other_rate = with_tuned(asked(method_settings=["learning_rate=0.002"]), tmp_path)
    assert other_rate.method.config.learning_rate == 0.002
    assert other_rate.label == "grasp~tuned=2,learning_rate=0.002"
    the_default = with_tuned(asked(method_settings=["learning_rate=0.03"]), tmp_path)
    assert the_default.method.config.learning_rate == 0.03


def test_the_defaults_may_be_the_best(tmp_path: Path) -> None:
    searched(tmp_path, {0.03: 1.0, 0.01: 3.0})
    found = with_tuned(asked(), tmp_path)
    assert found.spec.id == asked().spec.id
    assert (found.label, asked().label) == ("grasp~tuned=2", "grasp")


def test_a_budget_without_a_search_takes_that_of_the_standard_one(tmp_path: Path) -> None:
    searched(tmp_path, {0.03: 5.0, 0.01: 3.0})
    assert with_tuned(asked(budget="smoke"), tmp_path).method.config.learning_rate == 0.01
    searched(tmp_path, {0.03: 5.0, 0.02: 3.0}, budget="smoke")
    assert with_tuned(asked(budget="smoke"), tmp_path).method.config.learning_rate == 0.02
    assert with_tuned(asked(), tmp_path).method.config.learning_rate == 0.01


def test_where_there_is_no_search_the_command_that_makes_it_is_told(tmp_path: Path) -> None:
    searched(tmp_path, {0.03: 5.0}, method="lora")
    with pytest.raises(UserError, match="grasp-bench tune --method grasp --task digits-lt") as caught:
        with_tuned(asked(), tmp_path)
    assert str(tmp_path / "digits-lt/tuning/grasp.json") in str(caught.value)
    with pytest.raises(UserError, match="--task-set ema_decay"):
        with_tuned(asked(task_settings=["ema_decay=0.9"]), tmp_path)


def test_the_search_of_a_number_of_evaluations_comes_before_that_of_none(tmp_path: Path) -> None:
    limited = asked(task_settings=["evaluations=40"])
    searched(tmp_path, {0.03: 5.0, 0.01: 3.0})
    assert with_tuned(limited, tmp_path).method.config.learning_rate == 0.01
    searched(tmp_path, {0.03: 5.0, 0.02: 3.0}, task_settings=["evaluations=40"])
    assert with_tuned(limited, tmp_path).method.config.learning_rate == 0.02
    assert with_tuned(asked(), tmp_path).method.config.learning_rate == 0.01


def test_a_search_without_a_score_chooses_nothing(tmp_path: Path) -> None:
    path = searched(tmp_path, {0.03: None})
    with pytest.raises(UserError, match="no trial has a score") as caught:
        with_tuned(asked(), tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("part", "key", "message"),
    [
        (
            "method",
            "version",
            f"is a search of method grasp@0, and this is grasp@{plugins.load('methods', 'grasp').version}",
        ),
        ("backbone", "version", "is a search of backbone tiny-sd3@0"),
        ("backbone", "name", "is a search of backbone 0@"),
        ("task", "version", "is a search of task digits-lt@0, and this is digits-lt@2"),
        ("task", "settings", "digits-lt with other settings or data"),
    ],
)
def test_a_search_of_something_else_is_refused(tmp_path: Path, part: str, key: str, message: str) -> None:
    path = searched(tmp_path, {0.03: 5.0, 0.01: 3.0})
    found = TuningRecord.model_validate_json(path.read_bytes()).model_dump(mode="json")
    found["search"]["spec"][part][key] = {} if key == "settings" else "0"
    write_json(path, found)
    with pytest.raises(UserError, match=message) as caught:
        with_tuned(asked(), tmp_path)
    assert str(path) in str(caught.value)


def test_a_search_with_another_backbone_has_a_file_of_its_own(tmp_path: Path) -> None:
    searched(tmp_path, {0.03: 5.0, 0.01: 3.0})
    with pytest.raises(UserError, match=r"grasp@tiny-sd3-32\.json: not there"):
        with_tuned(asked(backbone="tiny-sd3-32"), tmp_path)


@pytest.mark.parametrize("method", sorted(plugins.entries("methods")))
def test_every_searched_setting_of_every_method_reaches_the_run(method: str, tmp_path: Path) -> None:
    best = candidate(plugins.load("methods", method).Config, 1, "digits-lt")
    kept(
        tmp_path, [(candidate(plugins.load("methods", method).Config, 0, "digits-lt"), 2.0), (best, 1.0)], method=method
    )
    found = with_tuned(asked(method=method), tmp_path)
    assert found.tuned
    assert found.tuned.settings == best
    assert best.items() <= found.spec.method.settings.items()
    assert found.label == f"{method}~tuned=2"


def copied(sweep: str, folder: Path) -> Path:
    """A sweep of the protocol, with its searches and records in ``folder``."""
    text = (ROOT / f"results/digits-lt/sweeps/{sweep}.toml").read_text()
    file = folder / f"{sweep}.toml"
    file.write_text(f'{text}results = "{folder}"\n')
    return file


def test_the_sweep_of_training_with_fewer_tokens_expands_where_its_searches_are(tmp_path: Path) -> None:
    file = copied("tread", tmp_path)
    with pytest.raises(UserError, match="30 of 30 cells cannot be run"):
        read_sweep(file)
    for method in ("grasp", "vanilla-ft"):
        searched(tmp_path, {0.003: 1.0, 0.01: 2.0}, method=method)
    plans = [cell.plan for cell in read_sweep(file).cells]
    assert len(plans) == 30
    assert {each.method.config.tread for each in plans} == {0.5}
    assert {each.method.config.learning_rate for each in plans} == {0.003}
    assert {each.spec.task.version for each in plans} == {"2"}


def test_controls_of_resampling_differ_from_the_protocols_rows_in_the_sampling_alone(tmp_path: Path) -> None:
    for method in ("vanilla-ft", "lora", "grasp", "oc", "ccua"):
        searched(tmp_path, {0.003: 1.0, 0.01: 2.0}, method=method)
    plans = [cell.plan for cell in read_sweep(copied("controls", tmp_path)).cells]
    natural, balanced = (
        [each for each in plans if each.method.config.sampling == how] for how in ("natural", "balanced")
    )
    assert len(natural) == len(balanced) == 50
    for one, other in zip(natural, balanced, strict=True):
        assert with_tuned(asked(method=one.spec.method.name, seed=one.spec.seed), tmp_path).spec == one.spec
        settings = one.spec.method.settings | {"sampling": "balanced"}
        assert other.spec == one.spec.model_copy(
            update={"method": one.spec.method.model_copy(update={"settings": settings})}
        )


def test_a_search_with_another_method_beneath_is_refused(tmp_path: Path) -> None:
    searched(tmp_path, {0.001: 5.0}, method="cbdm")
    assert with_tuned(asked(method="cbdm", method_settings=["on=vanilla-ft"]), tmp_path).tuned
    with pytest.raises(UserError, match="is a search with on=vanilla-ft, and this is with on=grasp"):
        with_tuned(asked(method="cbdm", method_settings=["on=grasp"]), tmp_path)

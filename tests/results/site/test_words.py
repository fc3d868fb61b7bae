"""What the page says is what is elsewhere in the project, and complete."""

from pathlib import Path

import pytest
from helpers.records import record

from grasp_bench.contracts.record import TRAINED_ON
from grasp_bench.metrics.registry import classifier_metrics, feature_metrics
from grasp_bench.results.site.glossary import UNKNOWN, definition
from grasp_bench.results.site.view import run_command
from grasp_bench.run.plan import plan

ROOT = Path(__file__).parents[3]


def test_every_metric_that_a_run_can_have_is_defined():
    named = [(metric.name, "generated", "test") for metric in feature_metrics()]
    named += [
        (metric.name, source, test_set)
        for metric in classifier_metrics()
        for source in TRAINED_ON
        for test_set in ("test", "balanced-test")
    ]
    assert [each for each in named if definition(*each) is UNKNOWN] == []
    assert definition("fd_inf") is not UNKNOWN


def test_definitions_say_what_classifiers_are_trained_and_tested_on():
    found = definition("nonzero_f1", "topped-up", "balanced-test").what
    assert "topped up with generated ones" in found
    assert "equally many images of every class" in found
    assert definition("third-party") is UNKNOWN


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"budget": "smoke", "seed": 3},
        {"guidance": "none"},
        {"guidance_settings": ["guidance_scale=3.5"], "method_settings": ["rank=8", "null_route=base"]},
        {"task_settings": ["ema_decay=0.9"]},
    ],
)
def test_the_command_of_a_run_makes_the_same_run(changes):
    from click import Context
    from typer.main import get_command

    from grasp_bench.cli import app

    asked = plan(**{"method": "grasp", "task": "digits-lt", "seed": 0} | changes)
    made = record("grasp").model_copy(
        update={
            "spec": asked.spec,
            "label": asked.label,
            "task_label": asked.task_label,
            "changed": asked.changed,
            "backbone_label": asked.backbone.name,
            "default_backbone": asked.default_backbone,
        }
    )
    words = run_command(made).split()
    assert words[:2] == ["grasp-bench", "run"]
    command = get_command(app).get_command(Context(get_command(app)), "run")
    given = command.make_context("run", words[2:]).params
    again = plan(
        method=given["method"],
        task=given["task"],
        seed=given["seed"][0],
        guidance=given["guidance"],
        backbone=given["backbone"],
        budget=given["budget"],
        method_settings=given["set_"],
        task_settings=given["task_set"],
        guidance_settings=given["guidance_set"],
    )
    assert again.spec.id == asked.spec.id
    assert (again.label, again.task_label) == (asked.label, asked.task_label)


def test_a_task_that_a_file_describes_is_named_by_a_file():
    assert "--task FILE.toml" in run_command(record("grasp", task="birds"))

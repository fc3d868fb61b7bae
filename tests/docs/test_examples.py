"""The outputs in docs/first-run.md are those of its records, and these are of what is installed."""

import pytest

from grasp_bench import plugins
from grasp_bench.contracts.record import read_record

from .examples import METHODS, PAGE, record_path, renewed


def test_outputs_are_those_of_the_records():
    assert renewed() == PAGE.read_text(encoding="utf-8"), "make examples writes them"


@pytest.mark.parametrize("method", METHODS)
def test_records_are_of_what_is_installed(method):
    """A reader who follows the page makes a run of these versions."""
    record = read_record(record_path(method))
    spec = record.spec
    installed = {kind: plugins.load(kind, name).version for kind, name in (("tasks", "digits-lt"), ("methods", method))}
    assert installed == {"tasks": spec.task.version, "methods": spec.method.version}, "make examples runs them anew"
    assert record.cost
    assert None not in record.cost.model_dump().values(), "make examples counts what a run counts now"
    assert (spec.seed, spec.budget.name, record_path(method).parents[1].name) == (0, "standard", method)

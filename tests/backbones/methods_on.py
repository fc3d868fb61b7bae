"""A method on a tiny member of any family."""

import pytest

from grasp_bench import seeds
from grasp_bench.contracts.backbone import Backbone
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.run.plan import plan


def attach(backbone: Backbone, name: str) -> Method[MethodSettings]:
    """The method with its initial weights; a test of one that does not apply to the family is skipped."""
    found = plan(method=name, task="digits-lt")
    if skip := found.method.supports(backbone, found.task):
        pytest.skip(skip.reason)
    found.method.attach(backbone, found.task, seeds.generator("init", name))
    return found.method

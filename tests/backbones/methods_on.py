"""A method on a tiny member of any family."""

import pytest

from grasp_bench import seeds
from grasp_bench.backbones.base import Backbone
from grasp_bench.harness.plan import plan
from grasp_bench.method import Method, MethodSettings


def attach(backbone: Backbone, name: str) -> Method[MethodSettings]:
    """The method with its initial weights; a test of one that does not apply to the family is skipped."""
    found = plan(method=name, task="digits-lt")
    if skip := found.method.supports(backbone, found.task):
        pytest.skip(skip.reason)
    found.method.attach(backbone, found.task, seeds.generator("init", name))
    return found.method

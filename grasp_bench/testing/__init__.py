"""The conformance suite: what every plugin of a kind must do, whoever wrote it.

In the tests of a package that has a plugin of its own::

    import pytest
    from grasp_bench.testing import method_checks

    @pytest.mark.parametrize("check", method_checks("my-method"), ids=str)
    def test_contract(check):
        check()

``grasp-bench check method my-method`` runs the same. Making the list imports the plugin and nothing heavy.
"""

from grasp_bench.testing.backbones import backbone_checks
from grasp_bench.testing.checks import Check, NotApplicable, Outcome, Report, run_checks
from grasp_bench.testing.extractors import extractor_checks
from grasp_bench.testing.guidances import guidance_checks
from grasp_bench.testing.methods import method_checks
from grasp_bench.testing.metrics import metric_checks
from grasp_bench.testing.tasks import task_checks

__all__ = [
    "Check",
    "NotApplicable",
    "Outcome",
    "Report",
    "backbone_checks",
    "extractor_checks",
    "guidance_checks",
    "method_checks",
    "metric_checks",
    "run_checks",
    "task_checks",
]

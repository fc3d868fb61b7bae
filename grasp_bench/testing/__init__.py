"""The conformance suite: what every plugin of a kind must do, whoever wrote it.

In the tests of a package that has a plugin of its own::

    import pytest
    from grasp_bench.testing import method_checks

    @pytest.mark.parametrize("check", method_checks("my-method"), ids=str)
    def test_contract(check):
        check()

``grasp-bench check method my-method`` runs the same. Making the list imports the plugin and nothing heavy.
"""

from grasp_bench.testing.checks import Check, NotApplicable, Outcome, Report, run_checks
from grasp_bench.testing.suites import (
    backbone_checks,
    extractor_checks,
    guidance_checks,
    method_checks,
    metric_checks,
    task_checks,
)

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

"""The command that reruns a run."""

from __future__ import annotations

import shlex

from grasp_bench import plugins
from grasp_bench.contracts.record import RunRecord


def run_command(record: RunRecord) -> str:
    """Return ``grasp-bench run …`` with every setting that is not the default.

    A record holds no paths: a task that a file describes is FILE.toml, and the user's own weights are FOLDER.
    """
    words = record.spec.command(
        record.changed,
        task=None if record.spec.task.name in plugins.entries("tasks") else "FILE.toml",
        backbone=None if record.default_backbone else record.backbone_label,
        tuned=record.tuned is not None,
    )
    return shlex.join(words)

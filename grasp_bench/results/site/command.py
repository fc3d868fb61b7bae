"""The command that makes a run again."""

from __future__ import annotations

import shlex

from grasp_bench import plugins
from grasp_bench.results.summary import RunSummary


def run_command(run: RunSummary) -> str:
    """``grasp-bench run …`` with every setting that is not the default.

    A record holds no paths: a task that is described by a file is FILE.toml, and weights of one's own lack theirs.
    """
    task = shlex.quote(run.task) if run.task in plugins.entries("tasks") else "FILE.toml"
    arguments = (run.method_arguments, f"--task {task}", run.task_arguments, run.guidance_arguments)
    return " ".join(["grasp-bench run", *filter(None, arguments), f"--seed {run.seed}"])

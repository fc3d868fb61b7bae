"""The equal learning-rate search behind the methods' defaults: ``python -m grasp_bench.harness.search --help``.

Every method is trained at every rate under the standard budget with a seed of its own, and the rate with the smallest
Fréchet distance between 15 generated and the 15 validation images of each class is its default. Test images are not
used. Trials are kept in ``<results>/<task>/learning-rates.json``; those that are there are not repeated.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from grasp_bench import plugins
from grasp_bench.errors import Skip, UserError
from grasp_bench.harness.environment import pick_device
from grasp_bench.harness.pipeline import Pipeline
from grasp_bench.harness.plan import Plan, plan
from grasp_bench.harness.progress import Reporter
from grasp_bench.harness.runner import Options
from grasp_bench.io import write_json
from grasp_bench.metrics import frechet_distance

RATES = ("0.0003", "0.001", "0.003", "0.01", "0.03", "0.1")
SEED = 1000  # not one of the leaderboard's
IMAGES_PER_CLASS = 15


class Trials(BaseModel):
    """What the search found: method → learning rate → FD on validation images."""

    seed: int = SEED
    images_per_class: int = IMAGES_PER_CLASS
    validation_fd: dict[str, dict[str, float]] = {}
    best: dict[str, str] = {}


def trial(task: str, method: str, rate: str) -> Plan:
    """The run of one trial."""
    found = plan(method=method, task=task, seed=SEED, method_settings=[f"learning_rate={rate}"])
    budget = found.spec.budget.model_copy(update={"images_per_class": IMAGES_PER_CLASS})
    return replace(found, spec=found.spec.model_copy(update={"budget": budget}))


def validation_distance(pipeline: Pipeline) -> float | Skip:
    """FD between the generated and the validation images."""
    skip = pipeline.plan.method.supports(pipeline.backbone, pipeline.plan.task)
    if skip is not None:
        return skip
    extractor = pipeline.loaded_extractor
    real, fake = (split.all_images() for split in (pipeline.data.validation, pipeline.images))
    return round(frechet_distance(extractor.features(real), extractor.features(fake)), 2)


def search(task: str, methods: list[str], options: Options, report: Reporter) -> None:
    """Run the trials that are missing, one after the other."""
    out = options.results / task / "learning-rates.json"
    trials = Trials.model_validate_json(out.read_bytes()) if out.exists() else Trials()
    device = pick_device(options.device)
    for method in methods:
        found = trials.validation_fd.setdefault(method, {})
        for rate in RATES:
            if rate in found:
                continue
            report.say(f"{method} at {rate}")
            distance = validation_distance(Pipeline(trial(task, method, rate), options, device, report))
            if isinstance(distance, Skip):
                report.say(f"{method} is skipped: {distance.reason}")
                break
            report.say(f"{method} at {rate}: validation FD {distance}")
            found[rate] = distance
            trials.best[method] = min(found, key=found.__getitem__)
            write_json(out, trials.model_dump())
    report.say(f"trials: {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True)
    parser.add_argument("--method", action="append", help="repeatable; every method if absent")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--work-dir", type=Path, default=Path(".grasp-bench"))
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    options = Options(arguments.results, arguments.work_dir, arguments.device)
    try:
        search(arguments.task, arguments.method or list(plugins.entries("methods")), options, Reporter())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

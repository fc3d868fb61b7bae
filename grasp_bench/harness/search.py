"""The equal learning-rate search behind the methods' defaults: ``python -m grasp_bench.harness.search --help``.

Every method is trained at every rate under the standard budget with a seed of its own, and the rate with the smallest
Fréchet distance between 15 generated and the 15 validation images of each class is its default. Test images are not
used. Trials that are done are reused, so the command resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pydantic import JsonValue

from grasp_bench.harness.environment import pick_device
from grasp_bench.harness.pipeline import Pipeline
from grasp_bench.harness.plan import Plan, plan
from grasp_bench.harness.progress import Reporter
from grasp_bench.harness.runner import Options
from grasp_bench.io import write_json
from grasp_bench.metrics import frechet_distance

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
METHODS = ("vanilla-ft", "lora", "moe", "grasp", "shared-adapter")
SEED = 1000  # not one of the leaderboard's
IMAGES_PER_CLASS = 15


def trial(task: str, method: str, rate: float) -> Plan:
    """The run of one trial."""
    found = plan(method=method, task=task, seed=SEED, method_settings=[f"learning_rate={rate}"])
    budget = found.spec.budget.model_copy(update={"images_per_class": IMAGES_PER_CLASS})
    spec = found.spec.model_copy(update={"budget": budget})
    return Plan(spec, found.task, found.method, found.guidance, found.backbone, found.extractor)


def validation_distance(pipeline: Pipeline) -> float:
    """FD between the generated and the validation images."""
    extractor = pipeline.plan.extractor.load(pipeline.extractor)
    images, _ = pipeline.images
    return frechet_distance(extractor.features(pipeline.data.validation.all_images()), extractor.features(images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="digits-lt")
    parser.add_argument("--method", action="append", help="repeatable; all five if absent")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--work-dir", type=Path, default=Path(".grasp-bench"))
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()

    options, report = Options(arguments.results, arguments.work_dir, arguments.device), Reporter()
    out = arguments.results / arguments.task / "learning-rates.json"
    device = pick_device(arguments.device)
    table: dict[str, JsonValue] = {}
    for method in arguments.method or METHODS:
        distances = {}
        for rate in RATES:
            report.say(f"{method} at {rate:g}")
            pipeline = Pipeline(trial(arguments.task, method, rate), options, device, report)
            distances[rate] = round(validation_distance(pipeline), 2)
            report.say(f"{method} at {rate:g}: validation FD {distances[rate]}")
        best = min(distances, key=distances.__getitem__)
        table[method] = {"best": best, "validation_fd": {f"{rate:g}": value for rate, value in distances.items()}}
        write_json(out, {"seed": SEED, "images_per_class": IMAGES_PER_CLASS, "methods": table})
    report.say(f"written: {out}")


if __name__ == "__main__":
    main()

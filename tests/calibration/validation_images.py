"""How far the choice of a search depends on the validation images that it is made on.

``PYTHONPATH=tests python -m calibration.validation_images WORK METHOD ...`` scores every trial of the methods' searches
on digits-lt again, on random parts of the validation images, records the figures and writes them into docs/protocol.md.
``WORK`` is the --work-dir in which the searches were made, whose images it needs; nothing is trained or sampled.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from grasp_bench import seeds
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.row import SCALE
from grasp_bench.metrics import frechet_distance
from grasp_bench.processes import pick_device
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan
from grasp_bench.run.seeding import with_seed
from grasp_bench.tuning.chosen import with_settings
from grasp_bench.tuning.objective import compared_counts, generated_features, make_target
from grasp_bench.tuning.trials import FINALISTS, read_tuning, tuning_path

ROOT = Path(__file__).parents[2]
RESULTS, TASK = ROOT / "results", "digits-lt"
MEASURED, PAGE = Path(__file__).with_name("validation_images.json"), ROOT / "docs" / "protocol.md"
BETWEEN = re.compile(r"(?<=<!-- calibration validation images -->\n).*?(?=<!-- end -->)", re.DOTALL)
SIZES = (10, 15, 20)
"""Validation images of a class that a choice is made on."""
DRAWS = 100


class Choice(NamedTuple):
    """What choosing on fewer validation images comes to, over random draws of them."""

    images: int
    """Validation images of each class; as many generated ones are compared with them."""
    setting: float
    """Share of draws in which the best trial is that of all images."""
    finalist: float
    """Share of draws in which the best trial of all images is among those that are repeated at further seeds."""
    scale: float
    """Share of draws in which the best guidance scale, of whichever trial is best, is that of all images."""
    cost: float
    """Mean over draws of the distance, on all images, of what is chosen, less the smallest."""
    spread: float
    """Standard deviation over draws of the distance of what is best on all images."""


def distances(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    """Distances (trials, scales) of ``fake`` (trials, scales, classes, n, d) from ``real`` (classes, n, d)."""
    flat = real.reshape(-1, real.shape[-1])
    return np.array([[frechet_distance(flat, at.reshape(-1, at.shape[-1])) for at in trial] for trial in fake])


def choice(real: np.ndarray, fake: np.ndarray, images: int, draws: int = DRAWS) -> Choice:
    """What becomes of a search if each class has ``images`` of its validation images, and as many generated ones."""
    rng = seeds.rng("calibration", "validation-images", images)
    whole = distances(real, fake)
    best, at = np.unravel_index(whole.argmin(), whole.shape)
    rows = []
    for _ in range(draws):
        chosen = np.stack([rng.permutation(real.shape[1])[:images] for _ in real])
        found = distances(np.take_along_axis(real, chosen[..., None], 1), fake[..., :images, :])
        trial, scale = np.unravel_index(found.argmin(), found.shape)
        finalists = found.min(axis=1).argsort(kind="stable")[:FINALISTS]
        rows.append((trial == best, best in finalists, scale == at, whole[trial, scale] - whole.min(), found[best, at]))
    setting, finalist, same, cost, score = np.array(rows, dtype=np.float64).T
    return Choice(images, *(float(each.mean()) for each in (setting, finalist, same, cost)), float(score.std(ddof=1)))


def features(method: str, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features of validation images (classes, n, d) and of those of a search (trials, scales, classes, n, d)."""
    asked = plan(method=method, task=TASK)
    found = read_tuning(tuning_path(RESULTS, asked))
    first = replace(with_seed(asked, found.search.spec.seed), spec=found.search.spec)
    options, progress = Options(RESULTS, work, "cpu"), Progress(Console(stderr=True))

    def pipeline(settings: dict[str, int | float], scale: float) -> Pipeline:
        trial = with_settings(with_settings(first, settings), {SCALE: scale}, "guidance")
        return Pipeline(trial, options, pick_device("cpu"), progress)

    common = pipeline({}, 1.0)
    classes = len(common.classes)
    counts = compared_counts(common.data.validation, classes, first.spec.budget.images_per_class)
    real = make_target(common, counts).features

    def at_scales(settings: dict[str, int | float]) -> Iterator[np.ndarray]:
        for scale in found.search.scales:
            trial = pipeline(settings, scale)
            if not trial.store.is_finished("generate", trial.inputs["generate"]):
                raise SystemExit(f"{work} has no images of {method} with {settings} at scale {scale:g}")
            yield generated_features(trial, counts).reshape(classes, counts.max(), -1)

    fake = [np.stack(list(at_scales(trial.settings))) for trial in found.trials if trial.status == "finished"]
    return real.reshape(classes, counts.max(), -1), np.stack(fake)


def recorded() -> dict[str, list[Choice]]:
    """Method → what was measured of its search, by the number of images."""
    return {method: [Choice(**each) for each in rows] for method, rows in json.loads(MEASURED.read_text()).items()}


def table() -> str:
    """The recorded figures as Markdown."""
    lines = [
        "| search | images per class | same setting | among the two | same scale | cost, FD | SD of the score |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for method, rows in recorded().items():
        for each in rows:
            shares = " | ".join(f"{100 * share:.0f} %" for share in (each.setting, each.finalist, each.scale))
            lines.append(f"| `{method}` | {each.images} | {shares} | {each.cost:.1f} | {each.spread:.1f} |")
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """A page with the table."""
    made = table()
    return BETWEEN.sub(lambda _: made, text)


def main(work: Path, methods: list[str]) -> None:
    """Measure, record and write."""
    known = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    for method in methods:
        real, fake = features(method, work)
        known[method] = [choice(real, fake, images)._asdict() for images in SIZES]
    MEASURED.write_text(json.dumps(known, indent=1) + "\n")
    PAGE.write_text(written(PAGE.read_text()))
    print(table())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

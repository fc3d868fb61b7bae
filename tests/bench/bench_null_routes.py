"""What GRASP's unconditional branch knows: images of ``digits-lt`` without any prompt, by where dropped prompts go.

``PYTHONPATH=tests python -m bench.bench_null_routes`` writes results/perf/null-routes.json after every row; a row takes
two minutes for each seed on one core. ``--seeds N`` takes seeds 0 to N - 1. What was trained and sampled is kept in
.grasp-bench/null-routes, so that it can be stopped and goes on.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from rich.console import Console
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from grasp_bench.contracts.progress import Progress
from grasp_bench.io import write_json
from grasp_bench.metrics.frechet import frechet_distance
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline
from grasp_bench.run.plan import plan

from .recording import RESULTS, ROOT, environment_of

ROWS: dict[str, tuple[str, list[str]]] = {
    **{
        f"{partition}, {route}": ("grasp", [f"partition={partition}", f"null_route={route}", "rank=16"])
        for partition in ("group", "class")
        for route in ("same", "base", "null")
    },
    "group, null, rank 12": ("grasp", ["partition=group", "null_route=null", "rank=12"]),
    "shared adapter": ("shared-adapter", []),
}
SCALES = (0, 1, 2)
"""Of classifier-free guidance: at 0 no image has a prompt, at 1 there is no guidance."""
GROUPS = ("head", "medium", "tail")


class Digits:
    """All real digits, and a classifier of them."""

    def __init__(self) -> None:
        found = load_digits()
        self.images, self.labels = found.data, found.target  # (n, 64) of 0 to 16
        self.classifier = SVC(gamma=1e-3).fit(self.images, self.labels)


def generated(method: str, settings: list[str], seed: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (n, 64) as scikit-learn has them, their labels (n,), and the group of each class (10,)."""
    chosen = plan(
        method=method,
        task="digits-lt",
        seed=seed,
        guidance="cfg",
        guidance_settings=[f"guidance_scale={scale}"],
        method_settings=settings,
    )
    folder = ROOT / ".grasp-bench/null-routes"
    options = Options(folder / "results", folder / "work", device="cpu", batch_size=100)
    run = Pipeline(chosen, options, torch.device("cpu"), Progress(Console(quiet=True)))
    _ = run.generated
    labels = np.asarray(run.images.labels)
    pixels = np.asarray(run.images.read(np.arange(len(labels)))).reshape(len(labels), -1)
    assert pixels.dtype == np.uint8
    return pixels * (16 / 255), labels, np.array([info.group for info in chosen.task.classes()])


def judged(images: np.ndarray, labels: np.ndarray, groups: np.ndarray, real: Digits) -> dict[str, Any]:
    """Shares of images that are of their label's class and group, and the distance to real images in pixels."""
    found = real.classifier.predict(images)
    return {
        "right class": float((found == labels).mean()),
        "right group": float((groups[found] == groups[labels]).mean()),
        "distance": {
            group: float(frechet_distance(images[groups[labels] == group], real.images[groups[real.labels] == group]))
            for group in GROUPS
        },
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench.bench_null_routes", description="What an unprompted GRASP draws.")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--row", action="append", choices=tuple(ROWS), help="one or several; all by default")
    chosen, real = parser.parse_args(), Digits()
    torch.set_num_threads(1)
    rows: dict[str, dict[str, Any]] = {}
    for seed in range(chosen.seeds):
        for name in chosen.row or ROWS:
            scales = {f"scale {scale}": judged(*generated(*ROWS[name], seed, scale), real) for scale in SCALES}
            rows.setdefault(name, {})[f"seed {seed}"] = scales
            print(name, seed, {scale: each["right group"] for scale, each in scales.items()}, flush=True)
            write(rows)


def write(rows: dict[str, dict[str, Any]]) -> None:
    """Write the file, with where it was measured and what is missing in it."""
    write_json(
        RESULTS / "null-routes.json",
        {
            "command": "PYTHONPATH=tests python -m bench.bench_null_routes",
            **environment_of([]),
            "method": (
                "GRASP on digits-lt, standard budget, default rate; 600 images for each row, seed and scale, judged by "
                "a support vector machine on all real digits. At scale 0 no image has a prompt: its label decides on "
                "the adapter alone, if at all. Fréchet distance in pixels from 0 to 16, by the label's group."
            ),
            "settings": {name: [method, *settings] for name, (method, settings) in ROWS.items()},
            "not_run": [name for name in ROWS if name not in rows],
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()

"""When the two estimates of ``adaptive`` agree, by the size of latents: on a Gaussian, and on the pretrained backbones.

Latents of the Gaussian have the 1 / f² spectrum of natural images and independent channels, the prompt explains a
share of their energy, and the network is perfect: its estimates are Wiener filters of the noisy latent.
``PYTHONPATH=tests python -m bench.agreement`` writes results/perf/agreement.json, whose figures the docstring of
``adaptive`` has, and takes about two minutes on one core.
"""

from __future__ import annotations

import numpy as np
import torch

from grasp_bench import seeds
from grasp_bench.guidances.adaptive import AdaptiveSettings
from grasp_bench.io import write_json
from grasp_bench.run.plan import plan
from grasp_bench.sampling import Sampler

from .recording import RESULTS, environment_of

SHAPES = ((1, 8, 8), (3, 32, 32), (16, 64, 64))
EXPLAINED = (0.05, 0.1, 0.3)
TASKS = ("digits-lt", "mnist-lt")
"""Tasks on tiny-sd3 and on tiny-sd3-32."""
THRESHOLD = AdaptiveSettings().threshold
DRAWS, IMAGES, STEPS = 200, 40, 20


def spectrum(side: int) -> np.ndarray:
    """Energy of each frequency (H, W), 1 on the mean; the mean image counts as half a cycle."""
    frequency = np.fft.fftfreq(side) * side
    squared = frequency[:, None] ** 2 + frequency[None] ** 2
    energy = 1 / np.where(squared == 0, 0.25, squared)
    found: np.ndarray = energy / energy.mean()
    return found


def cosines(shape: tuple[int, int, int], explained: float, t: float, draws: int = DRAWS) -> np.ndarray:
    """Cosines (draws,) of the estimates with the prompt and without it, at noise share ``t``."""
    rng, energy, noise = np.random.default_rng(0), spectrum(shape[-1]), (t / (1 - t)) ** 2
    rest = (1 - explained) * energy
    parts = [rng.normal(size=(draws, *shape)) * np.sqrt(each) for each in (explained * energy, rest, noise)]
    known, noisy = parts[0], sum(parts)
    without = energy / (energy + noise) * noisy
    conditional = known + rest / (rest + noise) * (noisy - known)
    axes = (1, 2, 3)
    lengths = np.sqrt((without**2).sum(axes) * (conditional**2).sum(axes))
    found: np.ndarray = (without * conditional).sum(axes) / lengths
    return found


def agreement(shape: tuple[int, int, int], explained: float) -> dict[str, float]:
    """The largest t at which the mean cosine reaches the threshold, and how far cosines scatter there."""
    few = max(4, DRAWS * 64 // int(np.prod(shape)))
    times = np.arange(0.98, 0, -0.01)
    t = next(float(each) for each in times if cosines(shape, explained, each, few).mean() >= THRESHOLD)
    found = cosines(shape, explained, t)
    return {"t": round(t, 2), "standard deviation of the cosine": float(found.std())}


def saved(task: str, images: int = IMAGES) -> float:
    """Share of the unconditional evaluations that the task's pretrained backbone is spared at the threshold."""
    chosen = plan(method="lora", task=task, guidance="adaptive")
    backbone, classes = chosen.backbone.load(), chosen.task.classes()
    chosen.method.attach(backbone, chosen.task, seeds.generator("init", "sizes"))
    sampler = Sampler(backbone, chosen.method, chosen.guidance, torch.device("cpu"))
    sampler.place(backbone)
    noise = torch.randn(images, *backbone.latent_shape, generator=seeds.generator("data", "sizes"))
    labels = [number % len(classes) for number in range(images)]
    sampler.denoise(noise, [classes[label].prompt for label in labels], torch.tensor(labels), STEPS)
    return 2 - sampler.evaluations / (images * STEPS)


def main() -> None:
    """Measure and write."""
    path = RESULTS / "agreement.json"
    write_json(
        path,
        {
            "command": "PYTHONPATH=tests python -m bench.agreement",
            **environment_of([]),
            "gaussian": {
                "method": (
                    f"The largest t at which the mean cosine of the estimates reaches {THRESHOLD}, and the standard "
                    f"deviation of {DRAWS} cosines there, by the share of the energy that the prompt explains."
                ),
                **{
                    "x".join(map(str, shape)): {f"{each:g}": agreement(shape, each) for each in EXPLAINED}
                    for shape in SHAPES
                },
            },
            "pretrained": {
                "method": (
                    f"Share of the unconditional evaluations that are spared, of {IMAGES} images in {STEPS} steps, "
                    "with the prompts of the task and the backbone as it was pretrained."
                ),
                **{task: saved(task) for task in TASKS},
            },
        },
    )
    print(path.read_text())


if __name__ == "__main__":
    main()

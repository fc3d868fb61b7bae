"""Training of a downstream classifier, as if on a GPU: no step of it waits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from grasp_bench.contracts.task import ClassifierRecipe, Split
from grasp_bench.downstream import classifier
from grasp_bench.estimate.simulate import SimulatedGpu

STEPS = 4
AT_ONCE = 2


@pytest.mark.parametrize("labels", [np.arange(STEPS * AT_ONCE) % 3, np.eye(STEPS * AT_ONCE, 3, dtype=bool)])
def test_an_epoch_waits_once_for_all_its_losses(
    labels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its end: the second epoch is looked at, since the weights are sent at the beginning of the first."""
    ids = list(map(str, range(len(labels))))
    single = labels if labels.ndim == 1 else labels.argmax(1)
    sets = labels if labels.ndim == 2 else None
    images = Split(ids, single, ids, lambda rows: np.zeros((len(rows), 1, 16, 16), np.uint8), sets=sets)
    recipe = ClassifierRecipe(
        epochs=2,
        batch_size=AT_ONCE,
        learning_rate=1e-3,
        augmentation=("flip", "crop", "rotate"),
        class_weights="balanced",
    )
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(classifier, "_save", lambda *given: None)
    found: list[tuple[Counter[str], Counter[str], int]] = []
    with SimulatedGpu() as gpu:

        def advance(epochs: int) -> None:
            found.append((Counter(gpu.syncs), Counter(gpu.uploads), gpu.flops))
            gpu.reset()

        classifier.train(images, images, 3, recipe, ("t",), tmp_path / "work", torch.device("cuda"), advance)
    syncs, uploads, flops = found[1]
    assert flops > 0
    assert {place.rpartition(":")[0]: count for place, count in syncs.items()} == {"grasp_bench/finite.py": 1}
    assert not uploads

"""Methods and guidances on tiny configurations of every family, and what they would otherwise look at or learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from grasp_bench import plugins
from grasp_bench.baselines.lora_attn import FOUND
from grasp_bench.estimate.configured import configured
from grasp_bench.estimate.simulate import SimulatedGpu
from grasp_bench.estimate.subject import Subject, choose

from .tiny import save

METHODS = sorted(plugins.entries("methods"))
GUIDANCES = sorted(plugins.entries("guidance"))
SETTINGS = {"sparse": ["tread=0.5"]}
"""Guidance → settings of the method without which it does not apply."""
GUIDED = {"sg-minority": ["every=1"]}
"""Guidance → settings of its own, so that every step is guided."""


def subject(family: str, folder: Path, method: str, precision: str, guidance: str = "cfg") -> Subject:
    """A run on the tiny pipeline of a family; images are of the digits' classes and of the pipeline's size."""
    backbone = save(family, folder)
    scale = ["guidance_scale=2"] if plugins.load("guidance", guidance).classifier_free else []  # FLUX's own is 1
    return choose(
        method,
        "digits-lt",
        backbone,
        guidance=guidance,
        method_settings=SETTINGS.get(guidance, []),
        guidance_settings=[*scale, *GUIDED.get(guidance, [])],
        task_settings=[f"precision={precision}"],
        studied=localised(backbone) if method == "lora-attn" else {},
    )


def localised(backbone: str) -> dict[str, Any]:
    """What lora-attn finds out by sampling: that the first layer matters."""
    with SimulatedGpu():
        layers = list(configured(backbone).prompt_projections())
    return {FOUND: {"effects": dict.fromkeys(layers, 1.0), "all_layers": 1.0, "chosen": layers[:1], "chosen_layers": 1}}


class Zeros(dict[str, torch.Tensor]):
    """Weights of any name; of a regression's coefficients, for as many steps as a test takes."""

    def __missing__(self, name: str) -> torch.Tensor:
        return torch.zeros(4, 8) if name == "coefficients" else torch.zeros(())


@contextmanager
def learned(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of what any guidance has learned: zeros."""
    with monkeypatch.context() as patch:
        patch.setattr("grasp_bench.io.read_tensors", lambda path: Zeros())
        patch.setattr(torch.nn.Module, "load_state_dict", lambda module, state: None)
        yield Path()

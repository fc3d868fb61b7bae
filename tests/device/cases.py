"""Methods and guidances on tiny configurations of every family, and what they would otherwise look at or learn."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from grasp_bench import plugins
from grasp_bench.estimate.subject import Subject, choose

from .tiny import save

METHODS = sorted(plugins.entries("methods"))
GUIDANCES = sorted(plugins.entries("guidance"))
SETTINGS = {"sparse": ["tread=0.5"]}
"""Guidance → settings of the method without which it does not apply."""
GUIDED = {"sg-minority": ["every=1"]}
"""Guidance → settings of its own, so that every step is guided."""


def marks(case: object, quick: Collection[object], slow: Collection[object]) -> list[pytest.MarkDecorator]:
    """The marks of a case: none of a quick one; else that of slow tests, or of the suite of every family."""
    return [] if case in quick else [pytest.mark.slow if case in slow else pytest.mark.families]


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
    )


SHAPES = {"coefficients": (4, 8), "above": (4,), "directions": (1, 1), "values": (1,)}
"""Name of what a guidance learned → its shape: coefficients are for as many steps as a test takes."""


class Zeros(dict[str, torch.Tensor]):
    """Weights of any name, and what other guidances learn."""

    def __missing__(self, name: str) -> torch.Tensor:
        return torch.zeros(SHAPES.get(name, ()))


@contextmanager
def learned(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of what any guidance has learned: zeros."""
    with monkeypatch.context() as patch:
        patch.setattr("grasp_bench.io.read_tensors", lambda path: Zeros())
        patch.setattr(torch.nn.Module, "load_state_dict", lambda module, state: None)
        yield Path()

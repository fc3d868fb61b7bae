"""What people read of a run in place of the name of its folder: method, guidance and settings apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import JsonValue

from grasp_bench.contracts.spec import RunSpec

SCALE = "guidance_scale"
"""The setting of a guidance that is searched together with those of methods."""


class Row(NamedTuple):
    """What tells the runs of one row from those of another, but for versions."""

    method: str
    guidance: str
    settings: str
    """Settings that are not the defaults, as ``NAME=VALUE, ...``: the backbone, the guidance's, then the method's. A
    scale that a search chose is there also where it is the default."""
    tuned: str
    """Trials of the search that chose further settings, and its sampler if that is not the default; empty without."""
    names_guidance: bool
    """Whether a sentence names the guidance: it is not the one that the task asks for, or has settings."""

    @property
    def told(self) -> str:
        """The settings, and the search that chose others."""
        return ", ".join(filter(None, (self.settings, self.tuned and f"tuned={self.tuned}")))

    def __str__(self) -> str:
        """Return the row as a sentence calls it, such as "lora with cfg, guidance_scale=1.18, tuned=8"."""
        more = ", ".join(filter(None, (self.guidance if self.names_guidance else "", self.told)))
        return f"{self.method} with {more}" if more else self.method


def row_of(
    spec: RunSpec,
    changed: Mapping[str, Mapping[str, JsonValue]],
    backbone: str,
    tuned: str,
    searched_scale: float | None,
    usual: bool,
) -> Row:
    """Return the row of a run.

    ``changed`` has the settings that are not the defaults, by their owner; ``backbone`` is empty for the one that the
    task asks for; ``tuned`` says what search chose settings, and is empty without one; ``searched_scale`` is the
    guidance scale that it chose, None where it chose none; ``usual`` says whether the guidance is the one that the
    task asks for.
    """
    of_guidance, of_method = (changed.get(owner, {}) for owner in ("guidance", "method"))
    if searched_scale is not None and SCALE in spec.guidance.settings:
        of_guidance = {SCALE: spec.guidance.settings[SCALE], **of_guidance}
    is_named = spec.division != "open" and (not usual or bool(of_guidance))
    resolution = spec.backbone.settings.get("resolution")
    own = {"backbone": f"{backbone}@{resolution}" if resolution else backbone} if backbone else {}
    settings = ", ".join(f"{name}={value}" for each in (own, of_guidance, of_method) for name, value in each.items())
    return Row(spec.method.name, spec.guidance.name, settings, tuned, is_named)

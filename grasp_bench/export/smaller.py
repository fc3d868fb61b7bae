"""Exported weights other than those that were scored: clusters merged, or integers of 8 bits in place of floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import JsonValue

from grasp_bench import plugins
from grasp_bench.contracts.spec import Component
from grasp_bench.errors import UserError
from grasp_bench.export.manifest import Manifest

Merge = Literal["mean", "counts", "similarity"]
ROUTED, MERGED = "grasp", "merged"
"""The method whose runs can be merged, and the one that they then are of."""
SCALE = ".int8-scale"
"""What the name of a matrix's scales ends in."""
LARGEST = 127


def as_merged(manifest: Manifest, merge: Merge) -> Manifest:
    """Return the manifest of a run of ``grasp`` as one of ``merged``, whose weights are averages.

    Raises :class:`UserError` for a run of another method.
    """
    spec = manifest.spec
    if spec.method.name != ROUTED:
        raise UserError(
            f"--merge {merge}: averages the clusters of a run of {ROUTED}, and this is one of {spec.method.name}. "
            "Leave it out."
        )
    kind = plugins.load("methods", MERGED)
    settings: dict[str, JsonValue] = spec.method.settings | {"merge": merge}
    written = kind.Config.model_validate(settings).model_dump(mode="json")
    component = Component(name=MERGED, version=kind.version, settings=written)
    changed = {"spec": spec.model_copy(update={"method": component}), "label": f"{manifest.label}, merged by {merge}"}
    return manifest.model_copy(update=changed)


def quantized(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every matrix as int8, with one float32 scale per row: w ≈ q · s, s being the row's largest magnitude / 127.

    The error of an element is at most s / 2. Tensors of fewer than two dimensions stay as they are.
    """
    result: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if tensor.ndim < 2 or not tensor.is_floating_point():
            result[name] = tensor
            continue
        integers, result[name + SCALE] = rounded(tensor.detach().float().flatten(1))
        result[name] = integers.reshape(tensor.shape)
    return result


def rounded(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The integers nearest to rows (n, m) in float32, int8 (n, m), and the scales of rows (n,)."""
    scales = rows.abs().amax(1) / LARGEST
    divisors = scales.where(scales > 0, 1.0)[:, None]
    return (rows / divisors).round().clamp(-LARGEST, LARGEST).to(torch.int8), scales


def dequantized(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inverse of :func:`quantized` but for rounding, in float32."""
    result: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(SCALE):
            continue
        scales = state.get(name + SCALE)
        if scales is not None:
            tensor = tensor.float() * scales.reshape(-1, *[1] * (tensor.ndim - 1))
        result[name] = tensor
    return result

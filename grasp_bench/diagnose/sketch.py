"""Projection of gradients to a length that fits in memory, which keeps inner products up to a known error."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from grasp_bench import seeds

WIDTH = 4096


class Sketch:
    """A count sketch: every number is added, with a sign, to one of ``width`` sums; both are drawn once.

    E⟨Sx, Sy⟩ = ⟨x, y⟩ with variance at most (|x|² |y|² + ⟨x, y⟩²) / width (Weinberger et al. 2009, arXiv 0902.2206,
    lemma 2), so a cosine near 0 errs by about width^-1/2, 0.016 at 4,096. It takes two bytes of memory per number.
    Vectors that are no longer than ``width`` are kept unchanged.
    """

    def __init__(self, sizes: Sequence[int], name: str, seed: int, device: torch.device, width: int = WIDTH) -> None:
        """Draw the sums and signs for tensors of ``sizes``, keyed by ``name`` and ``seed``."""
        self.sizes, self.device = list(sizes), device
        self.exact = sum(sizes) <= width
        self.width = sum(sizes) if self.exact else width
        if not self.exact:
            generator = seeds.generator("sketch", name, seed)
            # index of the sum; the upper half of the range stands for a minus sign
            self.codes = [
                torch.randint(2 * width, (size,), generator=generator, dtype=torch.int16).to(device) for size in sizes
            ]

    def __call__(self, tensors: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """Return the sketch, float64 (width,), of the concatenated ``tensors``; None stands for zeros."""
        if self.exact:
            parts = [
                torch.zeros(size, device=self.device) if tensor is None else tensor.flatten()
                for size, tensor in zip(self.sizes, tensors, strict=True)
            ]
            return torch.cat(parts).double()
        sums = torch.zeros(2 * self.width, dtype=torch.float64, device=self.device)
        for codes, tensor in zip(self.codes, tensors, strict=True):
            if tensor is not None:
                sums.index_add_(0, codes.long(), tensor.flatten().double())
        return sums[: self.width] - sums[self.width :]

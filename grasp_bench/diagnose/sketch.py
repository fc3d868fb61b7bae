"""Gradients made short enough to keep, with the products of any two of them as they were, up to a known error."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from grasp_bench import seeds

WIDTH = 4096


class Sketch:
    """A count sketch: every number is added to one of ``width`` sums, with a sign; both are drawn once.

    E⟨Sx, Sy⟩ = ⟨x, y⟩ with variance at most (|x|² |y|² + ⟨x, y⟩²) / width (Weinberger et al. 2009, arXiv 0902.2206,
    lemma 2), so a cosine near 0 errs by about width^-1/2, 0.016 at 4,096. It takes two bytes of memory a number.
    Vectors that are no longer than ``width`` are kept as they are.
    """

    def __init__(self, sizes: Sequence[int], name: str, seed: int, device: torch.device, width: int = WIDTH) -> None:
        """``sizes`` are those of the tensors that make up a vector; ``name`` and ``seed`` key the draw."""
        self.sizes, self.device = list(sizes), device
        self.exact = sum(sizes) <= width
        self.width = sum(sizes) if self.exact else width
        if not self.exact:
            generator = seeds.generator("sketch", name, seed)
            # the sum, and in the upper half the same with a minus sign
            self.codes = [
                torch.randint(2 * width, (size,), generator=generator, dtype=torch.int16).to(device) for size in sizes
            ]

    def __call__(self, tensors: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """float64 (width,) of the vector that ``tensors`` make up; None stands for zeros."""
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

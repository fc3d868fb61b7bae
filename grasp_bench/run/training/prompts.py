"""Embeddings of prompts beside a training's latents: a training has far fewer prompts than samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.processes import sent

SHARE = 0.05
"""Share of a GPU's memory that embeddings may stay in."""
ON_A_CPU = 2**30
"""Bytes that they may stay in on a CPU."""


class NearPrompts:
    """Embeddings of prompts on the device: all distinct ones where they have room there, else those of each call.

    Either way every distinct prompt is copied once, and rows are chosen on the device.
    """

    def __init__(
        self, embed: Callable[[Sequence[str]], PromptEmbeddings], prompts: Sequence[str], device: torch.device
    ) -> None:
        """``embed`` returns embeddings on the CPU; ``prompts`` are those of the training, and may repeat."""
        self.embed, self.device = embed, device
        self.distinct = sorted({"", *prompts})
        each = sum(tensor.nbytes for tensor in embed([""]).tensors().values())
        self.stay = each * len(self.distinct) <= room(device)
        self.kept: dict[torch.dtype, tuple[dict[str, int], PromptEmbeddings]] = {}

    def __call__(self, prompts: Sequence[str], dtype: torch.dtype) -> PromptEmbeddings:
        """Return the embeddings of prompts, in ``dtype`` unless they are integers."""
        if self.stay and dtype not in self.kept:
            self.kept[dtype] = self._table(self.distinct, dtype)
        rows, table = self.kept[dtype] if self.stay else self._table(sorted(set(prompts)), dtype)
        if any(prompt not in rows for prompt in prompts):
            rows, table = self._table(sorted(set(prompts)), dtype)
        return table[sent(torch.tensor([rows[prompt] for prompt in prompts]), self.device)]

    def _table(self, distinct: Sequence[str], dtype: torch.dtype) -> tuple[dict[str, int], PromptEmbeddings]:
        """Return prompt → its row, and the rows."""
        found = {
            name: sent(tensor.to(dtype) if tensor.is_floating_point() else tensor, self.device)
            for name, tensor in self.embed(distinct).tensors().items()
        }
        return {prompt: row for row, prompt in enumerate(distinct)}, PromptEmbeddings(**found)


def room(device: torch.device) -> int:
    """Return the bytes that embeddings may stay in."""
    return int(SHARE * torch.cuda.mem_get_info(device)[1]) if device.type == "cuda" else ON_A_CPU

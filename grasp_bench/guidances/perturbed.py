"""Attention that keeps every image token to itself, in chosen layers and for as long as a context lasts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode


@contextmanager
def perturbed(layers: Iterable[Attention]) -> Iterator[None]:
    """Inside the block, the map of image tokens to image tokens in ``layers`` is diagonal."""
    originals = [(layer, layer.processor) for layer in layers]
    try:
        for layer, original in originals:
            joint = layer.added_kv_proj_dim is not None
            layer.set_processor(DiagonalJointAttention(original) if joint else IdentityAttention())
        yield
    finally:
        for layer, original in originals:
            layer.set_processor(original)


class IdentityAttention:
    """A processor of self-attention whose map is the identity: every token gets its own value."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: None = None,
        attention_mask: Any = None,
    ) -> torch.Tensor:
        """Hidden states (B, N, C) of image tokens, before and after."""
        project, dropout = attn.to_out
        output: torch.Tensor = dropout(project(attn.to_v(hidden_states)))
        return output


class DiagonalJointAttention:
    """A processor of joint attention in which an image token attends, of all image tokens, to itself alone.

    Attention from, to and among prompt tokens stays, and everything but the mask is left to the original processor.
    """

    def __init__(self, original: Any) -> None:
        self.original = original

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> Any:
        """Hidden states (B, N, C) of image tokens and (B, T, C) of prompt tokens, before and after."""
        with _DiagonalFirst(hidden_states.shape[1]) as mode:
            output = self.original(attn, hidden_states, encoder_hidden_states, attention_mask)
        if mode.calls != 1:
            raise RuntimeError(
                f"{type(self.original).__name__} called torch's attention {mode.calls} times, expected once"
            )
        return output


class _DiagonalFirst(TorchFunctionMode):
    """Masks calls of torch's attention: each of the first ``tokens`` tokens attends to itself, not to the others."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens, self.calls = tokens, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **kwargs or {})
        self.calls += 1
        query, key = args[:2]  # (B, heads, N + T, C / heads)
        mask = query.new_ones(query.shape[-2], key.shape[-2], dtype=torch.bool)
        mask[: self.tokens, : self.tokens] = torch.eye(self.tokens, dtype=torch.bool, device=mask.device)
        return func(*args, **(kwargs or {}) | {"attn_mask": mask})

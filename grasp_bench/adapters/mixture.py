"""A mixture of adapters with a learned gate beside a feed-forward layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from grasp_bench.adapters.layout import channels_first, on_tokens
from grasp_bench.adapters.scope import current_scope, recomputing
from grasp_bench.processes import mean

ROUTER_STD = 0.02


@dataclass
class GateLog:
    """What the gates of one forward pass did, over all layers."""

    balance: list[torch.Tensor] = field(default_factory=list)
    """Σ f_i P_i of each layer; 1 when experts are used evenly."""
    usage: list[torch.Tensor] = field(default_factory=list)
    """(B, E) of each layer: how many of a sample's tokens chose each expert."""


class GatedAdapters(nn.Module):
    """A feed-forward layer plus the adapters its router picks for each token.

    f(x) + scale · Σ_{e in top-k} p_e(x) gelu(x D_e) U_e with p = softmax(x W). Gates are not renormalised over the
    top k, as in DiT-MoE (Fei et al. 2024, arXiv 2407.11633); ``U`` starts at zero, so the output starts equal to the
    base layer's.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        width: int,
        experts: int,
        top_k: int,
        rank: int,
        scale: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.channels_first = channels_first(base_layer)
        self.scale = scale
        self.top_k = top_k
        self.router = nn.Parameter(torch.randn(width, experts, generator=generator) * ROUTER_STD)
        self.down = nn.Parameter(torch.randn(experts, width, rank, generator=generator) * width**-0.5)
        self.up = nn.Parameter(torch.zeros(experts, rank, width))

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, N, D) → (B, N, D), or (B, D, H, W) → (B, D, H, W) of a convolutional layer.

        Records into the :class:`GateLog` in scope, if there is one.
        """
        output: torch.Tensor = self.base_layer(hidden_states, *args, **kwargs)
        return output + self.scale * on_tokens(self.residual, hidden_states, self.channels_first)

    def residual(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """What the chosen experts add, before scaling: (B, N, D) → (B, N, D)."""
        precision = torch.promote_types(hidden_states.dtype, torch.float32)
        probabilities = (hidden_states @ self.router).softmax(-1, precision)  # (B, N, E)
        chosen = torch.zeros_like(probabilities).scatter(-1, probabilities.topk(self.top_k).indices, 1.0)
        log = current_scope()
        if isinstance(log, GateLog) and torch.is_grad_enabled():
            even = balance(probabilities, chosen, self.top_k)  # also when recomputing, which must do the same work
            if not recomputing():
                log.balance.append(even)
                log.usage.append(chosen.sum(1))
        gates = (probabilities * chosen).to(hidden_states)
        hidden = functional.gelu(torch.einsum("bnd,edr->bner", hidden_states, self.down))
        return torch.einsum("bner,bne,erd->bnd", hidden, gates, self.up)


def balance(probabilities: torch.Tensor, chosen: torch.Tensor, top_k: int) -> torch.Tensor:
    """Load-balancing loss Σ f_i P_i (Fedus et al. 2021, arXiv 2101.03961, equation 4, for k choices a token).

    f_i is E times the share of assignments to expert i, P_i its mean probability; 1 when both are uniform. The share
    is that of the samples of all processes.
    """
    experts = probabilities.shape[-1]
    share = mean(chosen.flatten(0, -2).mean(0)) / top_k
    return experts * (share * probabilities.flatten(0, -2).mean(0)).sum()

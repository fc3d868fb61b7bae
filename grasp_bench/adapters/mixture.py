"""A mixture of adapters with a learned gate beside a feed-forward layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from grasp_bench.adapters.inject import channels_first, on_tokens
from grasp_bench.contracts.scope import current_scope, recomputing
from grasp_bench.exchange import mean

if TYPE_CHECKING:
    from grasp_bench.contracts.method import Condition

ROUTER_STD = 0.02
TIMESTEP_WIDTH = 64
"""Channels that tell a gate of samples the timestep."""


@dataclass
class GateLog:
    """What the gates of one forward pass did, over all layers."""

    samples: torch.Tensor | None = None
    """(B, F): what gates of samples read; see :func:`sample_features`."""
    padding: torch.Tensor | None = None
    """bool (B, T): tokens of prompts that stand for nothing, which layers of prompts leave out of what they record."""
    share: list[torch.Tensor] = field(default_factory=list)
    """(E,) of each layer: mean number of choices of each expert, of a token, or of a sample; 0 of padding."""
    probability: list[torch.Tensor] = field(default_factory=list)
    """(E,) of each layer: mean probability of each expert; 0 of padding."""
    usage: list[torch.Tensor] = field(default_factory=list)
    """(B, E) of each layer: how many of a sample's tokens, padding left out, chose each expert, or whether the sample
    did."""
    z: list[torch.Tensor] = field(default_factory=list)
    """Mean squared logsumexp of each layer's logits, 0 of padding (Zoph et al. 2022, arXiv 2202.08906, equation 5)."""
    kept: list[torch.Tensor] = field(default_factory=list)
    """Share of each layer's tokens that are no padding."""


class GatedAdapters(nn.Module):
    """A feed-forward layer plus the adapters its router picks for each token, or for each sample.

    f(x) + scale · Σ_{e in top-k} p_e gelu(x D_e) U_e with p = softmax(x W), or softmax(s W) where the sample's
    features s decide for all of its tokens. Gates are not renormalised over the top k, as in DiT-MoE (Fei et al. 2024,
    arXiv 2407.11633); ``U`` starts at zero, so the output starts equal to the base layer's.
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
        sample_width: int | None = None,
        of_prompts: bool = False,
    ) -> None:
        """``sample_width`` is F, of a router that reads the features of samples; none: it reads tokens.

        ``of_prompts`` says that the layer's tokens are those of prompts, some of which may be padding.
        """
        super().__init__()
        self.base_layer = base_layer
        self.channels_first = channels_first(base_layer)
        self.scale = scale
        self.top_k = top_k
        self.of_samples = sample_width is not None
        self.of_prompts = of_prompts and not self.of_samples
        self.router = nn.Parameter(torch.randn(sample_width or width, experts, generator=generator) * ROUTER_STD)
        self.down = nn.Parameter(torch.randn(experts, width, rank, generator=generator) * width**-0.5)
        self.up = nn.Parameter(torch.zeros(experts, rank, width))

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, N, D) → (B, N, D), or (B, D, H, W) → (B, D, H, W) of a convolutional layer.

        Records into the :class:`GateLog` in scope, if there is one; a gate of samples needs one.
        """
        output: torch.Tensor = self.base_layer(hidden_states, *args, **kwargs)
        return output + self.scale * on_tokens(self.residual, hidden_states, self.channels_first)

    def residual(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """What the chosen experts add, before scaling: (B, N, D) → (B, N, D)."""
        logits = self.logits(hidden_states)
        probabilities = logits.softmax(-1)
        chosen = torch.zeros_like(probabilities).scatter(-1, probabilities.topk(self.top_k).indices, 1.0)
        log = current_scope()
        if isinstance(log, GateLog) and torch.is_grad_enabled():
            weights = None if log.padding is None or not self.of_prompts else (~log.padding).to(chosen)[..., None]
            probability = over_tokens(probabilities, weights)  # also when recomputing, which must do the same work
            z = over_tokens(logits.logsumexp(-1, keepdim=True).square(), weights).mean()
            if not recomputing():
                log.share.append(over_tokens(chosen, weights))
                log.probability.append(probability)
                log.z.append(z)
                log.kept.append(z.new_ones(()) if weights is None else weights.mean())
                log.usage.append((chosen if weights is None else chosen * weights).sum(1))
        gates = (probabilities * chosen).to(hidden_states)
        hidden = functional.gelu(torch.einsum("bnd,edr->bner", hidden_states, self.down))
        return torch.einsum("bner,bne,erd->bnd", hidden, gates, self.up)

    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The router's, (B, N, E), or (B, 1, E) of samples.

        In float32 at least, also under autocast to a lower precision, since rounded logits choose other experts
        (Fedus et al. 2021, arXiv 2101.03961, section 2.4).
        """
        precision = torch.promote_types(hidden_states.dtype, torch.float32)
        with torch.autocast(hidden_states.device.type, enabled=False):
            return self._read(hidden_states).to(hidden_states.device, precision) @ self.router.to(precision)

    def _read(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """What the router reads: the tokens (B, N, D), or the features of the samples (B, 1, F)."""
        if not self.of_samples:
            return hidden_states
        log = current_scope()
        if not isinstance(log, GateLog) or log.samples is None:
            raise RuntimeError("a gate of samples ran without their features: enter the method's condition() first")
        if len(log.samples) != len(hidden_states):
            raise RuntimeError(f"features of {len(log.samples)} samples, but the forward pass has {len(hidden_states)}")
        return log.samples[:, None]


def over_tokens(values: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Mean (E,) over all tokens of values (B, N, E) times weights (B, N, 1), where there are weights."""
    return (values if weights is None else values * weights).flatten(0, -2).mean(0)


def balance(log: GateLog, top_k: int) -> torch.Tensor:
    """Load-balancing loss Σ f_i P_i, averaged over layers; 1 where experts are used evenly.

    It is equation 4 of Fedus et al. 2021, arXiv 2101.03961, for k choices per token that is no padding. f_i is E times
    the share of assignments to expert i, P_i its mean probability. The share is that of the samples of all processes,
    so each of them has to ask at the same time.
    """
    kept = kept_tokens(log)[:, None]
    shares, probabilities = mean(torch.stack(log.share)) / kept / top_k, torch.stack(log.probability) / kept
    return shares.shape[-1] * (shares * probabilities).sum(1).mean()


def z_loss(log: GateLog) -> torch.Tensor:
    """Mean squared logsumexp of the logits of tokens that are no padding, averaged over layers.

    Like :func:`balance`, it has to be asked for in all processes at the same time.
    """
    return (torch.stack(log.z) / kept_tokens(log)).mean()


def kept_tokens(log: GateLog) -> torch.Tensor:
    """Share of each layer's tokens that are no padding, (layers,), in all processes, whose samples are as many."""
    return mean(torch.stack(log.kept)).clamp(min=1e-9)


def sample_features(condition: Condition, width: int) -> torch.Tensor:
    """Inputs of a gate of samples, (B, ``width`` + 64): prompt and timestep, normalised together to mean 0, variance 1.

    A prompt is its pooled embedding or else the mean of its tokens; a class index is one-hot.
    """
    from diffusers.models.embeddings import get_timestep_embedding

    prompts, times = condition.prompts, get_timestep_embedding(1000 * condition.timesteps, TIMESTEP_WIDTH)
    if prompts.pooled is not None:
        prompt = prompts.pooled
    elif not prompts.tokens.is_floating_point():
        prompt = functional.one_hot(prompts.tokens[:, 0], width).to(times)
    else:
        mask = torch.ones_like(prompts.tokens[..., 0]) if prompts.mask is None else prompts.mask.to(prompts.tokens)
        prompt = (prompts.tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    features = torch.cat([prompt, times.to(prompt)], -1)
    return functional.layer_norm(features, features.shape[-1:])

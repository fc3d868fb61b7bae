"""A small network beside a frozen transformer, which reads what its blocks give and corrects what comes out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from grasp_bench.contracts.backbone import Backbone, Block

HEADS = 4
MLP_RATIO = 4
TEMPERATURE = 0.1
"""What a gate's parameter is divided by before the sigmoid (Sung et al. 2022, arXiv 2206.06522, section 3.2)."""


class Ladder(nn.Module):
    """The side network: a block of its own for every block of the transformer, with narrow tokens.

    The tokens before the transformer's first block, projected down, are h. For each block in turn
    h ← side_i(μ_i h + (1 - μ_i) down_i(b_i)), b_i being what the block gives and μ_i = sigmoid(α_i / 0.1), 1/2 at the
    start. Joint blocks give tokens of the prompt and of the image, each projected by its own matrix; the side blocks
    see both. ``up`` starts at zero, so the network starts by adding nothing.
    """

    def __init__(self, width: int, side_width: int, streams: list[tuple[str, ...]], generator: torch.Generator) -> None:
        """``streams`` are those, of "prompt" and "image", that the first block reads and that each block gives."""
        super().__init__()
        self.down = nn.ModuleList(
            nn.ModuleDict({name: linear(width, side_width, generator) for name in names}) for names in streams
        )
        self.condition = linear(width, side_width, generator)
        self.gates = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in streams[1:])
        self.blocks = nn.ModuleList(SideBlock(side_width, generator) for _ in streams[1:])
        self.up = zero_linear(side_width, width)

    def forward(self, states: list[dict[str, torch.Tensor]], conditioning: torch.Tensor) -> torch.Tensor:
        """What is added to the image's tokens after the last block, (B, N, D).

        ``states`` are the tokens (B, ·, D) of each stream before the first block and after every block;
        ``conditioning`` (B, D) is the transformer's embedding of the timestep and what it joins to that.
        """
        condition = functional.silu(self.condition(conditioning))
        h = self._project(0, states[0])
        for index, (gate, block) in enumerate(zip(self.gates, self.blocks, strict=True), 1):
            keep = torch.sigmoid(gate / TEMPERATURE)
            read = self._project(index, states[index])
            # the last joint block gives no tokens of the prompt: those of the side network go on as they are
            mixed = {name: keep * h[name] + (1 - keep) * read[name] if name in read else h[name] for name in h}
            sizes = [tokens.shape[1] for tokens in mixed.values()]
            tokens = block(torch.cat(list(mixed.values()), 1), condition)
            h = dict(zip(mixed, tokens.split(sizes, 1), strict=True))
        added: torch.Tensor = self.up(h["image"])
        return added

    def _project(self, index: int, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        projections: Any = self.down[index]
        return {name: project(tokens[name]) for name, project in projections.items()}


class SideBlock(nn.Module):
    """Self-attention and a multilayer perceptron on narrow tokens, each after a norm that the condition modulates."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.attend = linear(width, 3 * width, generator)
        self.project = linear(width, width, generator)
        self.expand = linear(width, MLP_RATIO * width, generator)
        self.contract = linear(MLP_RATIO * width, width, generator)
        self.modulation = zero_linear(width, 4 * width)

    def forward(self, tokens: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """(B, N, W) and (B, W) → (B, N, W)."""
        shift, scale, mlp_shift, mlp_scale = self.modulation(condition)[:, None].chunk(4, -1)
        tokens = tokens + self._attention(_normalised(tokens) * (1 + scale) + shift)
        hidden = functional.gelu(self.expand(_normalised(tokens) * (1 + mlp_scale) + mlp_shift))
        moved: torch.Tensor = tokens + self.contract(hidden)
        return moved

    def _attention(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = self.attend(tokens).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, ·)
        attended = functional.scaled_dot_product_attention(query, key, value)
        projected: torch.Tensor = self.project(attended.transpose(1, 2).flatten(2))
        return projected


class Rail:
    """What leads the tokens of a transformer's blocks to the ladder beside it, and the ladder's correction back.

    Nothing is cut off from the gradient by hand: of frozen blocks that read no trained tensor none is recorded, and a
    guidance that asks for the gradient by the latents gets all of it. The ladder runs after the last block, outside
    of what gradient checkpointing runs again.
    """

    def __init__(self, backbone: Backbone, ladder: Ladder) -> None:
        """Raises RuntimeError for a backbone that does not name its conditioning and its output norm."""
        blocks = [block.module for block in backbone.blocks()]
        embedder, final = backbone.conditioning(), backbone.output_norm()
        if embedder is None or final is None:
            raise RuntimeError("attach() was called where supports() refuses")
        self.ladder = ladder
        self.states: list[dict[str, torch.Tensor]] = []
        self.conditioning: torch.Tensor | None = None
        self.hooks = [
            embedder.register_forward_hook(self._condition),
            blocks[0].register_forward_pre_hook(self._start, with_kwargs=True),
            *(block.register_forward_hook(self._read) for block in blocks),
            final.register_forward_pre_hook(self._correct),
        ]

    def remove(self) -> None:
        """Leave the transformer as it was."""
        for hook in self.hooks:
            hook.remove()

    def _condition(self, embedder: nn.Module, arguments: Any, output: Any) -> None:
        self.conditioning = output[-1] if isinstance(output, tuple) else output  # Sana's gives what it feeds on, too

    def _start(self, block: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = dict(zip(("hidden_states", "encoder_hidden_states"), arguments, strict=False)) | named
        self.states = [_by_stream(given.get("encoder_hidden_states"), given["hidden_states"])]

    def _read(self, block: nn.Module, arguments: Any, output: Any) -> None:
        self.states.append(_by_stream(*output) if isinstance(output, tuple) else _by_stream(None, output))

    def _correct(self, final: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden_states, *others = arguments
        if self.conditioning is None:
            raise RuntimeError("the transformer's last layer ran without its timestep's embedding")
        added = self.ladder(self.states, self.conditioning)
        self.states, self.conditioning = [], None
        return (hidden_states + added.to(hidden_states), *others)


def streams(blocks: list[Block]) -> list[tuple[str, ...]]:
    """Names of the streams, "prompt" and "image", that the first block reads and that each block returns."""
    found = [blocks[0].joint, *(block.joint and block.returns_prompt for block in blocks)]
    return [("prompt", "image") if prompt else ("image",) for prompt in found]


def count(width: int, side_width: int, streams: list[tuple[str, ...]]) -> int:
    """Return the number of parameters of a :class:`Ladder`: matrices and biases of its layers, and its gates."""
    read = sum(map(len, streams)) + 1  # the condition, too, is projected down
    block = (3 + 1 + 2 * MLP_RATIO + 4) * side_width**2 + (3 + 1 + MLP_RATIO + 1 + 4) * side_width
    return read * (width + 1) * side_width + (len(streams) - 1) * (block + 1) + (side_width + 1) * width


def _by_stream(prompt: torch.Tensor | None, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Name of a stream → its tokens (B, ·, D)."""
    return {"image": image} if prompt is None else {"prompt": prompt, "image": image}


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A layer whose weights are normal with variance 1 / inputs, drawn from ``generator`` alone; its bias is zero."""
    layer = zero_linear(inputs, outputs)
    layer.weight.data = torch.randn(outputs, inputs, generator=generator) * inputs**-0.5
    return layer


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer that gives zeros."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # what is drawn then is the global generator's
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _normalised(tokens: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(tokens, tokens.shape[-1:])

"""Token routing: image tokens that skip a transformer's middle blocks (Krause et al. 2025, TREAD, arXiv 2501.04765).

A sample's tokens are drawn afresh for every training step. Those that are kept go through the middle blocks alone and
come back to their places; the rest stay what they were before. The prompt's tokens all stay, and so does the loss on
all tokens. Sampling is dense. Ours differs from the paper's code in that blocks keep the precision of the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from grasp_bench.errors import Skip

if TYPE_CHECKING:
    from grasp_bench.contracts.backbone import Backbone, Block
    from grasp_bench.contracts.method import Batch


def refusal(backbone: Backbone) -> Skip | None:
    """None, or why tokens cannot skip blocks of this backbone."""
    kind, depth = type(backbone.transformer).__name__, len(backbone.blocks())
    if backbone.needs_all_tokens:
        return Skip(
            f"tread leaves out tokens that are each sample's own, and {kind} cannot: {backbone.needs_all_tokens}"
        )
    if not middle(depth):
        return Skip(f"tread skips blocks in the middle, and {kind} has {depth}, expected at least 3")
    return None


def middle(depth: int) -> range:
    """Blocks, counted from 0, that tokens skip: 2 to ``depth`` - 4 as in the paper, whose networks have 12 or more.

    Shallower transformers keep a quarter of their blocks dense at either end, and at least one.
    """
    return range(max(1, min(2, depth // 4)), depth - max(1, min(3, depth // 4)))


def draw_kept(count: int, tokens: int, ratio: float, generator: torch.Generator) -> torch.Tensor:
    """Places of the tokens that are kept in each of ``count`` samples, ascending: (count, tokens - ⌊tokens ratio⌋)."""
    order = torch.rand(count, tokens, generator=generator).argsort(1)
    return order[:, : tokens - int(tokens * ratio)].sort(1).values


class Routing:
    """What the middle blocks work on: the image's tokens that are kept, or all."""

    def __init__(self) -> None:
        self.kept: torch.Tensor | None = None
        """int64 (B, n), places of each sample's tokens; None: all."""

    def run(self, forward: Callable[..., Any], hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """A block's output for hidden states (B, N, D) of the image, of which it is given those that are kept.

        Every block puts its tokens back, so whatever looks at the outputs of blocks sees whole images.
        """
        if self.kept is None:
            return forward(hidden_states, *args, **kwargs)
        if len(self.kept) != len(hidden_states):
            raise RuntimeError(
                f"tokens of {len(self.kept)} samples are kept, but the forward pass has {len(hidden_states)}"
            )
        places = self.kept[..., None].expand(-1, -1, hidden_states.shape[-1])
        output = forward(hidden_states.gather(1, places), *args, **kwargs)
        *prompt, image = output if isinstance(output, tuple) else (output,)
        whole = hidden_states.to(image).scatter(1, places, image)
        return (*prompt, whole) if prompt else whole


@contextmanager
def token_routing(blocks: list[Block]) -> Iterator[Routing]:
    """Inside the block, a transformer's middle blocks, of all its ``blocks``, work on what the :class:`Routing` says.

    It must not end before the backward pass: gradient checkpointing runs blocks again there.
    """
    routing = Routing()
    routed = [blocks[index].module for index in middle(len(blocks))]
    for block in routed:
        block.forward = functools.partial(routing.run, block.forward)  # hooks run outside, on whole images
    try:
        yield routing
    finally:
        for block in routed:
            del block.forward


def routed_training(backbone: Backbone, ratio: float) -> AbstractContextManager[Callable[[Batch], None]]:
    """A context in which a share ``ratio`` of each sample's tokens skips the middle blocks; at 0 nothing is changed.

    What it gives is called with every batch before its forward passes, which all keep the same tokens. Blocks are
    looked up by this call: a wrapper may take the transformer's place before the context is entered.
    """
    if ratio == 0:
        return nullcontext(lambda batch: None)
    return _routed(backbone.blocks(), backbone.image_tokens, ratio)


@contextmanager
def _routed(
    blocks: list[Block], image_tokens: Callable[[torch.Tensor], int], ratio: float
) -> Iterator[Callable[[Batch], None]]:
    with token_routing(blocks) as routing:

        def choose(batch: Batch) -> None:
            tokens = image_tokens(batch.latents)
            routing.kept = batch.draw(lambda count, stream: draw_kept(count, tokens, ratio, _apart(stream)))

        yield choose


def _apart(stream: torch.Generator) -> torch.Generator:
    """A stream of its own, seeded by ``stream``, whose first draws may be the method's."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=stream)))

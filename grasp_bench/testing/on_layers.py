"""The checks of a backbone's layers; the docstring of each is its contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from grasp_bench.adapters.inject import input_width
from grasp_bench.adapters.tread import draw_kept, middle, token_routing
from grasp_bench.guidances.perturbed import perturbed
from grasp_bench.testing.checks import NotApplicable, require
from grasp_bench.testing.compare import close, distance, none, some
from grasp_bench.testing.on_weights import Subject


@torch.no_grad()
def feed_forwards(subject: Subject) -> None:
    """Each of feed_forwards() is part of the transformer and called in every forward pass, in order."""
    layers = subject.backbone.feed_forwards()
    require(layers, "there are none, so no adapter can stand beside them")
    named = dict(subject.backbone.transformer.named_modules())
    odd = [name for name, layer in layers.items() if named.get(name) is not layer]
    none("are not the transformer's modules of these names", odd)
    require(all(input_width(layer) > 0 for layer in layers.values()), "a layer's input has no width")
    called = [name for name, *_ in _calls(subject, layers.items())]
    words = f"a forward pass calls {some(called)} ({len(called)}), expected {len(layers)} in order"
    require(called == list(layers), words)


def attention_projections(subject: Subject) -> None:
    """attention_projections name linear layers of the transformer."""
    endings = subject.backbone.attention_projections
    found = {name: layer for name, layer in subject.backbone.transformer.named_modules() if name.endswith(endings)}
    require(found, f"no module's name ends in {', '.join(endings)}")
    none("are not linear layers", [name for name, layer in found.items() if not isinstance(layer, torch.nn.Linear)])


@torch.no_grad()
def blocks(subject: Subject) -> None:
    """blocks() are called once each, in order, with as many image tokens as image_tokens() says, and return what they
    declare; conditioning() is called before them, and output_norm() after.
    """
    backbone = subject.backbone
    found = backbone.blocks()
    if not found:
        raise NotApplicable("it declares no blocks")
    named: list[tuple[str, torch.nn.Module]] = [(str(number), block.module) for number, block in enumerate(found)]
    ends = {"conditioning": backbone.conditioning(), "output-norm": backbone.output_norm()}
    calls = _calls(subject, [*named, *((name, module) for name, module in ends.items() if module is not None)])
    called, numbers = [name for name, *_ in calls], [name for name, _ in named]
    require([name for name in called if name not in ends] == numbers, f"blocks are called as {', '.join(called)}")
    tokens = backbone.image_tokens(subject.noisy)
    for name, given, output in calls:
        *others, last = output if isinstance(output, tuple) else (output,)
        if name == "conditioning":
            require(last.ndim == 2 and len(last) == 3, f"conditioning() gives {tuple(last.shape)}, expected (3, D)")
        elif name == "output-norm":
            require(tuple(given.shape[:2]) == (3, tokens), f"output_norm() reads {tuple(given.shape)}")
        else:
            block = found[int(name)]
            kept = tuple(given.shape[:2]) == (3, tokens)
            require(kept, f"block {name} reads {tuple(given.shape)}, of {tokens} tokens")
            require(given.shape == last.shape, f"block {name} reads {tuple(given.shape)} and gives {tuple(last.shape)}")
            told = [each for each in others if each is not None]
            require(len(told) == block.returns_prompt, f"block {name} returns {len(told)} tensors before the image's")
    require("conditioning" not in called or "conditioning" in called[:2], f"{called}")
    require("output-norm" not in called or called[-1] == "output-norm", f"output_norm() is not last of {called}")


@torch.no_grad()
def some_tokens(subject: Subject) -> None:
    """The middle blocks can work on some of each image's tokens, unless needs_all_tokens gives a reason."""
    backbone, expected = subject.backbone, subject.predict()
    if backbone.needs_all_tokens:
        raise NotApplicable(f"of an image's tokens it needs all: {backbone.needs_all_tokens}")
    if not middle(len(backbone.blocks())):
        raise NotApplicable(f"{len(backbone.blocks())} blocks have no middle")
    found, tokens = [], backbone.image_tokens(subject.noisy)
    with token_routing(backbone.blocks()) as routing:
        for share in (0.0, 0.5):
            routing.kept = draw_kept(3, tokens, share, torch.Generator().manual_seed(0))
            found.append(subject.predict())
    require(close(found[0], expected), f"with all tokens kept, predictions move by {distance(found[0], expected):.2g}")
    require(bool(found[1].isfinite().all()) and not torch.equal(found[1], expected), "leaving out half changes nothing")


@torch.no_grad()
def image_attentions(subject: Subject) -> None:
    """Perturbing each of image_attentions() changes the prediction, and leaves no trace."""
    layers, expected = subject.backbone.image_attentions(), subject.predict()
    if not layers:
        raise NotApplicable("it declares none")
    for name, layer in layers.items():
        with perturbed([layer]):
            require(not torch.equal(subject.predict(), expected), f"perturbing {name} changes nothing")
    require(torch.equal(subject.predict(), expected), "afterwards predictions are not what they were")


@torch.no_grad()
def prompt_projections(subject: Subject) -> None:
    """Each of prompt_projections() reads the prompt's tokens in every forward pass."""
    declared = subject.backbone.prompt_projections()
    if not declared:
        raise NotApplicable("it declares none")
    names = [name for pair in declared.values() for name in pair]
    modules = [(name, subject.backbone.transformer.get_submodule(name)) for name in names]
    none("are not linear layers", [name for name, layer in modules if not isinstance(layer, torch.nn.Linear)])
    calls, length = _calls(subject, modules), subject.prompts.tokens.shape[1]
    require(sorted(name for name, *_ in calls) == sorted(names), "a forward pass does not call each of them once")
    none(f"do not read the {length} tokens of a prompt", [name for name, given, _ in calls if given.shape[1] != length])


def checkpointing(subject: Subject) -> None:
    """Gradient checkpointing runs forward passes again, and changes no gradient."""
    found: list[dict[str, torch.Tensor]] = []
    counts = []
    for checkpointed in (False, True):
        backbone = subject.load()
        backbone.transformer.requires_grad_(True).train()
        if checkpointed:
            backbone.enable_gradient_checkpointing()
        with _hooked(backbone.feed_forwards().items()) as calls:
            subject.predict(backbone).square().mean().backward()
        counts.append(len(calls))
        named = backbone.transformer.named_parameters()
        found.append({name: each.grad for name, each in named if each.grad is not None})
    require(counts[1] > counts[0], "no feed-forward layer runs a second time in the backward pass")
    require(found[0].keys() == found[1].keys(), f"gradients differ in {some(found[0].keys() ^ found[1].keys())}")
    other = [name for name in found[0] if not torch.allclose(found[0][name], found[1][name], rtol=1e-3, atol=1e-6)]
    none("gradients differ", other)


Call = tuple[str, torch.Tensor, Any]


def _calls(subject: Subject, modules: Iterable[tuple[str, torch.nn.Module]]) -> list[Call]:
    """The calls of named modules in a forward pass, in order: name, first tensor given, output."""
    with _hooked(modules) as calls:
        subject.predict()
    return calls


@contextmanager
def _hooked(modules: Iterable[tuple[str, torch.nn.Module]]) -> Iterator[list[Call]]:
    calls: list[Call] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            given = arguments[0] if arguments else named.get("hidden_states")
            calls.append((name, given if isinstance(given, torch.Tensor) else torch.empty(0), output))

        return hook

    hooks = [module.register_forward_hook(note(name), with_kwargs=True) for name, module in modules]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()

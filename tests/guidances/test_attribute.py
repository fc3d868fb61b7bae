"""Borrowed attributes: which directions are found, and whose prompts are moved how far."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gaussian_world import NOISE, OBJECTIVES, SAMPLES, STD, World, draw, step_at

from grasp_bench import seeds
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.guidance import Model
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.guidances.attribute import AttributeGuidance, AttributeSettings, moved, principal
from grasp_bench.guidances.cfg import CfgSettings, ClassifierFreeGuidance

WIDTH, TOKENS = 6, 3
WEIGHT = torch.linalg.qr(draw(16, WIDTH, seed=11)).Q
"""Orthonormal columns: the image that a prompt asks for is WEIGHT times the mean of its tokens."""
PLANTED = torch.linalg.qr(draw(WIDTH, 2, seed=12)).Q.T
"""Two directions of embeddings (2, WIDTH), along which images of the frequent class vary."""


def network(x: torch.Tensor, condition) -> torch.Tensor:
    """The perfect network of images of standard deviation STD around what the prompt asks for."""
    t = condition.timesteps.reshape(-1, 1, 1, 1)
    mean = (condition.prompts.tokens.mean(1) @ WEIGHT.T).reshape(x.shape)
    a, s = 1 - t, t
    clean = mean + STD**2 * a / (a**2 * STD**2 + s**2) * (x - a * mean)
    return (x - clean) / t


def shop(count: int) -> SimpleNamespace:
    """Images of a frequent class on the planted directions, and three times as far on the first; and of a rare one.

    Every second prompt names another label as well, and so does its image show it.
    """
    along = draw(count, 2, seed=13) * torch.tensor([3.0, 1.0])
    prompt, other = draw(1, TOKENS, WIDTH, seed=14), 10 * draw(1, TOKENS, WIDTH, seed=16)
    shown = prompt.mean(1) + torch.arange(count)[:, None] % 2 * other.mean(1)
    images = (shown + along @ PLANTED) @ WEIGHT.T
    images = torch.cat([images, draw(5, 16, seed=15)]).reshape(-1, 1, 4, 4)
    labels = np.array([1] * count + [0] * 5)
    infos = [
        SimpleNamespace(prompt="a", group="tail", train_count=5),
        SimpleNamespace(prompt="b", group="head", train_count=count),
    ]
    prompts = ["b", "b and c"] * (count // 2) + ["a"] * 5
    train = SimpleNamespace(labels=labels, prompts=prompts, read=lambda rows: images[rows].numpy())
    quiet = SimpleNamespace(task=lambda *_: __import__("contextlib").nullcontext(lambda each: None))
    embeddings = {"a": prompt + 1, "b": prompt, "b and c": prompt + other}
    return SimpleNamespace(
        data=lambda: SimpleNamespace(train=train),
        task=SimpleNamespace(classes=lambda: infos),
        backbone=SimpleNamespace(objective=FlowMatching(), encode_images=lambda pixels: pixels),
        network=network,
        device=torch.device("cpu"),
        dtype=torch.float64,
        progress=quiet,
        embed=lambda prompts: PromptEmbeddings(torch.cat([embeddings[each] for each in prompts])),
        generator=seeds.generator,
    )


def learned(folder: Path, **settings: float) -> AttributeGuidance:
    guidance = AttributeGuidance(AttributeSettings(**settings))
    made = shop(80)
    guidance.learn(made, folder)
    guidance.prepare(made, folder)
    return guidance


def test_the_planted_directions_are_found(tmp_path: Path) -> None:
    guidance = learned(tmp_path, directions=2, noises=8, images=80)
    unit = torch.nn.functional.normalize(guidance.basis, dim=1)
    assert (unit[0] @ PLANTED[0]).abs().item() > 0.95
    assert (unit[1] @ PLANTED[1]).abs().item() > 0.8
    assert guidance.basis[0].norm() > 2 * guidance.basis[1].norm()


def test_principal_directions_leave_the_means_of_classes_out() -> None:
    labels = torch.arange(60) % 2
    moves = draw(60, 1, seed=1) * PLANTED[0] + 100 * labels[:, None] * PLANTED[1]
    directions, values, share = principal(moves, labels, 4)
    assert len(directions) == len(values) == 1
    assert (directions[0] @ PLANTED[0]).abs().item() == pytest.approx(1)
    assert share == pytest.approx(1)


def made(strength: float, scale: float = 1.0) -> AttributeGuidance:
    guidance = AttributeGuidance(AttributeSettings(strength=strength, guidance_scale=scale))
    guidance.basis = PLANTED
    guidance.sizes = strength * torch.tensor([0.0, 0.5, 1.0, 1.0, 1.0], dtype=torch.float64)
    return guidance


def streams() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(SAMPLES)]


def test_the_rarer_a_class_the_further_its_prompt_moves_and_it_stays_there() -> None:
    seen: list[torch.Tensor] = []

    def noting(x: torch.Tensor, condition) -> torch.Tensor:
        seen.append(condition.prompts.tokens)
        return x

    prompts = PromptEmbeddings(torch.zeros(SAMPLES, TOKENS, WIDTH, dtype=torch.float64))
    model = Model(noting, FlowMatching(), torch.arange(SAMPLES), prompts, prompts)
    step, memory = step_at(FlowMatching()), {}
    for _ in range(2):
        made(2.0).predict(model, NOISE, replace(step, generators=streams(), memory=memory))
    z = torch.stack([torch.randn(2, generator=stream, dtype=torch.float64) for stream in streams()])
    expected = 2 * torch.tensor([0.0, 0.5, 1, 1, 1])[:, None] * (z @ PLANTED)
    for tokens in seen:
        torch.testing.assert_close(tokens, expected[:, None].expand(-1, TOKENS, -1))


def test_without_strength_it_is_classifier_free_guidance_at_its_cost() -> None:
    objective = OBJECTIVES["noise"]
    step = replace(step_at(objective), generators=streams())
    world = World(objective)
    got = made(0.0, 2.0).predict(world.model(), NOISE, step)
    assert torch.equal(got, ClassifierFreeGuidance(CfgSettings()).predict(World(objective).model(), NOISE, step))
    assert world.evaluations == {"c": SAMPLES, "u": SAMPLES}
    assert AttributeGuidance(AttributeSettings(guidance_scale=1)).evaluations_per_step == 1


def test_all_tokens_of_a_prompt_move_alike() -> None:
    prompts = PromptEmbeddings(draw(2, TOKENS, WIDTH, seed=3), pooled=draw(2, 4, seed=4))
    offset = draw(2, WIDTH, seed=5)
    found = moved(prompts, offset)
    torch.testing.assert_close(found.tokens - prompts.tokens, offset[:, None].expand(-1, TOKENS, -1))
    assert found.pooled is prompts.pooled

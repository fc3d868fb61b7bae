"""PoGDiff: the product of two Gaussians, and which prompts are a sample's neighbours."""

from dataclasses import replace

import pytest
import torch
from helpers.attaching import attach, forward, sample, train

from grasp_bench.baselines.pogdiff import Pogdiff, nearest, product, similarities


def test_the_product_of_two_gaussians_has_the_closed_form() -> None:
    own, other = torch.tensor([[0.3], [-1.0]], dtype=torch.float64), torch.tensor([[1.5], [2.0]], dtype=torch.float64)
    weights = torch.tensor([0.4, 3.0], dtype=torch.float64)
    means, precisions = product(own, other, weights)
    grid = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    for row in range(2):
        first, second = (
            torch.distributions.Normal(centre[row], precision**-0.5).log_prob(grid)
            for centre, precision in ((own, torch.tensor(1.0)), (other, weights[row]))
        )
        density = (first + second).exp()
        density /= density.sum()
        mean = (grid * density).sum()
        assert mean.item() == pytest.approx(means[row].item(), abs=1e-6)
        assert 1 / ((grid - mean).square() * density).sum().item() == pytest.approx(precisions[row].item(), rel=1e-6)


def test_the_loss_has_the_gradient_of_both_squared_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, method = attach(Pogdiff, neighbour_weight=2.0)
    batch = sample(backbone)
    other = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(method, "predict", lambda batch, condition: other)
    prediction = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    (found,) = torch.autograd.grad(method.losses(batch, prediction).sum(), prediction)
    labels, dropped = batch.condition.labels, batch.condition.dropped
    near = nearest(method.similarities, 3)
    drawn = batch.draw(lambda count, stream: torch.rand(count, generator=stream))
    neighbours = near[labels, (drawn * 3).long()]
    rarity = 1 - method.counts[labels] / method.counts.max()
    weights = 2 * rarity * method.similarities[labels, neighbours].clamp(min=0)
    weights = weights.float().masked_fill(dropped, 0).reshape(-1, 1, 1, 1)
    assert (weights[~dropped] > 0).any()
    elements = batch.target[0].numel()
    expected = 2 * ((prediction - batch.target) + weights * (prediction - other)) / elements
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)


def test_frequent_classes_and_dropped_prompts_keep_their_own_targets() -> None:
    backbone, method = attach(Pogdiff)
    batch, prediction = sample(backbone), forward(backbone, method)
    most = int(method.counts.argmax())
    labels = torch.full_like(batch.condition.labels, most)
    frequent = replace(batch, condition=replace(batch.condition, labels=labels))
    plain = (prediction - batch.target).square().flatten(1).mean(1)
    torch.testing.assert_close(method.losses(frequent, prediction), plain)
    losses = method.losses(batch, prediction)
    kept = batch.condition.dropped | (method.counts[batch.condition.labels] == method.counts.max())
    torch.testing.assert_close(losses[kept], plain[kept])
    assert (losses[~kept] != plain[~kept]).all()


def test_neighbours_are_the_most_similar_other_classes() -> None:
    found = torch.tensor([[1.0, 0.2, 0.9], [0.2, 1.0, -0.5], [0.9, -0.5, 1.0]])
    assert nearest(found, 1).tolist() == [[2], [0], [0]]
    assert nearest(found, 9).tolist() == [[2, 1], [0, 2], [0, 1]]
    backbone, method = attach(Pogdiff)
    cosines = similarities(backbone.encode_prompts(method.prompts))
    torch.testing.assert_close(cosines.diagonal(), torch.ones(10, dtype=torch.float64))


def test_adapters_beneath_are_trained_and_nothing_else() -> None:
    backbone, method = attach(Pogdiff, on="grasp")
    names = set(method.parameters())
    before = {name: each.clone() for name, each in backbone.transformer.state_dict().items()}
    train(backbone, method)
    after = backbone.transformer.state_dict()
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed
    assert changed <= names

"""The learned gate: its formula, its balance loss and what it records."""

import pytest
import torch
from torch import nn

from grasp_bench.adapters.mixture import GatedAdapters, GateLog, balance
from grasp_bench.adapters.scope import checkpoint, scope

WIDTH, EXPERTS = 8, 4


def make_mixture(top_k: int = 2) -> GatedAdapters:
    generator = torch.Generator().manual_seed(0)
    base = nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
    base.weight.copy_(torch.randn(WIDTH, WIDTH, generator=generator))
    mixture = GatedAdapters(base, WIDTH, EXPERTS, top_k, rank=3, scale=2.0, generator=generator)
    with torch.no_grad():
        mixture.up.copy_(torch.randn(mixture.up.shape, generator=generator))
        mixture.router.copy_(torch.randn(mixture.router.shape, generator=generator))
    return mixture


def tokens() -> torch.Tensor:
    return torch.randn(3, 5, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("top_k", [1, 2, EXPERTS])
def test_output_is_the_sum_over_the_chosen_experts_token_by_token(top_k: int) -> None:
    mixture, x = make_mixture(top_k), tokens()
    got = mixture(x)
    for sample, position in [(0, 0), (1, 3), (2, 4)]:
        token = x[sample, position]
        probabilities = (token @ mixture.router).softmax(-1)
        expected = mixture.base_layer(token)
        for expert in probabilities.topk(top_k).indices:
            hidden = nn.functional.gelu(token @ mixture.down[expert])
            expected = expected + 2.0 * probabilities[expert] * (hidden @ mixture.up[expert])
        torch.testing.assert_close(got[sample, position], expected)


def test_balance_is_one_when_even_and_the_number_of_experts_when_all_tokens_go_to_one() -> None:
    even = torch.full((2, EXPERTS, EXPERTS), 1 / EXPERTS)
    chosen = torch.eye(EXPERTS).expand(2, -1, -1)
    assert balance(even, chosen, 1).item() == pytest.approx(1.0)
    one = torch.zeros(2, 6, EXPERTS)
    one[..., 0] = 1.0
    assert balance(one, one, 1).item() == pytest.approx(EXPERTS)


def test_assignments_sum_to_top_k_a_token() -> None:
    mixture, log = make_mixture(2), GateLog()
    with scope(log):
        mixture(tokens())
    assert log.usage[0].shape == (3, EXPERTS)
    assert log.usage[0].sum(1).tolist() == [10.0, 10.0, 10.0]


def test_checkpointing_records_each_layer_once_and_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointed in (False, True):
        mixture, log, x = make_mixture(), GateLog(), tokens().requires_grad_()
        with scope(log):
            output = checkpoint(mixture, x) if checkpointed else mixture(x)
        (output.square().sum() + log.balance[0]).backward()
        assert len(log.balance) == len(log.usage) == 1
        gradients.append([mixture.router.grad, mixture.down.grad, mixture.up.grad])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)

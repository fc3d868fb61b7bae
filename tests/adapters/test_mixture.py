"""The learned gate: its formula, its balance loss and what it records."""

import pytest
import torch
from torch import nn

from grasp_bench.adapters.inject import input_width
from grasp_bench.adapters.mixture import (
    TIMESTEP_WIDTH,
    GatedAdapters,
    GateLog,
    balance,
    sample_features,
)
from grasp_bench.adapters.residual import BASE_ONLY, Route, RoutedAdapter
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.method import Condition
from grasp_bench.contracts.scope import checkpoint, scope

WIDTH, EXPERTS = 8, 4


def make_mixture(top_k: int = 2, sample_width: int | None = None) -> GatedAdapters:
    generator = torch.Generator().manual_seed(0)
    base = nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)
    base.weight.copy_(torch.randn(WIDTH, WIDTH, generator=generator))
    mixture = GatedAdapters(
        base, WIDTH, EXPERTS, top_k, rank=3, scale=2.0, generator=generator, sample_width=sample_width
    )
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


@pytest.mark.parametrize("top_k", [1, 2])
def test_gated_by_sample_all_tokens_share_the_experts_that_its_features_choose(top_k: int) -> None:
    mixture, x = make_mixture(top_k, sample_width=5), tokens()
    features = torch.randn(3, 5, generator=torch.Generator().manual_seed(4))
    log = GateLog(features)
    with scope(log):
        got = mixture(x)
    for sample in range(3):
        probabilities = (features[sample] @ mixture.router).softmax(-1)
        expected, chosen = mixture.base_layer(x[sample]), probabilities.topk(top_k).indices
        for expert in chosen:
            hidden = nn.functional.gelu(x[sample] @ mixture.down[expert])
            expected = expected + 2.0 * probabilities[expert] * (hidden @ mixture.up[expert])
        torch.testing.assert_close(got[sample], expected)
        assert log.usage[0][sample].nonzero().flatten().tolist() == sorted(chosen.tolist())


def condition(prompts: PromptEmbeddings) -> Condition:
    return Condition(torch.zeros(2).long(), torch.zeros(2).bool(), prompts, torch.tensor([0.2, 0.9]))


def test_features_of_samples_are_normalised_and_tell_prompt_and_timestep() -> None:
    words = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(5))
    mask = torch.arange(7) < torch.tensor([[3], [7]])
    kinds = {
        "pooled": PromptEmbeddings(words, pooled=words[:, 0]),
        "masked": PromptEmbeddings(words, mask=mask),
        "tokens": PromptEmbeddings(words),
        "index": PromptEmbeddings(torch.tensor([[4], [5]])),
    }
    found = {name: sample_features(condition(prompts), 6) for name, prompts in kinds.items()}
    for features in found.values():
        assert features.shape == (2, 6 + TIMESTEP_WIDTH)
        torch.testing.assert_close(features.mean(1), torch.zeros(2), rtol=0, atol=1e-5)
        assert not torch.equal(features[0, 6:], features[1, 6:])
    assert torch.equal(found["masked"][1], found["tokens"][1])
    assert not torch.allclose(found["masked"][0], found["tokens"][0])
    moved = words.clone()
    moved[0, 3:] += 1  # padding
    assert torch.equal(sample_features(condition(PromptEmbeddings(moved, mask=mask)), 6), found["masked"])
    assert found["index"][:, :6].argmax(1).tolist() == [4, 5]


def test_balance_is_one_when_even_and_the_number_of_experts_when_all_tokens_go_to_one() -> None:
    even, one = torch.full((EXPERTS,), 1 / EXPERTS), torch.eye(EXPERTS)[0]
    assert balance(GateLog(share=[even], probability=[even], kept=[torch.tensor(1.0)]), 1).item() == pytest.approx(1.0)
    assert balance(GateLog(share=[one], probability=[one], kept=[torch.tensor(1.0)]), 1).item() == pytest.approx(
        EXPERTS
    )
    assert balance(GateLog(share=[2 * even], probability=[even], kept=[torch.tensor(1.0)]), 2).item() == pytest.approx(
        1.0
    )
    both = GateLog(share=[even, one], probability=[even, one], kept=[torch.tensor(1.0)])
    assert balance(both, 1).item() == pytest.approx((1 + EXPERTS) / 2)


def test_nothing_is_asked_of_other_processes_in_a_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guidances that take gradients sample in some processes only, which would wait for the others for ever."""
    monkeypatch.setattr("grasp_bench.adapters.mixture.mean", lambda tensor: pytest.fail("a collective"))
    log = GateLog()
    with scope(log):
        make_mixture(2)(tokens()).sum().backward()
    assert log.share[0].shape == log.probability[0].shape == (EXPERTS,)
    assert log.share[0].sum().item() == pytest.approx(2.0)


def test_assignments_sum_to_top_k_a_token() -> None:
    mixture, log = make_mixture(2), GateLog()
    with scope(log):
        mixture(tokens())
    assert log.usage[0].shape == (3, EXPERTS)
    assert log.usage[0].sum(1).tolist() == [10.0, 10.0, 10.0]


@pytest.mark.parametrize("checkpointed", [False, True])
def test_padding_of_prompts_changes_nothing_that_is_recorded(checkpointed: bool) -> None:
    """What is recorded of five tokens, of which the last two are padding in one sample, is that of the other tokens."""
    generator, x = torch.Generator().manual_seed(0), tokens()
    linear = make_mixture().base_layer
    mixture = GatedAdapters(linear, WIDTH, EXPERTS, 2, 3, 2.0, generator, of_prompts=True)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True
    other = x.clone()
    other[1, 3:] = 100
    logs = []
    for each in (x, other):
        logs.append(GateLog(padding=padding))
        with scope(logs[-1]):
            checkpoint(mixture, each) if checkpointed else mixture(each)
    for name in ("share", "probability", "z", "usage"):
        torch.testing.assert_close(getattr(logs[0], name)[0], getattr(logs[1], name)[0])
    assert logs[0].usage[0].sum(1).tolist() == [10.0, 6.0, 10.0]
    real = (x @ mixture.router).softmax(-1)[~padding]
    torch.testing.assert_close(logs[0].probability[0] / logs[0].kept[0], real.mean(0))
    torch.testing.assert_close(logs[0].share[0].sum() / logs[0].kept[0], torch.tensor(2.0))
    mixture.of_prompts = False  # a layer of the image's tokens, which may be as many
    with scope(log := GateLog(padding=padding)):
        mixture(x)
    assert log.usage[0].sum(1).tolist() == [10.0, 10.0, 10.0]


def test_checkpointing_records_each_layer_once_and_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointed in (False, True):
        mixture, log, x = make_mixture(), GateLog(), tokens().requires_grad_()
        with scope(log):
            output = checkpoint(mixture, x) if checkpointed else mixture(x)
        (output.square().sum() + balance(log, 2)).backward()
        assert len(log.share) == len(log.probability) == len(log.usage) == 1
        gradients.append([mixture.router.grad, mixture.down.grad, mixture.up.grad])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


@pytest.mark.parametrize("sample_width", [None, 5])
def test_under_autocast_gates_are_those_in_float32_of_the_same_tokens(sample_width: int | None) -> None:
    mixture, x = make_mixture(sample_width=sample_width), tokens().bfloat16()
    features = torch.randn(3, 5, generator=torch.Generator().manual_seed(4))
    rounded, full = GateLog(features), GateLog(features)
    with scope(rounded), torch.autocast("cpu", torch.bfloat16):
        output = mixture(x)
    with scope(full):
        expected = mixture(x.float())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=0.03, atol=0.1)
    for name in ("share", "probability", "z", "usage"):
        assert torch.equal(getattr(rounded, name)[0], getattr(full, name)[0]), name


def test_in_float32_the_gate_is_the_plain_product_to_the_bit() -> None:
    mixture, x = make_mixture(2), tokens()
    probabilities = (x @ mixture.router).softmax(-1)
    gates = torch.zeros_like(probabilities).scatter(-1, probabilities.topk(2).indices, 1.0) * probabilities
    hidden = nn.functional.gelu(torch.einsum("bnd,edr->bner", x, mixture.down))
    experts = torch.einsum("bner,bne,erd->bnd", hidden, gates, mixture.up)
    assert torch.equal(mixture(x), mixture.base_layer(x) + 2.0 * experts)


class Pointwise(nn.Conv2d):
    """The linear layer of :func:`make_mixture` on (B, C, H, W)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(WIDTH, WIDTH, 1, bias=False)
        self.weight = nn.Parameter(linear.weight[..., None, None], requires_grad=False)


@pytest.mark.parametrize("kind", ["gated", "routed"])
def test_beside_a_convolution_adapters_give_the_same_with_channels_first(kind: str) -> None:
    height, width, clusters = 2, 5, 3
    x = torch.randn(3, height * width, WIDTH, generator=torch.Generator().manual_seed(2))
    linear = make_mixture().base_layer
    assert isinstance(linear, nn.Linear)

    def make(base: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(3)
        if kind == "gated":
            made: nn.Module = GatedAdapters(base, input_width(base), EXPERTS, 2, 3, 2.0, generator)
        else:
            made = RoutedAdapter(base, input_width(base), clusters, 3, 2.0, generator)
        for name, parameter in made.named_parameters():
            if name.startswith("up"):
                parameter.data.normal_(generator=generator)
        return made

    logs = [GateLog(), GateLog()]
    route = Route.of(torch.tensor([2, 0, BASE_ONLY]))
    with scope(logs[0] if kind == "gated" else route):
        expected = make(linear)(x)
    with scope(logs[1] if kind == "gated" else route):
        found = make(Pointwise(linear))(x.transpose(1, 2).unflatten(2, (height, width)))
    assert found.shape == (3, WIDTH, height, width)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected)
    assert not torch.allclose(expected, linear(x))
    if kind == "gated":
        assert torch.equal(logs[0].usage[0], logs[1].usage[0])

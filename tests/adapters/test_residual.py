"""Every danger of static routing: a wrong, missing or stale route, and clusters that are absent from a batch."""

import threading

import pytest
import torch
from torch import nn

from grasp_bench.adapters.residual import BASE_ONLY, Route, RoutedAdapter
from grasp_bench.contracts.scope import checkpoint, scope

WIDTH = 8


def make_adapter(clusters: int = 3, trained: bool = True) -> RoutedAdapter:
    generator = torch.Generator().manual_seed(0)
    base = nn.Linear(WIDTH, WIDTH)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator)).requires_grad_(False)
    adapter = RoutedAdapter(base, WIDTH, clusters, rank=4, scale=0.5, generator=generator)
    if trained:
        with torch.no_grad():
            for up in adapter.up:
                up.copy_(torch.randn(up.shape, generator=generator))
    return adapter


def tokens(batch: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 5, WIDTH, generator=torch.Generator().manual_seed(seed))


def route(*clusters: int) -> Route:
    return Route.of(torch.tensor(clusters))


def test_a_forward_without_a_route_raises() -> None:
    with pytest.raises(RuntimeError, match="without a route"):
        make_adapter()(tokens(2))


def test_the_route_ends_with_its_block() -> None:
    adapter = make_adapter()
    with scope(route(0, 1)):
        adapter(tokens(2))
    with pytest.raises(RuntimeError, match="without a route"):
        adapter(tokens(2))


def test_a_route_of_another_batch_raises() -> None:
    with scope(route(0, 1, 2)), pytest.raises(RuntimeError, match="for 3 samples, but the forward pass has 2"):
        make_adapter()(tokens(2))


def test_a_mixed_batch_equals_its_clusters_run_one_by_one() -> None:
    adapter, x, clusters = make_adapter(), tokens(6), [2, 0, 1, 0, BASE_ONLY, 2]
    with scope(route(*clusters)):
        mixed = adapter(x)
    for position, cluster in enumerate(clusters):
        with scope(route(cluster)):
            alone = adapter(x[position : position + 1])
        torch.testing.assert_close(mixed[position], alone[0])
    torch.testing.assert_close(mixed[4], adapter.base_layer(x[4]))


def test_each_cluster_is_the_formula() -> None:
    adapter, x = make_adapter(), tokens(1)
    for cluster in range(3):
        with scope(route(cluster)):
            got = adapter(x)
        hidden = nn.functional.gelu(x @ adapter.down[cluster])
        torch.testing.assert_close(got, adapter.base_layer(x) + 0.5 * hidden @ adapter.up[cluster])


def test_a_fresh_adapter_changes_nothing() -> None:
    adapter, x = make_adapter(trained=False), tokens(4)
    with scope(route(0, 1, 2, 1)):
        assert torch.equal(adapter(x), adapter.base_layer(x))


def test_two_forwards_before_one_backward_keep_their_own_routes() -> None:
    adapter, x, y = make_adapter(), tokens(2, 1), tokens(2, 2)

    def gradients(*pairs: tuple[torch.Tensor, Route]) -> list[torch.Tensor | None]:
        adapter.zero_grad()
        outputs = []
        for inputs, its_route in pairs:
            with scope(its_route):
                outputs.append(adapter(inputs).square().sum())
        torch.stack(outputs).sum().backward()
        return [parameter.grad for parameter in adapter.parameters() if parameter.requires_grad]

    together = gradients((x, route(0, 1)), (y, route(1, 2)))
    first, second = gradients((x, route(0, 1))), gradients((y, route(1, 2)))
    for both, a, b in zip(together, first, second, strict=True):
        parts = [part for part in (a, b) if part is not None]
        assert both is not None
        torch.testing.assert_close(both, torch.stack(parts).sum(0))


FEW = [2, 0, BASE_ONLY, 0, 3, 2, 2]
MANY = [11, 5, 0, 3, BASE_ONLY, 7, 2, 9, 6, 4, 8, 5, 12, 0]  # more than are grouped


@pytest.mark.parametrize("clusters", [FEW, MANY])
def test_outputs_and_gradients_of_a_mixed_batch_are_those_of_its_samples_run_one_by_one(clusters: list[int]) -> None:
    adapter = make_adapter(clusters=max(clusters) + 1)

    def gradients(x: torch.Tensor, its_route: Route) -> list[torch.Tensor | None]:
        adapter.zero_grad()
        x = x.clone().requires_grad_()
        with scope(its_route):
            output = adapter(x)
        output.square().sum().backward()
        return [output.detach(), x.grad, *(parameter.grad for parameter in (*adapter.down, *adapter.up))]

    x = tokens(len(clusters))
    outputs, of_inputs, *mixed = gradients(x, route(*clusters))
    alone = [gradients(x[i : i + 1], route(cluster)) for i, cluster in enumerate(clusters)]
    torch.testing.assert_close(outputs, torch.cat([each[0] for each in alone]))
    torch.testing.assert_close(of_inputs, torch.cat([each[1] for each in alone]))
    for got, *parts in zip(mixed, *(each[2:] for each in alone), strict=True):
        expected = [part for part in parts if part is not None]
        assert (got is None) == (not expected)
        if expected:
            torch.testing.assert_close(got, torch.stack(expected).sum(0))
    assert [gradient is None for gradient in mixed] == [n not in clusters for n in range(max(clusters) + 1)] * 2


def test_samples_that_no_adapter_serves_get_the_base_layers_output() -> None:
    adapter, x = make_adapter(), tokens(2)
    with scope(route(BASE_ONLY, BASE_ONLY)):
        assert torch.equal(adapter(x), adapter.base_layer(x))


def checkpointed_gradients(adapter: RoutedAdapter, backward_in_thread: bool) -> list[torch.Tensor]:
    adapter.zero_grad()
    x = tokens(4).requires_grad_()
    with scope(route(2, 0, 2, 1)):
        loss = checkpoint(adapter, x).square().sum()
    with scope(route(0, 0, 0, 0)):  # whatever runs around the backward pass must not matter
        if backward_in_thread:
            thread = threading.Thread(target=loss.backward)
            thread.start()
            thread.join()
        else:
            loss.backward()
    return [parameter.grad for parameter in adapter.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("backward_in_thread", [False, True])
def test_checkpointing_recomputes_under_the_route_of_the_forward_pass(backward_in_thread: bool) -> None:
    adapter = make_adapter()
    got = checkpointed_gradients(adapter, backward_in_thread)
    adapter.zero_grad()
    with scope(route(2, 0, 2, 1)):
        adapter(tokens(4)).square().sum().backward()
    expected = [parameter.grad for parameter in adapter.parameters() if parameter.grad is not None]
    assert len(got) == len(expected) == 6
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_cluster_absent_for_fifty_steps_keeps_weights_and_optimiser_state_bit_for_bit() -> None:
    adapter = make_adapter()
    parameters = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)

    def step(number: int, *clusters: int) -> None:
        optimizer.zero_grad()
        with scope(route(*clusters)):
            adapter(tokens(len(clusters), number)).square().sum().backward()
        optimizer.step()

    for number in range(5):
        step(number, 0, 1, 2)  # momentum that would go on moving cluster 1
    frozen = [adapter.down[1], adapter.up[1]]
    weights = [parameter.detach().clone() for parameter in frozen]
    states = [{name: value.clone() for name, value in optimizer.state[parameter].items()} for parameter in frozen]
    others = adapter.down[0].detach().clone()
    for number in range(50):
        step(100 + number, 0, 2)

    for parameter, weight, state in zip(frozen, weights, states, strict=True):
        assert torch.equal(parameter, weight)
        assert {name: value.tolist() for name, value in optimizer.state[parameter].items()} == {
            name: value.tolist() for name, value in state.items()
        }
    assert not torch.equal(adapter.down[0], others)

"""The simulated GPU counts what torch would take; what it stands in for does what the original does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from grasp_bench.estimate.simulate import DeviceError, SimulatedGpu, adopt
from grasp_bench.run.flops import FlopCount

CUDA, MIB = torch.device("cuda"), 2**20


def zeros(*shape: int, grad: bool = False) -> torch.Tensor:
    return torch.zeros(*shape, device=CUDA, requires_grad=grad)


def test_memory_is_that_of_live_tensors_and_their_most() -> None:
    with SimulatedGpu() as gpu:
        kept = zeros(256, 1024)
        assert gpu.live == MIB
        zeros(512, 1024)
        assert (gpu.live, gpu.peak) == (MIB, 3 * MIB)
        gpu.reset()
        assert gpu.peak == MIB
        view = kept[:128]
        assert gpu.live == MIB
        del kept
        assert gpu.live == MIB  # the view holds it
        del view
        assert gpu.live == 0
        assert zeros(1).device.type == "cuda"
        assert gpu.peak == MIB
        one = zeros(1)
        assert gpu.live == 512  # as the allocator rounds
        del one


def test_a_module_moves_with_its_parameters_and_their_identity() -> None:
    with SimulatedGpu() as gpu:
        layer = nn.Linear(512, 512, bias=False)
        weight = layer.weight
        assert gpu.live == 0
        layer.to(CUDA)
        assert layer.weight is weight
        assert weight.device.type == "cuda"
        assert gpu.live == MIB
        layer.to(torch.bfloat16)
        assert gpu.live == MIB // 2


@pytest.mark.parametrize("grad", [False, True])
def test_flops_are_those_that_the_harness_counts(grad: bool) -> None:
    def work(device: torch.device) -> None:
        layer = nn.Linear(16, 16).to(device)
        images = torch.zeros(2, 4, 9, 16, device=device, requires_grad=grad)
        query = layer(images)
        attended = functional.scaled_dot_product_attention(query, query, query)
        kernel = torch.zeros(8, 4, 3, 3, device=device)
        out = functional.conv2d(attended, kernel, padding=1).sum()
        if grad:
            out.backward()

    with FlopCount() as count:
        work(torch.device("cpu"))
    with SimulatedGpu() as gpu:
        work(CUDA)
    assert gpu.flops == count.total > 0


def test_gradients_of_a_grouped_convolution_take_twice_what_it_takes() -> None:
    with SimulatedGpu() as gpu:
        layer = nn.Conv2d(8, 8, 3, padding=1, groups=8).to(CUDA)
        out = layer(zeros(2, 8, 6, 6, grad=True))
        forward = gpu.flops
        assert forward == 2 * 2 * 36 * 8 * 9
        out.sum().backward()
        assert gpu.flops == 3 * forward


class Net(nn.Module):
    """Parameters that are used twice, not at all, and behind a broadcast."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.unused = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor, again: bool) -> torch.Tensor:
        hidden = functional.gelu(self.first(x))
        run = self.shared if not again else lambda value: checkpoint(self.shared, value, use_reentrant=False)
        return (run(run(hidden)) * self.scale).float()


@pytest.mark.parametrize("again", [False, True])
def test_a_backward_pass_reaches_the_parameters_that_torch_reaches(again: bool) -> None:
    def reached(device: torch.device) -> dict[str, tuple[int, ...] | None]:
        net = Net().to(device)
        net(torch.zeros(3, 4, device=device), again).mean().backward()
        return {name: None if p.grad is None else tuple(p.grad.shape) for name, p in net.named_parameters()}

    with SimulatedGpu():
        simulated = reached(CUDA)
    assert simulated == reached(torch.device("cpu"))
    assert simulated["unused.weight"] is None
    assert simulated["scale"] == (1,)


def test_a_gradient_by_something_leaves_parameters_alone() -> None:
    with SimulatedGpu():
        net, x = Net().to(CUDA), zeros(3, 4, grad=True)
        hidden = net.first(x)
        by_input, by_hidden = torch.autograd.grad(net.shared(hidden).sum(), [x, hidden])
        assert by_input is not None
        assert by_hidden is not None
        assert (by_input.shape, by_hidden.shape) == (x.shape, hidden.shape)
        assert all(parameter.grad is None for parameter in net.parameters())


def test_activations_are_let_go_of_as_the_backward_pass_uses_them() -> None:
    def peak(again: bool) -> int:
        with SimulatedGpu() as gpu:
            layers = nn.ModuleList(nn.Linear(256, 256) for _ in range(8)).to(CUDA)
            hidden = zeros(1024, 256, grad=True)
            gpu.reset()
            for layer in layers:
                call = lambda value, layer=layer: functional.gelu(layer(value))  # noqa: E731
                hidden = checkpoint(call, hidden, use_reentrant=False) if again else call(hidden)
            assert gpu.live >= 8 * MIB  # of 1 MiB each
            loss = hidden.sum()
            del hidden
            loss.backward()
            return gpu.peak

    assert peak(again=True) < 0.75 * peak(again=False)


def test_what_waits_for_the_gpu_is_noted_where_it_does() -> None:
    with SimulatedGpu() as gpu:
        value = zeros(3)
        waits: list[Callable[[], object]] = [value.cpu, value.tolist, value[0].item, lambda: bool(value.sum() > 0)]
        for number, wait in enumerate(waits, 1):
            wait()
            assert gpu.syncs.total() == number
        torch.zeros(3).to(CUDA)
        assert gpu.uploads.total() == 1
        torch.zeros(3).pin_memory().to(CUDA, non_blocking=True)
        assert gpu.uploads.total() == 1
        with pytest.raises(DeviceError, match="on the GPU"):
            value.numpy()


def test_values_of_small_tensors_are_known_and_decide_shapes() -> None:
    with SimulatedGpu() as gpu:
        labels = torch.tensor([3, 1, 3, 0]).to(CUDA)
        assert (labels + 1).tolist() == [4, 2, 4, 1]
        assert labels.sort().values.unique_consecutive().tolist() == [0, 1, 3]
        assert labels[labels == 3].shape == (2,)
        assert labels.bincount(minlength=6).tolist() == [1, 1, 0, 2, 0, 0]
        assert labels.cpu().numpy().tolist() == [3, 1, 3, 0]
        counts = torch.zeros(2)
        counts += torch.tensor([1.0, 2.0])
        assert counts.tolist() == [1, 2]
        counts += zeros(100, 100).sum(0)[:2].cpu()
        assert counts.tolist() == [1, 1]  # no longer known
        assert gpu.syncs


def test_the_optimiser_takes_what_it_takes() -> None:
    with SimulatedGpu() as gpu:
        weight = nn.Parameter(torch.zeros(512, 512).to(CUDA))
        weight.grad = torch.zeros_like(weight)
        optimizer = torch.optim.AdamW([weight])
        gpu.reset()
        optimizer.step()
        assert gpu.live == 4 * MIB  # weight, gradient and two moments
        assert gpu.peak == 5 * MIB  # and a temporary of torch's multi-tensor implementation
        optimizer.step()
        assert optimizer.state[weight]["step"].item() == 2


def test_double_precision_is_noted_above_a_size() -> None:
    with SimulatedGpu(large=100) as gpu:
        zeros(10).double()
        assert not gpu.float64
        zeros(101).double()
        assert gpu.float64.total() == 1


def test_a_module_that_is_real_becomes_simulated() -> None:
    layer = nn.Linear(512, 512, bias=False)
    with SimulatedGpu() as gpu:
        adopt(layer)
        layer.to(CUDA)
        assert gpu.live == MIB


def test_torch_is_left_as_it_was() -> None:
    before = (nn.Module._apply, torch.Tensor.backward, torch.autograd.grad, torch.Tensor.numpy)
    with SimulatedGpu():
        pass
    assert before == (nn.Module._apply, torch.Tensor.backward, torch.autograd.grad, torch.Tensor.numpy)
    x = torch.ones(2, requires_grad=True)
    x.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1]

import pytest
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from grasp_bench.run.flops import FlopCount


def flops(call):
    with FlopCount() as count:
        call()
    return count.total


def test_a_product_with_its_sum_is_two_operations():
    weight, rows = torch.ones(5, 7), torch.ones(3, 7)
    assert flops(lambda: functional.linear(rows, weight)) == 2 * 3 * 5 * 7
    assert flops(lambda: rows + 1) == 0


@pytest.mark.parametrize("grad", [False, True])
def test_attention_and_convolutions_are_as_torch_counts_them(grad):
    query, image, kernel = torch.ones(2, 4, 9, 8), torch.ones(2, 3, 6, 6), torch.ones(5, 3, 3, 3)
    query.requires_grad_(grad)

    def both() -> None:
        functional.scaled_dot_product_attention(query, query, query)
        functional.conv2d(image, kernel, padding=1)

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # attention as two plain products
        both()
    assert flops(both) == counter.get_total_flops() > 2 * 2 * 5 * 27 * 36


def test_a_gradient_counts():
    weight, rows = torch.ones(5, 7), torch.ones(3, 7, requires_grad=True)
    forward = flops(lambda: functional.linear(rows, weight).sum())
    assert flops(lambda: torch.autograd.grad(functional.linear(rows, weight).sum(), rows)) == 2 * forward


def test_the_backward_pass_of_attention_is_five_products_for_the_two_of_its_forward_pass():
    query = torch.ones(2, 4, 9, 8, requires_grad=True)

    def attend() -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, query, query).sum()

    assert flops(lambda: torch.autograd.grad(attend(), query)) == flops(attend) * 7 / 2


@pytest.mark.parametrize(("transposed", "stride"), [(False, 1), (False, 2), (True, 1), (True, 2)])
@pytest.mark.parametrize("wanted", ["both", "images", "weights"])
def test_gradients_of_a_convolution_are_as_torch_counts_them_group_by_group(transposed, stride, wanted):
    groups, channels = 4, 8
    convolve = functional.conv_transpose2d if transposed else functional.conv2d
    images = torch.ones(2, channels, 6, 6, requires_grad=wanted != "weights")
    weight = torch.ones(channels, channels // groups, 3, 3, requires_grad=wanted != "images")

    def whole() -> None:
        convolve(images, weight, stride=stride, padding=1, groups=groups).sum().backward()

    def in_groups() -> None:
        for some, part in zip(images.chunk(groups, 1), weight.chunk(groups), strict=True):
            convolve(some, part, stride=stride, padding=1).sum().backward()

    with FlopCounterMode(display=False) as counter:
        in_groups()
    assert flops(whole) == flops(in_groups) == counter.get_total_flops() > 0

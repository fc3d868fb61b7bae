"""Projected gradients against exact ones."""

import numpy as np
import torch

from grasp_bench.diagnose.gradients import Sketch

CPU = torch.device("cpu")


def cosine(a, b):
    return float(a @ b / a.norm() / b.norm())


def test_cosines_agree_within_the_projections_error():
    torch.manual_seed(0)
    sizes, width = [30_000, 20_000], 1024
    sketch = Sketch(sizes, "attention", 0, CPU, width)
    errors = []
    for mixed in np.linspace(-0.9, 0.9, 25):
        first, other = torch.randn(50_000), torch.randn(50_000)
        second = mixed * first + (1 - mixed**2) ** 0.5 * other
        errors.append(cosine(sketch(first.split(sizes)), sketch(second.split(sizes))) - cosine(first, second))
    assert np.abs(errors).max() < 4 * width**-0.5
    assert 0.2 * width**-0.5 < np.std(errors) < 1.2 * width**-0.5
    assert abs(np.mean(errors)) < width**-0.5


def test_it_is_linear_and_takes_nothing_for_zeros():
    torch.manual_seed(0)
    sizes = [3000, 2000]
    sketch = Sketch(sizes, "attention", 0, CPU, 256)
    first, second = torch.randn(3000), torch.randn(2000)
    parts = sketch([first, None]) + sketch([torch.zeros(3000), second])
    torch.testing.assert_close(sketch([first, second]), parts)


def test_short_vectors_are_kept():
    sketch = Sketch([2, 3], "attention", 0, CPU, 5)
    assert sketch.exact
    assert sketch([None, torch.tensor([1.0, 2.0, 3.0])]).tolist() == [0, 0, 1, 2, 3]


def test_the_seed_and_the_name_decide_it():
    vector = [torch.arange(100.0)]
    make = lambda name, seed: Sketch([100], name, seed, CPU, 10)(vector)  # noqa: E731
    assert torch.equal(make("a", 0), make("a", 0))
    assert not torch.equal(make("a", 0), make("a", 1))
    assert not torch.equal(make("a", 0), make("b", 0))

"""Random streams: keyed by purpose, reproducible, and blind to the global generators."""

import re
from pathlib import Path

import numpy as np
import torch

from grasp_bench import seeds


def test_streams_are_pinned() -> None:
    """A change here changes every result."""
    assert seeds.stream("noise", "digits-lt", 0, 7) == 7989203555069427789
    assert 0 <= seeds.stream("x") < 2**63


def test_every_key_counts_and_so_does_its_type() -> None:
    keys = [("noise",), ("noise", 0), ("noise", "0"), ("noise", 0, 1), ("noise", 1, 0), ("order", 0), ("noise", "0,1")]
    assert len({seeds.stream(*key) for key in keys}) == len(keys)


def test_nothing_is_seeded_by_a_hash_that_every_process_salts() -> None:
    root = Path(__file__).parents[1]
    files = [path for top in ("grasp_bench", "baselines", "tasks", "tests") for path in (root / top).rglob("*.py")]
    assert not [path for path in files if re.search(r"(?<![\w.])hash\(", path.read_text(encoding="utf-8"))]


def test_streams_do_not_see_global_generators() -> None:
    torch.manual_seed(1)
    first = torch.randn(4, generator=seeds.generator("noise", 3))
    torch.manual_seed(2)
    assert torch.equal(first, torch.randn(4, generator=seeds.generator("noise", 3)))
    assert np.array_equal(seeds.rng("a").random(3), seeds.rng("a").random(3))


def test_a_global_seed_ends_with_its_block() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    with seeds.global_seed(seeds.generator("init")):
        inside = torch.randn(3)
    assert torch.equal(torch.randn(3), expected)
    with seeds.global_seed(seeds.generator("init")):
        assert torch.equal(torch.randn(3), inside)

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from grasp_bench.run import interruption

OF_LIBRARIES = ("PYTEST_CURRENT_TEST", "KMP_", "TORCH")
"""How variables begin that pytest sets for every test, and PyTorch where it is imported."""


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """A test leaves the environment, the working folder and no wish to end, or the next ones would depend on it."""
    before = surroundings()
    yield
    assert surroundings() ^ before == set()
    assert not interruption._state.asked


@pytest.fixture(autouse=True, scope="session")
def nothing_waits_for_the_disk() -> Iterator[None]:
    """No test cuts the power, and waiting for the disk takes a tenth of their time; processes of their own do wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def surroundings() -> set[tuple[str, str]]:
    variables = {(name, value) for name, value in os.environ.items() if not name.startswith(OF_LIBRARIES)}
    return variables | {("working folder", str(Path.cwd()))}


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Classifiers train for one epoch in the tests of a module, for those where how good they are does not matter."""
    from helpers import runs

    with runs.quick():
        yield

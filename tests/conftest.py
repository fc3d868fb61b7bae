from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Classifiers train for one epoch in the tests of a module, for those where how good they are does not matter."""
    from helpers import runs

    with runs.quick():
        yield

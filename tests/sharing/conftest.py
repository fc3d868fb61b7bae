import pytest
from helpers import packing


@pytest.fixture(scope="package")
def pack(tmp_path_factory):
    """A pack of a run of lora, beside its results/ and work/; tests that change these copy them."""
    with packing.quick():
        return packing.packed(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def quick_scores():
    """Scores are computed with the few draws and resamples that those of ``pack`` were."""
    with packing.quick():
        yield

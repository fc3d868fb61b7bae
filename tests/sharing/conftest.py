import pytest

from .packing import hurry, packed


@pytest.fixture(autouse=True, scope="package")
def hurried():
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch.setattr)
        yield


@pytest.fixture(scope="package")
def pack(tmp_path_factory, hurried):
    """A pack of a run of lora, beside its results/ and work/; tests that change these copy them."""
    return packed(tmp_path_factory.mktemp("packed"))

import pytest

from . import runs


@pytest.fixture(autouse=True, scope="package")
def hurry():
    with pytest.MonkeyPatch.context() as patch:
        runs.hurry(patch.setattr)
        yield


@pytest.fixture(scope="package")
def finished(tmp_path_factory, hurry):
    """(folder, record) of an uninterrupted run of grasp; tests that change the folder copy it."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, runs.finish(folder, runs.small())

import pytest
from helpers import runs


@pytest.fixture(scope="package")
def finished(tmp_path_factory):
    """(folder, record) of an uninterrupted run of grasp; tests that change the folder copy it."""
    folder = tmp_path_factory.mktemp("finished")
    with runs.quick():
        return folder, runs.finish(folder, runs.small())

from pathlib import Path

import pytest
from helpers import runs

from grasp_bench.export.restore import finished_record, plan_of
from grasp_bench.export.write import export


def exported(folder: Path, method: str, **changes) -> Path:
    """Run a method in ``folder`` and export it to ``folder/exported``."""
    with runs.quick():
        runs.finish(folder, runs.small(method, **changes))
    (path,) = (folder / "results").rglob("record.json")
    path, record = finished_record(path.parent)
    plan = plan_of(record, backbone=changes.get("backbone"))
    export(plan, record, folder / "work", path.parent, folder / "exported")
    return folder


@pytest.fixture(scope="package")
def grasp(tmp_path_factory):
    """A folder with results/, work/ and exported/ of a run of grasp; tests that change it copy it."""
    return exported(tmp_path_factory.mktemp("grasp"), "grasp", guidance_settings=["guidance_scale=3"], seed=2)


@pytest.fixture(scope="package")
def lora(tmp_path_factory):
    """The same of lora, whose alpha is not its rank."""
    return exported(tmp_path_factory.mktemp("lora"), "lora", method_settings=["rank=4", "alpha=10"])

import subprocess
import sys

import pytest

import grasp_bench.metrics


@pytest.mark.parametrize("package", ["grasp_bench.metrics", "grasp_bench.stats"])
def test_importing_loads_nothing_heavy(package: str):
    code = (
        f"import sys, {package}; print([m for m in ('torch', 'scipy', 'sklearn', 'vendi_score') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_metrics_is_a_function_or_a_result():
    names = grasp_bench.metrics.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), name.islower(), name))
    assert all(callable(getattr(grasp_bench.metrics, name)) for name in names)  # not the module of the same name

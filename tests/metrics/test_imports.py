import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["grasp_bench.metrics", "grasp_bench.stats"])
def test_importing_loads_nothing_heavy(package: str):
    code = (
        f"import sys, {package}; print([m for m in ('torch', 'scipy', 'sklearn', 'vendi_score') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from grasp_bench.metrics import vendi_score

PAIR_AND_ONE = np.linalg.cholesky(np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1]]))


def test_orthogonal_rows_count_each_and_equal_rows_once():
    assert vendi_score(np.eye(6)) == pytest.approx(6)
    assert vendi_score(3 * np.eye(6, 9)) == pytest.approx(6)
    assert vendi_score(np.tile([1.0, 2.0, 3.0], (2, 1))) == pytest.approx(1, abs=1e-6)
    assert vendi_score(np.tile([1.0, 2.0, 3.0], (50, 1))) == pytest.approx(1, abs=1e-6)


def test_a_known_value():
    assert vendi_score(PAIR_AND_ONE) == pytest.approx(2.1573004834, abs=5e-7)


@pytest.mark.parametrize(("n", "d"), [(30, 8), (8, 30)])
def test_agrees_with_the_closed_form_for_few_and_many_rows(n: int, d: int):
    features = np.random.RandomState(0).randn(n, d)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    shares = np.linalg.svd(unit, compute_uv=False) ** 2 / n
    closed = np.exp(-(shares * np.log(shares)).sum())
    assert vendi_score(features) == pytest.approx(closed, rel=1e-5)


def test_agrees_with_the_package():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vendi_score import vendi

        for shape in ((40, 8), (8, 40)):
            features = np.random.RandomState(1).randn(*shape)
            assert vendi_score(features) == pytest.approx(vendi.score_dual(features), rel=1e-9)
            assert vendi_score(features) == pytest.approx(vendi.score_X(features), rel=1e-9)


def test_order_and_length_of_rows_and_copies_change_nothing():
    features = np.random.RandomState(2).randn(20, 12)
    score = vendi_score(features)
    assert vendi_score(features[::-1]) == pytest.approx(score)
    assert vendi_score(features * np.arange(1, 21)[:, None]) == pytest.approx(score)
    assert vendi_score(np.tile(features, (3, 1))) == pytest.approx(score)


def test_a_warning_of_the_package_does_not_reach_the_user(tmp_path: Path):
    (tmp_path / "vendi_score").mkdir()
    (tmp_path / "vendi_score" / "__init__.py").write_text("import warnings; warnings.warn('optional part missing')")
    (tmp_path / "vendi_score" / "vendi.py").write_text("def entropy_q(p, q=1): return 0.0")
    code = "import numpy; from grasp_bench.metrics import vendi_score; print(vendi_score(numpy.eye(3)))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("1.0", "")  # 1.0: the package that warns was the one in use


def test_bad_input():
    with pytest.raises(ValueError, match="row 1 is all zeros"):
        vendi_score(np.array([[1.0, 0], [0, 0]]))
    with pytest.raises(ValueError, match="n = 0"):
        vendi_score(np.ones((0, 3)))
    with pytest.raises(ValueError, match="row 0 holds NaN"):
        vendi_score(np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match="row 1 holds NaN or infinite"):
        vendi_score(np.array([[1.0, 1.0], [np.inf, 1.0]]))

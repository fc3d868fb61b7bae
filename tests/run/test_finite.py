"""Losses that are not finite are found although no step waits for the device."""

import sys
import threading
from pathlib import Path

import pytest
import torch
from helpers import runs

from grasp_bench import finite
from grasp_bench.checked import find_checked
from grasp_bench.errors import NonFiniteError
from grasp_bench.finite import FiniteCheck
from grasp_bench.io import read_tensors
from grasp_bench.run.training.checkpoint import KIND

CPU = torch.device("cpu")
ONE, NAN, INFINITE = torch.tensor(1.0), torch.tensor(torch.nan), torch.tensor(torch.inf)


@pytest.fixture
def late(monkeypatch) -> None:
    """Numbers are read as on a GPU."""
    monkeypatch.setitem(finite.AT_ONCE, "cpu", finite.OTHERWISE)


def test_on_the_cpu_a_number_is_read_at_its_own_step():
    check = FiniteCheck(CPU)
    check.see(0, ["a"], ONE, ONE)
    with pytest.raises(NonFiniteError, match="the loss is nan at step 1; the batch's samples: b, c"):
        check.see(1, ["b", "c"], NAN, ONE)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("bad", range(12))
def test_elsewhere_it_is_found_within_two_groups_and_named(bad):
    check, seen = FiniteCheck(CPU), []

    def go_on():
        for step in range(40):
            seen.append(step)
            check.see(step, [f"{step}-x"], ONE, INFINITE if step == bad else ONE)

    with pytest.raises(NonFiniteError, match=f"the gradient's norm is inf at step {bad}; the batch's samples: {bad}-x"):
        go_on()
    assert bad < seen[-1] <= bad + 2 * finite.OTHERWISE


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("bad", range(9))
def test_whatever_was_seen_is_settled(bad):
    check = FiniteCheck(CPU)
    for step in range(9):
        check.see(step, [str(step)], NAN if step == bad else ONE, ONE)
    with pytest.raises(NonFiniteError, match=f"step {bad};"):
        check.settle()


@pytest.mark.usefixtures("late")
def test_nothing_is_found_where_nothing_is_wrong():
    check = FiniteCheck(CPU)
    check.settle()
    for step in range(23):
        check.see(step, ["a"], ONE, ONE)
    check.settle()
    check.settle()


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("bad", [5, 7, 19])
def test_a_run_names_the_step_and_keeps_nothing_that_is_spoiled(tmp_path, monkeypatch, bad):
    runs.fail_at_step(monkeypatch, bad, lambda output: output * torch.nan)
    with pytest.raises(NonFiniteError, match=f"the loss is nan at step {bad};") as caught:
        runs.train_only(tmp_path, runs.small())
    assert str(caught.value).count("digits/") == 16
    (folder,) = (tmp_path / "work" / "train").glob("*.partial")
    kept = find_checked(folder, KIND)
    assert max(number for number, _ in kept) <= bad
    assert all(each.isfinite().all() for _, path in kept for each in read_tensors(path).values())


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("method", ["vanilla-ft", "oc", "moe", "cm"])
def test_a_step_reads_no_value(tmp_path, monkeypatch, method):
    """Between two rows of the log, in the thread that launches the work, wherever the project's own code asks."""
    asked, recording, root = [], [False], Path(__file__).parents[2]

    def noted(name):
        original = getattr(torch.Tensor, name)

        def call(tensor, *arguments, **options):
            caller = sys._getframe(1).f_code
            own = caller.co_filename.startswith((f"{root}/grasp_bench/", f"{root}/baselines/"))
            own = own and caller.co_name != "_apart"  # a seed, of a generator that is never on a GPU
            if recording[0] and own and threading.current_thread() is threading.main_thread():
                asked.append((name, caller.co_filename, caller.co_name))
            return original(tensor, *arguments, **options)

        monkeypatch.setattr(torch.Tensor, name, call)

    for name in ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__"):
        noted(name)

    see = FiniteCheck.see

    def seen(check, step, *given):
        recording[0] = 2 <= step < 4  # five steps are read together
        see(check, step, *given)
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(FiniteCheck, "see", seen)
    with pytest.raises(KeyboardInterrupt):
        runs.train_only(tmp_path, runs.small(method), log_every=100)
    assert not asked

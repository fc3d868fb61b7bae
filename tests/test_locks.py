"""One process at a time, on any file system."""

import errno
import fcntl
import multiprocessing
import os
import signal
import threading
import time

import pytest

from grasp_bench import locks
from grasp_bench.errors import UserError
from grasp_bench.locks import held

context = multiprocessing.get_context("forkserver")
NONE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def without_locks(patch, code):
    def flock(descriptor, operation):
        raise OSError(code, os.strerror(code))

    patch.setattr(fcntl, "flock", flock)


@pytest.fixture(params=["flock", *NONE])
def lock(request, tmp_path, monkeypatch):
    if request.param != "flock":
        without_locks(monkeypatch, request.param)
    return tmp_path / "new" / "a.lock"


def test_one_holds_it_at_a_time_and_the_other_says_whom_it_waits_for(lock):
    said, order, taken = [], [], threading.Event()

    def second():
        with held(lock, lambda who: (said.append(who), taken.set())):
            order.append("second")

    with held(lock):
        thread = threading.Thread(target=second)
        thread.start()
        taken.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert len(said) == 1
    assert str(os.getpid()) in said[0] or "a.lock.lease" in said[0]
    with held(lock, lambda who: pytest.fail("it is free")):
        pass


def hold_without_locks(path, code, ready):
    with pytest.MonkeyPatch.context() as patch:
        without_locks(patch, code)
        with held(path):
            ready.set()
            time.sleep(600)


def test_a_lease_whose_holder_was_killed_is_taken_over(tmp_path, monkeypatch):
    ready = context.Event()
    process = context.Process(target=hold_without_locks, args=(tmp_path / "a.lock", errno.ENOLCK, ready))
    process.start()
    ready.wait()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    without_locks(monkeypatch, errno.ENOLCK)
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.0)
    entered = False
    with held(tmp_path / "a.lock"):
        entered = True
    assert entered


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"9" * 5000])
def test_a_lease_that_nobody_holds_is_taken_over_whatever_it_says(tmp_path, monkeypatch, content):
    """A process that is killed between making its lease and writing it leaves an empty file."""
    without_locks(monkeypatch, errno.ENOLCK)
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.0)
    (tmp_path / "a.lock.lease").write_bytes(content)
    thread = threading.Thread(target=enter, args=(tmp_path / "a.lock", []), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


def test_a_lease_that_another_process_made_meanwhile_is_put_back(tmp_path):
    path = tmp_path / "a.lock.lease"
    path.touch()
    seen = locks._empty(path)
    path.write_text("held")
    locks._remove_same(path, seen)
    assert [each.name for each in tmp_path.iterdir()] == ["a.lock.lease"]
    assert path.read_text() == "held"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x1b[2J"])
def test_a_lock_file_may_hold_anything(tmp_path, content):
    path, said = tmp_path / "a.lock", []
    path.write_bytes(content)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        thread = threading.Thread(target=enter, args=(path, said))
        thread.start()
        while not said:
            time.sleep(0.01)
    thread.join()
    assert said[0].isprintable()


def enter(path, said):
    with held(path, said.append):
        pass


def test_a_lock_that_is_a_link_leaves_its_target_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    (tmp_path / "a.lock").symlink_to("thesis.tex")
    with pytest.raises(UserError, match=r"a\.lock: is a link"), held(tmp_path / "a.lock"):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "all of it"


@pytest.mark.parametrize("lies_there", ["a folder", "nothing may"])
def test_a_lock_that_cannot_be_made_is_one_message(tmp_path, monkeypatch, lies_there):
    if lies_there == "a folder":
        (tmp_path / "a.lock").mkdir()
    else:
        (tmp_path / "file").touch()
    path = tmp_path / ("a.lock" if lies_there == "a folder" else "file/a.lock")
    with pytest.raises(UserError, match=r"a\.lock: no lock can be made there"), held(path):
        pass

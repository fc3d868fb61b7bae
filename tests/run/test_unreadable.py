"""What may not be read is neither damage nor a traceback."""

import errno
import fcntl
import os

import pytest
from helpers.records import record, save

from grasp_bench.contracts.record import RECORD_NAME
from grasp_bench.errors import AccessError, UserError
from grasp_bench.results.site.beside import Beside, Files
from grasp_bench.run import runner
from grasp_bench.sweep.process import is_running, start


def refuse(patch, *paths):
    """Refuse to open these: the tests may be root's, who may read everything."""
    plain = open

    def opened(path, *arguments, **named):
        if str(path) in map(str, paths):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return plain(path, *arguments, **named)

    patch.setattr("io.open", opened)


def test_a_colleagues_record_is_not_moved_aside(tmp_path, monkeypatch):
    save(tmp_path, record("lora"))
    (path,) = tmp_path.rglob(RECORD_NAME)
    refuse(monkeypatch, path)
    with pytest.raises(AccessError, match=r"record\.json: cannot be read \(Permission denied\)"):
        runner._known_record(path, None, None)
    assert path.exists()


def test_the_page_does_without_a_log_that_may_not_be_read(tmp_path, monkeypatch):
    for name in ("record.json", "train.jsonl"):
        (tmp_path / name).write_text("{}")
    refuse(monkeypatch, tmp_path / "train.jsonl")
    files = Files()
    files.add("a", tmp_path)
    assert files.held["a"].keys() == {"record.json"}
    beside = Files(Beside())
    beside.add("a", tmp_path)
    assert beside.held["a"] == ["record.json"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_sweep_says_that_it_needs_locks(tmp_path, monkeypatch, code):
    def flock(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"a\.log: the file system there has no locks .*Set work_dir"):
        start(["--version"], tmp_path / "a.log", {})
    assert not is_running(tmp_path / "a.log")

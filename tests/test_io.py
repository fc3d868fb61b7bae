"""Files are whole or absent, and one value has one spelling."""

import csv
import errno
import json
import os
import stat
import time
from io import StringIO
from pathlib import Path

import pytest
import torch

from grasp_bench import io
from grasp_bench.errors import UserError
from grasp_bench.io import as_csv, folder_written_whole, remove, write_bytes
from grasp_bench.places import descriptor
from grasp_bench.results.sharing.archive import write_archive
from grasp_bench.temporary import sweep, temporary_name


def test_equal_values_have_one_digest_whatever_their_order() -> None:
    assert io.digest({"b": 1, "a": [1, "x"]}) == io.digest({"a": [1, "x"], "b": 1})
    assert io.digest({"a": 1}) != io.digest({"a": 1.5})


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.json")
    with pytest.raises(UserError, match=r"p\.json: .*a pipe or a device"):
        io.read_object(tmp_path / "p.json")


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\udcff", "[1]"])
def test_json_that_is_no_object_is_one_message(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model_index.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"model_index\.json: .* Fetch it again"):
        io.read_object(path)


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        io.write_json(tmp_path / "x.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    io.write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"x\.txt: cannot be written \(No space left on device\)"):
        io.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_round_trip(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).reshape(2, 3).T, "b": torch.tensor(1.5, dtype=torch.float64)}
    io.write_tensors(tmp_path / "x.safetensors", tensors)
    back = io.read_tensors(tmp_path / "x.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensors[key]) and back[key].dtype == tensors[key].dtype for key in tensors)


def test_a_mapped_tensor_is_the_one_that_was_written(tmp_path: Path) -> None:
    tensors = {"images": torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8), "labels": torch.arange(5)}
    io.write_tensors(tmp_path / "t.safetensors", tensors)
    for name, tensor in tensors.items():
        found = io.mapped_tensor(tmp_path / "t.safetensors", name)
        assert (found == tensor.numpy()).all()
        assert (found[[3, 1]] == tensor[[3, 1]].numpy()).all()


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        io.write_json(pipe, {"x": 1})
        assert json.loads(os.read(reader, 100)) == {"x": 1}
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]


def test_a_stream_by_its_path_is_written_to_and_not_replaced(tmp_path):
    with (tmp_path / "redirected").open("wb") as file:
        io.write_bytes(Path(f"/dev/fd/{file.fileno()}"), b"x")
    assert (tmp_path / "redirected").read_bytes() == b"x"
    with (tmp_path / "redirected").open("wb") as file:
        file.write(b"before, ")
        file.flush()
        (tmp_path / "link").symlink_to(f"/proc/self/fd/{file.fileno()}")
        io.write_bytes(tmp_path / "link", b"through a link, ")
        file.write(b"after")
    assert (tmp_path / "redirected").read_bytes() == b"before, through a link, after"
    names = {"stdin": 0, "stdout": 1, "stderr": 2, "fd/7": 7, "null": None}
    assert {name: descriptor(Path("/dev") / name) for name in names} == names
    io.write_bytes(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far/file")
    io.write_bytes(tmp_path / "link", b"x")
    write_archive(tmp_path / "link", {"a": b"b"})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "file").read_bytes().startswith(b"PK")


def left_by_killed(path: Path) -> Path:
    """What a process that was killed while it wrote ``path`` has left, under a number that no process has."""
    name = temporary_name(path).name.replace(f"-{os.getpid()}.", "-99999999.")
    return path.with_name(name)


def test_what_killed_processes_left_is_swept_up_by_the_next_call(tmp_path, monkeypatch):
    half, folder = left_by_killed(tmp_path / "page.html"), left_by_killed(tmp_path / "model")
    running = temporary_name(tmp_path / "other")
    half.write_bytes(b"half")
    (folder / "weights").mkdir(parents=True)
    running.write_bytes(b"being written")
    elsewhere = tmp_path / ".page.html.0a0a0a0a-99999999.tmp"  # of another machine, which may be writing it now
    elsewhere.write_bytes(b"half")
    monkeypatch.setattr("grasp_bench.temporary._swept", set())
    write_bytes(tmp_path / "page.html", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", running.name, elsewhere.name}


def test_what_nobody_has_changed_for_a_day_is_swept_up_whoever_wrote_it(tmp_path, monkeypatch):
    own = temporary_name(tmp_path / "own")
    elsewhere = tmp_path / ".page.html.0a0a0a0a-1.tmp"  # of a container that is gone
    reused = tmp_path / own.name.replace(f"-{os.getpid()}.", "-1.")  # a number that another process has now
    foreign = [tmp_path / name for name in (".notes.tmp", ".a.0a0a0a0a-x.tmp", "b.0a0a0a0a-1.tmp")]
    (elsewhere / "inside").mkdir(parents=True)
    for path in (own, reused, *foreign):
        path.touch()
    begun = time.time()
    for days, left in ((0.9, {own, elsewhere, reused, *foreign}), (1.1, {own, *foreign})):
        monkeypatch.setattr("grasp_bench.temporary._swept", set())
        monkeypatch.setattr("grasp_bench.temporary.time.time", lambda days=days: begun + days * 86400)
        sweep(tmp_path)
        assert {*tmp_path.iterdir()} == left


def test_what_may_not_be_swept_up_stays_and_stops_nothing(tmp_path, monkeypatch):
    left = [left_by_killed(tmp_path / name) for name in ("a", "b")]
    unlink = Path.unlink

    def refused(path, **named):
        if path == left[0]:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(path, **named)

    for path in left:
        path.touch()
    monkeypatch.setattr("grasp_bench.temporary._swept", set())
    monkeypatch.setattr(Path, "unlink", refused)
    write_bytes(tmp_path / "page", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"page", left[0].name}


def test_a_folder_is_written_over_what_a_killed_process_of_the_same_number_left(tmp_path):
    half = temporary_name(tmp_path / "folder")
    half.mkdir()
    (half / "half").touch()
    with folder_written_whole(tmp_path / "folder") as folder:
        write_bytes(folder / "a", b"whole")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO, errno.EOPNOTSUPP, errno.EACCES])
def test_a_file_system_that_cannot_sync_folders_is_written_to(tmp_path, monkeypatch, code):
    fsync = os.fsync

    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    write_bytes(tmp_path / "a", b"whole")
    with folder_written_whole(tmp_path / "folder") as folder:
        write_bytes(folder / "b", b"whole")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "folder" / "b").read_bytes() == b"whole"


def test_what_is_removed_may_be_anything_or_nothing(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to("folder")
    for name in ("link", "nothing", "folder"):
        remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_removal_that_is_refused_is_one_message(tmp_path, monkeypatch):
    (tmp_path / "a").touch()

    def refused(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "unlink", refused)
    with pytest.raises(UserError, match=r"a: cannot be written \(Read-only file system\)"):
        remove(tmp_path / "a")


def test_every_value_is_read_again_from_csv():
    rows = [["a", "b\rc", "d\ne"], ["\r", '"', "f,g"], ["\r\n", "", "plain"]]
    text = as_csv(rows)
    assert list(csv.reader(StringIO(text, newline=""), strict=True)) == rows
    assert as_csv([["a", 1], ["b c", 2.5]]) == "a,1\nb c,2.5\n"

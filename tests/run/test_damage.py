"""What lies in a stage's folder, finished or not, is what was written there, or is not used."""

import json
import os
import shutil

import pytest
from helpers import runs

from grasp_bench.checked import save_checked
from grasp_bench.errors import UserError
from grasp_bench.io import write_bytes, write_json
from grasp_bench.run.seal import MANIFEST
from grasp_bench.run.store import Store

INPUTS = {"of": "the stage"}


def no_news(message):
    raise AssertionError(message)


def no_build(folder):
    raise AssertionError("built again")


def build(folder):
    """Make two files, the second from the first, keeping what is there; as a training its weights and summary."""
    if not (folder / "a.json").exists():
        write_json(folder / "a.json", list(range(50)))
    if not (folder / "inside" / "b.json").exists():
        write_json(folder / "inside" / "b.json", json.loads((folder / "a.json").read_text())[::-1])


def killed(folder):
    build(folder)
    raise KeyboardInterrupt


def as_folder(path):
    path.unlink()
    path.mkdir()
    (path / "within").write_text("")


DAMAGES = {
    "flipped": runs.flip_a_byte,
    "truncated": runs.truncate,
    "emptied": lambda path: path.write_bytes(b""),
    "another": lambda path: path.write_text("[1, 2]"),
    "a folder": as_folder,
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a broken link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
}


@pytest.fixture
def undamaged(tmp_path):
    folder = Store(tmp_path / "whole", no_news).run("work", INPUTS, build)
    return {name: (folder / name).read_bytes() for name in ("a.json", "inside/b.json")}


@pytest.mark.parametrize("name", ["a.json", "inside/b.json"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_in_unfinished_work_is_named_and_mended(tmp_path, undamaged, name, damage):
    said = []
    stages = Store(tmp_path, said.append)
    with pytest.raises(KeyboardInterrupt):
        stages.run("work", INPUTS, killed)
    partial = stages.folder("work", INPUTS).with_suffix(".partial")
    damage(partial / name)
    folder = stages.run("work", INPUTS, build)
    assert {each: (folder / each).read_bytes() for each in undamaged} == undamaged
    assert any(f"{partial / name} is damaged" in message for message in said)


def test_a_file_that_nobody_vouches_for_is_not_taken_over(tmp_path, undamaged):
    said = []
    stages = Store(tmp_path, said.append)

    def plainly(folder):
        (folder / "a.json").write_text("[1, 2")  # as a plugin may write, killed half-way
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.run("work", INPUTS, plainly)
    folder = stages.run("work", INPUTS, build)
    assert (folder / "a.json").read_bytes() == undamaged["a.json"]
    assert "a.json may be half written" in said[0]


def test_a_kill_between_the_digest_and_the_name_loses_nothing(tmp_path, monkeypatch):
    stages = Store(tmp_path, no_news)

    def first(folder):
        write_json(folder / "log.json", 1)
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            write_json(folder / "log.json", 2)

    with pytest.raises(KeyboardInterrupt):
        stages.run("work", INPUTS, first)
    read = []
    stages.run("work", INPUTS, lambda folder: read.append(json.loads((folder / "log.json").read_text())))
    assert read == [1]


def test_half_a_line_of_the_journal_spoils_no_other(tmp_path):
    said = []
    stages = Store(tmp_path, said.append)
    with pytest.raises(KeyboardInterrupt):
        stages.run("work", INPUTS, killed)
    journal = stages.folder("work", INPUTS).with_suffix(".partial") / "written-0.jsonl"
    journal.write_bytes(journal.read_bytes() + b'\n["0123')
    with pytest.raises(KeyboardInterrupt):
        stages.run("work", INPUTS, lambda folder: (write_json(folder / "c.json", 3), killed(folder)))
    folder = stages.run("work", INPUTS, lambda folder: None)
    assert said == []
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "c.json", "inside", MANIFEST]


@pytest.mark.parametrize("damage", [runs.flip_a_byte, as_folder], ids=["flipped", "a folder"])
@pytest.mark.parametrize("of", ["a journal", "a name"])
def test_damage_before_the_seal_is_no_finished_stage(tmp_path, damage, of):
    import torch

    stages = Store(tmp_path, lambda message: None)
    times = []

    def spoilt(folder):
        if of == "a journal":
            write_bytes(folder / "a", b"what was written")
            path = folder / "a"
        else:
            path = save_checked(folder, "part", 3, {"a": torch.arange(9)})
        if not times:
            damage(path)
        times.append(path.name)

    with pytest.raises(UserError, match="Repeat the command"):
        stages.run("work", INPUTS, spoilt)
    folder = stages.run("work", INPUTS, spoilt)
    assert (folder / times[0]).is_file()


@pytest.mark.parametrize("name", ["a.json", "inside/b.json", MANIFEST])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_in_a_finished_stage_is_named_and_mended(tmp_path, undamaged, name, damage):
    said = []
    stages = Store(tmp_path, said.append)
    folder = stages.run("work", INPUTS, build)
    damage(folder / name)
    assert stages.run("work", INPUTS, build) == folder
    assert {each: (folder / each).read_bytes() for each in undamaged} == undamaged
    assert "is damaged; its folder was moved to" in said[0]


def test_a_folder_of_another_key_is_not_taken_for_the_stage(tmp_path):
    said = []
    stages = Store(tmp_path, said.append)
    other = stages.run("work", {"of": "another"}, lambda folder: write_json(folder / "a.json", "other"))
    shutil.copytree(other, stages.folder("work", INPUTS))
    assert not stages.is_finished("work", INPUTS)
    folder = stages.run("work", INPUTS, build)
    assert json.loads((folder / "a.json").read_text()) == list(range(50))
    assert f"{folder / MANIFEST} is damaged" in said[0]
    shutil.copytree(other, stages.folder("play", {"of": "another"}))
    assert not stages.is_finished("play", {"of": "another"})


@pytest.mark.parametrize("name", ["a.json", MANIFEST])
def test_what_may_not_be_read_is_no_damage(tmp_path, monkeypatch, name):
    stages = Store(tmp_path, no_news)
    folder = stages.run("work", INPUTS, build)
    plain = open

    def refused(path, *arguments, **named):
        if str(path) == str(folder / name):
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *arguments, **named)

    monkeypatch.setattr("io.open", refused)  # root may read everything
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
        stages.run("work", INPUTS, no_build)
    monkeypatch.undo()
    assert stages.run("work", INPUTS, no_build) == folder


def test_a_stage_that_is_built_again_stays_until_the_new_one_is_there(tmp_path):
    said = []
    stages = Store(tmp_path, said.append)
    folder = stages.run("work", INPUTS, lambda folder: write_json(folder / "a.json", 1))

    def second(folder, ends=False):
        write_json(folder / "b.json", 2)
        if ends:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.run("work", INPUTS, lambda folder: second(folder, True), again=True)
    assert (stages.run("work", INPUTS, no_build) / "a.json").exists()
    shutil.copytree(folder, folder.with_suffix(".former"))  # as a kill between two renames leaves it
    assert stages.run("work", INPUTS, second, again=True) == folder
    assert {path.name for path in folder.iterdir()} == {"b.json", MANIFEST}
    assert not folder.with_suffix(".former").exists()
    assert said == []

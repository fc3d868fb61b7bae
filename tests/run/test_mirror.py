"""A work folder that vanishes, and the place where its stages are kept as well."""

import shutil

import pytest
import torch
from helpers import runs

from grasp_bench.errors import UserError
from grasp_bench.io import read_tensors
from grasp_bench.run.files import WEIGHTS
from grasp_bench.run.mirror import Mirror
from grasp_bench.run.runner import check


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "kept"


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_training_goes_on_on_another_disk_to_the_same_bits(tmp_path, kept):
    expected = read_tensors(runs.train_only(tmp_path / "undisturbed", runs.small()) / WEIGHTS)
    with pytest.MonkeyPatch.context() as patch:
        runs.fail_at_step(patch, 14, runs.interrupt)
        with pytest.raises(KeyboardInterrupt):
            runs.train_only(tmp_path / "node", runs.small(), sync_to=kept)
    assert len(list(kept.rglob("step-*.safetensors"))) == 2
    shutil.rmtree(tmp_path / "node")

    listener = runs.Listener()
    trained = runs.train_only(tmp_path / "another", runs.small(), listener, sync_to=kept)
    assert "resuming after step 12" in listener.said
    assert f"prepare: taken from {kept}" in listener.said
    found = read_tensors(trained / WEIGHTS)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert names(kept / "train") == names(trained.parent)[-len(names(kept / "train")) :]
    assert not list(kept.rglob("*.partial"))


def test_a_finished_training_is_not_done_again(tmp_path, kept, monkeypatch):
    trained = runs.train_only(tmp_path / "node", runs.small(), sync_to=kept)
    runs.fail_at_step(monkeypatch, 0, lambda output: pytest.fail("a step was made"))
    again = runs.train_only(tmp_path / "another", runs.small(), sync_to=kept)
    assert (again / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_a_copy_that_is_damaged_is_not_used(tmp_path, kept):
    runs.train_only(tmp_path / "node", runs.small(), sync_to=kept)
    (weights,) = kept.rglob(WEIGHTS)
    runs.flip_a_byte(weights)
    listener = runs.Listener()
    runs.train_only(tmp_path / "another", runs.small(), listener, sync_to=kept)
    assert "is damaged; its folder was moved to" in listener.said


def test_copies_change_with_the_folder_and_nothing_else_is_touched(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    mirror, folder = Mirror(here, there), here / "train" / "a.partial"
    other = there / "train" / "b.partial" / "of another run"
    for path in (folder / "step-1", folder / "inside" / "epoch-1", folder / ".half.tmp", other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    mirror.keep(folder)
    assert names(there) == [
        "train/a.partial/inside/epoch-1",
        "train/a.partial/step-1",
        "train/b.partial/of another run",
    ]
    (folder / "step-1").rename(folder / "step-2")
    (folder / "inside" / "epoch-1").write_text("longer than before")
    mirror.keep(folder)
    assert names(there / "train" / "a.partial") == ["inside/epoch-1", "step-2"]
    assert (there / "train" / "a.partial" / "inside" / "epoch-1").read_text() == "longer than before"

    folder.rename(here / "train" / "a")
    mirror.keep(here / "train" / "a")
    assert names(there) == ["train/a/inside/epoch-1", "train/a/step-2", "train/b.partial/of another run"]
    assert not mirror.fetch(here / "train" / "a")  # it is there
    shutil.rmtree(here)
    assert mirror.fetch(here / "train" / "a")
    assert names(here) == ["train/a/inside/epoch-1", "train/a/step-2"]


def test_several_machines_do_not_share_a_disk_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"--sync-to .*: .* on the disk of one machine, and there are 2"):
        check(runs.small(), runs.options(tmp_path, sync_to=tmp_path), 4)


def test_a_place_that_cannot_be_written_is_a_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        runs.train_only(tmp_path / "node", runs.small(), sync_to=tmp_path / "file" / "kept")
    assert (tmp_path / "node").exists()

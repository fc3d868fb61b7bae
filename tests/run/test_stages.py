import json
import multiprocessing
import os
import signal

import pytest
from helpers import runs

from grasp_bench.errors import UserError
from grasp_bench.io import file_digest, has_digest, write_json
from grasp_bench.processes import Processes
from grasp_bench.run import seal, store
from grasp_bench.run.files import WEIGHTS
from grasp_bench.run.seal import MANIFEST, stage_key
from grasp_bench.run.store import Store

INPUTS = {"of": "the stage"}
context = multiprocessing.get_context("forkserver")


def no_news(message):
    raise AssertionError(message)


def no_build(folder):
    raise AssertionError("built again")


def build(folder):
    write_json(folder / "a.json", {"answer": 42})
    write_json(folder / "b.json", list(range(100)))


def test_a_stage_is_built_once_and_found_by_its_inputs(tmp_path):
    stages = Store(tmp_path, no_news)
    folder = stages.run("work", INPUTS, build)
    assert folder == stages.folder("work", INPUTS)
    assert stages.run("work", INPUTS, no_build) == folder
    assert stages.folder("work", {"of": "another"}) != folder
    assert stages.folder("other", INPUTS).name != folder.name
    assert json.loads((folder / MANIFEST).read_text())["files"].keys() == {"a.json", "b.json"}


def test_a_key_does_not_depend_on_the_order_of_the_inputs():
    assert stage_key("work", {"a": 1, "b": [2]}) == stage_key("work", {"b": [2], "a": 1})
    assert stage_key("work", {"a": 1}) != stage_key("work", {"a": "1"})


def test_a_failed_build_is_not_cached_and_what_it_did_is_kept(tmp_path):
    stages = Store(tmp_path, no_news)

    def failing(folder):
        write_json(folder / "half.json", 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stages.run("work", INPUTS, failing)
    assert not stages.folder("work", INPUTS).exists()

    kept = []
    folder = stages.run("work", INPUTS, lambda folder: kept.extend(path.name for path in folder.iterdir()))
    assert sorted(kept) == ["half.json", "written-0.jsonl"]
    assert {path.name for path in folder.iterdir()} == {"half.json", MANIFEST}
    assert folder.exists()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("b.json", runs.flip_a_byte),
        ("b.json", runs.truncate),
        ("b.json", lambda path: path.unlink()),
        (MANIFEST, runs.truncate),
        (MANIFEST, lambda path: path.unlink()),
        (MANIFEST, lambda path: path.write_text("[]")),
    ],
    ids=["flipped", "truncated", "missing", "manifest truncated", "manifest missing", "manifest of another shape"],
)
def test_a_damaged_stage_is_named_moved_aside_and_built_again(tmp_path, name, damage):
    said = []
    stages = Store(tmp_path, said.append)
    folder = stages.run("work", INPUTS, build)
    damage(folder / name)
    assert stages.run("work", INPUTS, build) == folder
    (message,) = said
    assert str(folder / name) in message
    assert f"{folder.name}.corrupt-1" in message
    assert folder.with_name(f"{folder.name}.corrupt-1").is_dir()
    assert json.loads((folder / "b.json").read_text()) == list(range(100))

    damage(folder / name)
    stages.run("work", INPUTS, build)
    assert folder.with_name(f"{folder.name}.corrupt-2").is_dir()


def settled(patch) -> None:
    """Seal at once, as if files had been written long before."""
    patch.setattr(seal, "_now", lambda folder: 2**62)


def test_files_that_are_as_they_were_sealed_are_not_read_unless_asked(tmp_path, monkeypatch):
    settled(monkeypatch)
    folder = Store(tmp_path, no_news).run("work", INPUTS, build)
    assert json.loads((folder / MANIFEST).read_text())["seen"].keys() == {"a.json", "b.json"}
    read = []
    monkeypatch.setattr(
        seal, "has_digest", lambda path, *expected: read.append(path.name) or has_digest(path, *expected)
    )
    assert Store(tmp_path, no_news).is_finished("work", INPUTS)
    assert read == []
    assert Store(tmp_path, no_news, verify=True).is_finished("work", INPUTS)
    assert read == ["a.json", "b.json"]


def test_a_change_behind_an_old_time_is_seen(tmp_path, monkeypatch):
    settled(monkeypatch)
    folder = Store(tmp_path, no_news).run("work", INPUTS, build)
    before = (folder / "b.json").stat()
    runs.flip_a_byte(folder / "b.json")
    os.utime(folder / "b.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not Store(tmp_path, no_news).is_finished("work", INPUTS)


@pytest.mark.parametrize("verify", [False, True])
def test_bits_that_turn_unseen_are_found_by_a_full_check_alone(tmp_path, monkeypatch, verify):
    settled(monkeypatch)
    folder = Store(tmp_path, no_news).run("work", INPUTS, build)
    before, manifest = (folder / "b.json").stat(), json.loads((folder / MANIFEST).read_text())
    runs.flip_a_byte(folder / "b.json")
    os.utime(folder / "b.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.setattr(seal, "_seen", lambda path: manifest["seen"][path.name])  # as when a disk turns a bit
    assert Store(tmp_path, no_news, verify=verify).is_finished("work", INPUTS) is not verify


@pytest.mark.parametrize("damage", [runs.flip_a_byte, runs.truncate, lambda path: path.unlink()])
def test_a_change_after_the_sealing_is_seen(tmp_path, monkeypatch, damage):
    settled(monkeypatch)
    folder = Store(tmp_path, no_news).run("work", INPUTS, build)
    os.utime(folder / "b.json", ns=(0, 0))  # another time, and the same bytes: as when folders are copied
    assert Store(tmp_path, no_news).is_finished("work", INPUTS)
    damage(folder / "b.json")
    assert not Store(tmp_path, no_news).is_finished("work", INPUTS)


def test_a_file_that_changed_just_before_the_sealing_is_always_read(tmp_path):
    folder = Store(tmp_path, no_news).run("work", INPUTS, build)
    assert json.loads((folder / MANIFEST).read_text())["seen"] == {}


def test_stages_that_were_sealed_before_are_read(tmp_path):
    folder = Store(tmp_path, no_news).run("work", INPUTS, build)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["seen"]
    write_json(folder / MANIFEST, manifest)
    assert Store(tmp_path, no_news).run("work", INPUTS, no_build) == folder
    runs.flip_a_byte(folder / "a.json")
    assert not Store(tmp_path, no_news).is_finished("work", INPUTS)


def test_the_others_look_for_what_the_first_builds_alone(tmp_path, monkeypatch):
    others = Store(tmp_path, no_news, Processes(1, 2))
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    monkeypatch.setattr(Processes, "first_says", lambda self, decide: decide())
    slept = []

    def first(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            others.folder("work", INPUTS).mkdir(parents=True)

    monkeypatch.setattr(store.time, "sleep", first)
    assert others.run("work", INPUTS, no_build).exists()
    assert len(slept) == 3


def test_damaged_weights_are_trained_again(tmp_path):
    chosen, listener = runs.small(), runs.Listener()
    trained = runs.train_only(tmp_path, chosen)
    before = file_digest(trained / WEIGHTS)
    runs.flip_a_byte(trained / WEIGHTS)
    assert runs.train_only(tmp_path, chosen, listener) == trained
    assert f"{trained / WEIGHTS} is damaged" in listener.said
    assert file_digest(trained / WEIGHTS) == before


def hold(root, held, release):
    """Build the stage, but not before told so."""

    def slowly(folder):
        build(folder)
        held.set()
        release.wait()

    Store(root, no_news).run("work", INPUTS, slowly)


@pytest.fixture
def holder(tmp_path):
    """(process that is building the stage, what lets it finish)."""
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, release))
    process.start()
    held.wait()
    yield process, release
    if process.is_alive():
        process.kill()
    process.join()


@pytest.mark.slow
def test_the_second_process_says_whom_it_waits_for_and_reuses(tmp_path, holder):
    process, release = holder
    said = []

    def listen(message):
        said.append(message)
        release.set()

    folder = Store(tmp_path, listen).run("work", INPUTS, no_build)
    assert (folder / "a.json").exists()
    assert len(said) == 1
    assert f"waiting for process {process.pid}," in said[0]
    process.join()
    assert process.exitcode == 0


def test_a_killed_process_holds_nothing(tmp_path, holder):
    process, _ = holder
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    folder = Store(tmp_path, no_news).run("work", INPUTS, build)
    assert (folder / "a.json").exists()


def test_half_a_file_left_behind_is_not_in_the_finished_stage(tmp_path):
    def interrupted(folder):
        (folder / f".a.json.{os.getpid() + 1}.tmp").write_text("hal")
        raise KeyboardInterrupt

    stages = Store(tmp_path, no_news)
    with pytest.raises(KeyboardInterrupt):
        stages.run("work", INPUTS, interrupted)
    folder = stages.run("work", INPUTS, build)
    assert {path.name for path in folder.iterdir()} == {"a.json", "b.json", MANIFEST}


def test_a_work_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*Choose a folder"):
        Store(tmp_path / "file" / "work", no_news).run("work", INPUTS, build)

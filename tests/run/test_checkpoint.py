import shutil
import time
import tracemalloc
from types import SimpleNamespace

import pytest
import torch
from helpers import runs
from safetensors.torch import load

from grasp_bench.checked import find_checked, load_checked, remove_checked, save_checked
from grasp_bench.errors import UserError
from grasp_bench.io import file_digest
from grasp_bench.processes import Processes
from grasp_bench.run.files import TRAIN_LOG, WEIGHTS
from grasp_bench.run.training import checkpoint
from grasp_bench.run.training.checkpoint import Checkpoints, History, State, check_space, restore_checkpoint


def no_news(message):
    raise AssertionError(message)


def state() -> State:
    """Of a model with a parameter that no loss depends on."""
    generator = torch.Generator().manual_seed(0)
    names = ("first/one", "two", "unused")
    parameters = {name: torch.nn.Parameter(torch.randn(4, generator=generator)) for name in names}
    averages = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    return State(parameters, averages, torch.optim.AdamW(parameters.values(), 0.1, weight_decay=0.1))


def save(folder, history: History, own: State) -> None:
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(history, own)


def step(own: State, count: int) -> None:
    for number in range(count):
        own.optimizer.zero_grad()
        (own.parameters["first/one"] * (number + 1) + own.parameters["two"]).square().sum().backward()
        own.optimizer.step()
        for name, average in own.averages.items():
            average.lerp_(own.parameters[name].detach(), 0.1)


def assert_same(one: State, other: State) -> None:
    for name, parameter in one.parameters.items():
        assert torch.equal(parameter, other.parameters[name])
        assert torch.equal(one.averages[name], other.averages[name])


def test_there_is_nothing_to_restore_at_first(tmp_path):
    own = state()
    assert restore_checkpoint(tmp_path, own, no_news) == History()
    assert_same(own, state())


def test_parameters_means_and_moments_go_on_where_they_were(tmp_path):
    own, resumed, said = state(), state(), []
    step(own, 3)
    history = History(3, "streams", 1.5, 2.5, [{"step": 3}])
    save(tmp_path, history, own)
    assert restore_checkpoint(tmp_path, resumed, said.append) == history
    assert said == ["resuming after step 3"]
    step(own, 2)
    step(resumed, 2)
    assert_same(own, resumed)
    assert resumed.parameters["unused"] not in resumed.optimizer.state


def test_the_two_newest_are_kept_and_there_are_never_more(tmp_path, monkeypatch):
    own, seen, written = state(), [], checkpoint.save_checked

    def counted(folder, *others):
        path = written(folder, *others)
        seen.append([number for number, _ in find_checked(folder, "step")])
        return path

    monkeypatch.setattr(checkpoint, "save_checked", counted)
    for number in (9, 10, 11, 12):
        step(own, 1)
        save(tmp_path, History(number), own)
    assert seen == [[9], [9, 10], [10, 11], [11, 12]]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_clock_says_when_or_with_none_the_log(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    often = Checkpoints(tmp_path, minutes=0)
    assert [often.are_due(*given) for given in [(1, False, False), (2, True, False), (3, True, True)]] == [0, 1, 1]
    timed = Checkpoints(tmp_path, minutes=10)
    assert not timed.are_due(1, True, False)
    now[0] += 600
    assert timed.are_due(2, False, False)
    timed.save(History(2), state())
    assert not timed.are_due(3, False, False)
    now[0] += 599
    assert not timed.are_due(4, True, False)
    assert timed.are_due(5, True, True)


def test_several_processes_ask_each_other_only_now_and_then(tmp_path, monkeypatch):
    asked, now = [], [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Processes, "first_says", lambda self, decide: asked.append(1) or decide())
    due = []
    timed = Checkpoints(tmp_path, Processes(1, 2), minutes=1, must_end=lambda: now[0] > 90)
    for number in range(1, 201):
        now[0] += 0.5
        due += [number] if timed.are_due(number, number == 25, False) else []
    assert due[:4] == [121, 131, 141, 151]  # every ten steps of half a second they ask, from the first one on
    assert timed.ends
    assert len(asked) == 20


def test_quick_and_slow_steps_ask_in_good_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Processes, "first_says", lambda self, decide: decide())
    for seconds, steps in ((0.001, 50), (1.0, 5), (60.0, 1)):
        timed = Checkpoints(tmp_path, Processes(1, 2))
        now[0] += seconds
        timed.are_due(1, False, False)
        assert timed._next == 1 + steps


def test_counters_are_kept_and_go_on_in_the_first_process_alone(tmp_path):
    def counted(value):
        own, counter = state(), torch.tensor([value])
        return checkpoint.State(own.parameters, own.averages, own.optimizer, lambda: {"seen": counter}), counter

    save(tmp_path, History(1), counted(7.0)[0])
    for index, expected in ((0, 7.0), (1, 0.0)):
        own, counter = counted(3.0)
        newest = tmp_path / next(iter(tmp_path.iterdir())).name
        tensors = checkpoint.read_tensors(newest)
        tensors.pop("progress")
        checkpoint._restore(own, tensors, index == 0)
        assert counter.item() == expected


@pytest.mark.parametrize(("optimizer", "moments"), [("adamw", 8), ("adamw-8bit", 2)])
def test_too_little_room_is_said_before_with_what_is_needed(tmp_path, monkeypatch, optimizer, moments):
    own, said = state(), []
    weights = 3 * 4 * 4
    size = weights * 2 + 12 * moments
    free = [2 * size + weights]
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[0]))
    check_space(tmp_path, own, optimizer, said.append, 10)
    free[0] -= 1
    with pytest.raises(UserError, match=r"GiB are free, and the training needs .* 2 are kept.*--work-dir"):
        check_space(tmp_path, own, optimizer, said.append, 10)
    save(tmp_path, History(1), own)  # what is there is not needed once more
    check_space(tmp_path, own, optimizer, said.append, 10)
    assert said == []
    monkeypatch.setattr(checkpoint, "TOLD_FROM", 1)
    check_space(tmp_path, own, optimizer, said.append, 10)
    assert said == ["checkpoints of 0.0 GiB are written every 10 minutes and at the end; 2 are kept"]


def test_the_second_place_has_room_for_one_more_checkpoint_than_are_kept(tmp_path, monkeypatch):
    own, work, copy = state(), tmp_path / "work", tmp_path / "copies" / "train"
    work.mkdir()
    size = 12 * (2 * 4 + 8)
    free = {work: 2**40, tmp_path: 3 * size}  # what is not there yet is on the disk of its parent
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[folder]))
    check_space(work, own, "adamw", print, 10, copy)
    free[tmp_path] -= 1
    with pytest.raises(UserError, match=r"copies/train: .* GiB are free.* choose another --sync-to"):
        check_space(work, own, "adamw", print, 10, copy)
    check_space(work, own, "adamw", print, 10)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["moe", "cm", "oc"])
def test_a_checkpoint_between_two_rows_of_the_log_loses_nothing_of_the_next(tmp_path, monkeypatch, method):
    whole = runs.train_only(tmp_path / "whole", runs.small(method))
    monkeypatch.setattr(Checkpoints, "are_due", lambda self, step, with_row, last: step % 3 == 0 or last)
    runs.stop_at_step(tmp_path / "parts", runs.small(method), 20 if method == "cm" else 10)  # cm makes two passes
    listener = runs.Listener()
    parts = runs.train_only(tmp_path / "parts", runs.small(method), listener)
    assert "resuming after step 9" in listener.said
    clocked = ("images_per_second", "peak_memory_mib")
    rows = [
        [{name: value for name, value in row.items() if name not in clocked} for row in runs.log_rows(each / TRAIN_LOG)]
        for each in (whole, parts)
    ]
    assert rows[0] == rows[1]
    assert file_digest(whole / WEIGHTS) == file_digest(parts / WEIGHTS)


def test_what_is_written_is_the_state_when_it_was_saved(tmp_path):
    own, resumed = state(), state()
    with Checkpoints(tmp_path) as checkpoints:
        for number in (1, 2):
            step(own, 1)
            checkpoints.save(History(number), own)
        step(own, 5)
    assert restore_checkpoint(tmp_path, resumed, lambda _: None).step == 2
    expected = state()
    step(expected, 1)
    step(expected, 1)
    assert_same(resumed, expected)


def test_one_copy_is_in_memory_at_a_time(tmp_path, monkeypatch):
    own, seen, copied, written = state(), [], checkpoint._copied, checkpoint.save_checked

    def copy(history, *others):
        seen.append(("copied", history.step))
        return copied(history, *others)

    def write(folder, kind, number, tensors):
        time.sleep(0.05)  # longer than a copy takes
        seen.append(("written", number))
        return written(folder, kind, number, tensors)

    monkeypatch.setattr(checkpoint, "_copied", copy)
    monkeypatch.setattr(checkpoint, "save_checked", write)
    with Checkpoints(tmp_path) as checkpoints:
        for number in (1, 2):
            checkpoints.save(History(number), own)
    assert seen == [("copied", 1), ("written", 1), ("copied", 2), ("written", 2)]


def test_processes_that_do_not_write_keep_no_copy(tmp_path, monkeypatch):
    own, copies, to = state(), [], torch.Tensor.to
    step(own, 1)
    monkeypatch.setattr(torch.Tensor, "to", lambda *args, **named: copies.append(args) or to(*args, **named))
    for index, expected in ((1, 0), (0, 12)):  # three parameters and their means, three entries each of two stepped
        copies.clear()
        with Checkpoints(tmp_path, Processes(index, 2)) as checkpoints:
            checkpoints.save(History(1), own)
        assert len(copies) == expected
        assert len(list(tmp_path.iterdir())) == bool(expected)


def test_a_place_that_is_full_is_told_at_the_end_of_the_training(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("grasp_bench.io.os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        save(tmp_path, History(1), state())
    assert not list(tmp_path.iterdir())


def as_folder(path) -> None:
    path.unlink()
    path.mkdir()
    (path / "within").touch()


@pytest.mark.parametrize("damage", [runs.flip_a_byte, runs.truncate, lambda path: path.write_bytes(b""), as_folder])
def test_a_damaged_one_is_named_moved_aside_and_the_older_used(tmp_path, damage):
    own, resumed, said = state(), state(), []
    save(tmp_path, History(9), own)
    step(own, 1)
    save(tmp_path, History(10), own)
    (newer,) = tmp_path.glob("step-00000010.*")
    damage(newer)

    assert restore_checkpoint(tmp_path, resumed, said.append).step == 9
    assert_same(resumed, state())
    assert str(newer) in said[0]
    assert newer.with_name(f"{newer.name}.corrupt-1").exists()
    assert len(said) == 2


def test_tensors_of_every_type_and_shape_come_back_as_safetensors_has_them(tmp_path):
    generator = torch.Generator().manual_seed(0)
    kinds = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
    tensors = {kind: torch.randn(3, 5, generator=generator).to(getattr(torch, kind)) for kind in kinds}
    tensors |= {"turned": torch.arange(6.0).reshape(2, 3).T, "count": torch.tensor(7), "none": torch.zeros(0, 4)}
    tensors |= {'a "quoted" ü': torch.ones(1), "trained": torch.nn.Parameter(torch.ones(2))}
    path = save_checked(tmp_path, "step", 1, tensors)
    for found in (load(path.read_bytes()), load_checked(path, no_news)):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)


def test_writing_makes_no_copy_of_the_tensors(tmp_path):
    tensors = {str(number): torch.zeros(2**20) for number in range(2)}  # 8 MiB
    tracemalloc.start()
    save_checked(tmp_path, "step", 1, tensors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_other_files_are_not_taken_for_checked_ones(tmp_path):
    path = save_checked(tmp_path, "step", 9, {"a": torch.arange(3.0)})
    (tmp_path / f".{path.name}.1.tmp").write_bytes(path.read_bytes()[:10])
    (tmp_path / "step-00000010.safetensors").write_bytes(b"")
    save_checked(tmp_path, "other", 11, {})
    assert find_checked(tmp_path, "step") == [(9, path)]
    assert torch.equal(load_checked(path, no_news)["a"], torch.arange(3.0))
    remove_checked(tmp_path, "step")
    assert len(list(tmp_path.iterdir())) == 3
    assert find_checked(tmp_path, "step") == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", [runs.flip_a_byte, runs.truncate], ids=["flipped", "truncated"])
def test_a_training_whose_checkpoint_is_damaged_goes_on_from_the_one_before(tmp_path, finished, damage):
    chosen, listener = runs.small(), runs.Listener()
    runs.stop_at_step(tmp_path, chosen, 10)
    (checkpoint,) = (tmp_path / "work" / "train").glob("*.partial/step-00000008.*")
    damage(checkpoint)
    trained = runs.train_only(tmp_path, chosen, listener)
    assert f"{checkpoint} is damaged" in listener.said
    assert "resuming after step 4" in listener.said
    assert file_digest(trained / WEIGHTS) == finished[1].weights


def test_a_training_whose_log_is_damaged_writes_it_again(tmp_path):
    chosen = runs.small()
    runs.stop_at_step(tmp_path, chosen, 10)
    (log,) = (tmp_path / "work" / "train").glob(f"*.partial/{TRAIN_LOG}")
    runs.truncate(log)
    trained = runs.train_only(tmp_path, chosen)
    assert [row["step"] for row in runs.log_rows(trained / TRAIN_LOG)] == [4, 8, 12, 16, 20]

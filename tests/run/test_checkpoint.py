import time
import tracemalloc

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
from grasp_bench.run.training.checkpoint import Checkpoints, History, State, restore_checkpoint


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


def test_only_the_newest_is_kept(tmp_path):
    own = state()
    for number in (9, 10):
        step(own, 1)
        save(tmp_path, History(number), own)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("step-00000010.")


def test_what_is_written_is_the_state_when_it_was_saved_and_news_follow_it(tmp_path):
    own, resumed, seen = state(), state(), []
    with Checkpoints(tmp_path) as checkpoints:
        for number in (1, 2):
            step(own, 1)
            checkpoints.save(
                History(number), own, then=lambda: seen.append([n for n, _ in find_checked(tmp_path, "step")])
            )
        step(own, 5)
    assert seen == [[1], [2]]
    assert restore_checkpoint(tmp_path, resumed, lambda _: None).step == 2
    expected = state()
    step(expected, 1)
    step(expected, 1)
    assert_same(resumed, expected)


def test_one_copy_is_in_memory_at_a_time(tmp_path, monkeypatch):
    own, seen, copied, written = state(), [], checkpoint._copied, checkpoint._write

    def copy(history, *others):
        seen.append(("copied", history.step))
        return copied(history, *others)

    def write(folder, number, *others):
        time.sleep(0.05)  # longer than a copy takes
        written(folder, number, *others)
        seen.append(("written", number))

    monkeypatch.setattr(checkpoint, "_copied", copy)
    monkeypatch.setattr(checkpoint, "_write", write)
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


@pytest.mark.parametrize("damage", [runs.flip_a_byte, runs.truncate, lambda path: path.write_bytes(b"")])
def test_a_damaged_one_is_named_moved_aside_and_the_older_used(tmp_path, damage):
    own, resumed, said = state(), state(), []
    save(tmp_path, History(9), own)
    (older,) = tmp_path.iterdir()
    data = older.read_bytes()
    step(own, 1)
    save(tmp_path, History(10), own)
    older.write_bytes(data)  # as if killed before it was removed
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


@pytest.mark.parametrize("damage", [runs.flip_a_byte, runs.truncate], ids=["flipped", "truncated"])
def test_a_training_whose_checkpoint_is_damaged_starts_again(tmp_path, finished, damage):
    chosen, listener = runs.small(), runs.Listener()
    runs.stop_at_step(tmp_path, chosen, 10)
    (checkpoint,) = (tmp_path / "work" / "train").glob("*.partial/step-00000008.*")
    damage(checkpoint)
    trained = runs.train_only(tmp_path, chosen, listener)
    assert f"{checkpoint} is damaged" in listener.said
    assert "resuming" not in listener.said
    assert file_digest(trained / WEIGHTS) == finished[1].weights


def test_a_training_whose_log_is_damaged_writes_it_again(tmp_path):
    chosen = runs.small()
    runs.stop_at_step(tmp_path, chosen, 10)
    (log,) = (tmp_path / "work" / "train").glob(f"*.partial/{TRAIN_LOG}")
    runs.truncate(log)
    trained = runs.train_only(tmp_path, chosen)
    assert [row["step"] for row in runs.log_rows(trained / TRAIN_LOG)] == [4, 8, 12, 16, 20]

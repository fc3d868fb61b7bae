import shutil
import tracemalloc
from pathlib import Path

import pytest
import torch
from helpers import runs

from grasp_bench import sampling as generate
from grasp_bench.checked import save_checked
from grasp_bench.contracts.record import read_record
from grasp_bench.errors import UserError
from grasp_bench.io import read_tensors
from grasp_bench.run import generation
from grasp_bench.run.files import GENERATE_SUMMARY, IMAGES
from grasp_bench.run.pipeline import Pipeline


def with_trained(finished: Path, folder: Path) -> Path:
    """A work folder where the training is done and nothing is generated."""
    for stage in ("prepare", "train"):
        shutil.copytree(finished / "work" / stage, folder / "work" / stage)
    return folder


def images(folder: Path, **changes) -> dict[str, torch.Tensor]:
    pipeline = Pipeline(runs.small(), runs.options(folder, **changes), torch.device("cpu"), runs.Listener())
    return read_tensors(pipeline.generated / IMAGES)


def assert_same(found: dict[str, torch.Tensor], finished: Path) -> None:
    (expected,) = (finished / "work" / "generate").glob(f"*/{IMAGES}")
    for name, tensor in read_tensors(expected).items():
        assert torch.equal(found[name], tensor)


class InterruptedHereError(Exception):
    pass


def interrupt(monkeypatch, owner, name, call, counts=lambda first: True):
    """Make the ``call``-th call of ``owner.name`` raise, of those whose first argument ``counts``."""
    function, calls = getattr(owner, name), []

    def raising(*arguments, **options):
        calls.extend([1] * counts(arguments[0]))
        if len(calls) == call:
            raise InterruptedHereError
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, raising)


def interrupt_removal(monkeypatch, call):
    """Interrupt the generation while it removes its batches."""
    interrupt(monkeypatch, Path, "unlink", call, lambda path: path.name.startswith("batch-"))


def test_images_are_labelled_class_by_class(finished):
    (path,) = (finished[0] / "work" / "generate").glob(f"*/{IMAGES}")
    tensors = read_tensors(path)
    assert tensors["images"].shape == (80, 1, 8, 8)
    assert tensors["images"].dtype == torch.uint8
    assert tensors["labels"].tolist() == [label for label in range(10) for _ in range(8)]


def test_batches_that_are_done_are_kept(finished, tmp_path, monkeypatch):
    folder = with_trained(finished[0], tmp_path)
    with monkeypatch.context() as patch:
        interrupt(patch, generate.Sampler, "__call__", 4)
        with pytest.raises(InterruptedHereError):
            images(folder)
    sizes = []
    sample = generate.Sampler.__call__

    def counting(self, noise, *arguments):
        sizes.append(len(noise))
        return sample(self, noise, *arguments)

    monkeypatch.setattr(generate.Sampler, "__call__", counting)
    assert_same(images(folder, batch_size=15), finished[0])
    assert sizes == [15, 5]


@pytest.mark.slow
@pytest.mark.parametrize(("room", "sizes"), [(12, [20, 10, *[10] * 7]), (1, [20, 10, 5, 2, 1])])
def test_memory_that_runs_out_halves_the_batch_and_changes_no_image(finished, tmp_path, monkeypatch, room, sizes):
    asked, sample = [], generate.Sampler.__call__

    def limited(self, noise, *arguments):
        asked.append(len(noise))
        if len(noise) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return sample(self, noise, *arguments)

    monkeypatch.setattr(generate.Sampler, "__call__", limited)
    listener = runs.Listener()
    pipeline = Pipeline(runs.small(), runs.options(with_trained(finished[0], tmp_path)), torch.device("cpu"), listener)
    assert_same(read_tensors(pipeline.generated / IMAGES), finished[0])
    assert asked[: len(sizes)] == sizes
    assert f"memory ran out: from here on {min(10, room)} images are generated at a time" in listener.said


def test_an_image_that_has_no_room_alone_ends_the_run(finished, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(generate.Sampler, "__call__", full)
    with pytest.raises(torch.OutOfMemoryError):
        images(with_trained(finished[0], tmp_path), batch_size=2)


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_interrupted_while_its_batches_are_removed(finished, tmp_path, monkeypatch, call):
    folder = with_trained(finished[0], tmp_path)
    with monkeypatch.context() as patch:
        interrupt_removal(patch, call)
        with pytest.raises(InterruptedHereError):
            images(folder)
    assert_same(images(folder, batch_size=30), finished[0])


def test_a_damaged_batch_is_made_again(finished, tmp_path, monkeypatch):
    folder = with_trained(finished[0], tmp_path)
    with monkeypatch.context() as patch:
        interrupt_removal(patch, 1)
        with pytest.raises(InterruptedHereError):
            images(folder)
    (summary,) = (folder / "work" / "generate").glob(f"*.partial/{GENERATE_SUMMARY}")
    summary.unlink()  # as if interrupted before it was written
    first, second, *_ = sorted(summary.parent.glob("batch-*"))
    runs.flip_a_byte(first)
    runs.truncate(second)
    assert_same(images(folder), finished[0])


def test_an_image_that_is_no_number_is_never_shown_as_a_black_one(finished, tmp_path, monkeypatch):
    folder = with_trained(finished[0], tmp_path)
    runs.fail_at_step(monkeypatch, 9, lambda output: output * torch.nan)  # in the third of the batches
    with pytest.raises(Exception, match="not finite"):
        runs.finish(folder, runs.small())
    (path,) = (folder / "results").rglob("record.json")
    assert read_record(path).status == "failed"


def test_images_are_collected_without_holding_them_and_as_safetensors_has_them(tmp_path):
    from safetensors.torch import load_file

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (40, 3, 128, 128), generator=generator, dtype=torch.uint8)  # 1.9 MB
    order = torch.randperm(40, generator=generator)
    for numbers in order.split(7):
        costs = {name: torch.tensor(1.0, dtype=torch.float64) for name in generation.SPENT}
        batch = {"numbers": numbers, "images": images[numbers], **costs}
        save_checked(tmp_path, generation.KIND, int(numbers[0]), batch)
    tracemalloc.start()
    generation.collect(tmp_path, torch.arange(40), runs.Listener())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    found = load_file(tmp_path / IMAGES)
    assert torch.equal(found["images"], images)
    assert torch.equal(found["labels"], torch.arange(40))
    assert peak < images.nbytes / 4


@pytest.mark.parametrize("damaged", [False, True])
def test_images_that_are_not_there_are_said_rather_than_left_out(tmp_path, damaged):
    for start in (0, 10, 20):
        costs = {name: torch.tensor(1.0, dtype=torch.float64) for name in generation.SPENT}
        images = torch.zeros(10, 1, 8, 8, dtype=torch.uint8)
        path = save_checked(
            tmp_path, generation.KIND, start, {"numbers": torch.arange(start, start + 10), "images": images, **costs}
        )
        if start == 10:
            runs.flip_a_byte(path) if damaged else path.unlink()
    with pytest.raises(UserError, match=r"10 of 30 images are not there, the first one number 10: .* Repeat"):
        generation.collect(tmp_path, torch.arange(30), runs.Listener())
    assert not (tmp_path / IMAGES).exists()

"""Steps that are made to fit in memory, on a backbone that runs out of it above a number of samples."""

import json

import pytest
import torch
from helpers import runs

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.cli.options import checkpointing, parts
from grasp_bench.errors import UserError
from grasp_bench.io import read_tensors
from grasp_bench.run.files import LAYOUT, TRAIN_LOG, TRAIN_SUMMARY, WEIGHTS
from grasp_bench.run.training import trial
from grasp_bench.run.training.fitting import Layout, layouts

BATCH = 16


class Room:
    """Memory for ``samples`` at a time, or for four times as many with checkpointing; notes what was asked of it."""

    def __init__(self, patch: pytest.MonkeyPatch, samples: int) -> None:
        self.samples, self.asked = samples, []
        patch.setattr(trial, "TRIED_ON", ("cpu",))
        predict = TinySD3.predict

        def limited(backbone, latents, *arguments):
            if latents.requires_grad or torch.is_grad_enabled():
                self.asked.append(len(latents))
                if len(latents) > self.samples * (4 if backbone.transformer.is_gradient_checkpointing else 1):
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return predict(backbone, latents, *arguments)

        patch.setattr(TinySD3, "predict", limited)


def summary(trained) -> dict:
    return json.loads((trained / TRAIN_SUMMARY).read_text())


def rows(trained) -> list[dict]:
    clocked = ("images_per_second", "peak_memory_mib")
    return [{k: v for k, v in row.items() if k not in clocked} for row in runs.log_rows(trained / TRAIN_LOG)]


def assert_same(one, other) -> None:
    """To the bit."""
    first, second = read_tensors(one / WEIGHTS), read_tensors(other / WEIGHTS)
    assert all(torch.equal(first[name], second[name]) for name in first | second)
    assert rows(one) == rows(other)


@pytest.mark.parametrize(
    ("rows", "expected"), [(16, [1, 2, 4, 8, 16]), (12, [1, 2, 4, 12]), (15, [1, 3, 15]), (7, [1, 7]), (1, [1])]
)
def test_parts_are_halved_where_that_divides(rows, expected):
    assert layouts(rows, "auto", False, False) == [Layout(count) for count in expected]


def test_parts_are_tried_before_checkpointing_and_what_is_asked_for_is_not_tried():
    assert layouts(4, "auto", "auto", False) == [Layout(n, kind) for kind in (False, True) for n in (1, 2, 4)]
    assert layouts(4, "auto", "auto", True) == [Layout(1, False), Layout(1, True)]
    assert layouts(4, "auto", True, False) == [Layout(n, True) for n in (1, 2, 4)]
    assert layouts(4, 2, "auto", True) == [Layout(2, False), Layout(2, True)]
    assert layouts(4, 2, False, False) == [Layout(2, False)]


@pytest.mark.parametrize("method", ["grasp", "moe"])
def test_on_the_cpu_nothing_is_tried(tmp_path, method, monkeypatch):
    monkeypatch.setattr(trial, "_try", lambda *_: pytest.fail("a step was tried"))
    left = runs.train_only(tmp_path / "left", runs.small(method))
    asked = runs.train_only(tmp_path / "asked", runs.small(method), accumulate=1, gradient_checkpointing=False)
    assert_same(left, asked)
    assert summary(left)["accumulate"] == 1
    assert summary(left)["gradient_checkpointing"] is False


@pytest.mark.slow
def test_the_largest_part_that_fits_is_found_and_told_and_the_numbers_are_those_of_asking_for_it(tmp_path, monkeypatch):
    asked = runs.train_only(tmp_path / "asked", runs.small(), accumulate=4)
    room, listener = Room(monkeypatch, 4), runs.Listener()
    found = runs.train_only(tmp_path / "found", runs.small(), listener)
    assert room.asked[:3] == [16, 8, 4]
    assert set(room.asked[3:]) == {4}
    assert "does not fit in memory in one part: it is worked on in 4 parts" in listener.said
    assert_same(found, asked)
    assert (summary(found)["accumulate"], summary(found)["gradient_checkpointing"]) == (4, False)
    assert not (found / LAYOUT).exists()


@pytest.mark.parametrize("settings", [[], ["tread=0.5"]])
def test_a_step_that_fits_is_tried_once_and_leaves_no_trace(tmp_path, monkeypatch, settings):
    chosen = {"task_settings": ["ema_decay=0.9"], "method_settings": settings}
    plain = runs.train_only(tmp_path / "plain", runs.small("lora", **chosen))
    room, listener = Room(monkeypatch, BATCH), runs.Listener()
    found = runs.train_only(tmp_path / "tried", runs.small("lora", **chosen), listener)
    assert room.asked == [BATCH] * 21
    assert "fit" not in listener.said
    assert_same(found, plain)


@pytest.mark.slow
def test_activations_are_recomputed_where_not_even_one_sample_fits(tmp_path, monkeypatch):
    asked = runs.train_only(tmp_path / "asked", runs.small(), accumulate=8, gradient_checkpointing=True)
    Room(monkeypatch, 0.5)
    listener = runs.Listener()
    found = runs.train_only(tmp_path / "found", runs.small(), listener)
    assert "worked on in 8 parts with gradient checkpointing" in listener.said
    assert_same(found, asked)
    assert summary(found)["gradient_checkpointing"] is True


@pytest.mark.parametrize(
    "method", ["oc", "moe", *(pytest.param(name, marks=pytest.mark.slow) for name in ("coral", "ccua"))]
)
def test_methods_that_compare_samples_keep_their_whole_batch_and_say_why(tmp_path, monkeypatch, method):
    asked = runs.train_only(tmp_path / "asked", runs.small(method), gradient_checkpointing=True)
    room, listener = Room(monkeypatch, 4), runs.Listener()
    found = runs.train_only(tmp_path / "found", runs.small(method), listener)
    assert set(room.asked) == {BATCH}
    assert "in one part with gradient checkpointing, not in parts, since" in listener.said
    assert_same(found, asked)


def test_a_whole_batch_that_does_not_fit_is_an_end_that_says_why_it_was_not_halved(tmp_path, monkeypatch):
    Room(monkeypatch, 2)
    listener = runs.Listener()
    with pytest.raises(torch.OutOfMemoryError):
        runs.finish(tmp_path, runs.small("oc"), listener)
    assert "--accumulate 2, which works on a step's images in parts and changes numbers, since oc" in listener.said


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grasp", "cm"])
def test_memory_that_runs_out_later_halves_the_step_and_nothing_is_counted_twice(tmp_path, monkeypatch, method):
    """From the first step on, so that all of the training can be compared."""
    asked = runs.train_only(tmp_path / "asked", runs.small(method), accumulate=2)
    room, listener = Room(monkeypatch, BATCH), runs.Listener()
    monkeypatch.setattr(trial, "_try", lambda *_: setattr(room, "samples", BATCH // 2))
    found = runs.train_only(tmp_path / "found", runs.small(method), listener)
    assert "memory ran out: from here on a training step is worked on in 2 parts" in listener.said
    assert_same(found, asked)


@pytest.mark.slow
def test_a_training_goes_on_as_it_began_whatever_fits_now(tmp_path, monkeypatch):
    asked = runs.train_only(tmp_path / "asked", runs.small(), accumulate=4)
    with pytest.MonkeyPatch.context() as patch:
        Room(patch, 4)
        runs.fail_at_step(patch, 3 + 10 * 4, runs.interrupt)  # three tries, then four parts a step
        with pytest.raises(KeyboardInterrupt):
            runs.train_only(tmp_path / "found", runs.small())
    assert len(list((tmp_path / "found").rglob(LAYOUT))) == 1
    room = Room(monkeypatch, BATCH)
    assert_same(runs.train_only(tmp_path / "found", runs.small()), asked)
    assert set(room.asked) == {4}


def test_another_fault_of_a_tried_step_is_not_taken_for_memory(tmp_path, monkeypatch):
    Room(monkeypatch, BATCH)
    runs.fail_at_step(monkeypatch, 0, lambda output: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runs.train_only(tmp_path, runs.small())


@pytest.mark.slow
def test_the_record_says_what_was_found_and_reproducing_asks_for_it(tmp_path, monkeypatch):
    Room(monkeypatch, 4)
    with runs.quick():
        record = runs.finish(tmp_path, runs.small())
    assert record.environment.accumulate == 4
    assert record.environment.gradient_checkpointing is False


@pytest.mark.parametrize(("text", "expected"), [("auto", "auto"), ("1", 1), ("16", 16)])
def test_parts_on_the_command_line(text, expected):
    assert parts(text) == expected


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "half"])
def test_other_parts_are_refused(text):
    with pytest.raises(UserError, match=r"--accumulate .*: expected auto or a whole number from 1 on"):
        parts(text)


def test_checkpointing_on_the_command_line():
    assert [checkpointing(text) for text in ("on", "off", "auto")] == [True, False, "auto"]
    with pytest.raises(UserError, match="--gradient-checkpointing yes: expected on, off or auto"):
        checkpointing("yes")

"""How a training is carried out: precision, optimiser, compilation, trackers, memory."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import runs
from torch._dynamo.utils import counters

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.method import MethodSettings
from grasp_bench.contracts.spec import smoke
from grasp_bench.errors import UserError
from grasp_bench.io import read_tensors
from grasp_bench.run.files import TRAIN_LOG, TRAIN_SUMMARY, WEIGHTS
from grasp_bench.run.runner import check
from grasp_bench.run.training import loop as training
from grasp_bench.run.training.batches import Batches
from grasp_bench.run.training.checkpoint import KIND
from grasp_bench.run.training.optimizer import eight_bit_adamw, make_optimizer
from grasp_bench.run.training.trackers import check_trackers

pytestmark = pytest.mark.usefixtures("quick")

METHODS = ("vanilla-ft", "lora", "moe", "grasp")


def losses(trained) -> list[float]:
    return [row["loss"] for row in runs.log_rows(trained / TRAIN_LOG)]


def weights(trained) -> dict[str, torch.Tensor]:
    return read_tensors(trained / WEIGHTS)


# Precision


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_learns_nearly_what_float32_does(tmp_path, method):
    full = runs.train_only(tmp_path, runs.small(method))
    half = runs.train_only(tmp_path, runs.small(method, task_settings=["precision=bfloat16"]))
    assert full != half
    assert losses(half) == pytest.approx(losses(full), rel=0.03)
    assert losses(half) != losses(full)
    assert {tensor.dtype for tensor in weights(half).values()} == {torch.float32}


def test_frozen_weights_are_stored_in_bfloat16_and_trained_ones_are_not(tmp_path, monkeypatch):
    kept = []
    train = training.train
    monkeypatch.setattr(
        training, "train", lambda context, *rest: (kept.append(context.backbone), train(context, *rest))
    )
    runs.train_only(tmp_path, runs.small(task_settings=["precision=bfloat16"]))
    parameters = list(kept[0].transformer.parameters())
    assert {p.dtype for p in parameters if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in parameters if not p.requires_grad} == {torch.bfloat16}


@pytest.mark.slow
def test_a_whole_run_in_bfloat16_is_a_table_of_its_own(tmp_path):
    record = runs.finish(tmp_path, runs.small(task_settings=["precision=bfloat16"]))
    assert record.status == "finished"
    assert record.task_label == "digits-lt~budget=smoke,precision=bfloat16"
    assert record.spec.budget.precision == "bfloat16"


def test_settings_that_came_later_leave_identities_alone():
    spec = runs.small().spec
    dumped = spec.model_dump(mode="json")
    for name in ("precision", "optimizer", "horizontal_flip"):
        assert name not in dumped["budget"]
        assert name not in dumped["task"]["settings"]
    changed = runs.small(task_settings=["precision=bfloat16"]).spec
    assert changed.id != spec.id
    assert type(spec).model_validate(changed.model_dump(mode="json")) == changed


# Mirror images


def test_mirror_images_are_half_of_all_and_the_same_for_every_method(tmp_path):
    asked = {"task_settings": ["horizontal_flip=true"]}
    streams = set()
    for method in ("grasp", "lora"):
        trained = runs.train_only(tmp_path, runs.small(method, **asked))
        streams.add(json.loads((trained / TRAIN_SUMMARY).read_text())["streams"])
    plain = runs.train_only(tmp_path, runs.small("lora"))
    assert len(streams) == 1
    assert json.loads((plain / TRAIN_SUMMARY).read_text())["streams"] not in streams
    flips = torch.tensor([Batches._mirrored(_stub(asked), step).mean() for step in range(300)])
    assert flips.mean().item() == pytest.approx(0.5, abs=0.03)


def _stub(asked) -> Batches:
    batches = Batches.__new__(Batches)
    batches.spec = runs.small(**asked).spec
    return batches


# Optimisers


def test_fused_adamw_is_adamw(tmp_path):
    plain = runs.train_only(tmp_path, runs.small())
    fused = runs.train_only(tmp_path, runs.small(task_settings=["optimizer=adamw-fused"]))
    assert losses(fused) == pytest.approx(losses(plain), rel=1e-4)


def test_eight_bit_adamw_keeps_small_moments_and_resumes_exactly(tmp_path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed (pip install 'grasp-bench[8bit]')")
    asked = {"method": "vanilla-ft", "task_settings": ["optimizer=adamw-8bit"]}  # its tensors are large enough
    whole = runs.train_only(tmp_path / "whole", runs.small(**asked))
    runs.stop_at_step(tmp_path / "parts", runs.small(**asked), 10)
    checkpoint = max((tmp_path / "parts").rglob(f"{KIND}-*.safetensors"))
    saved = read_tensors(checkpoint)
    assert any(tensor.dtype == torch.uint8 and "state1" in name for name, tensor in saved.items())
    parts = runs.train_only(tmp_path / "parts", runs.small(**asked))
    assert losses(parts) == losses(whole)
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(parts)[name], tensor)


def test_a_missing_package_is_named_before_anything_is_loaded(monkeypatch):
    budget = runs.small(task_settings=["optimizer=adamw-8bit"]).spec.budget
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim", None)
    with pytest.raises(UserError, match=r"grasp-bench\[8bit\]"):
        eight_bit_adamw()
    budget = smoke().model_copy(update={"optimizer": "adamw-8bit"})
    with pytest.raises(UserError, match=r"grasp-bench\[8bit\]"):
        make_optimizer(budget, [torch.nn.Parameter(torch.zeros(2))], MethodSettings())


# Compilation


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_compiled_transformer_learns_the_same_and_is_compiled_once(tmp_path, method, monkeypatch):
    torch.compiler.reset()
    counters.clear()
    plain = runs.train_only(tmp_path / "plain", runs.small(method))
    compile_, compiled = torch.nn.Module.compile, []

    def noted(self, *arguments, **options):
        compiled.append(self)
        return compile_(self, *arguments, backend="aot_eager", **options)  # no C++ compiler needed

    monkeypatch.setattr(torch.nn.Module, "compile", noted)
    graphs, predict = [], TinySD3.predict

    def counting(self, *arguments):
        graphs.append(counters["stats"]["unique_graphs"])
        return predict(self, *arguments)

    monkeypatch.setattr(TinySD3, "predict", counting)
    found = runs.train_only(tmp_path / "compiled", runs.small(method), compile=True)
    assert graphs[0] < graphs[2] == graphs[-1]  # though every step has another route
    assert len(compiled) == 1
    assert losses(found) == pytest.approx(losses(plain), rel=1e-4)


# Trackers


def test_tensorboard_gets_the_numbers_of_the_log(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install 'grasp-bench[tensorboard]')")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained = runs.train_only(tmp_path, runs.small("moe"), trackers=("tensorboard",))
    written = {path.parent for path in (tmp_path / "work" / "trackers").rglob("events.*")}
    (events,) = (folder for folder in written if EventAccumulator(str(folder)).Reload().Tags()["scalars"])
    found = EventAccumulator(str(events)).Reload()
    assert [event.step for event in found.Scalars("loss")] == [4, 8, 12, 16, 20]
    assert [event.value for event in found.Scalars("loss")] == pytest.approx(losses(trained))
    assert "group_loss/tail" in found.Tags()["scalars"]


def test_trackers_that_are_unknown_or_not_installed_are_named():
    with pytest.raises(UserError, match=r"--tracker tensorbord: unknown. Did you mean 'tensorboard'"):
        check_trackers(["tensorbord"])
    with pytest.raises(UserError, match="--tracker clearml: its package is not installed"):
        check_trackers(["clearml"])


# Before anything is loaded


@pytest.mark.parametrize(
    ("options", "count", "message"),
    [
        ({"accumulate": 3}, 1, "cannot be shared evenly by 1 processes with --accumulate 3"),
        ({}, 3, "cannot be shared evenly by 3 processes"),
        ({"shard": True}, 1, "--shard shares weights between processes"),
    ],
)
def test_what_cannot_be_shared_evenly_is_said_first(tmp_path, options, count, message):
    with pytest.raises(UserError, match=message):
        check(runs.small(), runs.options(tmp_path, **options), count)


# Memory


def test_running_out_of_memory_is_recorded_with_its_peak_and_advice(tmp_path):
    def too_much(output):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried to allocate"
        )

    progress = runs.Listener()
    with pytest.MonkeyPatch.context() as patch:
        runs.fail_at_step(patch, 3, too_much)
        with pytest.raises(RuntimeError):
            runs.finish(tmp_path, runs.small(), progress)
    record = json.loads(next(tmp_path.rglob("record.json")).read_text())
    assert record["status"] == "oom"
    for text in (record["reason"], progress.said):
        assert "after a peak of" in text
        assert "--gradient-checkpointing" in text
        assert "--accumulate 2" in text

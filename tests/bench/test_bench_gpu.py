import json
import sys

import pytest
import torch

from grasp_bench.adapters.residual import Route
from grasp_bench.contracts.scope import current_scope, scope

from . import bench_gpu, recording
from .bench_gpu import METHODS, TOLERANCE, Sizes, by_batch, gradient_differences, peak_flops
from .trainer import Trainer
from .true_sizes import PIXART_SIGMA, PUBLISHED, SD35_MEDIUM, TINY, RandomMMDiT

CPU = torch.device("cpu")
SMALL = Sizes(TINY[:1], (8,), largest_batch=2, longest_step=60)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """What a measurement of some minutes has written."""
    monkeypatch.setattr(recording, "ROOT", tmp_path)

    def measured(minutes: float) -> dict:
        bench_gpu.measure(SMALL, CPU, minutes, tmp_path)
        return json.loads((tmp_path / "gpu.json").read_text())

    return measured


@pytest.mark.slow
def test_every_configuration_is_measured_and_written(written):
    content = written(60)
    rows = {measure["name"]: measure for measure in content["measures"]}
    assert content["all_met"]
    for model in SMALL.models:
        counts = {}
        for method in METHODS:
            for kept in ("kept", "recomputed"):
                found = rows[f"{model.name}, 64 px, {method}, activations {kept}"]
                assert [row["batch"] for row in found["batches"]] == [1, 2]
                assert found["value"] == max(row["images_per_second"] for row in found["batches"])
                assert "share_of_peak" not in found["batches"][0]  # of a processor it is not known
                assert found["ended"] == "largest batch"
            counts[method] = found["trainable_parameters"]
        assert counts["lora"] == pytest.approx(counts["grasp"], rel=0.02)
        assert counts["vanilla-ft"] == found["parameters"]


def test_configurations_beyond_the_time_are_named(written):
    (measure,) = written(-1)["measures"]
    assert not measure["met"]
    assert measure["value"] == len(measure["left_out"]) == len(METHODS)
    assert measure["left_out"][0] == "tiny SD3.5, 64 px, grasp"


@pytest.mark.parametrize(("model", "parameters"), [(PUBLISHED[0], 2_243_171_520), (PUBLISHED[1], 610_856_096)])
def test_transformers_are_of_the_published_size(model, parameters):
    transformer = model.make(64, torch.device("meta")).transformer
    assert sum(parameter.numel() for parameter in transformer.parameters()) == parameters


def test_tiny_transformers_differ_from_the_published_in_sizes_alone():
    for tiny, published in zip(TINY, (SD35_MEDIUM, PIXART_SIGMA), strict=True):
        assert tiny.config.keys() - {"sample_size"} == published.keys() - {"sample_size"}


def test_a_backward_pass_counts_twice_a_forward_pass_where_every_weight_is_trained():
    trainer = Trainer(TINY[0], 8, "vanilla-ft", CPU)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as forward, torch.no_grad():
        batch = trainer.batch(1)
        trainer.backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)
    full = trainer.flops_per_image() / forward.get_total_flops()
    assert 2.9 < full < 3.1
    assert Trainer(TINY[0], 8, "grasp", CPU).flops_per_image() < trainer.flops_per_image()


def test_checkpointing_with_mixed_routes_changes_no_gradient():
    for model in TINY:
        assert gradient_differences(Trainer(model, 8, "grasp", CPU))["checkpointed"] < 1e-3


def test_gradients_of_another_route_are_told_apart(monkeypatch):
    trainer = Trainer(TINY[0], 8, "grasp", CPU)

    def on_another_route(function, *arguments):
        route = current_scope()
        clusters = torch.tensor([cluster for cluster, start, stop in route.segments for _ in range(start, stop)])
        with scope(Route.of(clusters.roll(1)[route.inverse])):
            return function(*arguments)

    monkeypatch.setattr(
        RandomMMDiT,
        "enable_gradient_checkpointing",
        lambda self: self.transformer.enable_gradient_checkpointing(on_another_route),
    )
    differences = gradient_differences(trainer)
    assert differences["checkpointed"] > TOLERANCE > differences["repeated"]


def test_the_batch_grows_until_memory_ends(monkeypatch):
    trainer, step = Trainer(TINY[1], 8, "grasp", CPU), Trainer.step

    def step_of_three(self, batch):
        if len(batch.ids) > 3:
            raise torch.OutOfMemoryError
        step(self, batch)

    monkeypatch.setattr(Trainer, "step", step_of_three)
    rows, ended = by_batch(trainer, Sizes(TINY, (8,), 64, longest_step=60), flops=10**9, peak=1e12)
    assert [row["batch"] for row in rows] == [1, 2]
    assert ended == "out of memory"
    for row in rows:
        assert row["share_of_peak"] == pytest.approx(row["images_per_second"] * 1e9 / 1e12)


def test_the_batch_grows_until_a_step_is_long():
    rows, ended = by_batch(Trainer(TINY[1], 8, "grasp", CPU), Sizes(TINY, (8,), 64, longest_step=0), 1, None)
    assert [row["batch"] for row in rows] == [1]
    assert ended == "a step takes over 0 s"


def test_cards_are_known_by_their_names():
    assert peak_flops("NVIDIA H100 80GB HBM3") == peak_flops("NVIDIA H200") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("Quadro K620") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "torch sees 0 CUDA devices here; try it with --device cpu --tiny"),
        (["--device", "cpu"], "true sizes need a GPU"),
    ],
)
def test_without_a_gpu_there_is_a_message(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["bench_gpu", *arguments])
    with pytest.raises(SystemExit) as stopped:
        bench_gpu.main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err

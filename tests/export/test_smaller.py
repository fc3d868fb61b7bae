"""Exports whose clusters are merged, or whose matrices are integers."""

import re

import pytest
import torch

import grasp_bench
from grasp_bench.contracts.record import read_record
from grasp_bench.errors import UserError
from grasp_bench.export.restore import finished_record, plan_of
from grasp_bench.export.smaller import SCALE, dequantized, quantized
from grasp_bench.export.write import export
from grasp_bench.io import read_tensors


def exported(run, to, **how):
    """The only run of a folder, exported again."""
    (path,) = (run / "results").rglob("record.json")
    path, record = finished_record(path.parent)
    plan = plan_of(record)
    export(plan, record, run / "work", path.parent, to, **how)
    return grasp_bench.load(to, device="cpu")


def test_an_element_is_off_by_half_a_step_of_its_row_at_most():
    generator = torch.Generator().manual_seed(0)
    state = {"matrix": torch.randn(7, 5, generator=generator), "bias": torch.randn(5, generator=generator)}
    state |= {"kernel": torch.randn(4, 3, 2, 2, generator=generator), "empty": torch.zeros(3, 3)}
    stored = quantized(state)
    assert {name: each.dtype for name, each in stored.items() if name.endswith(SCALE)}.keys() == {
        f"{name}{SCALE}" for name in ("matrix", "kernel", "empty")
    }
    restored = dequantized(stored)
    assert restored.keys() == state.keys()
    assert torch.equal(restored["bias"], state["bias"])
    assert torch.equal(restored["empty"], state["empty"])
    for name in ("matrix", "kernel"):
        assert stored[name].dtype == torch.int8
        rows = state[name].flatten(1)
        step = rows.abs().amax(1, keepdim=True) / 127
        assert ((restored[name].flatten(1) - rows).abs() <= step / 2 * (1 + 1e-5)).all()
        assert stored[name].flatten(1).abs().amax(1).eq(127).all()


def test_quantized_weights_are_a_third_of_the_size_and_load(grasp, tmp_path):
    pipeline = exported(grasp, tmp_path / "small", quantize="int8")
    before, after = (folder / "weights.safetensors" for folder in (grasp / "exported", tmp_path / "small"))
    assert after.stat().st_size < before.stat().st_size / 2
    card = (tmp_path / "small" / "README.md").read_text()
    assert "not the weights that were scored" in card
    assert f"in {after.stat().st_size:,} bytes rather than {before.stat().st_size:,}" in card
    trained, stored = read_tensors(before), pipeline.method.state_dict()
    assert trained.keys() == stored.keys()
    for name, tensor in trained.items():
        torch.testing.assert_close(stored[name], tensor, rtol=0, atol=tensor.abs().max().item() / 250 + 1e-12)
    exact = grasp_bench.load(grasp / "exported", device="cpu")
    one, other = (each.sample(class_name="9", num_images=2).float() for each in (exact, pipeline))
    assert (one - other).abs().mean() < 2  # of 255 grey levels


def test_a_merged_run_serves_every_class_by_one_adapter(grasp, tmp_path):
    pipeline = exported(grasp, tmp_path / "merged", merge="counts", quantize="int8")
    assert pipeline.manifest.spec.method.name == "merged"
    assert pipeline.manifest.label.endswith("merged by counts")
    assert {name.rpartition(".")[2] for name in pipeline.method.state_dict()} == {"0", "1"}
    assert (
        "the clusters are averaged (`counts`) and matrices are stored as int8"
        in (tmp_path / "merged" / "README.md").read_text()
    )
    trained = read_tensors(grasp / "exported" / "weights.safetensors")
    counts = pipeline.method.map.composition(pipeline.manifest.classes).sum(0)
    for name, one in pipeline.method.state_dict().items():
        if re.search(r"\.up\.0$", name):
            parts = [trained[f"{name[:-1]}{cluster}"] * counts[cluster] / counts.sum() for cluster in range(3)]
            expected = torch.cat(parts).float()
            torch.testing.assert_close(one, expected, rtol=0, atol=expected.abs().max().item() / 250 + 1e-12)


def test_a_run_without_clusters_is_not_merged(lora, tmp_path):
    with pytest.raises(
        UserError, match="--merge mean: averages the clusters of a run of grasp, and this is one of lora"
    ):
        exported(lora, tmp_path / "merged", merge="mean")
    assert not (tmp_path / "merged").exists()


def test_quantized_lora_is_written_in_no_other_format(lora, tmp_path):
    exported(lora, tmp_path / "small", quantize="int8")
    names = {path.name for path in (tmp_path / "small").iterdir()}
    assert names == {"README.md", "grasp_bench.json", "samples.png", "weights.safetensors"}


def test_the_manifest_of_plain_weights_is_what_it_was(grasp):
    (path,) = (grasp / "results").rglob("record.json")
    assert read_record(path).weights
    assert "quantized" not in (grasp / "exported" / "grasp_bench.json").read_text()

"""Rounding that goes by what clusters give."""

import numpy as np
import pytest
import torch

from grasp_bench.adapters.merging import layers_of, merged
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.task import ClassInfo
from grasp_bench.errors import UserError
from grasp_bench.export.guided import (
    ANCHOR,
    IMAGES,
    balanced,
    by_moments,
    compensated,
    damped,
    in_place,
    moments_of,
    target,
)
from grasp_bench.export.manifest import manifest_of
from grasp_bench.export.pipeline import FineTunedPipeline
from grasp_bench.export.restore import finished_record, plan_of, trained_weights
from grasp_bench.export.smaller import SCALE, as_merged, dequantized, quantized, rounded
from grasp_bench.io import read_tensors
from grasp_bench.run.options import Options
from grasp_bench.run.pipeline import Pipeline

from .test_smaller import exported

LAYER = "blocks.0.ff"


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(size: int, seed: int) -> torch.Tensor:
    """Second moments of correlated numbers."""
    read = drawn(4 * size, size, seed=seed) @ drawn(size, size, seed=seed + 1)
    return read.T @ read


def clusters_of(count: int, width: int = 8, rank: int = 3) -> dict[str, torch.Tensor]:
    """The state of one routed adapter."""
    shapes = {"down": (width, rank), "up": (rank, width)}
    return {
        f"{LAYER}.{side}.{cluster}": drawn(*shape, seed=10 * cluster + number).float()
        for cluster in range(count)
        for number, (side, shape) in enumerate(shapes.items())
    }


def distance(found: tuple[torch.Tensor, torch.Tensor], wanted: torch.Tensor, hessian: torch.Tensor) -> float:
    off = found[0].double() * found[1].double()[:, None] - wanted
    return (off.T @ hessian @ off).trace().item()


def test_the_target_is_what_least_squares_give_of_all_clusters_and_the_average():
    """The rows of each X_k beside what its cluster gives there, and all of them beside what the average gives."""
    read = [drawn(20, 6, seed=each) for each in range(3)]
    experts, average, anchor = [drawn(6, 4, seed=each) for each in (3, 4, 5)], drawn(6, 4, seed=6), 0.7
    rows = torch.cat([*read, *(anchor**0.5 * own for own in read)])
    given = [own @ expert for own, expert in zip(read, experts, strict=True)]
    given += [anchor**0.5 * own @ average for own in read]
    found = target([own.T @ own for own in read], experts, average, anchor)
    torch.testing.assert_close(found, torch.linalg.lstsq(rows, torch.cat(given)).solution)


@pytest.mark.parametrize("anchor", [0.0, 1.0])
def test_one_cluster_that_is_the_average_is_rounded_by_its_moments_alone(anchor):
    state = clusters_of(1)
    layers = layers_of(state)
    seen = {(LAYER, 0, None): moment(8, 1), (LAYER, 0, 0): moment(3, 2)}
    stored = by_moments(layers, layers_of(merged(state, [1.0])), seen, 1, anchor)
    for side, key in (("down", None), ("up", 0)):
        name = f"{LAYER}.{side}.0"
        integers, scales = compensated(state[name].double(), damped([seen[LAYER, 0, key]])[0])
        assert torch.equal(stored[name], integers)
        assert torch.equal(stored[name + SCALE], scales)


def test_without_bound_the_anchor_leaves_the_average_rounded_by_its_moments():
    state = clusters_of(3)
    after = merged(state, [0.5, 0.3, 0.2])
    seen = {(LAYER, 0, None): moment(8, 1)} | {(LAYER, 0, each): moment(9, 2 + each) for each in range(3)}
    stored = by_moments(layers_of(state), layers_of(after), seen, 3, float("inf"))
    hessian = sum(damped([seen[LAYER, 0, each] for each in range(3)]))
    integers, scales = compensated(after[f"{LAYER}.up.0"].double(), hessian)
    assert torch.equal(stored[f"{LAYER}.up.0"], integers)
    assert torch.equal(stored[f"{LAYER}.up.0{SCALE}"], scales)


@pytest.mark.parametrize("size", [1.0, 37.5])
def test_where_what_is_read_is_uncorrelated_rounding_is_plain(size):
    weight = drawn(9, 5)
    found, plain = compensated(weight.float().double(), size * torch.eye(9).double()), rounded(weight.float())
    assert all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))


def test_what_was_never_read_is_rounded_plainly():
    state = clusters_of(3)
    layers = layers_of(state)
    assert by_moments(layers, layers, {}, 1).keys() == (plain := quantized(state)).keys()
    assert all(torch.equal(found, plain[name]) for name, found in by_moments(layers, layers, {}, 1).items())


def test_the_weighted_error_is_never_above_that_of_plain_rounding_and_mostly_below():
    below = 0
    for seed in range(40):
        weight, hessian = drawn(12, 6, seed=seed), damped([moment(12, seed)])[0]
        guided, plain = compensated(weight, hessian), rounded(weight.float())
        below += distance(guided, weight, hessian) < distance(plain, weight, hessian)
        assert distance(guided, weight, hessian) <= distance(plain, weight, hessian)
    assert below > 30


def assembled(folder):
    """A run's weights as those of ``merged`` before it merges, and the context of the run."""
    (path,) = (folder / "results").rglob("record.json")
    _, record = finished_record(path.parent)
    plan = plan_of(record)
    weights = trained_weights(plan, record, folder / "work")
    manifest = as_merged(manifest_of(plan, record, weights), "counts")
    context = Pipeline(plan, Options(folder / "results", folder / "work"), torch.device("cpu"), Progress())
    return FineTunedPipeline.assemble(manifest, weights, plan.backbone), context


@pytest.mark.slow
def test_a_run_keeps_nearer_to_its_clusters_than_plain_rounding_of_the_average_does(grasp):
    pipeline, context = assembled(grasp)
    state = pipeline.method.state_dict()
    after = pipeline.method.finished(state)
    seen = moments_of(pipeline, context, 3)
    layers, averages = layers_of(state), layers_of(after)
    assert {key[0] for key in seen} == averages.keys()
    assert {key[1:] for key in seen} == {(0, None), (0, 0), (0, 1), (0, 2), (1, None), (1, 0)}  # 1: without prompts
    again = moments_of(*assembled(grasp), 3)
    assert all(torch.equal(again[key], each) for key, each in seen.items())
    guided, plain = dequantized(by_moments(layers, averages, seen, 3)), dequantized(quantized(after))
    for layer, adapters in averages.items():
        hidden = [seen[layer, 0, each] for each in range(3)]
        experts = in_place([up.double() for _, up in layers[layer][:3]])
        given = [*zip(experts, hidden, strict=True), (adapters[0][1].double(), ANCHOR * sum(hidden))]
        lost = [
            sum(((each[f"{layer}.up.0"] - up).T @ own @ (each[f"{layer}.up.0"] - up)).trace() for up, own in given)
            for each in (guided, plain)
        ]
        assert lost[0] < lost[1]


def test_every_group_has_as_many_images_and_within_it_every_class_with_some():
    sizes = {"head": [60, 50], "tail": [4, 0, 2]}
    classes = [ClassInfo(f"{group} {n}", "", group, n) for group, counts in sizes.items() for n in counts]
    labels = np.repeat(np.arange(5), [n for counts in sizes.values() for n in counts])
    chosen = labels[rows := balanced(labels, classes, torch.Generator().manual_seed(0))]
    assert np.bincount(chosen).tolist() == [IMAGES // 2, IMAGES // 2, IMAGES // 2, 0, IMAGES // 2]
    assert len(set(rows.tolist())) == 60 + 50 + 4 + 2  # again only when all have had their turn


def test_a_guided_export_loads_and_says_what_it_is(grasp, tmp_path):
    pipeline = exported(grasp, tmp_path / "guided", merge="counts", quantize="int8-guided")
    assert pipeline.manifest.quantized == "int8-guided"
    assert (
        "rounded and adjusted by what the clusters give on training images"
        in (tmp_path / "guided" / "README.md").read_text()
    )
    plain = exported(grasp, tmp_path / "plain", merge="counts", quantize="int8")
    stored, other = (read_tensors(tmp_path / each / "weights.safetensors") for each in ("guided", "plain"))
    assert {name: (each.dtype, each.shape) for name, each in stored.items()} == {
        name: (each.dtype, each.shape) for name, each in other.items()
    }
    own, beside = pipeline.method.state_dict(), plain.method.state_dict()
    for name, each in own.items():
        if not name.endswith("up.0"):  # only the average's U is adjusted; all else is rounded
            torch.testing.assert_close(each, beside[name], rtol=0, atol=each.abs().max().item() / 50 + 1e-12)
    assert len(pipeline(class_name="9", num_images=1).images) == 1


def test_without_merging_there_is_nothing_to_be_guided_by(grasp, tmp_path):
    with pytest.raises(
        UserError, match="--quantize int8-guided: keeps to what the clusters give that --merge averages"
    ):
        exported(grasp, tmp_path / "guided", quantize="int8-guided")
    assert not (tmp_path / "guided").exists()

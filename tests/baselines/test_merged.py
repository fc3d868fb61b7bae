"""GRASP's clusters as one adapter."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import runs
from helpers.attaching import attach, forward, sample, train

from grasp_bench.adapters.merging import layers_of, merged, similarities
from grasp_bench.adapters.residual import RoutedAdapter
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.cbdm import Cbdm
from grasp_bench.baselines.grasp import Grasp
from grasp_bench.baselines.merged import Merged
from grasp_bench.io import read_tensors
from grasp_bench.run.pipeline import Pipeline


def drawn(clusters: int, rank: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"down": (5, rank), "up": (rank, 4)}
    return {
        f"block.{block}.ff.{side}.{cluster}": torch.randn(*shape, generator=generator)
        for block in range(2)
        for side, shape in shapes.items()
        for cluster in range(clusters)
    }


def test_one_bottleneck_adds_what_all_of_them_add_on_average() -> None:
    state, shares = drawn(4), [0.5, 0.2, 0.3]
    inputs = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))

    def adds(adapter: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.gelu(inputs @ adapter[0]) @ adapter[1]

    before, after = layers_of(state), layers_of(merged(state, shares))
    assert before.keys() == after.keys()
    for layer, (one, apart) in after.items():
        expected = sum(share * adds(each) for share, each in zip(shares, before[layer][:3], strict=True))
        torch.testing.assert_close(adds(one), expected)
        assert all(map(torch.equal, apart, before[layer][3]))


def test_similarity_is_the_cosine_with_the_mean_of_the_products() -> None:
    state = drawn(3)
    vectors = [
        torch.cat([(adapters[cluster][0] @ adapters[cluster][1]).flatten() for adapters in layers_of(state).values()])
        for cluster in range(3)
    ]
    mean = torch.stack(vectors).mean(0)
    expected = [torch.cosine_similarity(each, mean, 0).clamp(min=0).item() for each in vectors]
    assert similarities(state, 3) == pytest.approx(expected, rel=1e-5)
    assert similarities({name: torch.zeros_like(each) for name, each in state.items()}, 3) == [1, 1, 1]


@pytest.mark.parametrize(
    ("merge", "shares"), [("mean", [1 / 3] * 3), ("counts", [240 / 322, 62 / 322, 20 / 322]), ("similarity", None)]
)
def test_clusters_weigh_as_asked(merge: str, shares: list[float] | None) -> None:
    backbone, method = attach(Merged, merge=merge)
    train(backbone, method)
    found = method.shares(method.state_dict())
    assert sum(found) == pytest.approx(1)
    counts = method.map.composition(method.classes).sum(0)
    if merge == "counts":
        assert found == pytest.approx((counts / counts.sum()).tolist())
    elif shares is not None:
        assert found == pytest.approx(shares)
    else:
        assert len({round(each, 4) for each in found}) == 3


@pytest.mark.parametrize("null_route", ["null", "same", "base"])
def test_merged_weights_serve_every_class_alike_and_dropped_prompts_as_before(null_route: str) -> None:
    trained_on, trained = attach(Merged, null_route=null_route)
    train(trained_on, trained)
    kept = trained.finished(trained.state_dict())
    backbone, method = attach(Merged, null_route=null_route)
    method.load_state_dict(dict(kept))
    assert method.state_dict().keys() == kept.keys()
    batch, output = sample(backbone), forward(backbone, method)
    shuffled = type(batch.condition)(**{**vars(batch.condition), "labels": batch.condition.labels.flip(0)})
    with method.condition(shuffled):
        assert torch.equal(output, backbone.predict(batch.noisy, shuffled.timesteps, shuffled.prompts))
    dropped = batch.condition.dropped
    if null_route != "same":
        torch.testing.assert_close(output[dropped], forward(trained_on, trained)[dropped], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(output[~dropped], forward(trained_on, trained)[~dropped], rtol=1e-5, atol=1e-6)
    assert method.active_parameters() == sum(each.numel() for name, each in kept.items() if name.endswith(".0"))
    method.detach()
    assert torch.equal(forward(backbone, None), forward(TinySD3.load(), None))


def test_weights_of_neither_kind_are_refused() -> None:
    _, method = attach(Merged)
    kept = method.finished(method.state_dict())
    kept.pop(next(iter(kept)))
    with pytest.raises(ValueError, match="weights of another method or setting"):
        method.load_state_dict(kept)


def test_it_trains_as_grasp_does() -> None:
    states: list[dict[str, torch.Tensor]] = []
    for kind in (Grasp, Merged):
        backbone, method = attach(kind)
        for parameter, value in zip(method.parameters().values(), drawn_like(method), strict=True):
            parameter.data.copy_(value)
        train(backbone, method)
        states.append(method.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def drawn_like(method: Any) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [0.1 * torch.randn(each.shape, generator=generator) for each in method.parameters().values()]


def test_a_loss_on_top_keeps_what_the_method_beneath_keeps() -> None:
    _, method = attach(Cbdm, on="merged")
    kept = method.finished(method.state_dict())
    assert {name.rpartition(".")[2] for name in kept} == {"0", "1"}
    _, other = attach(Cbdm, on="merged")
    other.load_state_dict(kept)
    assert other.beneath.is_merged


def test_a_run_keeps_merged_weights_and_samples_with_them(tmp_path: Path) -> None:
    run = Pipeline(runs.small("merged"), runs.options(tmp_path), torch.device("cpu"), runs.Listener())
    kept = read_tensors(run.trained / "weights.safetensors")
    assert {name.rpartition(".")[2] for name in kept} == {"0", "1"}
    assert run.generated.exists()
    layers = [each for each in run.plan.method.transformer.modules() if isinstance(each, RoutedAdapter)]
    assert {len(each.down) for each in layers} == {2}

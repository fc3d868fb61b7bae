"""Where GRASP's adapters stand, and LoRA per cluster in their stead."""

from typing import Any

import pytest
import torch
from helpers.attaching import attach, forward, sample, size, train

from grasp_bench.adapters.residual import RoutedAdapter, RoutedLora
from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.cluster_lora import ClusterLora
from grasp_bench.baselines.grasp import Grasp, GraspSettings
from grasp_bench.run.plan import plan
from grasp_bench.run.resolve import make_task


def wrapped(backbone: TinySD3) -> set[str]:
    return {name for name, each in backbone.transformer.named_modules() if isinstance(each, RoutedAdapter)}


def test_the_place_decides_which_layers_get_adapters() -> None:
    found = {place: wrapped(attach(Grasp, place=place)[0]) for place in ("ff", "attention", "both")}
    backbone = TinySD3.load()
    names = {name for name, _ in backbone.transformer.named_modules() if name.endswith(backbone.attention_projections)}
    assert found["ff"] == set(backbone.feed_forwards())
    assert found["attention"] == names == wrapped(attach(ClusterLora)[0])
    assert found["both"] == found["ff"] | found["attention"]


@pytest.mark.parametrize(
    ("kind", "settings", "skipped"),
    [
        (Grasp, {}, False),
        (Grasp, {"place": "attention"}, True),
        (Grasp, {"place": "both"}, True),
        (ClusterLora, {}, True),
    ],
)
def test_a_backbone_that_names_no_layers_of_attention_gets_nothing_beside_them(
    kind: Any, settings: dict[str, str], skipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinySD3, "attention_projections", ())
    _, task = make_task("digits-lt", [], None)
    assert (kind(kind.Config(**settings)).supports(TinySD3.load(), task) is not None) == skipped


@pytest.mark.parametrize(
    ("kind", "settings", "parameters"),
    [(Grasp, {"place": "attention"}, 47_616), (Grasp, {"place": "both"}, 38_912), (ClusterLora, {}, 47_616)],
)
def test_every_place_has_as_many_parameters_as_whole_ranks_allow(
    kind: Any, settings: dict[str, str], parameters: int
) -> None:
    usual = size(attach(Grasp)[1])
    _, method = attach(kind, **settings)
    assert (usual, size(method)) == (43_008, parameters)
    _, nearest = attach(kind, **settings, parameters=usual)
    assert size(nearest) == parameters  # no other rank is nearer
    assert method.active_parameters() == size(method) / 4
    _, sized = attach(kind, **settings, parameters=10 * usual)
    assert size(sized) == pytest.approx(10 * usual, rel=0.03)


def test_the_default_place_leaves_the_specification_as_it_was() -> None:
    plain = plan(method="grasp", task="digits-lt")
    said = plan(method="grasp", task="digits-lt", method_settings=["place=ff"])
    assert "place" not in plain.spec.method.settings
    assert said.spec.id == plain.spec.id
    elsewhere = plan(method="grasp", task="digits-lt", method_settings=["place=attention"]).spec.method.settings
    assert (elsewhere["place"], elsewhere["rank"]) == ("attention", 3)
    assert GraspSettings(place="both", rank=5).rank == 5


@pytest.mark.parametrize(
    ("kind", "settings"), [(Grasp, {"place": "attention"}), (Grasp, {"place": "both"}), (ClusterLora, {})]
)
def test_samples_of_several_clusters_do_not_change_each_other(kind: Any, settings: dict[str, str]) -> None:
    backbone, method = attach(kind, **settings)
    base = forward(TinySD3.load(), None)
    assert torch.equal(forward(backbone, method), base)
    train(backbone, method)
    batch, mixed = sample(backbone), forward(backbone, method)
    assert not torch.allclose(mixed, base, atol=1e-3)
    for row in range(len(mixed)):
        alone = batch.condition[row : row + 1]
        with method.condition(alone):
            output = backbone.predict(batch.noisy[row : row + 1], alone.timesteps, alone.prompts)
        torch.testing.assert_close(mixed[row : row + 1], output, rtol=1e-4, atol=1e-5)
    method.detach()
    assert torch.equal(forward(backbone, None), base)


def test_cluster_lora_adds_the_product_of_its_cluster_s_matrices_to_each_weight() -> None:
    backbone, method = attach(ClusterLora, scale=0.5)
    generator = torch.Generator().manual_seed(4)
    for layer in backbone.transformer.modules():
        if isinstance(layer, RoutedLora):
            for up in layer.up:
                up.data.copy_(0.1 * torch.randn(up.shape, generator=generator))
    batch, routed = sample(backbone), forward(backbone, method)
    cluster = int(method.of_class[batch.condition.labels[3]])
    plain = TinySD3.load()
    for name in wrapped(backbone):
        layer = backbone.transformer.get_submodule(name)
        update = 0.5 * (layer.down[cluster] @ layer.up[cluster]).T
        plain.transformer.get_submodule(name).weight.data += update.detach()
    alone = batch.condition[3:4]
    expected = plain.predict(batch.noisy[3:4], alone.timesteps, alone.prompts)
    torch.testing.assert_close(routed[3:4], expected, rtol=1e-4, atol=1e-5)

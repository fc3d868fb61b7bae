"""What is particular to the families of weight updates: their formulas, sizes and exports."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.attaching import attach, forward, size, train
from peft import PeftModel
from torch import nn

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.baselines.grasp import Grasp
from grasp_bench.baselines.lora import Dora, Loha, Lora, Oft
from grasp_bench.contracts.method import Method
from grasp_bench.contracts.spec import Precision
from grasp_bench.precision import autocast, store_frozen

LAYER = "transformer_blocks.1.attn.add_k_proj"
FAMILIES = [Dora, Loha, Oft]


def weight_of(layer: nn.Module) -> torch.Tensor:
    """The matrix (O, I) that a layer applies, bias aside."""
    eye = torch.eye(64)
    with torch.no_grad():
        return (layer(eye) - layer(torch.zeros(1, 64))).T


def tensors(method: Method[Any]) -> dict[str, torch.Tensor]:
    """The trained tensors of one layer, by the first part of their names."""
    prefix = f"{LAYER}."
    own = {name: value for name, value in method.state_dict().items() if name.startswith(prefix)}
    return {name.removeprefix(prefix).partition(".")[0]: value for name, value in own.items()}


def trained(kind: type[Method[Any]], **settings: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """A layer's weight before, its weight after training, and what was trained there."""
    backbone, method = attach(kind, **settings)
    layer = backbone.transformer.get_submodule(LAYER)
    before = weight_of(layer)
    train(backbone, method)
    after = weight_of(layer)
    assert not torch.allclose(before, after, atol=1e-4)
    return before, after, tensors(method)


def test_lora_begins_as_its_authors_code_does_and_adds_a_scaled_product_of_two_matrices() -> None:
    initial = tensors(attach(Lora, rank=4, alpha=8.0)[1])
    assert not initial["lora_B"].any()
    assert 0.11 < initial["lora_A"].abs().max() <= 1 / 8  # uniform up to 1 / √64
    weight, found, parts = trained(Lora, rank=4, alpha=8.0)
    torch.testing.assert_close(found, weight + 2 * parts["lora_B"] @ parts["lora_A"], rtol=1e-4, atol=1e-5)


def test_dora_gives_each_row_its_magnitude_and_lora_s_direction() -> None:
    weight, found, parts = trained(Dora, rank=4, alpha=8.0)
    direction = weight + 2 * parts["lora_B"] @ parts["lora_A"]
    expected = parts["lora_magnitude_vector"][:, None] * direction / direction.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_loha_adds_the_elementwise_product_of_two_low_rank_matrices() -> None:
    weight, found, parts = trained(Loha, rank=4, alpha=8.0)
    first, second = (parts[f"hada_w{number}_a"] @ parts[f"hada_w{number}_b"] for number in (1, 2))
    torch.testing.assert_close(found, weight + 2 * first * second, rtol=1e-4, atol=1e-5)


def test_oft_rotates_blocks_and_so_keeps_the_lengths_of_rows() -> None:
    weight, found, _ = trained(Oft, block_size=16)
    rotation = torch.linalg.lstsq(weight.double(), found.double()).solution  # found = weight · rotation
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(64).double(), rtol=0, atol=1e-3)
    outside = 1 - torch.block_diag(*[torch.ones(16, 16)] * 4)
    assert (rotation * outside).abs().max() < 1e-3
    torch.testing.assert_close(found.norm(dim=1), weight.norm(dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", FAMILIES)
def test_targets_are_lora_s(kind: type[Method[Any]]) -> None:
    def layers(method: Method[Any]) -> set[str]:
        return {name[: name.index(".", name.index(".attn.") + 6)] for name in method.parameters()}

    assert layers(attach(kind)[1]) == layers(attach(Lora)[1])


@pytest.mark.parametrize(("kind", "share"), [(Dora, 0.969), (Loha, 0.923), (Oft, 0.715)])
def test_sizes_are_what_the_settings_say_beside_grasp(kind: type[Method[Any]], share: float) -> None:
    assert size(attach(kind)[1]) / size(attach(Grasp)[1]) == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_export_loads_with_peft(kind: type[Method[Any]], tmp_path: Path) -> None:
    backbone, method = attach(kind)
    train(backbone, method)
    expected = forward(backbone, method)
    assert "PeftModel.from_pretrained" in method.export(tmp_path)
    again = TinySD3.load()
    PeftModel.from_pretrained(again.transformer, tmp_path)  # which it changes
    torch.testing.assert_close(forward(again, None), expected)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.035)])
@pytest.mark.parametrize("kind", [Lora, *FAMILIES])
def test_merged_weights_predict_as_the_update_beside_them(
    kind: type[Method[Any]], precision: Precision, tolerance: float
) -> None:
    """To a share of what the update changes, so that a scale that is off by a tenth is too much."""
    backbone, method = attach(kind, **({} if kind is Oft else {"rank": 4, "alpha": 8.0}))
    train(backbone, method, steps=6)
    store_frozen(backbone.transformer, precision)

    def predict() -> torch.Tensor:
        with torch.no_grad(), autocast(precision, torch.device("cpu")):
            return forward(backbone, method).float()

    with method.peft_model.disable_adapter():
        base = predict()
    update = predict() - base
    method.peft_model.merge_adapter()
    assert backbone.transformer.get_submodule(LAYER).merged
    assert (predict() - base - update).norm() < tolerance * update.norm()

"""Classifiers that start from ImageNet's weights; here a file with weights of our own under a name that timm knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from grasp_bench.contracts.task import ClassifierRecipe
from grasp_bench.downstream import networks
from grasp_bench.errors import UserError
from grasp_bench.run.pipeline import stage_inputs, stage_keys
from grasp_bench.run.plan import plan
from grasp_bench.weights import VARIABLE, timm_file

MODEL, TAG = "resnet18", "a1_in1k"
NETWORK = f"timm:{MODEL}"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The state in the file that the tests' folder has."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    state = timm.create_model(MODEL).state_dict()
    save_file(state, timm_file(MODEL, TAG))
    return state


@pytest.mark.parametrize("channels", [1, 3])
def test_all_but_the_last_layer_are_the_files(weights: dict[str, torch.Tensor], channels: int) -> None:
    torch.manual_seed(0)
    model = networks.build(NETWORK, channels, 7, TAG)
    found = {name.removeprefix("1."): value for name, value in model.state_dict().items()}
    assert found["fc.weight"].shape == (7, 512)
    assert torch.equal(found["layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"])
    first = weights["conv1.weight"] if channels == 3 else weights["conv1.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(found["conv1.weight"], first)
    assert model(torch.zeros(2, channels, 32, 32)).shape == (2, 7)


def test_images_are_normalised_as_the_weights_expect(weights: dict[str, torch.Tensor]) -> None:
    images = torch.rand(2, 3, 4, 4)
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(networks.build(NETWORK, 3, 7, TAG)[0](2 * images - 1), (images - mean) / std)


def test_a_missing_file_and_a_wrong_one_are_told(weights: dict[str, torch.Tensor]) -> None:
    networks.check(NETWORK, 3, 32, 7, TAG)
    with pytest.raises(UserError, match=r"timm has no such weights of resnet18\. There are: .*a1_in1k"):
        networks.check(NETWORK, 3, 32, 7, "b9")
    with pytest.raises(UserError, match=r"resnet18\.a2_in1k\.safetensors: there is no such file.*hf download"):
        networks.check(NETWORK, 3, 32, 7, "a2_in1k")
    with pytest.raises(UserError, match="'small-cnn' has no weights"):
        networks.check("small-cnn", 1, 8, 7, TAG)
    save_file({"conv1.weight": torch.zeros(3)}, path := timm_file(MODEL, TAG))
    with pytest.raises(UserError, match=f"{path.name}: are not the weights of resnet18.a1_in1k"):
        networks.build(NETWORK, 3, 7, TAG)


def test_the_weights_are_part_of_what_a_run_and_its_classifiers_are(weights: dict[str, torch.Tensor]) -> None:
    words = {"method": "lora", "task": "digits-lt"}
    scratch = plan(**words, task_settings=[f"network={NETWORK}"])
    started = plan(**words, task_settings=[f"network={NETWORK}", f"network_weights={TAG}"])
    assert "network_weights" not in scratch.spec.task.settings
    assert started.spec.task.settings["network_weights"] == TAG
    assert started.task_label == f"digits-lt~network={NETWORK},network_weights={TAG}"
    assert "initial" not in stage_inputs(scratch)["classify-real"]["recipe"]
    before = stage_keys(started)
    changed = {name for name, key in stage_keys(scratch).items() if before[name] != key}
    assert changed == {"classify-generated", "classify-real", "classify-topped-up", "score"}
    save_file({"conv1.weight": torch.zeros(3)}, timm_file(MODEL, TAG))  # another file is another classifier
    assert stage_keys(started)["classify-real"] != before["classify-real"]
    assert replace(scratch.task.classifier, initial=TAG) == started.task.classifier
    assert ClassifierRecipe(1, 1, 1.0).initial is None

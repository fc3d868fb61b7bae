"""Extractors: files in their real layout with random weights, batch sizes, identities and mistakes."""

import json
import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from helpers.extractors import make_dino, make_inception
from helpers.plugin import register
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # type: ignore[import-untyped]

from grasp_bench.contracts.extractor import Extractor, PretrainedExtractor
from grasp_bench.downstream.networks import small_cnn
from grasp_bench.errors import UserError
from grasp_bench.extractors import check_weights, choose_extractor, resolve_extractor, timm_model
from grasp_bench.extractors.digits_cnn import WEIGHTS, DigitsCNN
from grasp_bench.extractors.hf import HuggingFace
from grasp_bench.extractors.inception import FILES, SHA256, Inception, is_fid
from grasp_bench.extractors.network import Preprocessing
from grasp_bench.extractors.pixels import Pixels
from grasp_bench.io import file_digest
from grasp_bench.weights import VARIABLE

RNG = np.random.default_rng(0)
MIXED = [
    RNG.integers(0, 256, (3, *size)).astype(np.uint8) for size in [(40, 30), (20, 20), (40, 30), (64, 48), (20, 20)]
]

FOUND = ("timm:resnet10t", "timm:resnet10t.c3_in1k", "hf:microsoft/rad-dino", "torchscript:means.pt", "inception")


def same_for_any_batch(extractor: PretrainedExtractor, images: list[np.ndarray]) -> np.ndarray:
    whole = extractor.features(images)
    assert whole.dtype == np.float64
    for batch_size in (1, 2, 3):
        np.testing.assert_allclose(extractor.features(images, batch_size=batch_size), whole, rtol=1e-5, atol=1e-5)
    alone = np.concatenate([extractor.features([image]) for image in images])
    np.testing.assert_allclose(alone, whole, rtol=1e-5, atol=1e-5)
    assert np.abs(whole - whole[0]).max(axis=1)[1:].min() > 1e-4  # images are told apart
    return whole


def timm_weights(path: Path, name: str, **options: int) -> Path:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, **options)
    for module in model.modules():  # statistics as after training, so that the features have some size
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            nn.init.uniform_(module.running_var, 0.5, 2)
    save_file(model.state_dict(), path)
    return path


def test_timm(tmp_path: Path) -> None:
    weights = timm_weights(tmp_path / "model.safetensors", "resnet10t")
    before = torch.get_rng_state()
    extractor = resolve_extractor("timm:resnet10t", weights)
    assert torch.equal(torch.get_rng_state(), before)
    found = same_for_any_batch(extractor, MIXED)
    assert found.shape == (5, 512)
    assert extractor.identity == {
        "extractor": "timm:resnet10t",
        "version": "1",
        "model": "resnet10t",
        "weights": file_digest(weights),
        "features": "what timm gives to the classifier",
        "resize": "to 176x176, bicubic, antialiased in float32, no crop, aspect not kept",
        "normalisation": "mean 0.485, 0.456, 0.406; std 0.229, 0.224, 0.225; of [0, 1]",
    }
    model = timm.create_model("resnet10t", pretrained=False)
    model.load_state_dict(load_file(weights))
    inputs = torch.cat(
        [
            Preprocessing((176, 176), "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(
                torch.from_numpy(image)[None]
            )
            for image in MIXED
        ]
    )
    with torch.inference_mode():
        expected = model.eval().forward_head(model.forward_features(inputs), pre_logits=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_dinov2_at_224_from_weights_at_518(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_model, "DINOV2", "vit_small_patch14_dinov2")
    weights = timm_weights(tmp_path / "model.safetensors", "vit_small_patch14_dinov2", num_classes=0)
    extractor = resolve_extractor("dinov2", weights)
    assert extractor.features(MIXED[:2]).shape == (2, 384)
    assert extractor.identity["resize"].startswith("to 224x224, bicubic, antialiased")
    assert extractor.identity["model"] == "vit_small_patch14_dinov2"


def test_dinov2_is_vit_large_and_says_how_to_get_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: nn.Module())
    monkeypatch.setattr(nn.Module, "pretrained_cfg", {"hf_hub_id": "timm/" + timm_model.DINOV2}, raising=False)
    with pytest.raises(UserError, match=r"weights are missing.* hf download timm/vit_large_patch14_dinov2.lvd142m"):
        resolve_extractor("dinov2")


def test_mistakes_with_timm(tmp_path: Path) -> None:
    weights = timm_weights(tmp_path / "model.safetensors", "resnet10t")
    with pytest.raises(UserError, match=r"no model 'resnet10'. Did you mean 'resnet10t'"):
        resolve_extractor("timm:resnet10", weights)
    with pytest.raises(UserError, match=r"Invalid pretrained tag .* There are: .*resnet10t.c3_in1k"):
        resolve_extractor("timm:resnet10t.nope", weights)
    with pytest.raises(UserError, match=r"timm has no model 'hf-hub:timm/resnet10t'"):
        resolve_extractor("timm:hf-hub:timm/resnet10t", weights)
    with pytest.raises(UserError, match=r"Expected resnet10t.c3_in1k.safetensors in .*hf download timm/resnet10t"):
        resolve_extractor("timm:resnet10t")
    with pytest.raises(UserError, match=r"are not the weights of timm:resnet18"):
        resolve_extractor("timm:resnet18", weights)
    torch.save({}, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"model.pth: is a pickle, .* is refused.*'model.safetensors'"):
        resolve_extractor("timm:resnet10t", tmp_path / "model.pth")
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"no whole .safetensors file"):
        resolve_extractor("timm:resnet10t", tmp_path / "cut.safetensors")
    (tmp_path / "zero.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"zero bytes"):
        resolve_extractor("timm:resnet10t", tmp_path / "zero.safetensors")
    with pytest.raises(UserError, match=r"there is no such file"):
        resolve_extractor("timm:resnet10t", tmp_path / "absent.safetensors")


def test_weights_are_found_in_the_users_folder(
    tmp_path: Path, dino: Path, inception_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(kept := tmp_path / "weights"))
    (kept / "microsoft").mkdir(parents=True)
    timm_weights(file := kept / "resnet10t.c3_in1k.safetensors", "resnet10t")
    scripted(Means(), kept / "means.pt")
    (kept / "microsoft" / "rad-dino").symlink_to(dino)
    (kept / FILES[0]).symlink_to(inception_file)
    with pytest.warns(UserWarning, match=r"TorchScript program"):
        found = [resolve_extractor(name) for name in FOUND]
    assert [each.identity["weights"] for each in found[:2]] == [file_digest(file)] * 2
    assert found[2].identity == resolve_extractor(f"hf:{dino}").identity
    assert found[3].identity["weights"] == file_digest(kept / "means.pt")
    assert found[4].identity["weights"] == file_digest(inception_file)


@pytest.mark.parametrize("name", ["hf:microsoft/rad-dino", "timm:resnet10t"])
def test_one_with_an_argument_serves_as_a_tasks(
    name: str, tmp_path: Path, dino: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(kept := tmp_path / "weights"))
    (kept / "microsoft").mkdir(parents=True)
    (kept / "microsoft" / "rad-dino").symlink_to(dino)
    timm_weights(kept / "resnet10t.c3_in1k.safetensors", "resnet10t")
    chosen = choose_extractor(name)
    check_weights((chosen, choose_extractor("pixels")))
    chosen.build(None, 10, tmp_path)  # type: ignore[arg-type] # nothing is built
    assert chosen.load(tmp_path).features(np.stack(MIXED[1:2])).shape[0] == 1
    path = dino / "model.safetensors" if name.startswith("hf") else kept / "resnet10t.c3_in1k.safetensors"
    state = load_file(path)
    save_file({key: value + 1 for key, value in state.items()}, path)
    with pytest.raises(UserError, match=r"has changed since \(weights\)"):
        chosen.load(tmp_path)


@pytest.fixture
def dino(tmp_path: Path) -> Path:
    return make_dino(tmp_path / "dino")


def test_hf(dino: Path) -> None:
    extractor = HuggingFace.from_weights(None, str(dino))
    found = same_for_any_batch(extractor, MIXED)
    assert found.shape == (5, 16)
    assert extractor.identity["extractor"] == "hf:Dinov2Model"
    assert extractor.identity["features"] == "class token of the last layer"
    assert extractor.identity["resize"].startswith("to 28x28, bicubic, antialiased")
    assert str(dino) not in json.dumps(extractor.identity)
    assert extractor.preprocessing is not None
    inputs = torch.cat([extractor.preprocessing(torch.from_numpy(image)[None]) for image in MIXED])
    with torch.inference_mode():
        expected = transformers.AutoModel.from_pretrained(dino)(inputs).pooler_output
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_hf_preprocessing_agrees_with_that_of_transformers_on_square_images(dino: Path) -> None:
    extractor = HuggingFace.from_weights(None, str(dino))
    ramp = np.linspace(40, 200, 56)
    image = np.stack([ramp[:, None] + 0 * ramp, 0 * ramp[:, None] + ramp, (ramp[:, None] + ramp) / 2]).astype(np.uint8)
    processor = getattr(transformers, "BitImageProcessorPil", transformers.BitImageProcessor)(
        **json.loads((dino / "preprocessor_config.json").read_text())
    )
    theirs = processor(Image.fromarray(image.transpose(1, 2, 0)), return_tensors="pt")["pixel_values"]
    assert extractor.preprocessing is not None
    ours = extractor.preprocessing(torch.from_numpy(image)[None])
    assert (theirs - ours).abs().max() < 2 / 255 / 0.2583  # Pillow rounds to 8 bits after each direction


def test_hf_convolutional_and_without_a_class_token(tmp_path: Path, dino: Path) -> None:
    processor = (dino / "preprocessor_config.json").read_text()
    torch.manual_seed(0)
    resnet = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_channels=3
    )
    siglip = transformers.SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    for name, model in [
        ("resnet", transformers.ResNetModel(resnet)),
        ("siglip", transformers.SiglipVisionModel(siglip)),
    ]:
        model.save_pretrained(tmp_path / name)
        (tmp_path / name / "preprocessor_config.json").write_text(processor)
        extractor = resolve_extractor(f"hf:{tmp_path / name}")
        assert extractor.identity["features"] == "mean of the last layer"
        assert extractor.features(MIXED).shape == (5, 16)


PREPARED = {"size": {"height": 8, "width": 8}, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
PREPROCESSING: list[dict[str, object]] = [
    *({"size": size} for size in ("abc", [1, 2], -1, 10**30, {"height": "x", "width": 3}, {"shortest_edge": None})),
    *({name: value} for name in ("image_mean", "image_std") for value in ("abc", [1], {"a": 1}, [float("nan")] * 3)),
    *({"rescale_factor": factor} for factor in ("x", None, 1, float("nan"))),
    {"image_std": [0, 0, 0]},
    {"resample": [1]},
]


def test_mistakes_with_hf(dino: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hf takes no --weights: they are in the folder"):
        resolve_extractor(f"hf:{dino}", dino / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for absent in ("microsoft/rad-dino-of-nobody", str(tmp_path / "absent")):
        with pytest.raises(UserError, match=r"is neither a folder in .*nor one here, nor a repository in"):
            resolve_extractor(f"hf:{absent}")
    config = (dino / "config.json").read_text()
    (dino / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(UserError, match=r"its weights do not fit its config.json: encoder.layer.2"):
        resolve_extractor(f"hf:{dino}")
    (dino / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"transformers cannot load it"):
        resolve_extractor(f"hf:{dino}")
    (dino / "config.json").write_text(config)
    (dino / "preprocessor_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"expected size"):
        resolve_extractor(f"hf:{dino}")
    for wrong in PREPROCESSING:
        (dino / "preprocessor_config.json").write_text(json.dumps(PREPARED | wrong))
        with pytest.raises(UserError, match=r"preprocessor_config.json: (expected size|rescale_factor)"):
            resolve_extractor(f"hf:{dino}")
    (dino / "preprocessor_config.json").unlink()
    (dino / "model.safetensors").rename(dino / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"lacks preprocessor_config.json, model.safetensors. pytorch_model.bin is a"):
        resolve_extractor(f"hf:{dino}")


class Means(nn.Module):
    """The mean of each channel in [0, 1]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean(dim=[2, 3]) / 255


class Whole(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


def scripted(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))
    return path


def test_torchscript(tmp_path: Path) -> None:
    path = scripted(Means(), tmp_path / "means.pt")
    with pytest.warns(UserWarning, match=r"is a TorchScript program .* only files that you trust"):
        extractor = resolve_extractor(f"torchscript:{path}")
    found = same_for_any_batch(extractor, MIXED)
    np.testing.assert_allclose(found, [image.mean((1, 2)) / 255 for image in MIXED], rtol=1e-5)
    assert extractor.identity["weights"] == file_digest(path)


@pytest.mark.filterwarnings("ignore:.*TorchScript program")
def test_mistakes_with_torchscript(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no such file"):
        resolve_extractor(f"torchscript:{tmp_path / 'absent.pt'}")
    (tmp_path / "x.pt").write_bytes(b"text")
    with pytest.raises(UserError, match=r"cannot be read as TorchScript"):
        resolve_extractor(f"torchscript:{tmp_path / 'x.pt'}")
    extractor = resolve_extractor(f"torchscript:{scripted(Whole(), tmp_path / 'whole.pt')}")
    with pytest.raises(UserError, match=r"torchscript: gives \(1, 3, 40, 30\) for 1 image, expected .* \(1, d\)"):
        extractor.features(MIXED[:1])


def test_pixels() -> None:
    extractor = resolve_extractor("pixels")
    assert same_for_any_batch(extractor, MIXED).shape == (5, 3072)
    assert extractor.identity["resize"] == "to 32x32, bilinear, antialiased in float32, no crop, aspect not kept"
    image = RNG.integers(0, 256, (3, 32, 32)).astype(np.uint8)
    np.testing.assert_allclose(extractor.features([image])[0], image.ravel() / 255, rtol=1e-6)
    grey = extractor.features(image[None, :1])  # as tasks hand images over
    np.testing.assert_allclose(grey[0], np.tile(image[0].ravel(), 3) / 255, rtol=1e-6)
    with pytest.raises(UserError, match=r"pixels takes no --weights"):
        resolve_extractor("pixels", Path("x"))


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((3, 256, 256), np.uint8)
    stripes[:, :, ::8] = 255  # one bright column in eight, exactly one for each column of the result
    found = Pixels.from_weights(None).features([stripes])
    np.testing.assert_allclose(found.mean(), 1 / 8, atol=1e-3)
    assert found.reshape(3, 32, 32)[:, :, 2:-2].std() < 1e-3


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inception(tmp_path_factory.mktemp("inception") / "x.pth")


def test_inception_gives_what_torch_fidelity_gives(inception_file: Path) -> None:
    extractor = Inception.from_weights(inception_file)
    images = MIXED[:3]
    found = extractor.features(images)
    assert found.shape == (3, 2048)
    np.testing.assert_allclose(extractor.features(images, batch_size=1), found, rtol=1e-5, atol=1e-5)
    theirs = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(inception_file))
    np.testing.assert_array_equal(found[1], theirs(torch.from_numpy(images[1])[None])[0][0].double())
    assert not is_fid(extractor.identity)
    assert is_fid(extractor.identity | {"weights": SHA256})
    assert "not antialiased" in extractor.identity["resize"]


def test_inception_is_looked_for_where_torch_fidelity_keeps_it(
    inception_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as caught:
        resolve_extractor("inception")
    for part in (FILES[0], SHA256, str(tmp_path / "checkpoints"), "--weights", "curl"):
        assert part in str(caught.value)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / FILES[1]).symlink_to(inception_file)
    assert resolve_extractor("inception").identity["weights"] == file_digest(inception_file)
    # as a task's extractor: nothing is built, and other weights are noticed
    Inception.build(None, 10, tmp_path)  # type: ignore[arg-type]
    assert Inception.load(tmp_path).identity["weights"] == file_digest(inception_file)
    identity = json.loads((tmp_path / "identity.json").read_text())
    (tmp_path / "identity.json").write_text(json.dumps(identity | {"weights": SHA256}))
    with pytest.raises(UserError, match=r"inception has changed since \(weights\)"):
        Inception.load(tmp_path)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('run')",))


def test_files_that_are_not_inception(tmp_path: Path) -> None:
    torch.save({"x": Malicious()}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"bad.pth: cannot be read as a file of tensors"):
        Inception.from_weights(tmp_path / "bad.pth")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"are not the weights of torch-fidelity's Inception"):
        Inception.from_weights(tmp_path / "other.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"holds no state dict"):
        Inception.from_weights(tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("text")
    with pytest.raises(UserError, match=r"cannot be read as a file of tensors"):
        Inception.from_weights(tmp_path / "text.pth")


def test_digits_cnn_serves_images_from_anywhere(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(small_cnn(1, 10).state_dict(), tmp_path / WEIGHTS)
    extractor = resolve_extractor("digits-cnn", tmp_path / WEIGHTS)
    grey = RNG.integers(0, 256, (5, 1, 8, 8)).astype(np.uint8)
    found = same_for_any_batch(extractor, [np.repeat(image, 3, 0) for image in grey])
    np.testing.assert_array_equal(found, DigitsCNN.load(tmp_path).features(grey))
    with pytest.raises(UserError, match=r"takes greyscale images, found colour"):
        extractor.features(MIXED[:1])
    with pytest.raises(UserError, match=r"images of one size, found 3"):
        extractor.features(MIXED)
    with pytest.raises(UserError, match=r"needs --weights digits-cnn.safetensors"):
        resolve_extractor("digits-cnn")
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"are not the weights of digits-cnn; it holds x"):
        resolve_extractor("digits-cnn", tmp_path / "x.safetensors")


class TaskTrained(Extractor):
    version = "1"

    @classmethod
    def build(cls, data, classes, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder):
        raise NotImplementedError

    def features(self, images):
        raise NotImplementedError


def test_listing_extractors_imports_no_heavy_package(built_in: dict[str, EntryPoint]) -> None:
    modules = ["grasp_bench.extractors", *(entry.module for entry in built_in.values())]
    code = f"import sys, {', '.join(modules)}; print({{'torch', 'timm', 'transformers', 'PIL'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_mistakes_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"unknown extractor 'inceptoin'. Did you mean 'inception'"):
        resolve_extractor("inceptoin")
    for spec in ("timm", "timm:"):
        with pytest.raises(UserError, match=r"needs an argument: timm:<model>"):
            resolve_extractor(spec)
    with pytest.raises(UserError, match=r"takes no argument. Write pixels"):
        resolve_extractor("pixels:32")
    register(monkeypatch, "extractors", "other", TaskTrained)
    with pytest.raises(UserError, match=r"is trained by a task"):
        resolve_extractor("other")
